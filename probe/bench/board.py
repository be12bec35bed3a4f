"""The board: a row for each backbone, a column for each family and way of classifying, and the mean rank."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64

from bb.probe.bench.columns import Block, Column, block
from bb.probe.statistics.comparison import mean_ranks
from bb.store.format.space import short
from bb.store.local.runs import Run, by_precedence

CLAIM = (
    "A mean rank is over these families, each with the same weight, and over their columns: nothing is claimed of "
    "other families. Its 95% interval is of further test images of each family, with the classifiers as they are "
    "trained; it comes from a backbone's differences to all others in all columns, whose bounds hold together."
)


@dataclass(frozen=True)
class BenchCell:
    """A score with its interval; None where there is none."""

    value: float
    low: float | None
    high: float | None
    best: bool


@dataclass(frozen=True)
class BenchRow:
    """A backbone. rank, low, high: the mean rank with its interval; None where a column has no score."""

    name: str
    spaces: tuple[str, ...]
    cells: tuple[BenchCell | None, ...]
    rank: float | None
    low: float | None
    high: float | None
    lacks: int


@dataclass(frozen=True)
class BenchBoard:
    """Rows have the best mean rank first, and those without scores last.

    failed  what could not be computed, each with the reason
    """

    title: str
    columns: tuple[Column, ...]
    reasons: tuple[str, ...]
    rows: tuple[BenchRow, ...]
    ranked: int
    failed: Mapping[str, str]

    def frame(self) -> pl.DataFrame:
        """A row for each backbone and column."""
        rows = [
            {
                "backbone": row.name, "family": column.family, "side": column.side,
                "method": column.method, "shots": column.shots, "metric": column.metric, "n": column.n,
                "tasks": column.tasks, "seeds": column.seeds, "value": cell and cell.value, "low": cell and cell.low,
                "high": cell and cell.high, "mean_rank": row.rank, "mean_rank_low": row.low, "mean_rank_high": row.high,
            }
            for row in self.rows
            for column, cell in zip(self.columns, row.cells, strict=True)
        ]  # fmt: skip
        numbers = ("value", "low", "high", "mean_rank", "mean_rank_low", "mean_rank_high")
        return pl.DataFrame(rows, schema_overrides=dict.fromkeys(numbers, pl.Float64))

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "title": self.title,
            "claim": CLAIM,
            "columns": [
                {**vars(column), "reason": why} for column, why in zip(self.columns, self.reasons, strict=True)
            ],
            "rows": [{**vars(row), "cells": [cell and vars(cell) for cell in row.cells]} for row in self.rows],
            "failed": dict(self.failed),
        }


def board(title: str, runs: Mapping[str, Sequence[Run]], failed: Mapping[str, str]) -> BenchBoard:
    """Of the runs of each family, those of one question (space, method, shots, seed) the one to use."""
    names = _names(runs)
    backbones = sorted(set(names.values()))
    blocks = [made for family, each in runs.items() for made in _blocks(family, each, names, backbones)]
    columns = [column for made in blocks for column in made.columns]
    if not columns:
        return BenchBoard(title, (), (), (), 0, failed)
    scores = np.concatenate([made.scores for made in blocks])
    bounds = np.concatenate([made.bounds for made in blocks])
    ranked = np.flatnonzero(~np.isnan(scores).any(axis=0))
    families = [column.family for column in columns]
    weight = np.array([1 / families.count(family) for family in families]) / len(set(families))
    ranks = {}
    if len(ranked):
        found = mean_ranks(scores[:, ranked], _varying(blocks, ranked.tolist()), weight)
        ranks = {int(place): tuple(float(part[i]) for part in found) for i, place in enumerate(ranked)}
    best = np.where(np.isnan(scores).all(axis=1), np.nan, np.nanmax(np.nan_to_num(scores, nan=-np.inf), axis=1))
    rows = []
    for place, name in enumerate(backbones):
        cells = [
            None if np.isnan(scores[c, place]) else _cell(scores[c, place], bounds[c, place], best[c])
            for c in range(len(columns))
        ]
        rank, low, high = ranks.get(place, (None, None, None))
        spaces = tuple(sorted(space for space, each in names.items() if each == name))
        rows.append(BenchRow(name, spaces, tuple(cells), rank, low, high, cells.count(None)))
    rows.sort(key=lambda row: (row.rank is None, row.rank or row.lacks, row.name))
    reasons = tuple(made.reason for made in blocks for _ in made.columns)
    return BenchBoard(title, tuple(columns), reasons, tuple(rows), len(ranked), failed)


def _cell(value: float, bounds: Float64[np.ndarray, " 2"], best: float) -> BenchCell:
    low, high = (None if np.isnan(bound) else float(bound) for bound in bounds)
    return BenchCell(float(value), low, high, bool(value == best))


def _names(runs: Mapping[str, Sequence[Run]]) -> dict[str, str]:
    """What a row is called, by space: the backbone, and the space's key where a family has several of the backbone."""
    names: dict[str, str] = {}
    several = set()
    for each in runs.values():
        own = {run.record["space"]: ", ".join(run.record["backbones"]) for run in each}
        names |= own
        several |= {name for name, count in Counter(own.values()).items() if count > 1}
    return {
        space: f"{name} ({short(space)})" if name in several else name or short(space) for space, name in names.items()
    }


def _blocks(family: str, runs: Sequence[Run], names: Mapping[str, str], backbones: Sequence[str]) -> list[Block]:
    """A block for each side of each of the family's splits."""
    grouped: dict[tuple[str, str], dict[tuple[str, str], dict[str, dict[int, Run]]]] = {}
    for run in reversed(by_precedence(runs)):
        record = run.record
        for side in dict.fromkeys(side for sides in record["scores"]["tasks"].values() for side in sides):
            by_space = grouped.setdefault((side, record["split_by"]), {}).setdefault(_method(run), {})
            by_space.setdefault(names[record["space"]], {})[record["seed"]] = run
    order = {key: place for place, key in enumerate(dict.fromkeys(_method(run) for run in runs))}
    made = {
        key: block(
            family,
            key[0],
            {
                method: {space: [by_seed[seed] for seed in sorted(by_seed)] for space, by_seed in by_space.items()}
                for method, by_space in sorted(found.items(), key=lambda item: order[item[0]])
            },
            backbones,
        )
        for key, found in sorted(grouped.items())
    }
    ways = Counter(side for side, _ in made)
    return [_of_way(each, way) if ways[side] > 1 else each for (side, way), each in made.items()]


def _of_way(made: Block, way: str) -> Block:
    """A block whose side is called by how the split was made, too: random and group both have 5 folds."""
    return replace(made, columns=tuple(replace(column, side=f"{column.side}, {way}") for column in made.columns))


def _method(run: Run) -> tuple[str, str]:
    """A protocol with its setting, or a classifier; and shots."""
    published = run.record.get("published") or {}
    named = " ".join(filter(None, (published.get("name"), published.get("setting"))))
    return named or str(run.record["classifier"]), str(run.record["n_train"])


def _varying(blocks: Sequence[Block], ranked: Sequence[int]) -> list[tuple[list[int], Any]]:
    """Of each block its columns, and how the scores of the backbones that are ranked everywhere vary."""
    found, first = [], 0
    for made in blocks:
        places = list(range(first, first + len(made.columns)))
        first += len(made.columns)
        varies = made.varies
        if varies is not None:
            n = len(made.ranked)
            kept = [made.ranked.index(place) for place in ranked]
            varies = varies.some([c * n + k for c in range(len(made.columns)) for k in kept])
        found.append((places, varies))
    return found
