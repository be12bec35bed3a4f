"""From runs to the table that a person reads: backbones by shot count, each mean with its interval."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from probe.bootstrap import interval
from probe.protocol import kind_of, parse_protocol
from probe.sampling import NTrain
from probe.scores import mean_over_seeds
from store.runs import Run
from store.space import short


@dataclass(frozen=True)
class Cell:
    """One backbone at one n_train: mean over test images, averaged over seeds, with its bootstrap bounds."""

    mean: float
    low: float
    high: float
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> int:
        return len(self.runs)


@dataclass(frozen=True)
class Row:
    """One line of a board. `label` is the backbone, with what tells it from its namesakes; `space` the key."""

    label: str
    space: str
    cells: dict[NTrain, Cell]


@dataclass(frozen=True)
class Board:
    """Runs that may be compared: one task family, collection and protocol. Rows by descending mean, best first."""

    tasks: str
    collection: str
    protocol: str
    n_tasks: int
    chance: float
    columns: tuple[NTrain, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """The board as a JSON object."""
        return {
            "tasks": self.tasks,
            "collection": self.collection,
            "protocol": self.protocol,
            "n_tasks": self.n_tasks,
            "chance": self.chance,
            "rows": [
                {
                    "backbone": row.label,
                    "space": row.space,
                    "cells": [
                        {
                            "n_train": n_train,
                            "mean": cell.mean,
                            "low": cell.low,
                            "high": cell.high,
                            "seeds": cell.seeds,
                            "runs": [run.run_id for run in cell.runs],
                        }
                        for n_train, cell in row.cells.items()
                    ],
                }
                for row in self.rows
            ],
            "notes": list(self.notes),
        }


def boards(runs: Iterable[Run], tasks: str) -> list[Board]:
    """One board for each collection and protocol among the runs of a task family, in the order of their names."""
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        if run.record["tasks"] == tasks:
            groups[run.record["collection_name"], run.record["protocol"]].append(run)
    return [_board(tasks, *key, group) for key, group in sorted(groups.items())]


def _board(tasks: str, collection: str, protocol: str, runs: list[Run]) -> Board:
    chosen, notes = _one_each(runs)
    cells: dict[tuple[str, str], dict[NTrain, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in chosen:
        cells[run.record["space"], _variant(run)][run.record["n_train"]].append(run)
    computed = _cells({(*row, n): tuple(group) for row, by_n in cells.items() for n, group in by_n.items()})
    rows = [
        Row(label, space, {n: computed[space, variant, n] for n in sorted(by_n, key=_size)})
        for (space, variant), by_n in cells.items()
        for label in [_label(space, variant, next(iter(by_n.values()))[0], chosen)]
    ]
    columns = tuple(sorted({n for row in rows for n in row.cells}, key=_size))
    rows.sort(key=lambda row: ([-row.cells[n].mean if n in row.cells else 0.0 for n in reversed(columns)], row.label))
    scores = [run.record["scores"] for run in chosen]
    counts = {len(s["tasks"]) for s in scores}
    if len(counts) > 1:
        notes.append(f"the runs differ in their number of tasks ({', '.join(map(str, sorted(counts)))})")
    return Board(tasks, collection, protocol, max(counts), scores[0]["chance"], columns, tuple(rows), tuple(notes))


def _one_each(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """The newest run of each space, variant, n_train and seed; notes say where there were others."""
    by_cell: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        record = run.record
        by_cell[record["space"], _variant(run), str(record["n_train"]), record["seed"]].append(run)
    chosen, notes = [], []
    for same in by_cell.values():
        same.sort(key=lambda run: (run.record["provenance"]["made"], run.digest))
        chosen.append(same[-1])
        if any(run.record["scores"] != same[-1].record["scores"] for run in same):
            record = same[-1].record
            notes.append(
                f"{len(same)} runs of {_name(same[-1])} at n_train {record['n_train']}, seed {record['seed']} "
                f"disagree; the newest, {short(same[-1].run_id)}, is shown"
            )
    return chosen, notes


def _cells(groups: dict[tuple[Any, ...], tuple[Run, ...]]) -> dict[tuple[Any, ...], Cell]:
    """Means and intervals; cells tested on the same rows share their resamples."""
    tables = {key: mean_over_seeds([run.predictions() for run in runs]) for key, runs in groups.items()}
    alike: list[list[tuple[Any, ...]]] = []
    for key, table in tables.items():
        rows = table.select("task", "image_id")
        for family in alike:
            if tables[family[0]].select("task", "image_id").equals(rows):
                family.append(key)
                break
        else:
            alike.append([key])
    cells = {}
    for family in alike:
        scores_NM = np.column_stack([tables[key]["score"].to_numpy() for key in family])
        found = interval(tables[family[0]]["image_id"].to_list(), scores_NM)
        for key, mean, low, high in zip(family, found.estimate, found.low, found.high, strict=True):
            cells[key] = Cell(float(mean), float(low), float(high), groups[key])
    return cells


def _variant(run: Run) -> str:
    """How a run departs from its protocol's default, in the words of the command line; empty where it does not."""
    record = run.record
    usual = parse_protocol(record["protocol"]).classifier(record["n_train"])
    words = [] if record["svm"] == kind_of(usual) else [f"--svm {record['svm']}"]
    words += [] if record["identical_to_sklearn"] else [f"--backend {record['backend']}"]
    return " ".join(words)


def _label(space: str, variant: str, run: Run, runs: list[Run]) -> str:
    namesakes = {other.record["space"] for other in runs if _name(other) == _name(run)}
    words = [_name(run), variant, f"({short(space)})" if len(namesakes) > 1 else ""]
    return " ".join(word for word in words if word)


def _name(run: Run) -> str:
    return ", ".join(run.record["backbones"]) or short(run.record["space"])


def _size(n_train: NTrain) -> float:
    return float("inf") if n_train == "all" else float(n_train)
