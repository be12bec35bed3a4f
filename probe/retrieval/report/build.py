"""What is told of retrieval runs: scores with intervals, categories, the worst queries."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64

from probe.retrieval.answers import worst
from probe.retrieval.figure import draw
from probe.retrieval.items import Items
from probe.retrieval.logger import PipelineLogger
from probe.retrieval.page import Sheet
from probe.retrieval.paired import Estimate, behind_first
from probe.retrieval.ranking import NOBODY, Ranking, count_relevant
from probe.retrieval.run import PROTOCOL, intervals, table_of_runs
from probe.retrieval.thumbnail import Thumbnail
from store.canonical import digest_of
from store.errors import BBError, UsageError
from store.runs import Run
from store.space import short

SHOWN = ("cmc@1", "precision@5", "map@10", "r_precision", "map@r")
DEEPEST = 1000  # places of a query that a run may have kept


def newest(runs: Sequence[Run], tasks: str) -> tuple[list[Run], list[str]]:
    """The runs that can be told of together, and notes on what is left out.

    Of all runs on labels of that name: those of the test set that was searched last, the newest for each space and
    parameters, in order of their main score.
    """
    found = sorted((run for run in runs if _of(run, tasks)), key=lambda run: str(run.record["provenance"]["made"]))
    if not found:
        return [], []
    last = found[-1].record["test_set"]
    kept = {
        (run.record["space"], digest_of(run.record["parameters"])): run
        for run in found
        if run.record["test_set"] == last
    }
    others = sum(run.record["test_set"] != last for run in found)
    notes = [f"{others} runs of other queries, labels or metrics are left out; the newest are shown"] if others else []
    return sorted(kept.values(), key=lambda run: (-run.record["scores"]["mean"], run.run_id)), notes


def _of(run: Run, tasks: str) -> bool:
    return (run.record["protocol"], run.record["tasks"]) == (PROTOCOL, tasks)


def names(runs: Sequence[Run]) -> list[str]:
    """What each run is called: its backbone, re-ranked or not, with the run's ID where that is not enough."""
    backbones = [
        ", ".join(run.record["backbones"]) + (" re-ranked" if run.record["parameters"]["rerankers"] else "")
        for run in runs
    ]
    return [
        name if name and backbones.count(name) == 1 else f"{name} {short(run.run_id)}".strip()
        for name, run in zip(backbones, runs, strict=True)
    ]


def sheets(runs: Sequence[Run], items: Items, *, metric: str | None, queries: int, top: int) -> Iterator[Sheet]:
    """What is told of runs of one test set, the best first.

    items    the labels that they were made on, with the same roles
    metric   that runs are ordered and the worst queries chosen by, the first of the scores; the main one if None
    queries  how many of them; top: how many images each, of those that the runs kept
    Errors: UsageError for a metric that the runs do not have; BBError where they were made on other labels.
    """
    scores = runs[0].record["scores"]
    metric = metric or str(scores["main"])
    if metric not in scores["tasks"]:
        raise UsageError(f"there is no metric {metric!r} in these runs: choose {', '.join(scores['tasks'])}.")
    runs = sorted(runs, key=lambda run: -run.record["scores"]["tasks"][metric]["mean"])
    shown = [name for name in dict.fromkeys((metric, *SHOWN)) if name in scores["tasks"]]
    bounds = {name: intervals(runs, name) for name in shown}
    behind = behind_first(table_of_runs(runs, metric))
    for place, (name, run) in enumerate(zip(names(runs), runs, strict=True)):
        ranking, how = ranking_of(run, items), run.record["parameters"]
        yield Sheet(
            name=name,
            space=str(run.record["space"]),
            facts=(
                f"{len(ranking)} queries, {len(items.gallery)} images in the gallery, {len(items.labels)} labels; "
                f"{how['distance']} distance, convention {how['convention']}; run {short(run.run_id)}"
            ),
            scores={
                each: Estimate(*(float(bound[place]) for bound in interval[:3])) for each, interval in bounds.items()
            },
            categories={
                category: {each: means.get(each, float("nan")) for each in shown}
                for category, means in run.record["scores"]["categories"].items()
            },
            metric=metric,
            behind=behind[place],
            answers=worst(items, ranking, _scores(run, items, metric), queries=queries, top=top),
        )


def ranking_of(run: Run, items: Items) -> Ranking:
    """What a run kept of each query's nearest. Errors: BBError where it was made on other labels, or kept nothing."""
    gallery = run.train().sort("image_id")
    same = gallery["image_id"].to_list() == items.image_ids[items.gallery].tolist()
    if not same or gallery["y"].to_list() != items.label_codes[items.gallery].tolist():
        raise _other(run, items)
    table = run.retrieved()
    if table is None:
        raise BBError(f"run {short(run.run_id)} kept nothing of what it retrieved: bb probe retrieval --force.")
    query, nearest = (_rows(items, table[column]) for column in ("image_id", "retrieved_id"))
    rank = table["rank"].to_numpy().astype(np.int64) - 1
    place = np.minimum(np.searchsorted(items.queries, query), len(items.queries) - 1)
    inside = (rank >= 0) & (rank < DEEPEST) & (query >= 0) & (nearest >= 0)
    if not (inside & (items.queries[place] == query)).all():
        raise _other(run, items)
    shape = len(items.queries), int(rank.max(initial=0)) + 1
    rows, distance = np.full(shape, NOBODY, np.int64), np.full(shape, np.inf, np.float32)
    rows[place, rank], distance[place, rank] = nearest, table["distance"].to_numpy()
    return Ranking(items.queries, rows, distance, count_relevant(items))


def _scores(run: Run, items: Items, metric: str) -> Float64[np.ndarray, " q"]:
    """A metric of each query; NaN where it has no value."""
    table = run.predictions().filter(pl.col("task") == metric)
    rows = _rows(items, table["image_id"])
    found = np.full(len(items), np.nan)
    if (rows < 0).any():
        raise _other(run, items)
    found[rows] = table["score"].to_numpy()
    return found[items.queries]


def _rows(items: Items, ids: pl.Series) -> np.ndarray:
    """Rows of images; -1 of one that is not there."""
    there = pl.DataFrame({"id": items.frame["image_id"], "row": np.arange(len(items))})
    return (
        ids.alias("id")
        .to_frame()
        .join(there, on="id", how="left", maintain_order="left")["row"]
        .fill_null(-1)
        .to_numpy()
    )


def _other(run: Run, items: Items) -> BBError:
    return BBError(
        f"run {short(run.run_id)} was made on other labels than {items.source} has now: bb probe retrieval --labels "
        f"{items.source} makes one on these."
    )


def roles(run: Run) -> dict[str, Any]:
    """How queries and gallery were told apart, as `probe.retrieval.items.assign` takes it."""
    said = dict(run.record["parameters"]["roles"])
    return {"split": said["split"], "against": said["against"], "folds": said["folds"], "seed": said["seed"] or 0}


def log_sheet(logger: PipelineLogger, sheet: Sheet, step: int, thumbnails: Mapping[str, Thumbnail]) -> None:
    """Scores at `step`, and a figure for each of the worst queries."""
    logger.log_scalars({f"{sheet.name}/{name}": score.mean for name, score in sheet.scores.items()}, step)
    for place, answer in enumerate(sheet.answers):
        logger.log_figure(draw(answer, sheet.metric, thumbnails), f"worst queries of {sheet.name}", place)
