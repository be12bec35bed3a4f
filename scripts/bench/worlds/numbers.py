"""Intervals of the metrics of regression, and of images with several traits, such as FishNet's."""

from collections.abc import Callable
from functools import partial

import numpy as np

from bb.probe.classifiers.estimator import make
from bb.probe.statistics import multilabel, regression
from bb.probe.statistics.multilabel import Traits
from worlds import Share, World
from worlds.multiclass import Counted
from worlds.probit import LEVEL

TRUTH = 2_000  # samples that the truth is the mean over
MANY = 1_000_000  # images of which the truth is the value

Numbers = tuple[np.ndarray, np.ndarray, np.ndarray]


def predicted(heavy: bool, groups: int, rng: np.random.Generator, n: int) -> Numbers:
    """True numbers, and two models' with errors of equal size, or as t with 8 degrees of freedom; half in common, which
    depend on the group where there are some."""
    unit = np.arange(n) * groups // n if groups else np.arange(n)
    common = (rng.normal(size=groups or n))[unit]
    y = rng.normal(size=n) + 0.3 * common
    noise = rng.standard_t(8, size=(2, n)) if heavy else rng.normal(size=(2, n))
    first, second = 0.8 * y + 0.3 * common + 0.5 * noise
    return y, first, second


def of_regression(images: int, heavy: bool, groups: int, repetitions: int) -> list[Share]:
    rng = np.random.default_rng([images, groups])
    y, first, second = predicted(heavy, groups and MANY // (images // groups), rng, MANY)
    unit = np.arange(images) * groups // images if groups else None
    shares = []
    counts = {name: (Counted(), Counted()) for name in regression.METRICS}
    truth = {
        name: (metric.value(y, first), metric.value(y, first) - metric.value(y, second))
        for name, metric in regression.METRICS.items()
    }
    for _ in range(repetitions):
        y, first, second = predicted(heavy, groups, rng, images)
        for name, metric in regression.METRICS.items():
            alone, apart = counts[name]
            alone.add(regression.estimate(y, first, metric, group=unit, level=LEVEL), truth[name][0])
            apart.add(regression.difference(y, first, second, metric, group=unit, level=LEVEL), truth[name][1])
    for name, (alone, apart) in counts.items():
        shares += alone.shares(f"{name} {truth[name][0]:.2f}", 0.94, 0.96)
        shares += apart.shares(f"{name}, difference", 0.94, 0.96)
    return shares


def with_traits(traits: int, groups: int, rng: np.random.Generator, n: int) -> list[Traits]:
    """Traits that go together, of 10% to 50% of images, and two models' decisions, half in common."""
    unit = np.arange(n) * groups // n if groups else np.arange(n)
    middle = np.linspace(-1.3, 0.0, traits) * np.sqrt(2)
    shown = middle + rng.normal(size=(n, 1)) + rng.normal(size=(n, traits))
    common = rng.normal(size=(groups or n, traits))[unit]
    found = []
    for _ in range(2):
        decisions = shown + 0.6 * common + 0.6 * rng.normal(size=shown.shape)
        found.append(Traits(shown > 0, decisions > 0, decisions, unit if groups else None))
    return found


F1S = ("macro_f1", "macro_f1@biobench")


def of_traits(images: int, traits: int, groups: int, names: tuple[str, ...], repetitions: int) -> list[Share]:
    draw: Callable[[np.random.Generator], list[Traits]] = partial(with_traits, traits, groups, n=images)
    rng = np.random.default_rng([images, traits])
    metrics = {name: multilabel.METRICS[name] for name in names or multilabel.METRICS}
    drawn = [draw(rng) for _ in range(min(TRUTH, repetitions))]
    truth = {name: np.mean([[m.value(p) for p in pair] for pair in drawn], axis=0) for name, m in metrics.items()}
    counts = {name: (Counted(), Counted()) for name in metrics}
    for _ in range(repetitions):
        first, second = draw(rng)
        for name, metric in metrics.items():
            counts[name][0].add(multilabel.estimate(first, metric, LEVEL), float(truth[name][0]))
            apart = float(truth[name][0] - truth[name][1])
            counts[name][1].add(multilabel.difference(first, second, metric, LEVEL), apart)
    shares = []
    for name, (alone, apart) in counts.items():
        shares += alone.shares(f"{name} {truth[name][0]:.2f}", 0.94, 0.96)
        shares += apart.shares(f"{name}, difference", 0.94, 0.96)
    return shares


DIM, FOLDS, FURTHER = 20, 5, 50_000  # further images of which the truth of traits is


def of_folds(images: int, traits: int, signal: float, repetitions: int) -> list[Share]:
    """Ridge regression of normal features in folds; the truth, another in each repetition, is the mean over the fitted
    models of each one's value on further images."""
    counts, total = {name: Counted() for name in multilabel.METRICS}, dict.fromkeys(multilabel.METRICS, 0.0)
    for seed in range(repetitions):
        rng = np.random.default_rng([images, traits, seed])
        weights = signal * rng.normal(size=(DIM, traits)) / np.sqrt(DIM)
        x = rng.normal(size=(images + FURTHER, DIM)).astype(np.float32)
        y = x @ weights + rng.normal(size=(len(x), traits)) > np.linspace(0, 1, traits)
        fold, rest = rng.permutation(images) % FOLDS, slice(images, None)
        decisions, of_each = np.empty((images, traits)), []
        for k in range(FOLDS):
            mine = np.flatnonzero(fold == k)
            model = make("ridge", "traits").fit(x[:images][fold != k], y[:images][fold != k].astype(np.float64))
            decisions[mine] = model.decision_function(x[mine])
            answers = model.decision_function(x[rest])
            of_each.append(Traits(y[rest], answers > 0, answers))
        for name, metric in multilabel.METRICS.items():
            truth = float(np.mean([metric.value(each) for each in of_each]))
            total[name] += truth / repetitions
            found = multilabel.estimate(Traits(y[:images], decisions > 0, decisions, fold=fold), metric, LEVEL)
            counts[name].add(found, truth)
    return [share for name in counts for share in counts[name].shares(f"{name} {total[name]:.2f}", 0.94, 0.96)]


def worlds() -> list[World]:
    return [
        *(World(f"5 folds, 5 traits of {images} images", partial(of_folds, images, 5, 1.5)) for images in (200, 500)),
        World("regression, 50 images", partial(of_regression, 50, False, 0)),
        World("regression, 300 images", partial(of_regression, 300, False, 0)),
        World("regression, 300 images, large errors", partial(of_regression, 300, True, 0)),
        World("regression, 20 groups of 10", partial(of_regression, 200, False, 20)),
        World("traits, 9 of 200 images", partial(of_traits, 200, 9, 0, ())),
        World("traits, 9 of 1,000 images", partial(of_traits, 1000, 9, 0, ())),
        World("traits, 9 of 20 groups of 20", partial(of_traits, 400, 9, 20, ())),
        *(
            World(f"F1 of traits, 9 of {images:,} images", partial(of_traits, images, 9, 0, F1S))
            for images in (100, 200, 1000, 5000)
        ),
        World("F1 of traits, 9 of 20 groups of 20", partial(of_traits, 400, 9, 20, F1S)),
    ]
