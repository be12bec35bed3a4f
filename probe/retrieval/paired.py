"""Scores of queries as the table that intervals and paired tests are made of: a metric is a task, a query an item."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from probe.bootstrap import resample
from probe.compare import differences
from probe.table import Table
from store.errors import BBError

Scores = Mapping[str, Float[np.ndarray, " q"]]  # by metric; NaN of a query that has none


@dataclass(frozen=True)
class Estimate:
    """A mean over queries and its 95% interval, for further queries."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Change:
    """How much better one is than another on the same queries; p is two-sided, by flips of queries."""

    before: Estimate
    after: Estimate
    difference: Estimate
    p: float
    queries: int


@dataclass(frozen=True)
class Behind:
    """Less the first of several on the same queries; p is two-sided, by flips of queries, by Holm for all of them."""

    difference: Estimate
    p: float


def table_of(image_ids: Shaped[np.ndarray, " q"], models: Mapping[str, Scores]) -> Table:
    """The table of some models' scores of the same queries, without queries that have none.

    Errors: BBError where a metric has no query with a score.
    """
    metrics = sorted(next(iter(models.values())))
    order = np.argsort(image_ids)
    kept = {
        metric: order[~np.isnan(np.stack([scores[metric] for scores in models.values()])).any(axis=0)[order]]
        for metric in metrics
    }
    if empty := [metric for metric, rows in kept.items() if not len(rows)]:
        raise BBError(f"no query has a {empty[0]}: nothing in the gallery is relevant to any. Check the labels.")
    ids = np.concatenate([image_ids[rows] for rows in kept.values()])
    units, unit = np.unique(ids, return_inverse=True)
    score = [np.concatenate([scores[metric][rows] for metric, rows in kept.items()]) for scores in models.values()]
    return Table(
        models=tuple(models),
        model=np.arange(len(models)),
        seeds=(None,) * len(models),
        tasks=tuple(metrics),
        starts=np.concatenate([[0], np.cumsum([len(rows) for rows in kept.values()])]).astype(np.int64),
        image_ids=ids,
        units=tuple(units.tolist()),
        unit=unit,
        y_true=np.ones(len(ids), np.int64),
        fields={"score": np.stack(score).astype(float)},
    )


def estimates(image_ids: Shaped[np.ndarray, " q"], scores: Scores) -> dict[str, Estimate]:
    """Of each metric."""
    table = table_of(image_ids, {"": scores})
    found = {}
    for metric in scores:
        interval = resample(table.only([metric])).interval()
        found[metric] = Estimate(float(interval.estimate[0]), float(interval.low[0]), float(interval.high[0]))
    return found


def changes(image_ids: Shaped[np.ndarray, " q"], before: Scores, after: Scores) -> dict[str, Change]:
    """Of each metric, each tested by itself."""
    found = changes_of(table_of(image_ids, {"before": before, "after": after}))
    return {metric: found[metric] for metric in before}


def changes_of(table: Table) -> dict[str, Change]:
    """The same of a table of two models, before and after."""
    found = {}
    for metric in table.tasks:
        part = table.only([metric])
        resampled = resample(part)
        each, pair = resampled.interval(), differences(part, resampled, pairs=[(1, 0)])
        one, other = (Estimate(*(float(bound[m]) for bound in each[:3])) for m in (0, 1))
        difference = Estimate(*(float(bound[0]) for bound in pair.interval[:3]))
        found[metric] = Change(one, other, difference, float(pair.p[0]), len(part))
    return found


def behind_first(table: Table) -> list[Behind | None]:
    """Each model of a table of one metric less its first one, in their order; None of the first itself."""
    found = differences(table, resample(table), baseline=table.models[0])
    bounds = zip(*found.interval[:3], found.adjusted, strict=True)
    return [None, *(Behind(Estimate(*map(float, bound)), float(p)) for *bound, p in bounds)]
