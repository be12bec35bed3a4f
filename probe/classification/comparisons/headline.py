"""What is quoted of runs: the mean of a metric over seeds, for each backbone, classifier and number of shots.

A published protocol says over which seeds; one with fewer is incomplete, and is not the published number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from bb.probe.classification.board import Board, Row
from bb.probe.tasks.fold import Shots


@dataclass(frozen=True)
class Headline:
    """A mean over seeds, on one table, task and side.

    value, sd  mean, and standard deviation (ddof 0) over the seeds: of these draws, not of further images
    metric     the protocol's, else the board's
    seeds      those that there are; `asked` are the protocol's, empty without one
    """

    board: Board
    rows: tuple[Row, ...]
    shots: Shots
    metric: str
    value: float
    sd: float
    seeds: tuple[int, ...]
    asked: tuple[int, ...] = ()

    @property
    def backbone(self) -> str:
        return self.rows[0].name

    @property
    def classifier(self) -> str:
        return self.rows[0].classifier

    @property
    def missing(self) -> tuple[int, ...]:
        """Seeds of the protocol that have no run."""
        return tuple(seed for seed in self.asked if seed not in self.seeds)

    @property
    def seeds_text(self) -> str:
        """How many, of how many."""
        return f"{len(self.seeds)} of {len(self.asked)}" if self.missing else str(len(self.seeds))


def headlines(boards: Sequence[Board], metric: str | None = None) -> list[Headline]:
    """Of all boards, the best first within each table, task, side and protocol.

    metric  in place of each board's own; rows without it are left out
    """
    groups: dict[tuple[object, ...], list[tuple[Board, Row]]] = {}
    for board in boards:
        for row in board.rows:
            record = row.run.record
            if (row.metrics.get(metric or board.metric) or {}).get("value") is None:
                continue
            key = (board.tasks, board.task, board.side, board.split_by, board.protocol, board.train_pool)
            parameters = str(record.get("parameters"))
            groups.setdefault((*key, str(record["space"]), row.classifier, parameters, record["n_train"]), []).append(
                (board, row)
            )
    found = []
    for pairs in groups.values():
        by_seed = {int(row.run.record["seed"]): (board, row) for board, row in reversed(pairs)}
        seeds = sorted(by_seed)
        board, row = by_seed[seeds[0]]
        name = metric or board.metric
        values = [by_seed[seed][1].metrics[name]["value"] for seed in seeds]
        published = row.run.record.get("published") or {}
        found.append(
            Headline(
                board, tuple(by_seed[seed][1] for seed in seeds), row.run.record["n_train"], name,
                float(np.mean(values)), float(np.std(values)), tuple(seeds), tuple(published.get("seeds", ())),
            )
        )  # fmt: skip
    return sorted(found, key=lambda h: (h.board.tasks, h.board.task, h.board.side, h.board.protocol, -h.value))


def headline_frame(found: Sequence[Headline]) -> pl.DataFrame:
    """In the columns of `Board.frame`, with figure "mean over seeds", sd, and n for the seeds that there are."""
    rows = [
        {
            "figure": "mean over seeds",
            "tasks": h.board.tasks,
            "task": h.board.task,
            "side": h.board.side,
            "split_by": h.board.split_by,
            "protocol": h.board.protocol,
            "backbone": h.backbone,
            "classifier": h.classifier,
            "shots": str(h.shots),
            "metric": h.metric,
            "value": h.value,
            "sd": h.sd,
            "n": len(h.seeds),
            "missing_seeds": ",".join(map(str, h.missing)),
        }
        for h in found
    ]
    return pl.DataFrame(rows)
