"""What queries got: their nearest images, which of them are hits, and which relevant ones are not among them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from bb.probe.retrieval.labels import RetrievalLabels
from bb.probe.retrieval.ranking import NO_MATCH, Ranking, hits

Kind = Literal["query", "hit", "miss", "missed"]


@dataclass(frozen=True)
class ShownImage:
    """One image next to a query.

    kind      hit, miss, or missed: relevant, but not among those retrieved that are shown
    rank      1 for the nearest; None of what was missed
    distance  to the query; None of what was missed
    """

    kind: Kind
    image_id: str
    label: str
    rank: int | None = None
    distance: float | None = None


@dataclass(frozen=True)
class Answer:
    """A query and what it got, nearest first, then what was missed in order of image ID.

    score     of this query, by the metric that the worst were chosen by
    relevant  how many relevant images there are
    missed    how many of them are not among those shown as retrieved; `shown` may have but the first of them
    """

    image_id: str
    label: str
    category: str
    score: float
    relevant: int
    missed: int
    shown: tuple[ShownImage, ...]


def worst(
    items: RetrievalLabels,
    ranking: Ranking,
    scores: Float[np.ndarray, " q"],
    *,
    queries: int = 20,
    top: int = 10,
    missed: int = 5,
) -> tuple[Answer, ...]:
    """The queries of the lowest scores, equal ones in order of image ID; those whose score is NaN are left out.

    queries, top, missed  at most that many: queries, retrieved images of each, and relevant ones not among these
    """
    order = np.lexsort((ranking.query, scores))
    order = order[~np.isnan(scores[order])][:queries]
    found = Ranking(*(part[order] for part in (ranking.query, ranking.nearest, ranking.distance, ranking.relevant)))
    found = found.top(top)
    hit = hits(items, found)
    return tuple(
        _answer(items, found, place, hit[place], float(scores[order[place]]), missed) for place in range(len(found))
    )


def _answer(items: RetrievalLabels, ranking: Ranking, place: int, hit: np.ndarray, score: float, missed: int) -> Answer:
    query, nearest = int(ranking.query[place]), ranking.nearest[place]
    there = nearest != NO_MATCH
    shown = [
        ShownImage("hit" if right else "miss", *_named(items, row), rank, distance)
        for rank, (row, distance, right) in enumerate(
            zip(nearest[there].tolist(), ranking.distance[place][there].tolist(), hit[there].tolist(), strict=True),
            start=1,
        )
    ]
    absent = np.setdiff1d(relevant_rows(items, query), nearest)
    shown += [ShownImage("missed", *_named(items, row)) for row in absent[:missed].tolist()]
    category = "" if items.category is None else str(items.category[query])
    return Answer(*_named(items, query), category, score, int(ranking.relevant[place]), len(absent), tuple(shown))


def relevant_rows(items: RetrievalLabels, query: int) -> np.ndarray:
    """The rows of the gallery that a query should find, ascending."""
    gallery, labels, sequence = items.gallery, items.label_codes, items.sequence
    mine = (labels[gallery] == labels[query]) & (gallery != query)
    if sequence is not None and sequence[query] >= 0:
        mine &= sequence[gallery] != sequence[query]
    return gallery[mine]


def _named(items: RetrievalLabels, row: int) -> tuple[str, str]:
    return str(items.image_ids[row]), items.labels[items.label_codes[row]]
