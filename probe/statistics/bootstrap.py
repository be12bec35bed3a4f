"""How sure a score is: its variance over what was sampled from the world, and its interval.

docs/statistics.md has what each level claims, and how often each kind of interval was found to hold. The variances come
from the units' influence (influence.py), the bounds from the variances (bounds.py).

Images level. Units are distinct images, or groups of them, each with all of its items. V = Σg², with the tasks given.

Draws level. A task's draws of training images are independent of other tasks' (they are hashes of seed, task and
image). In each task, with mean squares of draws and of what images and draws have together,

    V = Σg² + Σ w² (MS_D - MS_E) / (nS),

w the task's weight: the images' variance has their noise after S draws in it, and so has MS_D, which it is subtracted
from.

Tasks level. A further task comes with draws and images of its own, so this level is that of all: V is Σg² over tasks,
of g = w (value - mean) / √(1 - w), plus what tasks that share images have in common.

Models share all that is drawn, so V has covariances: a difference's variance keeps their pairing. Ranks take normal
draws with these covariances, the Gaussian multiplier bootstrap of the units (Chernozhukov, Chetverikov and Kato, Annals
of Statistics 41, 2013).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int

from bb.probe.statistics import influence
from bb.probe.statistics.bounds import quantile, score_bounds, widened
from bb.probe.statistics.influence import UnitInfluence, WeightedTasks
from bb.probe.statistics.metrics import METRICS
from bb.probe.statistics.predictions import Table
from bb.store.errors import BBError, UsageError

Average = Literal["images", "tasks"]
Level = Literal["images", "draws", "tasks"]

LEVELS: tuple[Level, ...] = ("tasks", "draws", "images")
FEWEST_UNITS = 5
FEWEST_FREEDOM = 3.0
FEWEST_POSITIVES = 20
EQUAL = 1e-12  # of two variances: what is left of a difference by rounding alone
DIGITS = 12  # of scores


class Interval(NamedTuple):
    """Estimates and bounds, one of each for every model or pair.

    holds   whether the bounds held the estimate by themselves; they are extended to it where its bias is larger than
            its error, which a reader should know
    reason  why there are no bounds, which are NaN then; empty where there are
    """

    estimate: Float64[np.ndarray, " k"]
    low: Float64[np.ndarray, " k"]
    high: Float64[np.ndarray, " k"]
    holds: Bool[np.ndarray, " k"]
    reason: str = ""


@dataclass(frozen=True, eq=False)
class ModelCovariance:
    """Covariances of models, from independent contributions g.

    covariance  Σg_i g_j;  third: Σg_i³ g_j;  fourth: Σg_i² g_j²
    freedom     degrees of freedom of the covariance
    """

    covariance: Float64[np.ndarray, "models models"]
    third: Float64[np.ndarray, "models models"]
    fourth: Float64[np.ndarray, "models models"]
    freedom: float

    @classmethod
    def of(cls, g: Float64[np.ndarray, "units models"], freedom: float) -> "ModelCovariance":
        scale = float(np.abs(g).max(initial=0)) or 1.0  # fourth powers of shares of thousands are small numbers
        unit = g / scale
        return cls(g.T @ g, scale**4 * (unit**3).T @ unit, scale**4 * (unit**2).T @ (unit**2), freedom)

    def some(self, models: Sequence[int]) -> "ModelCovariance":
        at = np.ix_(models, models)
        return replace(self, covariance=self.covariance[at], third=self.third[at], fourth=self.fourth[at])


class Contrast(NamedTuple):
    """Of scores, or differences: estimate, bias, variance and its degrees of freedom, and Σg⁴/(Σg²)²."""

    estimate: Float64[np.ndarray, " k"]
    bias: Float64[np.ndarray, " k"]
    variance: Float64[np.ndarray, " k"]
    freedom: Float64[np.ndarray, " k"]
    concentration: Float64[np.ndarray, " k"]


@dataclass(frozen=True, eq=False)
class Resampled:
    """Some models' statistic, and how it varies, together.

    models    their names
    metric    its name
    average   over "images" (every item weighs the same: biobench's number) or "tasks" (every task does)
    over      what is thought drawn again, and hence what the intervals claim to hold for further ones of
    estimate  (models,) the reported statistic
    by_task   (tasks, models) its value in each task; NaN where there is none
    weight    (tasks,) each task's weight in it; 1 in sum
    bias      (models,) of the estimate
    spread    over images, or tasks;  draws: what draws add to it, None where they are not drawn again
    units     how many units of equal weight there are
    bounded   whether scores are between 0 and 1
    reason    why there is no interval; empty where there is
    """

    models: tuple[str, ...]
    metric: str
    average: Average
    over: tuple[Level, ...]
    estimate: Float64[np.ndarray, " models"]
    by_task: Float64[np.ndarray, "tasks models"]
    weight: Float64[np.ndarray, " tasks"]
    bias: Float64[np.ndarray, " models"]
    spread: ModelCovariance
    draws: "Draws | None"
    units: float
    bounded: bool
    reason: str
    resamples: int
    seed: int

    def some(self, models: Sequence[int]) -> "Resampled":
        """Some of the models, by their places, in the order given."""
        return replace(
            self,
            models=tuple(self.models[m] for m in models),
            estimate=self.estimate[models],
            by_task=self.by_task[:, models],
            bias=self.bias[models],
            spread=self.spread.some(models),
            draws=self.draws and self.draws.some(models),
        )

    def contrast(self, first: Int[np.ndarray, " k"], second: Int[np.ndarray, " k"] | None = None) -> Contrast:
        """Of some models, by their places; with `second`, of differences."""

        def of(matrix: Float64[np.ndarray, "models models"]) -> Float64[np.ndarray, " k"]:
            own = matrix[first, first]
            if second is None:
                return own
            other = matrix[second, second]
            left = own + other - 2 * matrix[first, second]
            return np.where(left > EQUAL * (own + other), left, 0)

        def less(values: Float64[np.ndarray, " models"]) -> Float64[np.ndarray, " k"]:
            return values[first] - (values[second] if second is not None else 0)

        spread = self.spread
        variance, freedom = of(spread.covariance), np.full(len(first), spread.freedom)
        fourth = spread.fourth[first, first]
        if second is not None:
            crossed = spread.third[first, second] + spread.third[second, first]
            fourth = fourth + spread.fourth[second, second] - 4 * crossed + 6 * spread.fourth[first, second]
        concentration = np.clip(fourth, 0, None) / np.where(variance > 0, variance, 1) ** 2
        if self.draws is not None:
            added, with_noise = np.clip(of(self.draws.spread) - of(self.draws.noise), 0, None), of(self.draws.spread)
            wobble = variance**2 / freedom + with_noise**2 / self.draws.freedom
            variance = variance + added
            freedom = np.where(wobble > 0, variance**2 / np.where(wobble > 0, wobble, 1), self.draws.freedom)
        return Contrast(less(self.estimate), less(self.bias), variance, freedom, np.minimum(concentration, 1))

    def covariance(self) -> Float64[np.ndarray, "models models"]:
        if self.draws is None:
            return self.spread.covariance
        return self.spread.covariance + self.draws.spread - self.draws.noise

    def interval(self, level: float = 0.95) -> Interval:
        """Of each model's statistic."""
        found = self.contrast(np.arange(len(self.models)))
        centre = found.estimate - found.bias
        variance = widened(found.variance, found.concentration, found.freedom, self.units, differences=False)
        if self.bounded:
            low, high = score_bounds(centre, variance, found.freedom, self.units, level)
        else:
            half = quantile(level, found.freedom) * np.sqrt(variance)
            low, high = centre - half, centre + half
        return self._interval(found.estimate, low, high)

    def difference(
        self, first: Int[np.ndarray, " k"], second: Int[np.ndarray, " k"], level: float = 0.95
    ) -> tuple[Interval, Float64[np.ndarray, " k"]]:
        """How much better the first ones are, and by how many standard errors; by places."""
        found = self.contrast(first, second)
        centre = found.estimate - found.bias
        variance = widened(found.variance, found.concentration, found.freedom, self.units, differences=True)
        error = np.sqrt(np.where(variance > 0, variance, 2 / self.units**2))
        half = quantile(level, found.freedom) * error
        bound = 1.0 if self.bounded else np.inf
        low, high = np.clip(centre - half, -bound, bound), np.clip(centre + half, -bound, bound)
        return self._interval(found.estimate, low, high), centre / error

    def _interval(
        self, estimate: Float64[np.ndarray, " k"], low: Float64[np.ndarray, " k"], high: Float64[np.ndarray, " k"]
    ) -> Interval:
        if self.reason:
            nothing = np.full(len(estimate), np.nan)
            return Interval(estimate, nothing, nothing, np.ones(len(estimate), bool), self.reason)
        holds = (low <= estimate + 1e-12) & (estimate <= high + 1e-12)
        return Interval(estimate, np.minimum(low, estimate), np.maximum(high, estimate), holds)


@dataclass(frozen=True, eq=False)
class Draws:
    """What a task's draws add: the covariances of models among them, what of these the images' noise is expected to
    make, and the degrees of freedom of the former."""

    spread: Float64[np.ndarray, "models models"]
    noise: Float64[np.ndarray, "models models"]
    freedom: float

    def some(self, models: Sequence[int]) -> "Draws":
        at = np.ix_(models, models)
        return Draws(self.spread[at], self.noise[at], self.freedom)


def resample(
    table: Table,
    metric: str = "accuracy",
    *,
    average: Average = "images",
    over: Sequence[Level] = ("images",),
    resamples: int = 10_000,
    seed: int = 0,
) -> Resampled:
    """The statistic of every model, and how it varies over what is thought drawn again.

    metric     one of METRICS; only accuracy has an average over images
    over       the levels: "tasks" and "draws" with "images", which always are
    resamples  normal draws for ranks; seed: of them
    Errors: UsageError for an unknown metric, BBError where it has no meaning for a task, or a level is of one alone.
    """
    levels: tuple[Level, ...] = tuple(level for level in LEVELS if level == "images" or level in over)
    if metric not in METRICS:
        raise UsageError(f"no metric is called {metric!r}: choose {', '.join(METRICS)}.")
    if average == "images" and metric != "accuracy":
        raise BBError(f"{metric} is a number of a whole task and has no mean over images: average it over tasks.")
    if "tasks" in levels and len(table.tasks) < 2:
        raise BBError("one task says nothing of others: a claim about tasks needs two at least.")
    draws = _draws(table) if "draws" in levels and "tasks" not in levels else 0
    if metric == "accuracy" and not draws:
        table = table.averaged()
    first = np.searchsorted(table.model, np.arange(len(table.models)))
    by_column = _values(table, metric)
    by_task = _by_model(by_column, first)
    sizes = table.sizes.astype(float) if average == "images" else np.ones(len(table.tasks))
    weight = sizes * ~np.isnan(by_task).any(axis=1)
    weight = weight / (weight.sum() or 1.0)
    items = _items(table, metric, weight)
    units = influence.of_units(items)
    g = _by_model(units.influence, first)
    freedom = np.inf if _one_answer_each(table, metric) else units.freedom
    size = _alike(table, metric, items, units)
    reason = _too_few(table, metric, freedom)
    drawn = None
    if "tasks" in levels:
        of_tasks, size = _over_tasks(by_task, weight)
        spread = ModelCovariance.of(of_tasks.influence, of_tasks.freedom)
        common = _in_common(_by_model(units.cells, first), units.unit, items.task[units.item], len(table.tasks))
        spread = replace(spread, covariance=spread.covariance + common)
        reason = reason or _few_tasks(len(table.tasks), of_tasks.freedom)
    else:
        spread = ModelCovariance.of(g, freedom)
    if draws:
        drawn = _over_draws(by_column, weight, units.influence, draws)
        reason = reason or _few_draws(len(table.tasks), draws, drawn.freedom)
    return Resampled(
        models=table.models,
        metric=metric,
        average=average,
        over=levels,
        estimate=_mean(by_task, weight),
        by_task=by_task,
        weight=weight,
        bias=_by_model(items.bias[None], first)[0],
        spread=spread,
        draws=drawn,
        units=size,
        bounded=metric != "accuracy" or bool(((table.fields["score"] >= 0) & (table.fields["score"] <= 1)).all()),
        reason=reason,
        resamples=resamples,
        seed=seed,
    )


def _values(table: Table, metric: str) -> Float64[np.ndarray, "tasks columns"]:
    values = [METRICS[metric].of_task(table, t)(np.ones((1, int(n)))) for t, n in enumerate(table.sizes)]
    return np.concatenate(values)


def _items(table: Table, metric: str, weight: Float64[np.ndarray, " tasks"]) -> WeightedTasks:
    """Strata are tasks, or the true classes in them."""
    of = METRICS[metric]
    drawn = of.bends and not table.shares_given
    found = [of.influence(table, t, drawn) for t in range(len(table.tasks))]
    values = np.concatenate([one.of_items * w for one, w in zip(found, weight, strict=True)])
    bias = np.sum([one.bias * w for one, w in zip(found, weight, strict=True)], axis=0)
    task = np.repeat(np.arange(len(table.tasks)), table.sizes)
    stratum = table.class_of_task if of.by_class and not drawn else task
    strata = np.bincount(np.unique(np.stack([task, stratum]), axis=1)[0])
    item_weight = weight[task] / strata[task] / np.bincount(stratum)[stratum]
    items = WeightedTasks(values, bias, item_weight, task, stratum, table.unit)
    return items if of.by_class else _collapsed(items, table)


def _alike(table: Table, metric: str, items: WeightedTasks, units: UnitInfluence) -> float:
    """How many units of equal weight these are worth; of average precision, by how much each class matters.

    It is about the positives: where 20 of 200 images are, it is as sure as 20 make it. With s a class's part of the
    squares of n influences, those of normal ones are concentrated by 3 Σ s²/(n + 2), as those of `size` equal ones are
    by 3/(size + 2).
    """
    squares = np.bincount(table.class_of_task, (items.influence**2).sum(axis=1))
    if metric != "average_precision" or not squares.any():
        return units.size
    n = np.bincount(np.unique(np.stack([table.class_of_task, table.unit]), axis=1)[0])
    return min(units.size, 1 / float(((squares / squares.sum()) ** 2 / (n + 2)).sum()) - 2)


def _collapsed(items: WeightedTasks, table: Table) -> WeightedTasks:
    """Tasks of one unit as one stratum, which makes their variance too large rather than none (Cochran, "Sampling
    Techniques", 1977, section 5A.12); with the smallest other task where there is only one."""
    task_units = np.bincount(np.unique(np.stack([items.stratum, items.unit]), axis=1)[0])
    alone = np.flatnonzero(task_units == 1)
    if not len(alone) or len(task_units) == 1:
        return items
    if len(alone) == 1:
        alone = np.append(alone, np.argsort(np.where(task_units > 1, task_units, np.iinfo(np.int64).max))[0])
    rows = np.isin(items.stratum, alone)
    score = table.fields["score"][:, rows].T.astype(float)
    weight = items.weight[rows, None]
    values, stratum = items.influence.copy(), items.stratum.copy()
    values[rows] = weight * (score - (weight * score).sum(axis=0) / weight.sum())
    stratum[rows] = alone[0]
    return replace(items, influence=values, stratum=stratum)


def _one_answer_each(table: Table, metric: str) -> bool:
    """Whether each unit has one answer, right or wrong, so that its variance follows from its mean."""
    if len(table.units) != len(table) or len(table.model) != len(table.models):
        return False
    if metric == "accuracy":
        return bool(np.isin(table.fields["score"], (0, 1)).all())
    return metric in ("balanced_accuracy", "macro_f1")


def _too_few(table: Table, metric: str, freedom: float) -> str:
    """Why there can be no interval for further units; empty where there can."""
    count = len(table.units)
    if METRICS[metric].by_class:
        fewest = 3 if metric == "average_precision" else 2  # so that one is left when another is left out
        cells = np.unique(np.stack([table.class_of_task, table.unit]), axis=1)[0]
        of_class = np.bincount(cells)
        if (of_class < fewest).any():
            item = int(np.argmax(table.class_of_task == int(np.argmax(of_class < fewest))))
            task = table.tasks[int(np.searchsorted(table.starts, item, side="right")) - 1]
            return (
                f"task {task!r} has {of_class[table.class_of_task[item]]} {table.drawn} of class {table.y_true[item]}: "
                f"an interval of {metric} needs {fewest}"
            )
    if metric == "average_precision" and (positives := int((table.y_true == 1).sum())) < FEWEST_POSITIVES:
        return f"{positives} positives are too few: an interval of {metric} needs {FEWEST_POSITIVES}"
    if np.isfinite(freedom) and count < FEWEST_UNITS:
        return f"{count} {table.drawn} are too few: an interval needs {FEWEST_UNITS}"
    if freedom < FEWEST_FREEDOM:
        return f"a few of the {count} {table.drawn} have most of the weight: an interval needs more even ones"
    return ""


def _few_tasks(count: int, freedom: float) -> str:
    if count < FEWEST_UNITS or freedom < FEWEST_FREEDOM:
        return f"{count} tasks are too few: an interval needs {FEWEST_UNITS}"
    return ""


def _few_draws(tasks: int, draws: int, freedom: float) -> str:
    if freedom < FEWEST_UNITS - 1:
        return f"{draws} draws of {tasks} task{'s' * (tasks != 1)} are too few: an interval needs 5, or more tasks"
    return ""


def _over_tasks(
    by_task: Float64[np.ndarray, "tasks models"], weight: Float64[np.ndarray, " tasks"]
) -> tuple[UnitInfluence, float]:
    there = weight > 0
    values = by_task[there]
    share = weight[there]
    n = len(values)
    apart = share[:, None] * (values - share @ values)
    one = np.zeros(n, np.int64)
    items = WeightedTasks(apart, np.zeros(values.shape[1]), share, one, one, np.arange(n))
    units = influence.of_units(items)
    return units, units.size


def _in_common(
    cells: Float64[np.ndarray, "cells models"],
    unit: Int[np.ndarray, " cells"],
    task: Int[np.ndarray, " cells"],
    n: int,
) -> Float64[np.ndarray, "models models"]:
    """What the images that tasks share add to the variance among n tasks. Cells are sorted by unit, then by task."""

    def squares(starts: Bool[np.ndarray, " cells"]) -> Float64[np.ndarray, "models models"]:
        g = np.add.reduceat(cells, np.flatnonzero(starts), axis=0)
        return g.T @ g

    of_unit = np.r_[True, np.diff(unit) != 0]
    of_task = of_unit | np.r_[True, np.diff(task) != 0]
    return (squares(of_unit) - squares(of_task)) * n / (n - 1)


def _over_draws(
    by_column: Float64[np.ndarray, "tasks columns"],
    weight: Float64[np.ndarray, " tasks"],
    influences: Float64[np.ndarray, "units columns"],
    draws: int,
) -> Draws:
    def covariance(values: Float64[np.ndarray, "rows columns"]) -> Float64[np.ndarray, "models models"]:
        of_draws = values.reshape(len(values), -1, draws)
        apart = (of_draws - of_draws.mean(axis=2, keepdims=True)).swapaxes(1, 2).reshape(-1, of_draws.shape[1])
        return apart.T @ apart / (draws * (draws - 1))

    weighted = np.nan_to_num(by_column) * weight[:, None]
    freedom = float((weight**2).sum() ** 2 / (weight**4).sum()) * (draws - 1)
    return Draws(covariance(weighted), covariance(influences), freedom)


def _by_model(
    values_XC: Float64[np.ndarray, "x columns"], first: Int[np.ndarray, " models"]
) -> Float64[np.ndarray, "x models"]:
    """Means over each model's draws, which are columns side by side."""
    n = values_XC.shape[1]
    return values_XC if len(first) == n else np.add.reduceat(values_XC, first, axis=1) / np.diff(first, append=n)


def _mean(
    values_TM: Float64[np.ndarray, "tasks models"], weight_T: Float64[np.ndarray, " tasks"]
) -> Float64[np.ndarray, " models"]:
    """NaN where no task has a value; rounded, since processors differ in last bits and equal scores are to be equal."""
    if not weight_T.any():
        return np.full(values_TM.shape[1], np.nan)
    return np.round(weight_T @ np.nan_to_num(values_TM), DIGITS)


def _draws(table: Table) -> int:
    """How many draws each model has. Errors: BBError where it is one, or not the same ones for all."""
    seeds = [tuple(table.seeds[c] for c in table.columns_of(m)) for m in range(len(table.models))]
    if len(seeds[0]) < 2:
        raise BBError(
            f"{table.models[0]} has one few-shot draw, which says nothing of others: probe with several --seed."
        )
    for name, other in zip(table.models, seeds, strict=True):
        if other != seeds[0]:
            raise BBError(
                f"{table.models[0]} has the seeds {_listed(seeds[0])}, {name} has {_listed(other)}: "
                "few-shot draws can be resampled where all models have the same."
            )
    return len(seeds[0])


def _listed(seeds: Sequence[int | None]) -> str:
    return ", ".join("none" if seed is None else str(seed) for seed in seeds)
