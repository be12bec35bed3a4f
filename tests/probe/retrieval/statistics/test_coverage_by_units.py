"""Intervals by units: their promises in simulated worlds, and known cases. scripts/bench/coverage.py simulates more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest
from scipy.stats import t as student

from bb.probe.retrieval.statistics.clustered import Clustered

QUERIES = np.arange(40)


def units_of(seed, labels=30, each=6, shift=0.0):
    """Two models' scores; labels differ, images within a label hardly."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(labels), each)
    hardness = rng.beta(2, 2, size=labels)[label]
    scores = np.clip(hardness + 0.05 * rng.normal(size=(2, len(label))), 0, 1)
    scores[1] = np.clip(scores[1] + shift, 0, 1)
    return Clustered.of(label, scores)


def test_means_and_spread_are_those_of_labels():
    found = units_of(0)
    assert found.units == 30 and found.count.tolist() == [6.0] * 30
    by_label = found.total / 6
    np.testing.assert_allclose(found.mean, by_label.mean(axis=1))
    variance, of_scores = found.variance(np.array([1.0, 0.0]))
    assert variance == of_scores == pytest.approx(by_label[0].var(ddof=1) / 30)
    low, high = found.interval(0)
    half = student.ppf(0.975, 29) * np.sqrt(variance)
    assert (high - low) / 2 == pytest.approx(half, rel=0.1) and low < found.mean[0] < high


@pytest.mark.e2e
def test_what_units_take_from_each_other_widens():
    """Of pairs of units that take each other's places, scores show half of the variance and the jackknife twice it."""
    rng = np.random.default_rng(0)
    labels, naive, both, means = 30, [], [], []
    for _ in range(3000):
        pair = np.triu(0.02 * rng.normal(size=(labels, labels)), 1)
        lost = (pair + pair.T).sum(axis=1)  # each of the two loses the same
        found = Clustered.of(np.arange(labels), (0.5 - lost)[None], lost[None])
        variance, of_scores = found.variance(np.ones(1))
        naive.append(of_scores)
        both.append(variance)
        means.append(found.mean[0])
    assert np.mean(naive) / np.var(means) == pytest.approx(0.5, abs=0.06)
    assert np.mean(both) / np.var(means) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("right, queries", [(20, 20), (19, 20), (40, 40), (0, 20), (14, 20)])
def test_intervals_of_right_or_wrong_answers_contain_wilsons_and_are_little_wider(right, queries):
    scores = (np.arange(queries) < right).astype(float)
    low, high = Clustered.of(np.arange(queries), scores[None]).interval(0)
    wilson = binomtest(right, queries).proportion_ci(method="wilson")
    assert low < high and low <= right / queries <= high
    assert (low, high) == pytest.approx((wilson.low, wilson.high), abs=0.07)
    assert low <= wilson.low + 0.005 and high >= wilson.high - 0.005


def test_without_a_single_miss_units_count_and_not_queries():
    """Ten labels of 100 images, all found: ten labels say as much of further labels as ten images do."""
    low, high = Clustered.of(np.repeat(np.arange(10), 100), np.ones((1, 1000))).interval(0)
    one, _ = Clustered.of(np.arange(10), np.ones((1, 10))).interval(0)
    assert high == 1 and low == pytest.approx(one) and 0.55 < low < 0.65


def test_a_metric_that_can_not_reach_1_ends_where_it_can():
    """precision@5 where four images are to be found is 0.8 at most."""
    scores = np.full((1, 40), 0.8)
    low, high = Clustered.of(QUERIES, scores).interval(0)
    assert high == pytest.approx(0.8) and 0.7 < low < 0.76


def test_a_difference_is_told_from_noise_and_its_p_agrees():
    found = units_of(1, shift=0.1)
    low, high = found.difference(1, 0)
    assert 0.05 < low < found.mean[1] - found.mean[0] < high < 0.15 and found.p(1, 0) < 1e-6
    assert found.difference(0, 1) == pytest.approx((-high, -low))
    for seed in range(30):
        equal = units_of(seed)
        bounds = equal.difference(1, 0)
        assert (bounds.low <= 0 <= bounds.high) == (equal.p(1, 0) >= 0.05)
        level = 1 - equal.p(1, 0)
        edge = equal.difference(1, 0, level)
        assert min(abs(edge.low), abs(edge.high)) < 1e-6


def test_two_models_without_a_miss_may_differ():
    bounds = Clustered.of(QUERIES, np.ones((2, 40))).difference(1, 0)
    assert bounds.low < -0.05 and bounds.high > 0.05
    assert Clustered.of(QUERIES, np.ones((2, 40))).p(1, 0) == 1


def test_equals_are_seldom_called_different_though_their_images_are_many():
    """Labels favour one model or the other, all of their images alike: 200 images are 20 cases."""
    rng = np.random.default_rng(0)
    label, different = np.repeat(np.arange(20), 10), 0
    for _ in range(200):
        favour = 0.15 * rng.normal(size=(2, 20))[:, label]
        scores = np.clip(0.6 + favour + 0.02 * rng.normal(size=(2, 200)), 0, 1)
        different += Clustered.of(label, scores).p(1, 0) <= 0.05
    assert different <= 20  # 10 are expected


@given(
    arrays(float, (2, 24), elements=st.floats(0, 1)),
    arrays(np.int64, 24, elements=st.integers(0, 8)),
    arrays(float, (2, 24), elements=st.floats(-3, 3)),
)
def test_an_interval_holds_its_estimate_and_is_finite(scores, unit, effect):
    found = Clustered.of(unit, scores, effect)
    if found.units < 2:
        return
    for model in (0, 1):
        low, high = found.interval(model)
        assert 0 <= low <= found.mean[model] + 1e-12 and found.mean[model] <= high + 1e-12 <= 1 + 1e-9
    low, high = found.difference(1, 0)
    assert -1 <= low <= found.mean[1] - found.mean[0] + 1e-9 <= high + 2e-9 and 0 <= found.p(1, 0) <= 1


@pytest.mark.parametrize("units, enough", [(4, False), (5, True)])
def test_few_units_are_refused(units, enough):
    assert Clustered.of(np.repeat(np.arange(units), 100), np.ones((1, 100 * units))).enough is enough
