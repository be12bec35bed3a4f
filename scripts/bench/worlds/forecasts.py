"""What boards say that more labels would bring: scores at growing numbers of them, and the score at a larger one."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import ndtr

from bb.probe.report.findings import MORE, forecast_score
from bb.probe.statistics.bootstrap import resample
from bb.probe.statistics.predictions import Table
from worlds import Share, World

FRESH = 5_000  # further images that the true score of many classes is measured on
RIDGE = 1.0
WIDTH = 64
NOISE = (2.0, 8.0)  # of the features, over the distance of centres
DECAY = 1.0  # of that distance, direction by direction, as a power


@dataclass(frozen=True)
class Curves:
    """One backbone's features: normal around classes' centres, some tasks easier than others. How hard all are, and in
    how few directions classes differ, is drawn for each board, since curves of one shape would try one law. Ridge
    regression is trained on each draw's images, of which fewer are part of more, and tested on the same ones each time.

    sizes   numbers of training images: of a task of two classes, or of each class
    target  the number that is forecast; 0 is as many as the page says
    """

    sizes: tuple[int, ...]
    target: int
    tasks: int
    draws: int
    images: int
    classes: int = 2

    def repeat(self, rng: np.random.Generator) -> tuple[bool, float, float]:
        """Whether the interval holds the score of these draws at the target; its width; how far off the forecast is."""
        points, more, truth = self.curve(rng)
        low, middle, high = forecast_score(points, more, self.tasks, self.draws)
        return low <= truth <= high, high - low, abs(middle - truth)

    def curve(self, rng: np.random.Generator) -> tuple[list[tuple[int, float, float, float]], int, float]:
        """Scores with intervals at the sizes, how many more images the target has, and the true score there."""
        more = self.target - self.sizes[-1] if self.target else min(MORE, self.sizes[-1])
        share = 2 if self.classes == 2 else 1
        right = np.empty((len(self.sizes), self.draws, self.tasks, self.images), np.float32)
        y_true, truth = np.arange(self.images) % self.classes, []
        noise, decay = np.exp(rng.uniform(*np.log(NOISE))), rng.uniform(0, DECAY)
        strength = np.arange(1, WIDTH + 1) ** -decay
        strength *= np.sqrt(WIDTH / (strength**2).sum()) / noise
        for task in range(self.tasks):
            centres = strength * rng.normal(size=(self.classes, WIDTH)) * np.exp(0.3 * rng.normal())
            test = self._features(rng, centres, y_true)
            for draw in range(self.draws):
                y = np.tile(np.arange(self.classes), (self.sizes[-1] + more) // share)  # the first n are the draw of n
                x = self._features(rng, centres, y)
                for k, n in enumerate(self.sizes):
                    some = n // share * self.classes
                    w, b = _ridge(x[:some], y[:some], self.classes)
                    right[k, draw, task] = (test @ w + b).argmax(axis=1) == y_true
                truth.append(self._accuracy(rng, centres, *_ridge(x, y, self.classes)))
        found = resample(self._table(right, y_true)).interval()
        points = [(n, *(float(each[k]) for each in found[:3])) for k, n in enumerate(self.sizes)]
        return points, more, float(np.mean(truth))

    def _accuracy(self, rng: np.random.Generator, centres: np.ndarray, w: np.ndarray, b: np.ndarray) -> float:
        """Exact for two classes."""
        if self.classes == 2:
            apart = w[:, 1] - w[:, 0]
            margin = (centres @ apart + b[1] - b[0]) * [-1, 1]
            return float(ndtr(margin / np.linalg.norm(apart)).mean())
        y = np.arange(FRESH) % self.classes
        return float(((self._features(rng, centres, y) @ w + b).argmax(axis=1) == y).mean())

    def _features(self, rng: np.random.Generator, centres: np.ndarray, y: np.ndarray) -> np.ndarray:
        return centres[y] + rng.normal(size=(len(y), WIDTH))

    def _table(self, right: np.ndarray, y_true: np.ndarray) -> Table:
        sizes, draws, tasks, images = right.shape
        ids = np.arange(tasks * images).astype(str)
        return Table(
            models=tuple(map(str, self.sizes)),
            model=np.repeat(np.arange(sizes), draws),
            seeds=tuple(range(draws)) * sizes,
            tasks=tuple(map(str, range(tasks))),
            starts=images * np.arange(tasks + 1),
            image_ids=ids,
            units=tuple(ids.tolist()),
            unit=np.arange(len(ids)),
            y_true=np.tile(y_true, tasks),
            fields={"score": right.reshape(sizes * draws, -1)},
        )


def _ridge(x: np.ndarray, y: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and intercepts of ridge regression on one-hot targets, from as many products as there are images."""
    goal = np.eye(classes)[y]
    mean, level = x.mean(axis=0), goal.mean(axis=0)
    centred = x - mean
    scale = RIDGE * (centred**2).sum() / len(x)
    if len(x) < x.shape[1]:
        w = centred.T @ np.linalg.solve(centred @ centred.T + scale * np.eye(len(x)), goal - level)
    else:
        w = np.linalg.solve(centred.T @ centred + scale * np.eye(x.shape[1]), centred.T @ (goal - level))
    return w, level - mean @ w


def covered(world: Curves, repetitions: int) -> list[Share]:
    seeds = ([seed, *world.sizes, world.target, world.tasks, world.draws] for seed in range(repetitions))
    held, width, off = np.mean([world.repeat(np.random.default_rng(seed)) for seed in seeds], axis=0).tolist()
    return [
        Share("coverage", held, repetitions, 0.90, 0.97),
        Share("width", width, repetitions),
        Share("forecast is off by", off, repetitions),
    ]


BOARDS = (
    Curves((4, 8, 16), 0, 1, 1, 200),
    Curves((8, 16, 32), 0, 8, 1, 100),
    Curves((8, 16, 32), 0, 30, 3, 50),
    Curves((8, 16, 32, 64), 0, 30, 1, 50),
    Curves((1, 2, 4), 0, 1, 3, 400, classes=10),
    Curves((4, 8, 16), 64, 8, 3, 100),
    Curves((8, 16, 32), 128, 1, 3, 200),
    Curves((8, 16, 32), 128, 30, 3, 50),
    Curves((8, 16, 32, 64), 256, 8, 3, 100),
    Curves((2, 4, 8, 16), 64, 1, 3, 400, classes=10),
)


def worlds() -> list[World]:
    return [
        World(
            f"{'a quarter of the labels' if board.target else 'twice the labels'}: n_train "
            f"{', '.join(map(str, board.sizes))}; {board.classes} classes, tasks x draws {board.tasks} x {board.draws}",
            partial(covered, board),
        )
        for board in BOARDS
    ]
