"""A published table next to bb's scores, and what keeps one of its scores from comparing with one of ours.

Columns ckpt and score; task (the table's name, or the task's), shots, protocol, view, pooling, split and metric, if
present, say how it was made.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from bb.probe.classification.board import Board
from bb.probe.classification.comparisons.headline import Headline, headlines
from bb.probe.tables.table_file import LINE, read_table_file
from bb.probe.tasks.fold import parse_shots
from bb.store import FeatureSpace
from bb.store.errors import BBError, UsageError

COLUMNS = ("ckpt", "score")
HOW = ("protocol", "view", "pooling", "split", "metric")
OPTIONAL = ("task", "shots", *HOW)


@dataclass(frozen=True)
class Published:
    """One row; None where the table does not say.

    view  pixels of the crop, "224", or of the resized image and the crop, "256/224"
    """

    ckpt: str
    score: float
    task: str | None = None
    shots: str | None = None
    protocol: str | None = None
    view: str | None = None
    pooling: str | None = None
    split: str | None = None
    metric: str | None = None


@dataclass(frozen=True)
class Comparison:
    """One of our means next to a published score. obstacles: why they do not compare; empty where nothing is known."""

    ours: Headline
    theirs: Published
    obstacles: tuple[str, ...]

    @property
    def difference(self) -> float:
        """Ours less theirs."""
        return self.ours.value - self.theirs.score

    def record(self) -> dict[str, Any]:
        """JSON-ready, and a row of a table."""
        return {
            "figure": "reference", "tasks": self.ours.board.tasks, "task": self.ours.board.task,
            "side": self.ours.board.side, "protocol": self.ours.board.protocol, "backbone": self.ours.backbone,
            "classifier": self.ours.classifier, "shots": str(self.ours.shots), "metric": self.ours.metric,
            "value": self.ours.value, "reference": self.theirs.score, "difference": self.difference,
            "does_not_compare": "; ".join(self.obstacles),
        }  # fmt: skip


def read_reference(path: Path, canonical: Callable[[str], str] = lambda name: name) -> list[Published]:
    """Reads a CSV or Parquet file. `canonical` turns a backbone's name in it into the one that runs have.

    Errors: UsageError where there is no such file or it has no column ckpt or score, BBError naming the line of a
    score that is not a number from 0 to 1, of shots that are none, or of a row that repeats another.
    """
    what = f"--reference {path}: the file does not exist. It has the columns {', '.join(COLUMNS)}."
    remedy = f"A reference has {', '.join(COLUMNS)}, and {', '.join(OPTIONAL)} if known."
    table = read_table_file(path, what=what, columns=(*COLUMNS, *OPTIONAL), remedy=remedy)
    table.require(COLUMNS, remedy)
    there = [column for column in OPTIONAL if column in table.columns]
    optional = [pl.col(c).str.strip_chars() if c in there else pl.lit(None).alias(c) for c in OPTIONAL]
    known = table.select(optional=[*COLUMNS, *there]).frame.with_columns(table.frame["score"])  # as written
    stated = known.select(LINE, *COLUMNS, *optional)
    found: dict[tuple[str | None, ...], Published] = {}
    for line, ckpt, text, *others in stated.iter_rows():
        if not ckpt:
            raise BBError(f"{path}, line {line}: every row needs a ckpt.")
        score = table.share(text)
        if score is None:
            raise BBError(f"{path}, line {line}: the score {text!r} is not a number from 0 to 1.")
        row = Published(canonical(ckpt), score, *(value or None for value in others))
        if row.shots:
            try:
                parse_shots(row.shots)
            except UsageError:
                raise BBError(f"{path}, line {line}: shots {row.shots!r} are neither all nor a number.") from None
        key = tuple(str(getattr(row, field.name)) for field in fields(row) if field.name != "score")
        if key in found:
            raise BBError(f"{path}, line {line}: {ckpt} has such a score already; keep one of the rows.")
        found[key] = row
    return list(found.values())


def compare(
    boards: Sequence[Board], published: Sequence[Published], spaces: Mapping[str, FeatureSpace]
) -> list[Comparison]:
    """Our means over seeds next to the published scores of the same backbones and tables.

    A score is next to those of its protocol, shots and metric where there are some, else to all of that backbone, and
    then says what differs. spaces: feature spaces by key, whose view and pooling are compared.
    """
    return [
        Comparison(ours, row, tuple(_obstacles(ours, row, spaces.get(str(ours.rows[0].run.record["space"])))))
        for row in published
        for ours in _next_to(row, boards)
    ]


def _next_to(row: Published, boards: Sequence[Board]) -> list[Headline]:
    found = headlines(boards, row.metric) if row.metric else []
    found = [
        each for each in found or headlines(boards)
        if row.ckpt in (each.backbone, *map(str, each.rows[0].run.record["backbones"]))
        and row.task in (None, each.board.tasks, each.board.task)
    ]  # fmt: skip
    for value, of in ((row.protocol, lambda each: each.board.protocol), (row.shots, lambda each: str(each.shots))):
        same = [each for each in found if of(each) == value]
        found = same if value and same else found
    return found


def _obstacles(ours: Headline, row: Published, space: FeatureSpace | None) -> Iterator[str]:
    board = ours.board
    if unstated := [name for name in HOW if getattr(row, name) is None]:
        yield f"it does not state {', '.join(unstated)}"
    if row.protocol not in (None, board.protocol):
        yield f"its protocol is {row.protocol}, ours {board.protocol or 'one of bb'}"
    if row.shots not in (None, str(ours.shots)):
        yield f"its shots are {row.shots}, ours {ours.shots}"
    view = space.view if space else {}
    pixels = [max(view[name]) if isinstance(view.get(name), list | tuple) else None for name in ("resize", "crop")]
    wanted = (row.view or "").split("/")
    mine = [str(number) for number in pixels[-len(wanted) :]]
    if row.view and None in pixels:
        yield f"its view is {row.view}, and ours is not recorded"
    elif row.view and wanted != mine:
        yield f"its view is {row.view}, ours {'/'.join(mine)}"
    pooling = space.output.get("pooling") if space else None
    if row.pooling and not pooling:
        yield f"its pooling is {row.pooling}, and ours is not recorded"
    elif row.pooling and row.pooling != pooling:
        yield f"its pooling is {row.pooling}, ours {pooling}"
    split = board.side if board.split_by == "column" else board.split_by
    if row.split and board.split_by != "protocol" and row.split != split:
        yield f"its split is {row.split}, ours {split}"
    if row.metric not in (None, ours.metric):
        yield f"its metric is {row.metric}, ours {ours.metric}"
    if ours.missing:
        yield f"ours has {len(ours.seeds)} of the protocol's {len(ours.asked)} seeds"
