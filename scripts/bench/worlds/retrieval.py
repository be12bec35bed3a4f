"""Retrieval: labels are points, their images lie around them, and bb searches, scores and judges as it always does.

A label's centre is normal with variance 1 in each of some dimensions; its images are normal around it, with a spread
that may differ between labels. Two models see the same labels and images, each with noise of its own, and are equally
good on average over all that could be sampled.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import polars as pl

from bb.probe.retrieval.evaluate import Evaluation, Retrieval, evaluate
from bb.probe.retrieval.labels import RetrievalLabels, parse_items
from bb.probe.retrieval.statistics.clustered import Clustered
from bb.probe.retrieval.statistics.paired_tests import of_evaluations
from worlds import Share, World

HOW = Retrieval(metrics=("cmc", "precision", "mrr", "map@r"), ks=(1, 5, 10), knn=(), pairs=False, shares=())
METRICS = ("map@r", "cmc@1", "cmc@10", "precision@5", "mrr@10")
GROUPS = 20  # sets of labels, or galleries, that further images are drawn for
NEAR_1 = 0.9  # where intervals may be too wide
ALIKE = 0.5  # of the variance, what both models share


@dataclass(frozen=True)
class Points:
    """sizes     images of each label: a number, or a function of a generator that draws them
    spread    of images about their label's centre, in each dimension
    uneven    standard deviation of the logarithm of that
    """

    labels: int
    sizes: int | Callable[[np.random.Generator, int], np.ndarray]
    dim: int = 8
    spread: float = 0.6
    uneven: float = 0.0

    def centres(self, rng: np.random.Generator) -> np.ndarray:
        """Of two models, (2, labels, dim)."""
        return _alike(rng, (self.labels, self.dim))

    def images(self, rng: np.random.Generator, label: np.ndarray, centres: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Of two models, (2, images, dim)."""
        return centres[:, label] + scale[label, None] * _alike(rng, (len(label), self.dim))

    def scale(self, rng: np.random.Generator) -> np.ndarray:
        return self.spread * np.exp(self.uneven * rng.normal(size=self.labels) - self.uneven**2 / 2)

    def label(self, rng: np.random.Generator) -> np.ndarray:
        sizes = self.sizes(rng, self.labels) if callable(self.sizes) else np.full(self.labels, self.sizes)
        return np.repeat(np.arange(self.labels), sizes)


