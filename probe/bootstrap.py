"""How sure a score is: the bootstrap over what was sampled from the world.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993); Davison and Hinkley, "Bootstrap Methods and their
Application" (1997), section 3.8 for data in levels. docs/statistics.md has the formulas, and what each level claims.

Images level. Units (distinct images, or groups of them) are drawn with replacement, as many as there are, each
with all of its items; the statistic is the reported one, computed anew from how often each item was drawn. All
models share each resample, so that differences between them keep their pairing.

Draws level. A task's draws of training images are independent of other tasks' (they are hashes of seed, task and
image), so they are resampled within each task: S - 1 of its S, which makes the variance s²/S without bias (Rao and
Wu, JASA 83, 1988). With S of S it would be half of that where S = 2.

Tasks level. Tasks are drawn with replacement, as many as there are. A further task comes with draws of its own, so
this level is that of further draws too.

Levels together. Let d_O be how far the statistic of the drawn tasks (or draws), each at its observed value, is from
the reported one, and d_I the same for the images level with all tasks and draws. The spread of the observed values
already has the noise of their images in it: with σ² the variance among n true values and ν that of one value's noise,

    var d_O = (σ² + ν) / n,    var d_I = ν / n  (more, where they share images),

so that d_O + d_I counts ν twice: harmless where σ² is much larger, not for differences between models that are alike.
So d_O is shrunk: the resampled statistic is estimate + c d_O + d_I, c² = max(0, 1 - ν / (σ² + ν)), ν from resamples
of images. (Davison and Hinkley's section compares the ways between nesting the resamples and leaving out the inner
ones, of which neither is right in general; Rao and Wu shrink likewise.)

Bounds. Percentiles of a bootstrap of n units are too narrow by √((n - 1)/n) and by the normal's instead of t's
quantiles; Hesterberg's expanded percentiles (The American Statistician 69, 2015) are Φ(∓ √(n/(n - 1)) t). n is the
number of units; where they are resampled, that of tasks, or one more than the draws' degrees of freedom, if it is
less. For NeWT's images, 2.5% stays 2.5%.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int
from joblib import cpu_count
from scipy.special import ndtr, stdtrit
from threadpoolctl import threadpool_limits

from probe.metrics import METRICS, Values
from probe.table import Table
from store.errors import BBError, UsageError

Average = Literal["images", "tasks"]
Level = Literal["tasks", "draws", "images"]

CHUNK = 64  # resamples with a random stream of their own: so threads and blocks change nothing
BLOCK = 1 << 22  # weights held at once, by each thread: 32 MiB, and as much for counting
NOISE = 8  # chunks from which the noise is estimated: they suffice, since it is a mean over tasks
LEVELS: tuple[Level, ...] = ("tasks", "draws", "images")


class Interval(NamedTuple):
    """Estimates and bounds, one of each for every model or pair.

    holds      whether low <= estimate <= high. Always so for means, by construction; a metric that bends (F1, AUROC)
               can be biased enough in resamples of few images that it is not, which a reader should be told
    undefined  the share of resamples that had no value, and were left out
    """

    estimate: Float64[np.ndarray, " k"]
    low: Float64[np.ndarray, " k"]
    high: Float64[np.ndarray, " k"]
    holds: Bool[np.ndarray, " k"]
    undefined: Float64[np.ndarray, " k"]


@dataclass(frozen=True, eq=False)
class Outer:
    """The level above the images: tasks, or draws within tasks.

    resampled  (resamples, models) d_O above, not shrunk
    apart      (values, models) how far each task's (or draw's) value is from their mean, times its weight
    noise      (models, models) what of apartᵀ apart is expected of the images' noise alone
    """

    resampled: Float64[np.ndarray, "resamples models"]
    apart: Float64[np.ndarray, "values models"]
    noise: Float64[np.ndarray, "models models"]


@dataclass(frozen=True, eq=False)
class Resampled:
    """Some models' statistic, as reported and resampled together.

    models    their names
    metric    its name
    average   over "images" (every item weighs the same: biobench's number) or "tasks" (every task does)
    over      what was resampled, and hence what the intervals claim to hold for further ones of
    estimate  (models,) the reported statistic
    by_task   (tasks, models) its value in each task; NaN where there is none
    weight    (tasks,) each task's weight in it; 1 in sum
    images    (resamples, models) the images level
    outer     the level of tasks or draws; None where there is neither
    units     n above
    """

    models: tuple[str, ...]
    metric: str
    average: Average
    over: tuple[Level, ...]
    estimate: Float64[np.ndarray, " models"]
    by_task: Float64[np.ndarray, "tasks models"]
    weight: Float64[np.ndarray, " tasks"]
    images: Float64[np.ndarray, "resamples models"]
    outer: "Outer | None"
    units: int

    @property
    def is_mean(self) -> bool:
        return self.metric == "accuracy"

    def some(self, models: Sequence[int]) -> "Resampled":
        """Some of the models, by their places, in the order given."""
        outer = self.outer
        return replace(
            self,
            models=tuple(self.models[m] for m in models),
            estimate=self.estimate[models],
            by_task=self.by_task[:, models],
            images=self.images[:, models],
            outer=outer
            and Outer(outer.resampled[:, models], outer.apart[:, models], outer.noise[np.ix_(models, models)]),
        )

    def of(
        self, first: Int[np.ndarray, " k"], second: Int[np.ndarray, " k"] | None = None
    ) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, "resamples k"]]:
        """Reported and resampled values of some models, by their places; with `second`, of differences."""

        def of(values: np.ndarray) -> np.ndarray:
            return values[..., first] - (values[..., second] if second is not None else 0)

        resampled = of(self.images)
        if self.outer is not None:
            noise = self.outer.noise[first, first]
            if second is not None:
                noise = noise + self.outer.noise[second, second] - 2 * self.outer.noise[first, second]
            spread = (of(self.outer.apart) ** 2).sum(axis=0)
            kept = np.where(spread > noise, 1 - noise / np.where(spread > 0, spread, 1), 0)
            resampled = resampled + np.sqrt(kept) * of(self.outer.resampled)
        return of(self.estimate), resampled

    def interval(self, level: float = 0.95) -> Interval:
        """Of each model's statistic."""
        return self.bounds(*self.of(np.arange(len(self.models))), level)

    def bounds(
        self, estimate: Float64[np.ndarray, " k"], resampled: Float64[np.ndarray, "resamples k"], level: float = 0.95
    ) -> Interval:
        """Percentiles. Those of a mean hold its estimate: they are widened where rounding would leave it out."""
        tail = _tail(level, self.units)
        undefined = np.isnan(resampled).mean(axis=0)
        quantile = np.nanquantile if undefined.any() else np.quantile
        low, high = quantile(resampled, [tail, 1 - tail], axis=0) if self.units > 1 else (estimate, estimate)
        if self.is_mean:
            low, high = np.minimum(low, estimate), np.maximum(high, estimate)
        return Interval(estimate, low, high, (low <= estimate) & (estimate <= high), undefined)


def resample(
    table: Table,
    metric: str = "accuracy",
    *,
    average: Average = "images",
    over: Sequence[Level] = ("images",),
    resamples: int = 10_000,
    seed: int = 0,
    jobs: int | None = None,
) -> Resampled:
    """The statistic of every model, as reported and in every resample.

    metric   one of METRICS; only accuracy has an average over images
    over     the levels to resample: "tasks" and "draws" beside "images", which always are
    seed     of the resampling; neither `jobs` nor the order of rows changes its outcome
    jobs     threads; as many as this process may use by default
    Errors: UsageError for an unknown metric, BBError where it has no meaning for a task or a level has too little to
    resample.
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
    work = _Work.of(table, metric, average, draws, seed, resamples)
    starts = range(0, resamples, CHUNK)
    outer, units = None, len(table.units)
    # numpy and the kernels let go of Python's lock; so the threads are these, not the matrix product's own.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(jobs or cpu_count()) as pool:
        images = np.concatenate(list(pool.map(work.images, starts)))
        if draws or "tasks" in levels:
            resampled = np.concatenate(list(pool.map(work.draws_level if draws else work.tasks_level, starts)))
            noise = np.mean(list(pool.map(work.noise, starts[:NOISE])), axis=0)
            outer = Outer(resampled, work.apart(work.by_column), noise)
            units = min(units, 1 + len(table.tasks) * (draws - 1)) if draws else min(units, len(table.tasks))
    return Resampled(
        table.models, metric, average, levels, work.estimate, work.by_task, work.weight, images, outer, units
    )


@dataclass(frozen=True, eq=False)
class _Work:
    """What every chunk of resamples needs; a chunk is known by its first resample.

    of_task    the metric, prepared for each task
    first      (models,) each model's first column
    draws      of each model, where they are resampled; else 0
    by_column  (tasks, columns) reported values
    weight     (tasks,) of each in the reported mean
    sums       of each unit's scores, a model a column, and of its items, the last column; for means over images, which
               are ratios of these whatever the tasks
    """

    table: Table
    of_task: list[Values]
    average: Average
    first: Int[np.ndarray, " models"]
    draws: int
    seed: int
    resamples: int
    by_column: Float64[np.ndarray, "tasks columns"]
    by_task: Float64[np.ndarray, "tasks models"]
    weight: Float64[np.ndarray, " tasks"]
    estimate: Float64[np.ndarray, " models"]
    sums: Float64[np.ndarray, "units models_1"] | None

    @classmethod
    def of(cls, table: Table, metric: str, average: Average, draws: int, seed: int, resamples: int) -> "_Work":
        of_task = [METRICS[metric].of_task(table, task) for task in range(len(table.tasks))]
        values = [values(np.ones((1, int(n)))) for values, n in zip(of_task, table.sizes, strict=True)]
        by_column = np.concatenate(values)
        first = np.searchsorted(table.model, np.arange(len(table.models)))
        by_task = _by_model(by_column, first)
        weight = table.sizes / len(table) if average == "images" else np.full(len(of_task), 1 / len(of_task))
        estimate = _mean(by_task, weight[None])[0]
        sums = _sums(table, first) if average == "images" else None
        return cls(table, of_task, average, first, draws, seed, resamples, by_column, by_task, weight, estimate, sums)

    def images(self, start: int) -> Float64[np.ndarray, "b models"]:
        """The images level."""
        if self.sums is not None:
            drawn = np.concatenate([counts_BU @ self.sums for counts_BU in self._drawn(start)])
            return drawn[:, :-1] / drawn[:, -1:]
        means = []
        for weights_BN in self._blocks(start):
            total = defined = np.zeros((len(weights_BN), len(self.estimate)))
            for task, values in enumerate(self.of_task):
                values_BM = _by_model(values(weights_BN[:, self.table.of_task(task)]), self.first)
                total = total + np.nan_to_num(values_BM)
                defined = defined + ~np.isnan(values_BM)
            means.append(np.where(defined > 0, total / np.where(defined > 0, defined, 1), np.nan))
        return np.concatenate(means)

    def tasks_level(self, start: int) -> Float64[np.ndarray, "b models"]:
        """How far the statistic of tasks drawn with replacement, each at its reported value, is from the reported."""
        drawn_BT = _counts(self._stream("tasks", start), self._size(start), len(self.of_task))
        return _mean(self.by_task, drawn_BT * self.weight) - self.estimate

    def draws_level(self, start: int) -> Float64[np.ndarray, "b models"]:
        """The same of draws, drawn with replacement within each task."""
        size, n_tasks = self._size(start), len(self.of_task)
        drawn = _counts(self._stream("draws", start), size * n_tasks, self.draws, self.draws - 1)
        apart_TSM = self.apart(self.by_column).reshape(n_tasks * self.draws, -1)
        return drawn.reshape(size, -1) / (self.draws - 1) @ apart_TSM

    def apart(self, values_TC: Float64[np.ndarray, "tasks columns"]) -> Float64[np.ndarray, "values models"]:
        """How far each task's value is from the mean over tasks, or each draw's from its task's, times the weight."""
        if not self.draws:
            values_TM = _by_model(values_TC, self.first)
            return np.nan_to_num(values_TM - _mean(values_TM, self.weight[None])) * self.weight[:, None]
        values_TMS = values_TC.reshape(len(values_TC), -1, self.draws)
        apart_TMS = np.nan_to_num(values_TMS - values_TMS.mean(axis=2, keepdims=True)) * self.weight[:, None, None]
        return apart_TMS.swapaxes(1, 2).reshape(-1, len(self.estimate))

    def noise(self, start: int) -> Float64[np.ndarray, "models models"]:
        """Mean of apartᵀ apart over resamples of images, of the values less their reported ones."""
        total = np.zeros(2 * self.estimate.shape)
        for weights_BN in self._blocks(start):
            values = [of(weights_BN[:, self.table.of_task(task)]) for task, of in enumerate(self.of_task)]
            for values_TC in np.stack(values, axis=1):
                apart = self.apart(values_TC - self.by_column)
                total += apart.T @ apart
        return total / self._size(start)

    def _blocks(self, start: int) -> Iterator[Float64[np.ndarray, "b n"]]:
        """How often each item was drawn."""
        for counts_BU in self._drawn(start):
            yield np.take(counts_BU, self.table.unit, axis=1)

    def _drawn(self, start: int) -> Iterator[Float64[np.ndarray, "b units"]]:
        """How often each unit was drawn; as many resamples together as memory allows."""
        stream, left = self._stream("images", start), self._size(start)
        while left:
            size = min(left, max(1, BLOCK // len(self.table)))
            yield _counts(stream, size, len(self.table.units)).astype(float)
            left -= size

    def _stream(self, level: Level, start: int) -> np.random.Generator:
        """Each level and chunk has its own, so that a level's resamples are the same with and without the others."""
        return np.random.default_rng([self.seed, LEVELS.index(level), start])

    def _size(self, start: int) -> int:
        return min(CHUNK, self.resamples - start)


def _counts(stream: np.random.Generator, size: int, n: int, draws: int | None = None) -> Int[np.ndarray, "size n"]:
    """How often each of n was drawn in each of `size` rounds of n (or `draws`) draws with replacement."""
    drawn = stream.integers(0, n, (size, n if draws is None else draws), dtype=np.uint32)
    # With each round in a range of its own, one bincount counts them all apart.
    return np.bincount((drawn + np.arange(size)[:, None] * n).ravel(), minlength=size * n).reshape(size, n)


def _sums(table: Table, first: Int[np.ndarray, " models"]) -> Float64[np.ndarray, "units models_1"]:
    score_NM = _by_model(table.fields["score"].T.astype(float), first)
    order = np.argsort(table.unit, kind="stable")
    starts = np.searchsorted(table.unit[order], np.arange(len(table.units)))
    sizes = np.bincount(table.unit, minlength=len(table.units)).astype(float)
    return np.column_stack([np.add.reduceat(score_NM[order], starts), sizes])


def _by_model(
    values_XC: Float64[np.ndarray, "x columns"], first: Int[np.ndarray, " models"]
) -> Float64[np.ndarray, "x models"]:
    """Means over each model's draws, which are columns side by side."""
    n = values_XC.shape[1]
    return values_XC if len(first) == n else np.add.reduceat(values_XC, first, axis=1) / np.diff(first, append=n)


def _mean(
    values_TM: Float64[np.ndarray, "tasks models"], weights_BT: Float64[np.ndarray, "b tasks"]
) -> Float64[np.ndarray, "b models"]:
    """Weighted means over the tasks that have a value."""
    defined_TM = ~np.isnan(values_TM)
    weight = weights_BT @ defined_TM.astype(float)
    return np.where(weight > 0, weights_BT @ np.nan_to_num(values_TM) / np.where(weight > 0, weight, 1), np.nan)


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


def _tail(level: float, n: int) -> float:
    """The share of resamples beyond each bound: (1 - level) / 2, less where units are few."""
    if n < 2:
        return 0.0
    return float(ndtr(-np.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 + level) / 2)))
