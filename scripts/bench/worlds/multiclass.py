"""Intervals of the metrics of one task of many classes, of groups, of folds, and of differences."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bb.probe.statistics.multiclass.contributions import TOP
from bb.probe.statistics.multiclass.intervals import WIDENING, MetricEstimate, difference, estimate
from bb.probe.statistics.multiclass.metrics import METRICS
from bb.probe.statistics.multiclass.predictions import Predictions
from worlds import Share, World
from worlds.probit import LEVEL

FRESH = 2_000  # test sets that the truth is the mean over, where it is the same in all repetitions
FRESH_OF_FOLDS = 50  # where it is another in each
FEW = (0.93, 0.99)
FEWER = 4  # times fewer repetitions with folds, whose truth is simulated in each
Draw = Callable[[np.random.Generator], list[Predictions]]


def judged(draw: Draw, metrics: Sequence[str], low: float, high: float, repetitions: int) -> list[Share]:
    """Of several models of the same images: coverage of the means over fresh test sets; with two, of the difference."""
    rng = np.random.default_rng(1)
    fresh = [[[METRICS[m].value(p) for m in metrics] for p in draw(rng)] for _ in range(min(FRESH, repetitions))]
    truth = np.mean(fresh, axis=0)
    rng = np.random.default_rng(2)
    counts = [Counted() for _ in metrics]
    apart = [Counted() for _ in metrics]
    for _ in range(repetitions):
        models = draw(rng)
        for m, metric in enumerate(metrics):
            counts[m].add(estimate(models[0], METRICS[metric], LEVEL), truth[0, m])
            if len(models) > 1:
                apart[m].add(difference(models[0], models[1], METRICS[metric], LEVEL), truth[0, m] - truth[1, m])
    shares = []
    for m, metric in enumerate(metrics):
        name = f"{metric} {truth[0, m]:.3f}"
        shares += counts[m].shares(name, *range_of(metric, float(truth[0, m]), low, high))
        if apart[m].of:
            shares += apart[m].shares(f"{metric}, difference {truth[0, m] - truth[1, m]:.3f}", low, high)
    return shares


@dataclass
class Counted:
    """Estimates whose interval held the truth, or that have none."""

    held: int = 0
    refused: int = 0
    of: int = 0

    def add(self, found: MetricEstimate, truth: float) -> None:
        self.of += 1
        if found.interval is None:
            self.refused += 1
            return
        low, high = found.interval
        assert low <= found.value <= high and low < high
        self.held += low <= truth <= high

    def shares(self, what: str, low: float, high: float) -> list[Share]:
        printed = self.of - self.refused
        found = [Share(what, self.held / printed, printed, low, high)] if printed else []
        return [*found, Share(f"{what}, refused", self.refused / self.of, self.of)] if self.refused else found


def range_of(metric: str, truth: float, low: float, high: float) -> tuple[float, float]:
    """Where few answers are wrong, coverage jumps, as for two classes."""
    of = METRICS[metric]
    if of.of_answers and not 0.002 < truth < 0.998:  # mostly none of them
        return FEW[0], 1.0
    return FEW if (of.of_answers and not 0.05 < truth < 0.95) or (of.fewest_wrong and truth < 0.1) else (low, high)


def zipf(classes: int, images: int) -> np.ndarray:
    """How many images each class has: as 1/rank; those without any are left out."""
    share = 1 / np.arange(1, classes + 1)
    return np.repeat(np.arange(classes), np.round(images * share / share.sum()).astype(np.int64))


@dataclass(frozen=True)
class LongTail:
    """Classes are right with a chance of their own, from a beta distribution, and else taken for any, by the square
    root of its size. Of two models, half of the images are as easy for both, and the second one is right more often.

    chances  which chances these are
    """

    classes: int
    images: int
    beta: tuple[float, float] = (3, 2)
    pair: bool = False
    chances: int | None = None

    def draw(self) -> Draw:
        y = zipf(self.classes, self.images)
        rng = np.random.default_rng([self.classes, self.images, *(() if self.chances is None else (self.chances,))])
        recall = rng.beta(*self.beta, self.classes)
        size = np.bincount(y, minlength=self.classes)
        cumulated = np.cumsum(np.sqrt(size + 0.5))
        cumulated /= cumulated[-1]

        def model(rng: np.random.Generator, easy: np.ndarray, recall: np.ndarray) -> Predictions:
            miss = np.searchsorted(cumulated, rng.random(len(y)))
            miss = np.where(miss == y, (miss + 1) % self.classes, miss)
            return Predictions(y, np.where(easy < recall[y], y, miss), self.classes)

        def models(rng: np.random.Generator) -> list[Predictions]:
            easy = rng.random(len(y))
            first = model(rng, easy, recall)
            if not self.pair:
                return [first]
            # Half of the images are as easy for both.
            other = np.where(rng.random(len(y)) < 0.5, easy, rng.random(len(y)))
            return [first, model(rng, other, recall**0.9)]

        return models


def held(name: str, draw: Draw, metrics: Sequence[str], low: float = 0.94, high: float = 0.96) -> World:
    return World(name, partial(judged, draw, metrics, low, high))


CLASSES = ("balanced_accuracy", "macro_f1@wilds")
SETS = 20  # of chances, where a single one decides how much classes of one image differ from larger ones


def of_sets(classes: int, images: int, beta: tuple[float, float], repetitions: int) -> list[Share]:
    """Coverage over sets of chances, in the mean."""
    draws = [LongTail(classes, images, beta, chances=i).draw() for i in range(SETS)]
    found = zip(*(judged(draw, CLASSES, 0.94, 0.96, repetitions // SETS or 1) for draw in draws), strict=True)
    return [
        Share(metric, float(np.mean([each.share for each in shares])), sum(each.of for each in shares), 0.94, 0.96)
        for metric, shares in zip(CLASSES, found, strict=True)
    ]


def long_tails() -> Iterator[World]:
    for classes, images in ((50, 200), (50, 500), (50, 3000), (200, 1000), (200, 3000), (1000, 3000), (1000, 20000)):
        yield held(f"{classes} classes, {images:,} images", LongTail(classes, images).draw(), CLASSES)
    yield held("200 classes, 3,000 images, two models", LongTail(200, 3000, pair=True).draw(), CLASSES)
    yield held("1,000 classes, 3,000 images, two models", LongTail(1000, 3000, pair=True).draw(), CLASSES)
    for classes in (1000, 200):
        name = f"{classes:,} classes, 3,000 images, very unlike"
        yield World(name, partial(of_sets, classes, 3000, (0.6, 0.4)))
    yield held("1,000 classes, 3,000 images, alike", LongTail(1000, 3000, (30, 20)).draw(), CLASSES)
    yield held("200 classes, 3,000 images, near 1", LongTail(200, 3000, (30, 1)).draw(), CLASSES, 0.94, 0.98)
    yield held("200 classes, 3,000 images, near 0", LongTail(200, 3000, (1, 6)).draw(), CLASSES)


@dataclass(frozen=True)
class Scored:
    """Normal scores with that of the true class `apart` higher, and their softmax: calibrated where heat is 1, surer
    than it is right where it is less. Two models' scores are as alike as two measurements with half the noise common.

    chosen  whether the number of images of each class is the same in all samples
    """

    classes: int
    images: int
    apart: float = 2.5
    heat: float = 1.0
    chosen: bool = False
    pair: bool = False

    def draw(self) -> Draw:
        share = 1 / np.sqrt(np.arange(1, self.classes + 1))
        fixed = np.random.default_rng(0).choice(self.classes, self.images, p=share / share.sum())

        def models(rng: np.random.Generator) -> list[Predictions]:
            y = fixed if self.chosen else rng.choice(self.classes, self.images, p=share / share.sum())
            size = (1 + self.pair, self.images, self.classes)
            noise = rng.normal(size=size)
            if self.pair:
                noise = np.sqrt(0.5) * (noise + rng.normal(size=size[1:]))
            noise[:, np.arange(self.images), y] += self.apart
            odds = np.exp(self.apart / self.heat * (noise - noise.max(axis=2, keepdims=True)))
            odds[1:] **= 0.8
            given = odds / odds.sum(axis=2, keepdims=True)
            return [Predictions(y, each.argmax(axis=1), self.classes, each) for each in given]

        return models


OF_IMAGES = ("accuracy", "top_5", "ece", "ece_adaptive", "nll", "brier", "aurc")


def scored() -> Iterator[World]:
    for classes, images, apart, heat in (
        (10, 300, 2.0, 1.0),
        (10, 2000, 2.0, 1.0),
        (10, 300, 2.0, 0.5),
        (10, 300, 3.5, 0.5),
        (10, 2000, 2.0, 0.8),
        (10, 2000, 2.0, 0.5),
        (10, 2000, 3.5, 1.0),
        (10, 2000, 3.5, 0.5),
        (100, 1000, 3.0, 0.7),
    ):
        name = f"scores of {classes} classes, {images:,} images, {apart} apart, heat {heat}"
        yield held(name, Scored(classes, images, apart, heat).draw(), OF_IMAGES)
    yield held(
        "scores of two models, 10 classes, 2,000 images", Scored(10, 2000, 2.0, 0.7, pair=True).draw(), OF_IMAGES
    )
    for classes, images in ((10, 300), (50, 2000)):
        draw = Scored(classes, images, chosen=True).draw()
        yield held(f"scores of {classes} classes, {images:,} images", draw, ("average_precision", "auroc"))


@dataclass(frozen=True)
class Grouped:
    """Images of groups that are hard or easy together: a normal of deviation `alike` for each group and class is added
    to how well an image shows its class, and one for each group. Each group has its own share of the classes.

    sizes  how many images each group has
    """

    classes: int
    sizes: tuple[int, ...]
    alike: float = 0.6
    pair: bool = False

    def draw(self) -> Draw:
        group = np.repeat(np.arange(len(self.sizes)), self.sizes)
        rng = np.random.default_rng([self.classes, len(group)])
        share = 1 / np.sqrt(np.arange(1, self.classes + 1))
        of_group = rng.dirichlet(5 * self.classes * share / share.sum(), len(self.sizes))
        y = np.concatenate([rng.choice(self.classes, n, p=p) for n, p in zip(self.sizes, of_group, strict=True)])
        y = np.unique(y, return_inverse=True)[1]

        def models(rng: np.random.Generator) -> list[Predictions]:
            common = self.alike * rng.normal(size=len(self.sizes))[group]
            own = self.alike * rng.normal(size=(len(self.sizes), self.classes))[group, y]
            found = []
            for _ in range(1 + self.pair):
                noise = rng.normal(size=(len(y), self.classes))
                noise[np.arange(len(y)), y] += 2.5 + common + own
                odds = np.exp(3 * (noise - noise.max(axis=1, keepdims=True)))
                given = odds / odds.sum(axis=1, keepdims=True)
                found.append(Predictions(y, given.argmax(axis=1), self.classes, given, group))
            return found

        return models


OF_GROUPS = ("accuracy", "balanced_accuracy", "macro_f1@wilds", "top_5", "ece", "nll", "brier", "aurc")


def grouped() -> Iterator[World]:
    uneven = tuple(np.round(400 * np.arange(1, 21) / 210).astype(int).tolist())
    for name, world in {
        "4 groups": Grouped(5, (40,) * 4),
        "5 groups": Grouped(5, (40,) * 5),
        "10 groups": Grouped(5, (40,) * 10),
        "30 groups": Grouped(10, (20,) * 30),
        "20 groups of uneven sizes": Grouped(5, uneven),
        "100 groups of 50 classes": Grouped(50, (20,) * 100),
        "20 groups of 50 classes": Grouped(50, (20,) * 20),
    }.items():
        metrics = [metric for metric in OF_GROUPS if metric != "top_5" or world.classes > TOP]
        yield held(f"images of {name}", world.draw(), metrics)
    yield held("images of 30 groups, two models", Grouped(10, (20,) * 30, pair=True).draw(), OF_GROUPS)


@dataclass(frozen=True)
class Folds:
    """Normal features around classes' centres, which are the same in all repetitions, and nearest centroids fitted on
    all folds but one. The truth, another in each repetition, is the mean over fresh test sets of the folds' classes.

    other  what a second model sees in place of the first `dim` features: what it differs by is measured, too, as boards
           compare runs, which do not know the folds
    """

    classes: int
    images: int
    dim: int = 8
    folds: int = 5
    apart: float = 0.8
    other: slice | None = None

    def measure(self, metrics: Sequence[str], low: float, high: float, repetitions: int) -> list[Share]:
        rng = np.random.default_rng([self.classes, self.images])
        features = self.dim if self.other is None else max(self.dim, self.other.stop)
        centres = self.apart * rng.normal(size=(self.classes, features))
        share = 1 / np.sqrt(np.arange(1, self.classes + 1))
        size = np.maximum(np.round(self.images * share / share.sum()), self.folds).astype(np.int64)
        y = np.repeat(np.arange(self.classes), size)
        fold = np.concatenate([np.arange(n) for n in size]) % self.folds
        views = [slice(self.dim), *([] if self.other is None else [self.other])]
        counts, apart = [Counted() for _ in metrics], [Counted() for _ in metrics]
        total = np.zeros((len(views), len(metrics)))
        for _ in range(repetitions // FEWER or 1):
            x = centres[y] + rng.normal(size=(len(y), features))
            fitted = np.stack(
                [[x[(fold != f) & (y == k)].mean(axis=0) for k in range(self.classes)] for f in range(self.folds)]
            )
            further = centres[y] + rng.normal(size=(FRESH_OF_FOLDS, len(y), features))
            found = [self._predicted(x[None][..., v], y, fold, fitted[..., v])[0] for v in views]
            fresh = [self._predicted(further[..., v], y, fold, fitted[..., v]) for v in views]
            truth = np.array([[self._truth(each, metric) for metric in metrics] for each in fresh])
            total += truth
            for m, metric in enumerate(metrics):
                counts[m].add(estimate(found[0], METRICS[metric], LEVEL), truth[0, m])
                if len(views) > 1:
                    one, two = (replace(each, fold=None) for each in found)
                    apart[m].add(difference(one, two, METRICS[metric], LEVEL), truth[0, m] - truth[1, m])
        shares = []
        for m, metric in enumerate(metrics):
            values = total[:, m] / counts[m].of
            shares += counts[m].shares(f"{metric} {values[0]:.3f}", *range_of(metric, values[0], low, high))
            if apart[m].of:
                shares += apart[m].shares(f"{metric}, difference {values[0] - values[1]:.3f}", low, high)
        return shares

    def _truth(self, fresh: list[Predictions], metric: str) -> float:
        """The mean over the test sets: of means, the metric of all of them together."""
        if metric not in MEANS:
            return float(np.mean([METRICS[metric].value(each) for each in fresh]))
        given = np.concatenate([each.given for each in fresh])
        y = np.tile(fresh[0].y_true, len(fresh))
        return METRICS[metric].value(Predictions(y, given.argmax(axis=1), self.classes, given))

    def _predicted(self, x: np.ndarray, y: np.ndarray, fold: np.ndarray, fitted: np.ndarray) -> list[Predictions]:
        given = np.empty((*x.shape[:2], self.classes))
        for f in range(self.folds):
            mine = fold == f
            given[:, mine] = x[:, mine] @ fitted[f].T - (fitted[f] ** 2).sum(axis=1) / 2
        odds = np.exp(given - given.max(axis=2, keepdims=True))
        given = odds / odds.sum(axis=2, keepdims=True)
        return [Predictions(y, each.argmax(axis=1), self.classes, each, fold=fold) for each in given]


@dataclass(frozen=True)
class SplitWays:
    """Nearest centroids on features that each group moves, and moves for each class: fitted on other images, and on
    other groups. The difference of their scores in the mean over all worlds is the truth, of which each has an
    interval."""

    groups: int
    size: int
    classes: int = 5
    dim: int = 8
    folds: int = 5
    moved: float = 0.7

    def measure(self, metrics: Sequence[str], low: float, high: float, repetitions: int) -> list[Share]:
        rng = np.random.default_rng([self.groups, self.size])
        centres = rng.normal(size=(self.classes, self.dim))
        found = [self._differences(rng, centres, metrics) for _ in range(repetitions // FEWER or 1)]
        shares = []
        for m, metric in enumerate(metrics):
            truth, counted = float(np.mean([each[m].value for each in found])), Counted()
            for each in found:
                counted.add(each[m], truth)
            shares += counted.shares(f"{metric}, random less group {truth:.3f}", low, high)
        return shares

    def _differences(
        self, rng: np.random.Generator, centres: np.ndarray, metrics: Sequence[str]
    ) -> list[MetricEstimate]:
        n = self.groups * self.size
        group = np.repeat(np.arange(self.groups), self.size)
        y = np.concatenate([rng.permutation(np.arange(self.size) % self.classes) for _ in range(self.groups)])
        moves = self.moved * rng.normal(size=(2, self.groups, self.classes, self.dim))
        x = centres[y] + moves[0, group, 0] + moves[1, group, y] + rng.normal(size=(n, self.dim))
        ways = []
        for fold in (rng.permutation(n) % self.folds, group % self.folds):
            answer = np.empty(n, np.int64)
            for f in range(self.folds):
                fitted = np.stack([x[(fold != f) & (y == k)].mean(axis=0) for k in range(self.classes)])
                scores = x[fold == f] @ fitted.T - (fitted**2).sum(axis=1) / 2
                answer[fold == f] = scores.argmax(axis=1)
            ways.append(Predictions(y, answer, self.classes, None, group))
        return [difference(*ways, METRICS[metric], LEVEL, widening=1 + WIDENING) for metric in metrics]


NAMED = ("accuracy", "balanced_accuracy", "macro_f1@wilds")
MEANS = ("accuracy", "balanced_accuracy", "top_5", "nll", "brier")
OF_FOLDS = ("accuracy", "balanced_accuracy", "macro_f1@wilds", "top_5", "ece", "nll", "brier", "aurc")


def folded() -> Iterator[World]:
    for classes, images in ((10, 200), (10, 1000), (30, 2000)):
        name = f"5 folds, {classes} classes, {images:,} images"
        yield World(name, partial(Folds(classes, images).measure, OF_FOLDS, 0.94, 0.96))
    for classes, images, other in ((10, 200, slice(2, 10)), (10, 200, slice(6)), (10, 1000, slice(2, 10)),
                                   (3, 60, slice(2, 10))):  # fmt: skip
        kind = "alike" if other.start else "less seen"
        name = f"5 folds, two models, {kind}, {classes} classes, {images:,} images"
        measure = Folds(classes, images, other=other).measure
        yield World(name, partial(measure, NAMED, 0.94, 0.96))
    for groups, size in ((5, 40), (10, 20), (30, 10), (30, 40)):
        measure = SplitWays(groups, size).measure
        yield World(f"two ways to split {groups} groups of {size}", partial(measure, NAMED, 0.94, 0.96))


def worlds() -> list[World]:
    return [*long_tails(), *scored(), *grouped(), *folded()]
