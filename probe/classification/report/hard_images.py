"""The images of a board that most backbones get wrong, with what each of them said."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from bb.probe.classification.board import Board, Row

HARDEST = 12


class Hard(NamedTuple):
    """A test image: its class, the share of backbones that get it wrong, and each one's answer, by its name."""

    image_id: str
    true: int
    wrong: float
    predicted: dict[str, int]


def best_of_each(board: Board) -> list[Row]:
    """The best run of each backbone, the best first."""
    return list({row.name: row for row in reversed(board.rows)}.values())[::-1]


def hardest(board: Board, most: int = HARDEST) -> list[Hard]:
    """The images that the best runs of most backbones get wrong, in order of ID where as many do; none of numbers and
    traits."""
    if board.target != "classes":
        return []
    rows = best_of_each(board)
    tables = [_answers(board, row) for row in rows]
    ids, true = tables[0]["image_id"], tables[0]["y_true"].to_numpy().astype(np.int64)
    usable = [
        k
        for k, table in enumerate(tables)
        if table["image_id"].equals(ids) and table["y_pred"].is_between(0, len(board.classes) - 1).all()
    ]
    if not usable or not tables[0]["y_true"].is_between(0, len(board.classes) - 1).all():
        return []
    predicted = np.stack([tables[k]["y_pred"].to_numpy().astype(np.int64) for k in usable])
    wrong = (predicted != true).mean(axis=0)
    order = sorted(np.flatnonzero(wrong > 0).tolist(), key=lambda item: (-wrong[item], item))[:most]
    names = [rows[k].name for k in usable]
    return [
        Hard(ids[item], int(true[item]), float(wrong[item]), dict(zip(names, predicted[:, item].tolist(), strict=True)))
        for item in order
    ]


def _answers(board: Board, row: Row) -> pl.DataFrame:
    table = row.run.predictions(["task", "cluster", "image_id", "y_true", "y_pred"])
    return table.filter((pl.col("task") == board.task) & (pl.col("cluster") == board.side)).sort("image_id")


class OfGroup(NamedTuple):
    """A group's name, or its number where the run keeps no name, its images, and how many of them are right."""

    name: str
    n: int
    right: int


def groups_of(board: Board, row: Row) -> Sequence[OfGroup]:
    """The groups that a run was tested on, the worst first; none where images are groups by themselves."""
    table = row.run.predictions(["task", "cluster", "y_true", "y_pred", "group"])
    mine = table.filter((pl.col("task") == board.task) & (pl.col("cluster") == board.side))
    if board.target != "classes" or mine.is_empty() or mine["group"].null_count():
        return []
    kept = row.run.record.get("group_names")  # run.json is untrusted input
    names = kept.get(board.task) if isinstance(kept, dict) else None
    found = mine.group_by("group").agg(pl.len().alias("n"), (pl.col("y_true") == pl.col("y_pred")).sum().alias("right"))
    groups = [
        OfGroup(str(name), n, right)
        for code, n, right in found.select("group", "n", "right").iter_rows()
        if (name := _name(names, code)) is not None
    ]
    return sorted(groups, key=lambda each: (each.right / each.n, -each.n, each.name))


def _name(names: object, code: int) -> object:
    """None of an image that is a group by itself."""
    return names[code] if isinstance(names, list) and 0 <= code < len(names) else f"group {code}"
