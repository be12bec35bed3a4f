"""From runs to the table that a person reads: backbones by shot count, each mean with its interval."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from probe.bootstrap import resample
from probe.protocol import PROTOCOLS, kind_of, parse_protocol
from probe.sampling import NTrain
from probe.table import read_table
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
    """Runs that may be compared: one task family, collection, protocol and test set. Rows by descending mean.

    test_set  digest of what the runs were tested on
    """

    tasks: str
    collection: str
    protocol: str
    test_set: str
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
            "test_set": self.test_set,
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
    """One board for each collection, protocol and test set among the runs of a task family, in this order."""
    groups: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        if run.record["tasks"] == tasks and run.record["protocol"] in PROTOCOLS:
            groups[run.record["collection_name"], run.record["protocol"], run.record["test_set"]].append(run)
    return [_board(tasks, *key, group) for key, group in sorted(groups.items())]


def _board(tasks: str, collection: str, protocol: str, test_set: str, runs: list[Run]) -> Board:
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
    scores = chosen[0].record["scores"]
    return Board(
        tasks,
        collection,
        protocol,
        test_set,
        len(scores["tasks"]),
        scores["chance"],
        columns,
        tuple(rows),
        tuple(notes),
    )


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
    """Means and intervals. All were tested on the same rows, so they share each resample."""
    table = read_table({str(place): runs for place, runs in enumerate(groups.values())})
    found = resample(table).interval()
    bounds = zip(groups, found.estimate, found.low, found.high, strict=True)
    return {key: Cell(float(mean), float(low), float(high), groups[key]) for key, mean, low, high in bounds}


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
