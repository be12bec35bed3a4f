"""Variances against an independent derivation, and what intervals claim. scripts/bench/coverage.py simulates worlds."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bb.probe.statistics.multiclass.intervals import difference, estimate, spread
from bb.probe.statistics.multiclass.metrics import METRICS
from bb.probe.statistics.multiclass.predictions import Predictions
from bb.store.errors import BBError

K, N = 6, 200


def drawn(seed, n=N, apart=1.5, heat=0.5, **more):
    rng = np.random.default_rng(seed)
    y = rng.choice(K, n, p=np.array([8, 5, 3, 2, 1, 1]) / 20)
    z = rng.normal(size=(n, K))
    z[np.arange(n), y] += apart
    given = np.exp(z / heat) / np.exp(z / heat).sum(axis=1, keepdims=True)
    return Predictions(y, given.argmax(axis=1), K, given, **more)


def without(p, i):
    keep = np.arange(len(p)) != i
    return Predictions(p.y_true[keep], p.y_pred[keep], K, p.probabilities[keep])


@pytest.mark.parametrize("name", METRICS)
def test_the_variance_is_the_jackknifes(name):
    """Leaving each image out: in strata for given class counts. Some are not as smooth as others."""
    p, metric = drawn(0, heat=0.1 if name.startswith("ece") else 0.5), METRICS[name]
    within = 0.15 if name.startswith(("ece", "average")) else 0.05
    value = metric.value(p)
    change = np.array([value - metric.value(without(p, i)) for i in range(N)])
    given = metric.sampled == "counts"
    stratum = p.y_true if given else np.zeros(N, int)
    variance = sum(
        (len(c) - 1) / len(c) * ((c - c.mean()) ** 2).sum() for k in range(K) if len(c := change[stratum == k])
    )
    found = spread(metric.contributions(p), None, stratum if given else None)
    assert np.sqrt(found.variance / variance) == pytest.approx(1, abs=within)


def test_an_accuracys_bounds_are_agresti_and_coulls():
    p = Predictions(np.zeros(20, int), np.r_[np.zeros(15, int), np.ones(5, int)], 2)
    z = 1.959963984540054
    middle = (15 + z**2 / 2) / (20 + z**2)
    half = z * np.sqrt(middle * (1 - middle) / (20 + z**2))
    assert estimate(p, METRICS["accuracy"]).interval == pytest.approx((middle - half, middle + half))


def test_nothing_wrong_is_not_certain():
    p = Predictions(np.repeat(np.arange(4), 5), np.repeat(np.arange(4), 5), 4)
    for name in ("accuracy", "balanced_accuracy", "macro_f1@wilds", "macro_f1@biobench"):
        low, high = estimate(p, METRICS[name]).interval
        assert (round(low, 2), high) == (0.81, 1.0), name  # of 20 answers


def test_classes_of_one_image_take_the_part_of_the_variance_within_classes_of_few():
    """Recalls of 0 and 1: all classes of two are wholly right or wrong, so nothing varies within classes."""
    y = np.r_[np.arange(20), np.repeat(np.arange(20, 30), 2)]
    right = np.r_[np.arange(20) % 2 == 0, np.repeat(np.arange(10) % 2 == 0, 2)]
    p = Predictions(y, np.where(right, y, (y + 1) % 30), 30)
    terms = METRICS["balanced_accuracy"].contributions(p)
    assert spread(terms, None, y, True).variance == pytest.approx(0)
    # One of each class of two is right: all varies within classes.
    right[20:] = np.arange(20) % 2 == 0
    p = Predictions(y, np.where(right, y, (y + 1) % 30), 30)
    found = spread(METRICS["balanced_accuracy"].contributions(p), None, y, True).variance
    of_two = 10 * 2 * (1 / 2) / (2 * 30) ** 2
    of_one = 20 * (1 / 4) * (20 / 19) / 30**2  # the part is 1 at most
    assert found == pytest.approx(of_two + of_one)


def test_differences_keep_the_pairing():
    """Of scores 0 and 1: the variance of the differences, and two more answers."""
    first, second = drawn(0), drawn(0, apart=1.2)
    second = Predictions(first.y_true, second.y_pred, K, second.probabilities)
    apart = first.hit.astype(float) - second.hit
    found = difference(first, second, METRICS["accuracy"])
    assert found.value == pytest.approx(apart.mean())
    variance = apart.var(ddof=1) / N
    fourth = (((apart - apart.mean()) * np.sqrt(N / (N - 1)) / N) ** 4).sum()
    half = 1.959963984540054 * np.sqrt(variance + 2 * fourth / variance)
    assert found.interval == pytest.approx((apart.mean() - half, apart.mean() + half))
    low, high = difference(first, first, METRICS["accuracy"]).interval
    assert low < 0 < high


def test_groups_are_the_units():
    """Equal groups: s²/G of their means, Student's t with G - 1."""
    group = np.repeat(np.arange(10), 20)
    p = drawn(3, group=group)
    found = spread(METRICS["nll"].contributions(p), group)
    means = (-np.log(p.of_true)).reshape(10, 20).mean(axis=1)
    assert found.variance == pytest.approx(means.var(ddof=1) / 10)
    assert found.freedom == pytest.approx(9)


