"""Scores of all backbones on one test set, and how they vary together: what a board's intervals and ranks are made of.

A column is a family, a side of its split, and a way of classifying. All columns of one test set are a block: further
images would change them together, so differences of backbones keep their pairing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64

from bb.probe.classification.board import answers, trait_answers
from bb.probe.statistics import multilabel, regression
from bb.probe.statistics.bootstrap import Resampled
from bb.probe.statistics.multiclass.metrics import METRICS
from bb.probe.statistics.multiclass.together import TaskScore, together
from bb.probe.tasks.registry import family_metrics
from bb.store.local.runs import Run

Parts: TypeAlias = Mapping[str, pl.DataFrame]  # a run's predictions of one side, by task


@dataclass(frozen=True)
class Column:
    """What a column is of. n: test images of all its tasks."""

    family: str
    side: str
    method: str
    shots: str
    metric: str
    n: int
    tasks: int
    seeds: int

    @property
    def title(self) -> str:
        shots = "" if self.shots == "all" else f", {self.shots} shot{'s' * (self.shots != '1')}"
        return f"{self.method}{shots}"


@dataclass(frozen=True, eq=False)
class Block:
    """The columns of one family and side, each with a score of every backbone; NaN where it has none.

    varies  of backbones that have a score in every column, column by column, and which these are; None where there are
            no two of them
    reason  why columns have no intervals and no shown ranks; empty where they have
    """

    columns: tuple[Column, ...]
    scores: Float64[np.ndarray, "columns backbones"]
    bounds: Float64[np.ndarray, "columns backbones 2"]
    ranked: tuple[int, ...]
    varies: Resampled | None
    reason: str


def block(
    family: str, side: str, runs: Mapping[tuple[str, str], Mapping[str, Sequence[Run]]], backbones: Sequence[str]
) -> Block:
    """Runs by method and shots, and then by backbone: one for each seed. Seeds are averaged, tasks too."""
    columns, scores, bounds = [], [], []
    for (method, shots), by_backbone in runs.items():
        first = next(iter(by_backbone.values()))[0].record
        sides = [sides[side] for sides in first["scores"]["tasks"].values() if side in sides]
        seeds = max(map(len, by_backbone.values()))
        main = _main(next(iter(by_backbone.values()))[0], side)
        columns.append(Column(family, side, method, shots, main, sum(s["n"] for s in sides), len(sides), seeds))
        scores.append([_mean(by_backbone.get(backbone, ()), side, main) for backbone in backbones])
        bounds.append([_stated(by_backbone.get(backbone, ()), side, main) for backbone in backbones])
    # Means of equal scores are equal, in whatever order they were added.
    score, bound = np.round(np.array(scores, np.float64), 12), np.array(bounds, np.float64)
    ranked = tuple(np.flatnonzero(~np.isnan(score).any(axis=0)).tolist())
    reason = _reason(runs, side)
    varies = None if reason or not ranked else _varies(family, side, runs, [backbones[place] for place in ranked])
    if varies is not None:
        found = varies.interval()
        shape = len(columns), len(ranked)
        for c, column in enumerate(columns):
            if column.seeds * column.tasks > 1:  # else it is the run's own
                bound[c, ranked, 0] = found.low.reshape(shape)[c]
                bound[c, ranked, 1] = found.high.reshape(shape)[c]
    return Block(tuple(columns), score, bound, ranked, varies, reason)


def _main(run: Run, side: str) -> str:
    """The metric of a column: a protocol's own, else the one that the family's board has first."""
    own = () if run.record.get("published") else family_metrics(str(run.record["tasks"]))
    known = set.intersection(*(set(each) for each in _metrics(run, side)))
    return next((name for name in own if name in known), str(run.record["scores"]["main"]))


def _metrics(run: Run, side: str) -> list[dict[str, Any]]:
    """Of each task of a run that has this side."""
    return [sides[side]["metrics"] for sides in run.record["scores"]["tasks"].values() if side in sides]


def _mean(runs: Sequence[Run], side: str, main: str) -> float:
    values = [each[main]["value"] for run in runs for each in _metrics(run, side)]
    return float("nan") if not values or None in values else float(np.mean(values))


def _stated(runs: Sequence[Run], side: str, main: str) -> tuple[float, float]:
    """The bounds that the only run states for its only task."""
    found = [each[main] for run in runs for each in _metrics(run, side)]
    if len(found) != 1 or found[0]["low"] is None:
        return float("nan"), float("nan")
    return found[0]["low"], found[0]["high"]


def _reason(runs: Mapping[tuple[str, str], Mapping[str, Sequence[Run]]], side: str) -> str:
    for by_backbone in runs.values():
        for run in (run for each in by_backbone.values() for run in each):
            for found in _metrics(run, side):
                if reason := found[_main(run, side)]["reason"]:
                    return str(reason)
    return ""


def _varies(
    family: str, side: str, runs: Mapping[tuple[str, str], Mapping[str, Sequence[Run]]], backbones: Sequence[str]
) -> Resampled:
    """All columns by all these backbones, as one table of models."""
    models = [
        [_items(run, side, _main(run, side)) for run in by_backbone[backbone]]
        for by_backbone in runs.values()
        for backbone in backbones
    ]
    names = tuple(f"{method} {shots} {backbone}" for method, shots in runs for backbone in backbones)
    return together(names, models)


def _items(run: Run, side: str, main: str) -> list[TaskScore]:
    """Of each task what every test image adds to the run's metric."""
    columns = ("task", "cluster", "image_id", "y_true", "y_pred", "decision", "group")
    table = run.predictions(columns).filter(pl.col("cluster") == side)
    parts = {str(name): rows for (name,), rows in table.partition_by("task", as_dict=True).items()}
    return [
        found
        for task, sides in run.record["scores"]["tasks"].items()
        if side in sides and (found := _READ[str(run.record["target"])](run, task, side, main, parts)) is not None
    ]


def _of_classes(run: Run, task: str, side: str, main: str, parts: Parts) -> TaskScore | None:
    rows = parts.get(task)
    found, metric = None if rows is None else answers(run, task, side, rows), METRICS[main]
    if rows is None or found is None:
        return None
    stratum = found.y_true if metric.sampled == "counts" else None
    ids = rows["image_id"].sort().to_list()
    return TaskScore(ids, metric.value(found), metric.contributions(found), found.group, stratum, metric.of_answers)


def _of_values(run: Run, task: str, side: str, main: str, parts: Parts) -> TaskScore | None:
    table = parts[task].sort("image_id")
    metric = regression.METRICS[main]
    y, predicted = (table[name].to_numpy().astype(np.float64) for name in ("y_true", "y_pred"))
    group = _group(table)
    return TaskScore(table["image_id"].to_list(), metric.value(y, predicted), metric.contributions(y, predicted), group)


def _of_traits(run: Run, task: str, side: str, main: str, parts: Parts) -> TaskScore | None:
    names = [f"{task}:{trait}" for trait in run.record["class_names"][task]]
    ids, found = trait_answers(run, task, pl.concat([parts[name] for name in names if name in parts]))
    metric = multilabel.METRICS[main]
    if not metric.by_trait:
        ids, found = ids[found.whole], found.among(found.whole)
    return TaskScore(ids.tolist(), metric.value(found), metric.contributions(found), found.group)


def _group(table: pl.DataFrame) -> Int64[np.ndarray, " n"] | None:
    return None if table["group"].null_count() else table["group"].to_numpy().astype(np.int64)


_READ: dict[str, Callable[[Run, str, str, str, Parts], TaskScore | None]] = {
    "classes": _of_classes,
    "traits": _of_traits,
    "values": _of_values,
}
