"""How sure a score is: the bootstrap over what was sampled from the world.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993); Davison and Hinkley, "Bootstrap Methods and their
Application" (1997), section 3.8 for data in levels. docs/statistics.md has the formulas, and what each level claims.

Images level. Units (distinct images, or groups of them) are drawn with replacement, as many as there are, each
with all of its items; the statistic is the reported one, computed anew from how often each item was drawn. All
models share each resample, so that differences between them keep their pairing.

Draws level. A task's draws of training images are independent of other tasks' (they are hashes of seed, task and
image), so they are resampled within each task: S - 1 of its S, which makes the variance s²/S without bias (Rao and
Wu, JASA 83, 1988). With S of S it would be half too small where S = 2.

Tasks level. Tasks are drawn with replacement, as many as there are. Let d_T be how far the statistic of the drawn
tasks, each at its observed value, is from the reported one, and d_I the same for the images (and draws) level
with all tasks. The spread of the observed values already has the noise of their images in it: with σ² the
variance among true task values and ν that of one value's noise,

    var d_T = (σ² + ν) / T,    var d_I = ν / T  (more, where tasks share images),

so that d_T + d_I counts ν twice: harmless for scores, where σ² is much larger, not for differences between models
that are alike. So d_T is shrunk: the resampled statistic is estimate + c d_T + d_I, c² = max(0, 1 - ν / (σ² + ν)),
ν from the resamples themselves. This is Davison and Hinkley's correction (their 3.8.1, a and b) and Rao and Wu's.

Bounds. Percentiles of a bootstrap of n units are too narrow by √((n - 1)/n) and by the normal's instead of t's
quantiles; Hesterberg's expanded percentiles (The American Statistician 69, 2015) are Φ(∓ √(n/(n - 1)) t). n is
the number of tasks where they are resampled, else of units: for NeWT's images, 2.5% stays 2.5%.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int
from joblib import cpu_count
from scipy.special import ndtr, stdtrit
from threadpoolctl import threadpool_limits

from probe.metrics import METRICS, Values
from probe.table import Table
from store.errors import BBError

Average = Literal["images", "tasks"]
Level = Literal["tasks", "draws", "images"]

CHUNK = 64  # resamples with a random stream of their own: so threads and blocks change nothing
BLOCK = 1 << 22  # weights held at once, by each thread: 32 MiB, and as much for counting
NOISE = 16  # chunks from which the noise is estimated: they suffice, since it is a mean over tasks
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
class Resampled:
    """Some models' statistic, as reported and resampled together.

    models     their names
    metric     its name
    average    over "images" (every item weighs the same: biobench's number) or "tasks" (every task does)
    over       what was resampled, and hence what the intervals claim to hold for further ones of
    estimate   (models,) the reported statistic
    by_task    (tasks, models) its value in each task; NaN where there is none
    weight     (tasks,) each task's weight in it; 1 in sum
    images     (resamples, models) the images (and draws) level
    tasks      (resamples, models) d_T above, not shrunk; None where tasks stay as they are
    noise      (models, models) covariances of the tasks' noise, ν above, summed with the tasks' squared weights
    units      n above
    """

    models: tuple[str, ...]
    metric: str
    average: Average
    over: tuple[Level, ...]
    estimate: Float64[np.ndarray, " models"]
    by_task: Float64[np.ndarray, "tasks models"]
    weight: Float64[np.ndarray, " tasks"]
    images: Float64[np.ndarray, "resamples models"]
    tasks: Float64[np.ndarray, "resamples models"] | None
    noise: Float64[np.ndarray, "models models"] | None
    units: int

    @property
    def is_mean(self) -> bool:
        return self.metric == "accuracy"

    def of(
        self, first: Int[np.ndarray, " k"], second: Int[np.ndarray, " k"] | None = None
    ) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, "resamples k"]]:
        """Reported and resampled values of some models, by their places; with `second`, of differences."""

        def of(values: np.ndarray) -> np.ndarray:
            return values[..., first] - (values[..., second] if second is not None else 0)

        resampled = of(self.images)
        if self.tasks is not None and self.noise is not None:
            noise = self.noise[first, first]
            if second is not None:
                noise = noise + self.noise[second, second] - 2 * self.noise[first, second]
            apart = np.nan_to_num(of(self.by_task) - of(self.estimate)) * self.weight[:, None]
            spread = (apart**2).sum(axis=0)
            share = (1 - 1 / len(self.weight)) * noise / np.where(spread > 0, spread, 1)
            resampled = resampled + np.sqrt(np.clip(1 - share, 0, 1) * (spread > 0)) * of(self.tasks)
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
    Errors: BBError where the metric has no meaning for a task, or a level has too little to resample.
    """
    levels: tuple[Level, ...] = tuple(level for level in LEVELS if level == "images" or level in over)
    if average == "images" and metric != "accuracy":
        raise BBError(f"{metric} is a number of a whole task and has no mean over images: average it over tasks.")
    if "tasks" in levels and len(table.tasks) < 2:
        raise BBError("one task says nothing of others: a claim about tasks needs two at least.")
    draws = _draws(table) if "draws" in levels else 0
    if metric == "accuracy" and not draws:
        table = table.averaged()
    work = _Work.of(table, metric, average, draws, seed, resamples)
    starts = range(0, resamples, CHUNK)
    # numpy and the kernels let go of Python's lock; so the threads are these, not the matrix product's own.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(jobs or cpu_count()) as pool:
        images = np.concatenate(list(pool.map(work.images, starts)))
        tasks = noise = None
        if "tasks" in levels:
            tasks = np.concatenate(list(pool.map(work.tasks, starts))) - work.estimate
            noise = np.mean(list(pool.map(work.noise, starts[:NOISE])), axis=0)
    return Resampled(
        models=table.models,
        metric=metric,
        average=average,
        over=levels,
        estimate=work.estimate,
        by_task=work.by_task,
        weight=work.weight / work.weight.sum(),
        images=images,
        tasks=tasks,
        noise=noise,
        units=len(table.tasks) if "tasks" in levels else len(table.units),
    )


@dataclass(frozen=True, eq=False)
class _Work:
    """What every chunk of resamples needs; a chunk is known by its first resample.

    of_task  the metric, prepared for each task
    share    (columns, models) of each column in its model's mean over draws
    draws    of each model, where they are resampled; else 0
    """

    table: Table
    of_task: list[Values]
    average: Average
    share: Float64[np.ndarray, "columns models"]
    draws: int
    seed: int
    resamples: int
    by_task: Float64[np.ndarray, "tasks models"]
    weight: Float64[np.ndarray, " tasks"]
    estimate: Float64[np.ndarray, " models"]

    @classmethod
    def of(cls, table: Table, metric: str, average: Average, draws: int, seed: int, resamples: int) -> "_Work":
        of_task = [METRICS[metric].of_task(table, task) for task in range(len(table.tasks))]
        member = table.model[:, None] == np.arange(len(table.models))
        share = member / member.sum(axis=0)
        values_TC = [values(np.ones((1, int(n)))) for values, n in zip(of_task, table.sizes, strict=True)]
        by_task = np.concatenate(values_TC) @ share
        weight = table.sizes.astype(float) if average == "images" else np.ones(len(of_task))
        estimate = _mean(by_task, weight[None])[0]
        return cls(table, of_task, average, share, draws, seed, resamples, by_task, weight, estimate)

    def images(self, start: int) -> Float64[np.ndarray, "b models"]:
        """The images (and draws) level."""
        means = []
        for weights_BN, drawn_BTS in self._blocks(start):
            total = weight = np.zeros((len(weights_BN), len(self.estimate)))
            for task in range(len(self.of_task)):
                values_BM, counted_B1 = self._values(task, weights_BN, drawn_BTS)
                defined_BM = ~np.isnan(values_BM)
                total = total + np.where(defined_BM, values_BM, 0) * counted_B1
                weight = weight + defined_BM * counted_B1
            means.append(np.where(weight > 0, total / np.where(weight > 0, weight, 1), np.nan))
        return np.concatenate(means)

    def noise(self, start: int) -> Float64[np.ndarray, "models models"]:
        """Covariances of a task's values around its reported ones, summed over tasks with their squared weights."""
        share_T = self.weight / self.weight.sum()
        total, size = np.zeros(2 * self.estimate.shape), 0
        for weights_BN, drawn_BTS in self._blocks(start):
            size += len(weights_BN)
            for task in range(len(self.of_task)):
                apart_BM = np.nan_to_num(self._values(task, weights_BN, drawn_BTS)[0] - self.by_task[task])
                total += share_T[task] ** 2 * (apart_BM.T @ apart_BM)
        return total / size

    def tasks(self, start: int) -> Float64[np.ndarray, "b models"]:
        """The statistic of tasks drawn with replacement, each at its reported value."""
        n = len(self.of_task)
        return _mean(self.by_task, _counts(self._stream("tasks", start), self._size(start), n) * self.weight)

    def _values(
        self, task: int, weights_BN: np.ndarray, drawn_BTS: np.ndarray | None
    ) -> tuple[Float64[np.ndarray, "b models"], Float64[np.ndarray, "b 1"]]:
        """A task's values in some resamples, and the weight of the task in them."""
        weights = weights_BN[:, self.table.of_task(task)]
        values_BC = self.of_task[task](weights)
        if drawn_BTS is None:
            values_BM = values_BC @ self.share if len(self.share) > len(self.estimate) else values_BC
        else:
            shape = (len(weights), len(self.estimate), self.draws)
            values_BM = np.einsum("bms,bs->bm", values_BC.reshape(shape), drawn_BTS[:, task] / (self.draws - 1))
        counted = weights.sum(axis=1, keepdims=True) if self.average == "images" else np.ones((len(weights), 1))
        return values_BM, counted

    def _blocks(
        self, start: int
    ) -> Iterator[tuple[Float64[np.ndarray, "b n"], Int[np.ndarray, "b tasks draws"] | None]]:
        """How often each item, and each draw of each task, was drawn; as many resamples together as memory allows."""
        images, draws = self._stream("images", start), self._stream("draws", start)
        units, n_tasks, left = len(self.table.units), len(self.of_task), self._size(start)
        while left:
            size = min(left, max(1, BLOCK // len(self.table)))
            counts_BU = _counts(images, size, units).astype(float)
            drawn_BTS = None
            if self.draws:
                drawn = _counts(draws, size * n_tasks, self.draws, self.draws - 1)
                drawn_BTS = drawn.reshape(size, n_tasks, self.draws)
            yield np.take(counts_BU, self.table.unit, axis=1), drawn_BTS
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
