"""What is reported of retrieval runs: scores with intervals, categories, the worst queries."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64

from bb.probe.features.damaged_images import damage_notes
from bb.probe.retrieval.labels import RetrievalLabels
from bb.probe.retrieval.loggers.base import PipelineLogger
from bb.probe.retrieval.ranking import NO_MATCH, Ranking, count_relevant
from bb.probe.retrieval.report.figures import draw
from bb.probe.retrieval.report.html import Sheet
from bb.probe.retrieval.report.methods import run_names
from bb.probe.retrieval.report.thumbnail import Thumbnail
from bb.probe.retrieval.report.worst_queries import worst
from bb.probe.retrieval.run import PROTOCOL
from bb.probe.retrieval.statistics.paired_tests import of_models
from bb.probe.run_records import retrieval_problem
from bb.store.errors import BBError, UsageError
from bb.store.files.canonical_json import digest_of
from bb.store.format.space import short
from bb.store.local.runs import Run, by_precedence, disagreement
from bb.store.text.command import command

SHOWN = ("cmc@1", "precision@5", "map@10", "r_precision", "map@r")
DEEPEST = 1000  # places of a query that a run may have kept


def newest(runs: Sequence[Run], tasks: str) -> tuple[list[Run], list[str]]:
    """The runs that can be reported together, and notes on what is left out.

    Of all runs on labels of that name: those of the test set that was searched last, of each space and parameters the
    one to use, in order of their main score. What was searched here comes before what others searched later.
    """
    every = by_precedence(run for run in runs if _of(run, tasks))
    problems = [(run, fact) for run in every if (fact := retrieval_problem(run.record))]
    damaged = [f"left out: run {run.describe()} is damaged: {fact}" for run, fact in problems]
    found = [run for run in every if run not in [run for run, _ in problems]]
    if not found:
        return [], damaged
    first = found[0].record["test_set"]
    same: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in found:
        if run.record["test_set"] == first:
            same[run.record["space"], digest_of(run.record["parameters"])].append(run)
    others = [run for run in found if run.record["test_set"] != first]
    of_tier = "" if all(run.tier == found[0].tier for run in others) else f" {found[0].tier.describe()}"
    notes = damaged + [
        f"{len(each)} runs of space {short(space)} disagree: {text}"
        for (space, _), each in same.items()
        if (text := disagreement(each))
    ]
    if others:
        left_out = f"{len(others)} runs of other queries, labels or metrics are left out"
        notes.append(f"{left_out}; the newest{of_tier} are shown")
    kept = [each[0] for each in same.values()]
    notes += damage_notes((", ".join(run.record["backbones"]), run.record.get("damaged")) for run in kept)
    return sorted(kept, key=lambda run: (-run.record["scores"]["mean"], run.run_id)), notes


def _of(run: Run, tasks: str) -> bool:
    return (run.record["protocol"], run.record["tasks"]) == (PROTOCOL, tasks)


def sheets(
    runs: Sequence[Run], items: RetrievalLabels, *, metric: str | None, queries: int, top: int
) -> Iterator[Sheet]:
    """What is reported of runs of one test set, the best first.

    items    the labels that they were made on, with the same roles
    metric   that runs are ordered and the worst queries chosen by, the first of the scores; the main one if None
    queries  how many of them; top: how many images each, of those that the runs kept
    Errors: UsageError for a metric that the runs do not have; BBError where they were made on other labels.
    """
    scores = runs[0].record["scores"]
    metric = metric or str(scores["main"])
    if metric not in scores["tasks"]:
        raise UsageError(f"unknown metric {metric!r} in these runs: choose {', '.join(scores['tasks'])}.")
    runs = sorted(runs, key=lambda run: -run.record["scores"]["tasks"][metric]["mean"])
    shown = [name for name in dict.fromkeys((metric, *SHOWN)) if name in scores["tasks"]]
    scored = {name: of_models(runs, name) for name in shown}
    _, behind, claim = scored[metric]
    for place, (name, run) in enumerate(zip(run_names(runs), runs, strict=True)):
        ranking, how = ranking_of(run, items), run.record["parameters"]
        yield Sheet(
            name=name,
            space=str(run.record["space"]),
            facts=(
                f"{len(ranking)} queries, {len(items.gallery)} images in the gallery, {len(items.labels)} labels; "
                f"{how['distance']} distance, convention {how['convention']}; run {short(run.run_id)}"
            ),
            scores={each: estimates[place] for each, (estimates, _, _) in scored.items()},
            categories={
                category: {each: means.get(each, float("nan")) for each in shown}
                for category, means in run.record["scores"]["categories"].items()
            },
            metric=metric,
            behind=behind[place],
            claim=claim,
            answers=worst(items, ranking, _scores(run, items, metric), queries=queries, top=top),
        )


def ranking_of(run: Run, items: RetrievalLabels) -> Ranking:
    """What a run kept of each query's nearest. Errors: BBError where it was made on other labels, or kept nothing."""
    gallery = run.train(("image_id", "y")).sort("image_id")
    same = gallery["image_id"].to_list() == items.image_ids[items.gallery].tolist()
    if not same or gallery["y"].to_list() != items.label_codes[items.gallery].tolist():
        raise _other(run, items)
    table = run.retrieved(("image_id", "rank", "retrieved_id", "distance"))
    if table is None:
        raise BBError(f"run {short(run.run_id)} kept nothing of what it retrieved: bb probe retrieval --force.")
    query, nearest = (_rows(items, table[column]) for column in ("image_id", "retrieved_id"))
    rank = table["rank"].to_numpy().astype(np.int64) - 1
    place = np.minimum(np.searchsorted(items.queries, query), len(items.queries) - 1)
    inside = (rank >= 0) & (rank < DEEPEST) & (query >= 0) & (nearest >= 0)
    if not (inside & (items.queries[place] == query)).all():
        raise _other(run, items)
    shape = len(items.queries), int(rank.max(initial=0)) + 1
    rows, distance = np.full(shape, NO_MATCH, np.int64), np.full(shape, np.inf, np.float32)
    rows[place, rank], distance[place, rank] = nearest, table["distance"].to_numpy()
    return Ranking(items.queries, rows, distance, count_relevant(items))


