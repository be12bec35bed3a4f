"""What figures of a board show: scores over shots, and how often a confidence is right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from bb.probe.classification.board import Board, Row
from bb.probe.statistics.multiclass.calibration import Bin, reliability_of
from bb.probe.tasks.fold import Shots


@dataclass(frozen=True)
class Point:
    """The main metric at one number of shots.

    value      of several seeds their mean
    low, high  of several seeds the means of their bounds, which are at least as far apart as those of the mean would
               be; None where one seed has no interval
    seeds      how many
    """

    shots: Shots
    value: float
    low: float | None
    high: float | None
    seeds: int


@dataclass(frozen=True)
class Curve:
    """One backbone with one classifier; points in order of shots, "all" last."""

    label: str
    points: tuple[Point, ...]


def learning_curves(board: Board) -> list[Curve]:
    """A curve for each backbone and classifier, the best at its last point first."""
    found: dict[tuple[str, str, str], dict[Shots, list[Row]]] = {}
    for row in board.rows:
        record = row.run.record
        parameters = record.get("parameters")  # run.json is untrusted input
        how = str(parameters.get("preprocessing", "")) if isinstance(parameters, dict) else ""
        key, shots = (row.name, row.classifier, how), row.shots
        known = shots == "all" or (type(shots) is int and shots > 0)
        if row.metrics[board.metric]["value"] is not None and known:
            found.setdefault(key, {}).setdefault(shots, []).append(row)
    several = len({(name, classifier) for name, classifier, _ in found}) < len(found)
    curves = []
    for key, of in found.items():
        points = tuple(_point(shots, of[shots], board.metric) for shots in sorted(of, key=_size))
        curves.append(Curve(", ".join(key if several else key[:2]), points))
    return sorted(curves, key=lambda curve: (-curve.points[-1].value, curve.label))


def _size(shots: Shots) -> float:
    return float("inf") if shots == "all" else float(shots)


def _point(shots: Shots, rows: Sequence[Row], metric: str) -> Point:
    each = [row.metrics[metric] for row in rows]
    low, high = (
        None if any(found[bound] is None for found in each) else float(np.mean([found[bound] for found in each]))
        for bound in ("low", "high")
    )
    return Point(shots, float(np.mean([found["value"] for found in each])), low, high, len(each))


def reliability_bins(board: Board, row: Row) -> list[Bin]:
    """Of a run with probabilities the bins of its test images' confidence; none of others."""
    if board.target != "classes":
        return []
    columns = ["task", "cluster", "y_true", "y_pred", "probability", "group"]
    table = row.run.predictions(columns)
    mine = table.filter((pl.col("task") == board.task) & (pl.col("cluster") == board.side))
    if mine.is_empty() or mine["probability"].null_count():
        return []
    hit = (mine["y_true"] == mine["y_pred"]).to_numpy()
    confidence = np.clip(mine["probability"].to_numpy().astype(np.float64), 0, 1)
    return reliability_of(confidence, hit, grouped=not mine["group"].null_count())


def most_reliable_first(board: Board) -> tuple[Row, list[Bin]] | None:
    """The best run that gives probabilities, with its bins."""
    for row in board.rows:
        if "ece" in row.metrics and (bins := reliability_bins(board, row)):
            return row, bins
    return None


def points_frame(board: Board) -> pl.DataFrame:
    """The points of both figures, in the columns of `Board.frame` and more: figure, at, n.

    figure  "learning curve": `at` is shots, `n` seeds; "reliability": `value` is the share right of images whose mean
            confidence is `at`, `n` how many they are
    """
    facts = {"tasks": board.tasks, "task": board.task, "side": board.side, "split_by": board.split_by}
    rows = [
        {**facts, "figure": "learning curve", "label": curve.label, "metric": board.metric, "at": str(point.shots),
         "value": point.value, "low": point.low, "high": point.high, "n": point.seeds}
        for curve in learning_curves(board)
        for point in curve.points
    ]  # fmt: skip
    for row in board.rows:
        record = row.run.record
        label = f"{row.name}, {row.classifier}, shots {record['n_train']}, seed {record['seed']}"
        for bin_ in reliability_bins(board, row):
            low, high = bin_.interval or (None, None)
            rows.append(
                {**facts, "figure": "reliability", "label": label, "metric": "accuracy", "at": f"{bin_.confidence:.6f}",
                 "value": bin_.accuracy, "low": low, "high": high, "n": bin_.n}
            )  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"value": pl.Float64, "low": pl.Float64, "high": pl.Float64})