def _alike(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.sqrt(ALIKE) * rng.normal(size=shape) + np.sqrt(1 - ALIKE) * rng.normal(size=(2, *shape))


@cache
def leave_one_out(label: bytes) -> RetrievalLabels:
    return _items(np.frombuffer(label, np.int64))


def _items(label: np.ndarray, query: np.ndarray | None = None) -> RetrievalLabels:
    columns = {"image_id": [f"{row:05d}" for row in range(len(label))], "label": [f"{code:05d}" for code in label]}
    roles = {} if query is None else {"is_query": query, "is_gallery": ~query}
    return parse_items(pl.DataFrame({**columns, **roles}))


def _evaluated(items: RetrievalLabels, features: np.ndarray) -> list[Evaluation]:
    return [evaluate(each, items, HOW, jobs=1) for each in features]


def further_labels(points: Points, repetitions: int) -> Iterator[dict[str, Clustered]]:
    """Every repetition has labels and images of its own."""
    for seed in range(repetitions):
        rng = np.random.default_rng([points.labels, points.dim, seed])
        label = points.label(rng)
        features = points.images(rng, label, points.centres(rng), points.scale(rng))
        found = _evaluated(leave_one_out(label.tobytes()), features)
        yield {metric: of_evaluations(found, metric) for metric in METRICS}


def judged(points: Points, low: float, high: float, repetitions: int) -> list[Share]:
    """Coverage of the means over further labels, and how often the two equal models are called different."""
    found = list(further_labels(points, repetitions))
    shares = []
    for metric in METRICS:
        truth = float(np.mean([each[metric].mean.mean() for each in found]))
        covered = np.mean([_holds(each[metric], model, truth) for each in found for model in (0, 1)])
        apart = [each[metric].difference(1, 0) for each in found]
        different = np.mean([not bounds.low <= 0 <= bounds.high for bounds in apart])
        shares += [
            Share(f"{metric} {truth:.2f}", float(covered), len(found), low, high if truth < NEAR_1 else 1.0),
            Share(f"{metric} {truth:.2f}, called different", float(different), len(found), 0.0, 0.05),
        ]
    return shares


def _holds(found: Clustered, model: int, truth: float) -> bool:
    bounds = found.interval(model)
    return bounds.low <= truth <= bounds.high


def same_labels(points: Points, repetitions: int) -> list[Share]:
    """Whether the interval for further labels holds for further images of the same ones, which vary less."""
    covered: dict[str, list[bool]] = {metric: [] for metric in METRICS}
    for group in range(GROUPS):
        rng = np.random.default_rng([points.labels, points.dim, group, 1])
        centres, scale, label = points.centres(rng), points.scale(rng), points.label(rng)
        found = [
            _evaluated(leave_one_out(label.tobytes()), points.images(rng, label, centres, scale)[:1])
            for _ in range(repetitions // GROUPS)
        ]
        for metric in METRICS:
            clustered = [of_evaluations(each, metric) for each in found]
            truth = float(np.mean([each.mean[0] for each in clustered]))
            covered[metric] += [_holds(each, 0, truth) for each in clustered]
    return [Share(metric, float(np.mean(held)), len(held), 0.94, 1.0) for metric, held in covered.items()]


def own_gallery(points: Points, queries: int, repetitions: int) -> list[Share]:
    """Further queries against a gallery that stays: queries are of random labels."""
    covered: dict[str, list[bool]] = {metric: [] for metric in METRICS}
    for group in range(GROUPS):
        rng = np.random.default_rng([points.labels, queries, group, 2])
        centres, scale, label = points.centres(rng), points.scale(rng), points.label(rng)
        gallery = points.images(rng, label, centres, scale)

        asked = rng.integers(0, points.labels, (repetitions // GROUPS, queries))
        of_all = points.images(rng, asked.ravel(), centres, scale)[:1]
        items = _items(np.concatenate([label, asked.ravel()]), np.arange(len(label) + asked.size) >= len(label))
        (found,) = _evaluated(items, np.concatenate([gallery[:1], of_all], axis=1))
        for metric in METRICS:
            drawn = found.values[metric].reshape(asked.shape)
            each = [Clustered.of(np.arange(queries), one[None]) for one in drawn]
            covered[metric] += [_holds(one, 0, float(drawn.mean())) for one in each]
    return [Share(metric, float(np.mean(held)), len(held), 0.94, 1.0) for metric, held in covered.items()]


def right_or_wrong(queries: int, chance: float, low: float, repetitions: int) -> list[Share]:
    """Independent queries that are answered with some chance, by two models."""
    rng = np.random.default_rng([queries, int(1000 * chance)])
    right = (rng.random((repetitions, 2, queries)) < chance).astype(float)
    found = [Clustered.of(np.arange(queries), each) for each in right]
    covered = np.mean([_holds(each, model, chance) for each in found for model in (0, 1)])
    apart = [each.difference(1, 0) for each in found]
    different = float(np.mean([not bounds.low <= 0 <= bounds.high for bounds in apart]))
    certain = float(np.mean([bounds.low == bounds.high for each in found for bounds in (each.interval(0),)]))
    return [
        Share("coverage", float(covered), repetitions, low, 1.0),
        Share("called different", different, repetitions, 0.0, 0.05),
        Share("an interval of no width", certain, repetitions, 0.0, 1e-9),
    ]


def uneven(rng: np.random.Generator, labels: int) -> np.ndarray:
    """2 to 25 images, mostly few."""
    return np.minimum(1 + rng.geometric(0.3, size=labels), 25)


def worlds() -> list[World]:
    near, far = (0.94, 0.96), (0.94, 1.0)
    points = {
        "40 labels of 5 images": (Points(40, 5), near),
        "40 of 5, 32 dimensions": (Points(40, 5, 32, 1.2), near),
        "40 of 5, labels of uneven spread": (Points(40, 5, 16, 0.8, 0.4), near),
        "40 of 5, near 1": (Points(40, 5, 32, 0.8), far),
        "100 of 3": (Points(100, 3, 16, 0.8, 0.2), far),
        "20 of 10": (Points(20, 10, 8, 0.8), far),
        "20 of 2 to 25": (Points(20, uneven, 16, 0.8, 0.2), far),
        "15 of 8": (Points(15, 8, 8, 0.7, 0.2), far),
        "10 of 20": (Points(10, 20, 8, 0.8), far),
        "10 of 5": (Points(10, 5, 8, 0.6, 0.2), far),
        "5 of 20": (Points(5, 20, 8, 0.8, 0.2), far),
    }
    return [
        *(World(f"leave-one-out, {name}", partial(judged, each, *held)) for name, (each, held) in points.items()),
        World("leave-one-out, 40 of 5, the same labels", partial(same_labels, Points(40, 5))),
        World("leave-one-out, 10 of 20, the same labels", partial(same_labels, Points(10, 20, 8, 0.8))),
        World("60 queries, a gallery of 40 labels of 3", partial(own_gallery, Points(40, 3), 60)),
        *(
            World(f"{n} queries, right with chance {chance}", partial(right_or_wrong, n, chance, 0.94))
            for n, chance in ((20, 0.98), (20, 0.95), (20, 0.9), (50, 0.98), (100, 0.99), (200, 0.7))
        ),
    ]
