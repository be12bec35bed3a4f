"""How much higher a score is on test images of one side than on those of another, for one fitted classifier.

The sides have different images, so their estimates are independent but for the classifier, which the interval takes as
it is. Its bounds combine those of both sides (MOVER, Zou and Donner, Statistics in Medicine 27, 2008): of a difference
of two estimates e, f with bounds l, u the lower bound is e - f - sqrt((e - l_e)^2 + (u_f - f)^2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from bb.probe.classification.board import Board, Row
from bb.probe.statistics.multiclass.intervals import MetricEstimate

PAIRS = (("id_test", "test"),)  # images of sites that were trained on, and of others


@dataclass(frozen=True)
class SideDifference:
    """Of one run: the score on side `one` less that on side `other`."""

    name: str
    classifier: str
    shots: str
    task: str
    one: str
    other: str
    difference: MetricEstimate


def side_differences(boards: Sequence[Board]) -> list[SideDifference]:
    """Of runs that have both sides of one of PAIRS on boards: in the metric of the boards."""
    found = []
    for one, other in PAIRS:
        theirs = {
            (b.tasks, b.task, b.train_pool, row.run.run_id): row for b in boards if b.side == other for row in b.rows
        }
        for board in (each for each in boards if each.side == one):
            for row in board.rows:
                if match := theirs.get((board.tasks, board.task, board.train_pool, row.run.run_id)):
                    difference = _difference(row, match, board, other)
                    record = row.run.record
                    shots = str(record["n_train"])
                    facts = (row.name, str(record["classifier"]), shots, board.task, one, other)
                    found.append(SideDifference(*facts, difference))
    return found


def _difference(row: Row, match: Row, board: Board, other: str) -> MetricEstimate:
    ours, theirs = row.metrics[board.metric], match.metrics[board.metric]
    value = math.nan if None in (ours["value"], theirs["value"]) else ours["value"] - theirs["value"]
    claim = "of this classifier, on further images of both sides"
    why = ours["reason"] or theirs["reason"]
    if not why and _shared(row, board.task, board.side, other):
        why = "some groups have test images on both sides, so the two scores are not independent"
    if why or None in (ours["low"], theirs["low"]):
        return MetricEstimate(board.metric, value, None, claim, why or "a side has no interval")
    below = math.hypot(ours["value"] - ours["low"], theirs["high"] - theirs["value"])
    above = math.hypot(ours["high"] - ours["value"], theirs["value"] - theirs["low"])
    return MetricEstimate(board.metric, value, (value - below, value + above), claim)


def _shared(row: Row, task: str, one: str, other: str) -> bool:
    table = row.run.predictions(["task", "cluster", "group"]).filter(pl.col("task") == task).drop_nulls("group")
    groups = [set(table.filter(pl.col("cluster") == side)["group"]) for side in (one, other)]
    return bool(groups[0] & groups[1])
