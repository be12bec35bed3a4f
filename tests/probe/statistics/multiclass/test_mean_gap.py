"""Intervals of a sum of gaps: near that of calibrated classifiers, and far from it."""

import numpy as np
import pytest
from scipy.stats import norm

from bb.probe.statistics.multiclass.mean_gap import _accepted, mean_gap_bounds

ERRORS = np.full(12, 0.002)


def test_far_from_calibrated_the_bounds_are_those_of_a_normal_sum():
    low, high = mean_gap_bounds(0.2, ERRORS, 0.95)
    half = 1.96 * 0.002 * np.sqrt(12)
    assert (low, high) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-3)
    wider = mean_gap_bounds(0.2, ERRORS, 0.95, widening=1.21)
    assert np.diff(wider)[0] == pytest.approx(1.1 * (high - low), rel=0.02)


@pytest.mark.parametrize("error", [1e-4, 1e-6])
def test_many_images_far_from_calibrated(error):
    """The grid is as fine as their errors are small."""
    half = 1.96 * error * np.sqrt(12)
    assert mean_gap_bounds(0.5, np.full(12, error), 0.95) == pytest.approx((0.5 - half, 0.5 + half), abs=half / 20)


def test_what_a_calibrated_classifier_has_begins_at_zero_and_holds_the_value():
    calibrated = 12 * 0.002 * np.sqrt(2 / np.pi)
    deviation = 0.002 * np.sqrt(12 * (1 - 2 / np.pi))
    for value in (0.5 * calibrated, calibrated, calibrated + 1.6 * deviation):
        low, high = mean_gap_bounds(value, ERRORS, 0.95)
        assert low == 0 and value <= high
    low, _ = mean_gap_bounds(calibrated + 1.7 * deviation, ERRORS, 0.95)
    assert calibrated <= low
    assert mean_gap_bounds(0.0, np.zeros(3), 0.95) == (0.0, 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_the_accepted_have_the_level_wherever_the_mean_is(seed):
    d = np.append(0.0, np.random.default_rng(seed).uniform(0, 4, 50))
    low, high = _accepted(d, 0.95)
    np.testing.assert_allclose(norm.cdf(high) - norm.cdf(low), 0.95, atol=1e-9)
    assert high[0] == pytest.approx(1.645, abs=1e-3) and (high[d > 1.96] == pytest.approx(1.96, abs=1e-3))
    assert (np.diff(high[np.argsort(d)]) >= -1e-9).all()


@pytest.mark.parametrize("gap", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_95_percent_of_samples_hold_their_mean(gap):
    """Gaps of `gap` standard errors in every bin; ±2 standard errors of the share over 2,000 samples, and rounding."""
    rng, errors = np.random.default_rng(0), np.linspace(0.001, 0.004, 12)
    sums = np.abs(errors * (gap + rng.normal(size=(2000, 12)))).sum(axis=1)
    mean = np.abs(errors * (gap + rng.normal(size=(200_000, 12)))).sum(axis=1).mean()
    held = np.mean([low <= mean <= high for low, high in (mean_gap_bounds(each, errors, 0.95) for each in sums)])
    assert 0.935 <= held <= 0.965
