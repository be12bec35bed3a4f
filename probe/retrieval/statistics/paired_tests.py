"""Scores of queries as what a person reads: means with intervals, differences with tests, and what these claim."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from bb.probe.retrieval.evaluate import Evaluation
from bb.probe.retrieval.statistics.clustered import LEVEL, MIN_UNITS, Clustered
from bb.probe.statistics.comparison import adjust
from bb.probe.statistics.predictions import read_table
from bb.store.errors import BBError
from bb.store.format.space import short
from bb.store.local.runs import Run

MANY = {"label": "labels", "unit": "units", "sequence": "sequences of queries", "image": "queries"}


@dataclass(frozen=True)
class QueryEstimate:
    """A mean over queries and its 95% interval; None where too few units were sampled to give one."""

    mean: float
    low: float | None
    high: float | None

    def text(self, digits: int, sign: str = "") -> str:
        """As "0.417 [0.301, 0.542]"."""
        mean = f"{self.mean:{sign}.{digits}f}"
        if self.low is None:
            return mean
        return f"{mean} [{self.low:{sign}.{digits}f}, {self.high:{sign}.{digits}f}]"


@dataclass(frozen=True)
class Change:
    """How much better one is than another on the same queries; p is two-sided, None where units are too few."""

    before: QueryEstimate
    after: QueryEstimate
    difference: QueryEstimate
    p: float | None
    queries: int
    units: int


@dataclass(frozen=True)
class Behind:
    """Less the first of several on the same queries; p is two-sided, by Holm for all of them."""

    difference: QueryEstimate
    p: float | None


def of_evaluations(found: Sequence[Evaluation], metric: str) -> Clustered:
    """A metric of several evaluations of the same items. Errors: BBError where no query has a value."""
    first = found[0]
    scores = np.stack([each.values[metric] for each in found])
    there = ~np.isnan(scores).any(axis=0)
    effect = np.stack([effect_of_queries(each, metric) for each in found])
    unit = first.units.code[first.top.query]
    return _checked(Clustered.of(unit[there], scores[:, there], effect[:, there]), metric)


def of_runs(runs: Sequence[Run], metric: str) -> Clustered | None:
    """A metric of runs of one test set; None where one was made before bb recorded what was sampled.

    Errors: BBError where the runs are of different queries, or one is damaged.
    """
    if any("units" not in run.record for run in runs):
        return None
    table = read_table({str(place): [run] for place, run in enumerate(runs)})
    if metric not in table.tasks:
        raise BBError(
            f"run {runs[0].describe()} is damaged: its run.json scores {metric}, and its predictions have none. Move "
            f"{runs[0].folder} out of the store."
        )
    table = table.only([metric])
    units, effects = [], []
    for run in runs:
        rows = run.predictions(("task", "image_id", "unit", "effect")).filter(pl.col("task") == metric).sort("image_id")
        units.append(rows["unit"])
        effects.append(rows["effect"].to_numpy().astype(float))
        if not units[-1].equals(units[0]) or not np.isfinite(effects[-1]).all():
            raise BBError(f"run {short(run.run_id)} has other units than the rest: run bb probe retrieval --force.")
    unit = units[0].rank("dense").to_numpy().astype(np.int64)
    return _checked(Clustered.of(unit, table.fields["score"].clip(0, 1), np.stack(effects)), metric)


def _checked(found: Clustered, metric: str) -> Clustered:
    if not found.units:
        raise BBError(f"no query has a {metric}: nothing in the gallery is relevant to any. Check the labels.")
    return found


def effect_of_queries(found: Evaluation, metric: str) -> Float[np.ndarray, " q"]:
    """What each unit takes from the others, in equal parts over its queries that have a value; 0 for the others."""
    there = ~np.isnan(found.values[metric])
    if metric not in found.effects:
        return np.zeros(len(there))
    effect, unit = found.effects[metric], found.units.code[found.top.query]
    queries = np.bincount(unit[there], minlength=len(effect)).clip(1)
    return np.where(there, (effect / queries)[unit], 0)


def estimates(found: Clustered, level: float = LEVEL) -> list[QueryEstimate]:
    """Of each model."""
    bounds = [found.interval(model, level) if found.enough else (None, None) for model in range(len(found.mean))]
    return [QueryEstimate(float(mean), *bound) for mean, bound in zip(found.mean, bounds, strict=True)]


def difference(found: Clustered, first: int, second: int, level: float = LEVEL) -> QueryEstimate:
    """Of one model less another."""
    bounds = found.difference(first, second, level) if found.enough else (None, None)
    return QueryEstimate(float(found.mean[first] - found.mean[second]), *bounds)


def change(found: Clustered, level: float = LEVEL) -> Change:
    """Of two models, before and after."""
    before, after = estimates(found, level)
    p = found.p(1, 0) if found.enough else None
    return Change(before, after, difference(found, 1, 0, level), p, int(found.count.sum()), found.units)


def behind_first(found: Clustered) -> list[Behind | None]:
    """Each model less the first one, in their order; None of the first itself."""
    others = range(1, len(found.mean))
    if not found.enough:
        return [None, *(Behind(difference(found, other, 0), None) for other in others)]
    adjusted = adjust(np.array([found.p(other, 0) for other in others]), "holm")
    return [None, *(Behind(difference(found, other, 0), float(p)) for other, p in zip(others, adjusted, strict=True))]


def of_models(runs: Sequence[Run], metric: str) -> tuple[list[QueryEstimate], list[Behind | None], str]:
    """Of runs of one test set: each with its interval, each less the first, and what these claim. Errors: `of_runs`."""
    found = of_runs(runs, metric)
    if found is None:
        means = [float(run.record["scores"]["tasks"][metric]["mean"]) for run in runs]
        behind = [Behind(QueryEstimate(mean - means[0], None, None), None) for mean in means[1:]]
        return [QueryEstimate(mean, None, None) for mean in means], [None, *behind], claim(None)
    return estimates(found), behind_first(found), claim(runs[0].record["units"], found.units)


def sampled(found: Evaluation) -> dict[str, Any]:
    """What was sampled, for run.json: kind, shared (see `Units`), and n of the units that hold queries."""
    return {
        "kind": found.units.kind,
        "shared": found.units.shared,
        "n": len(np.unique(found.units.code[found.top.query])),
    }


def claim(units: Mapping[str, Any] | None, scored: int | None = None) -> str:
    """What intervals and tests are for, in words.

    units   of run.json
    scored  units with a score, where some have none
    """
    if units is None:
        return "no intervals: the run was made before bb recorded what was sampled; run bb probe retrieval again"
    n = int(units["n"]) if scored is None else scored
    many = MANY.get(str(units["kind"]), "units")
    if n < MIN_UNITS:
        return f"no intervals: {n} {many} are too few to tell of further ones (at least {MIN_UNITS})"
    what = "with images of their own" if units["shared"] else "against the same gallery"
    return f"95% intervals for further {many} like these {n}, {what}"