def test_auroc_is_delongs():
    """Of one class among two: the variance by DeLong's placements."""
    rng = np.random.default_rng(1)
    y = np.r_[np.zeros(30, int), np.ones(50, int)]
    c = 1 / (1 + np.exp(-rng.normal(y)))
    p = Predictions(y, (c > 0.5).astype(int), 2, np.stack([1 - c, c], axis=1))
    above = (c[y == 1][:, None] > c[y == 0]).astype(float)
    variance = above.mean(axis=1).var(ddof=1) / 50 + above.mean(axis=0).var(ddof=1) / 30
    assert METRICS["auroc"].value(p) == pytest.approx(roc_auc_score(y, c))
    assert spread(METRICS["auroc"].contributions(p), None, y).variance == pytest.approx(variance)


def test_claims():
    p = drawn(0)
    assert estimate(p, METRICS["accuracy"]).claim == "this classifier, on further images"
    assert estimate(p, METRICS["macro_f1@wilds"]).claim == (
        "this classifier, on further images with these class counts"
    )
    folds = drawn(0, fold=np.arange(N) % 5, group=np.arange(N) % 50)
    assert estimate(folds, METRICS["accuracy"]).claim == (
        "the mean over these 5 fitted classifiers, on further groups of images"
    )


def reason(p, name):
    found = estimate(p, METRICS[name])
    assert found.interval is None
    return found.reason


def test_reasons():
    assert reason(drawn(0, group=np.arange(N) % 4), "accuracy") == (
        "4 groups are too few: an interval of accuracy needs 5"
    )
    assert reason(drawn(0, group=np.arange(N) % 5), "nll") == "5 groups are too few: an interval of nll needs 20"
    assert reason(drawn(0, group=np.maximum(np.arange(N) - 180, 0)), "accuracy") == (
        "a few of the 20 groups have most of the weight: an interval needs more even ones"
    )
    assert reason(drawn(0, n=270, fold=np.arange(270) % 5), "balanced_accuracy") == (
        "45 images a class are too few: over folds, an interval of balanced_accuracy needs 50"
    )
    assert reason(drawn(0, n=100), "auroc") == "8 images of a class are too few: an interval of auroc needs 10"
    few = Predictions(np.array([0, 1]), np.array([0, 1]), 5, np.full((2, 5), 0.2))
    assert reason(few, "top_5") == "top_5 has no value here"
    sure = drawn(0)
    wrong = np.flatnonzero(~sure.hit)[:4]
    given = np.eye(sure.classes)[sure.y_true] * 0.8 + 0.2 / sure.classes
    given[wrong] = given[wrong, ::-1]
    sure = replace(sure, y_pred=given.argmax(axis=1), probabilities=given)
    binned = estimate(sure, replace(METRICS["ece"], fewest_images=1))
    assert binned.interval is None and binned.reason.startswith("4 wrong answers are too few: an interval of ece")
    for name in ("nll", "brier", "aurc"):
        assert reason(sure, name) == f"4 wrong answers are too few: an interval of {name} needs 5"
        apart = difference(sure, replace(sure, probabilities=given**2 / (given**2).sum(axis=1)[:, None]), METRICS[name])
        assert apart.interval is None and apart.reason.startswith("4 wrong answers are too few")
        assert difference(sure, drawn(0), METRICS[name]).interval is not None  # the other one's losses decide
    assert reason(drawn(0), "ece") == "200 images are too few: an interval of ece needs 2000"
    groups = np.arange(N) % 20
    assert reason(drawn(0, group=groups), "ece_adaptive") == (
        "intervals of ece_adaptive over groups were not shown to hold"
    )


def test_other_images_are_refused():
    with pytest.raises(BBError) as caught:
        difference(drawn(0), drawn(1), METRICS["accuracy"])
    assert str(caught.value) == (
        "the classifiers were not tested on the same images: compare predictions of the same rows."
    )


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1@wilds"])
def test_a_perfect_score_is_not_certain_whatever_its_sum_is_rounded_to(metric, grouped):
    for n in range(20, 200):  # the sum of n shares of 1/n misses 1 in its last bit for a quarter of them
        y = np.arange(n) % 4
        found = estimate(Predictions(y, y, 4, group=np.arange(n) // 3 if grouped else None), METRICS[metric])
        assert found.value == pytest.approx(1)
        assert found.interval is None or (found.interval[0] < 1 - 1.5 / n and found.interval[1] >= found.value)
