"""What is told of retrieval in a feature space: scores with intervals, categories, the worst queries."""

import numpy as np
from jaxtyping import Float

from probe.retrieval.answers import worst
from probe.retrieval.figure import draw
from probe.retrieval.items import Items
from probe.retrieval.logger import PipelineLogger
from probe.retrieval.metrics import KS, PER_R, per_query
from probe.retrieval.page import Sheet
from probe.retrieval.paired import Scores, estimates
from probe.retrieval.ranking import Ranking, hits
from probe.retrieval.search import search
from store.errors import UsageError

DEEPEST = 1000  # items of a query that are looked at; with more relevant ones, PER_R's metrics are left out
SHOWN = ("cmc@1", "cmc@5", "precision@5", "map@10", *PER_R)


def depth(items: Items, least: int) -> int:
    """How many of the nearest images metrics are to see: as many as are relevant to any query, where that can be."""
    most = int(np.bincount(items.label_codes[items.gallery]).max())
    return max(least, 10, min(most, DEEPEST))


def scores_of(items: Items, ranking: Ranking, convention: str, metric: str = SHOWN[0]) -> Scores:
    """The metrics that are shown, and `metric`, of every query. Errors: UsageError for one that is unknown."""
    _, at, k = metric.partition("@")
    deeper = (int(k),) if at and k.isdecimal() and int(k) not in (0, *KS) else ()
    found = per_query(
        hits(items, ranking),
        ranking.relevant,
        ks=(*KS, *deeper),
        convention=convention,
        retrieved=ranking.retrieved,
    )
    if ranking.relevant.max(initial=0) > ranking.nearest.shape[1]:
        found = {name: values for name, values in found.items() if name not in PER_R}
    if metric not in found:
        raise UsageError(f"there is no metric {metric!r} here: choose {', '.join(found)}.")
    return {name: found[name] for name in dict.fromkeys((*SHOWN, metric)) if name in found}


def sheet(
    name: str,
    space: str,
    items: Items,
    features: Float[np.ndarray, "n d"],
    *,
    distance: str,
    convention: str,
    metric: str,
    queries: int,
    top: int,
) -> Sheet:
    """Searches, and picks the worst queries.

    name, space  of what the features are of, as it is shown
    metric       that the worst queries are chosen by
    queries      how many of them; top: how many images each
    Errors: UsageError for an unknown metric; BBError where no query has anything relevant.
    """
    at = metric.partition("@")[2]
    least = max(top, int(at) if at.isdecimal() else 0)
    ranking = search(features, items, depth(items, least), distance=distance)
    scores = scores_of(items, ranking, convention, metric)
    category = None if items.category is None else items.category[ranking.query]
    return Sheet(
        name=name,
        space=space,
        facts=(
            f"{len(ranking.query)} queries, {len(items.gallery)} images in the gallery, {len(items.labels)} labels; "
            f"{distance} distance, convention {convention}"
        ),
        scores=estimates(items.image_ids[ranking.query], scores),
        categories={}
        if category is None
        else {
            str(each): {name: _mean(values[category == each]) for name, values in scores.items()}
            for each in np.unique(category)
        },
        metric=metric,
        answers=worst(items, ranking, scores[metric], queries=queries, top=top),
    )


def _mean(values: np.ndarray) -> float:
    """Over those that are numbers; NaN where none is."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")


def image_ids(sheet: Sheet) -> set[str]:
    """The images that are shown."""
    queries = {answer.image_id for answer in sheet.answers}
    return queries | {each.image_id for answer in sheet.answers for each in answer.shown}


def log_sheet(logger: PipelineLogger, sheet: Sheet, step: int, thumbnails: dict[str, bytes]) -> None:
    """Scores at `step`, and a figure for each of the worst queries."""
    logger.log_scalars({f"{sheet.name}/{name}": score.mean for name, score in sheet.scores.items()}, step)
    for place, answer in enumerate(sheet.answers):
        logger.log_figure(draw(answer, sheet.metric, thumbnails), f"worst queries of {sheet.name}", place)