def _scores(run: Run, items: RetrievalLabels, metric: str) -> Float64[np.ndarray, " q"]:
    """A metric of each query; NaN where it has no value."""
    table = run.predictions(("task", "image_id", "score")).filter(pl.col("task") == metric)
    rows = _rows(items, table["image_id"])
    found = np.full(len(items), np.nan)
    if (rows < 0).any():
        raise _other(run, items)
    found[rows] = table["score"].to_numpy()
    return found[items.queries]


def _rows(items: RetrievalLabels, ids: pl.Series) -> np.ndarray:
    """Rows of images; -1 of one that is not there."""
    there = pl.DataFrame({"id": items.frame["image_id"], "row": np.arange(len(items))})
    return (
        ids.alias("id")
        .to_frame()
        .join(there, on="id", how="left", maintain_order="left")["row"]
        .fill_null(-1)
        .to_numpy()
    )


def _other(run: Run, items: RetrievalLabels) -> BBError:
    return BBError(
        f"run {short(run.run_id)} was made on other labels than {items.source} has now. To make one on these: "
        f"{command('probe retrieval', labels=items.source)}"
    )


def roles(run: Run) -> dict[str, Any]:
    """How queries and gallery were distinguished, as `bb.probe.retrieval.labels.assign` takes it."""
    chosen = dict(run.record["parameters"]["roles"])
    return {
        "split": chosen["split"],
        "against": chosen["against"],
        "folds": chosen["folds"],
        "seed": chosen["seed"] or 0,
    }


def log_sheet(logger: PipelineLogger, sheet: Sheet, step: int, thumbnails: Mapping[str, Thumbnail]) -> None:
    """Scores at `step`, and a figure for each of the worst queries."""
    logger.log_scalars({f"{sheet.name}/{name}": score.mean for name, score in sheet.scores.items()}, step)
    for place, answer in enumerate(sheet.answers):
        logger.log_figure(draw(answer, sheet.metric, thumbnails), f"worst queries of {sheet.name}", place)
