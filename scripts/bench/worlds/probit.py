"""Tasks of two classes whose answers follow a probit model with effects of tasks, draws and images.

A model answers item i of task t after draw s rightly where

    m + A_t + D_ts + I_i + e_tis > 0,

all normal, e with variance 1, so that the true accuracy, given any of them, is Φ of a ratio.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from bb.probe.statistics.bootstrap import Average, Level
from bb.probe.statistics.predictions import Table

LEVEL = 0.95
BATCH = 500  # repetitions in one table, as the models of a report are


@dataclass(frozen=True)
class Probit:
    """accuracy  expected over everything
    tasks, images  how many tasks, of how many images each
    task_sd, draw_sd, image_sd  standard deviations of A, D and I; e's is 1
    apart    standard deviation of a model's own part of A: how much models differ in what they are good at
    serves   how many tasks each image serves
    groups   images come in groups of this size that share I; uneven: on average, the largest with most, of one task
    metric   a decision is the sum above, negated for class 0
    positives  the share of class 1; chosen: in each task, rather than expected
    """

    accuracy: float
    tasks: int
    images: int
    task_sd: float = 0.4
    draw_sd: float = 0.0
    image_sd: float = 1.0
    apart: float = 0.0
    draws: int = 1
    serves: int = 1
    groups: int = 1
    uneven: bool = False
    positives: float = 0.5
    chosen: bool = False
    metric: str = "accuracy"
    average: Average = "tasks"
    over: tuple[Level, ...] = ("images",)

    @property
    def middle(self) -> float:
        return float(ndtri(self.accuracy)) * float(np.sqrt(self._variance))

    @property
    def _variance(self) -> float:
        return 1 + self.image_sd**2 + self.draw_sd**2 + self.task_sd**2 + self.apart**2

    def simulate(self, rng: np.random.Generator, models: int, of_a_world: int) -> tuple[Table, np.ndarray]:
        """A table of models, `of_a_world` in each world, and the true score of each that `over` claims.

        Tasks (but for a claim about tasks) are the same in all worlds, as they are the same in all reports.
        """
        worlds, t, n, s = models // of_a_world, self.tasks, self.images, self.draws
        task = self.task_sd * rng.normal(size=(worlds if "tasks" in self.over else 1, 1, t))
        own = self.apart * rng.normal(size=(worlds, of_a_world, t))
        draw = self.draw_sd * rng.normal(size=(worlds, of_a_world, s, t))
        unit_TN = self._units()
        units = int(unit_TN.max()) + 1
        image = (self.image_sd * rng.normal(size=(worlds, units)).astype(np.float32))[:, None, None, unit_TN]
        margin = (self.middle + task + own)[:, :, None] + draw
        noise = rng.normal(size=(worlds, of_a_world, s, t, n)).astype(np.float32)
        total = (margin[..., None].astype(np.float32) + image + noise).reshape(models * s, t * n)
        y = (rng.random(t * n) < self.positives).astype(np.int64)
        if self.chosen:
            y = np.tile(np.arange(n) < round(self.positives * n), t).astype(np.int64)
        fields = {"score": (total > 0).astype(np.float32)}
        if self.metric != "accuracy":
            fields |= {"y_pred": np.where(total > 0, y, 1 - y), "decision": total * (2 * y - 1)}
        if "tasks" in self.over:
            truth = np.full((worlds, of_a_world), self.accuracy)
        elif "draws" in self.over:
            truth = ndtr((self.middle + task + own) / np.sqrt(1 + self.image_sd**2 + self.draw_sd**2)).mean(axis=2)
        else:
            truth = self._value(margin / np.sqrt(1 + self.image_sd**2)).mean(axis=(2, 3))
        table = Table(
            models=tuple(map(str, range(models))),
            model=np.repeat(np.arange(models), s),
            seeds=tuple(range(s)) * models,
            tasks=tuple(map(str, range(t))),
            starts=np.arange(t + 1) * n,
            image_ids=unit_TN.ravel().astype(str),
            units=tuple(map(str, range(units))),
            unit=unit_TN.ravel(),
            y_true=y,
            fields=fields,
        )
        return table, np.broadcast_to(truth.reshape(-1, of_a_world), (worlds, of_a_world)).ravel()

    def _units(self) -> np.ndarray:
        """The image or group of each item."""
        t, n = self.tasks, self.images
        if self.uneven:
            sizes = np.arange(1, n // self.groups + 1)
            ends = np.cumsum(sizes) / sizes.sum() * n
            return np.searchsorted(ends, np.arange(n) + 0.5)[None]
        # An image that serves several tasks is in neighbouring ones, in the same place.
        units = t * n // self.serves // self.groups
        return (np.arange(t)[:, None] // self.serves * n + np.arange(n)) // self.groups % units

    def _value(self, margin: np.ndarray) -> np.ndarray:
        """The score of endless images: decisions are normal, around the margin for class 1 and less it for class 0."""
        right, share = ndtr(margin), self.positives
        if self.metric == "auroc":
            return ndtr(np.sqrt(2) * margin)
        if self.metric == "macro_f1":
            f1 = [2 * s * right / (s + s * right + (1 - s) * (1 - right)) for s in (share, 1 - share)]
            return sum(f1) / 2
        if self.metric == "average_precision":
            threshold = np.linspace(12, -12, 4001)
            recall, false = ndtr(margin[..., None] - threshold), ndtr(-margin[..., None] - threshold)
            hits = share * recall
            precision = hits / np.maximum(hits + (1 - share) * false, 1e-300)
            return (np.diff(recall) * (precision[..., 1:] + precision[..., :-1]) / 2).sum(axis=-1)
        return right

    def tables(self, repetitions: int, of_a_world: int) -> Iterator[tuple[int, Table, np.ndarray]]:
        """Seeds, tables and truths of at least that many worlds."""
        batch = BATCH if self.metric == "accuracy" else BATCH // 10  # labels are drawn for each
        models = max(1, min(batch, repetitions * of_a_world) // of_a_world) * of_a_world
        for seed in range(-(-repetitions // (models // of_a_world))):
            rng = np.random.default_rng([round(1e4 * self.accuracy), self.tasks, self.images, seed])
            yield seed, *self.simulate(rng, models, of_a_world)
