"""Intervals of means over queries, against the truth."""

import numpy as np
import pytest
from scipy.stats import binom

from bb.probe.retrieval.statistics.clustered import Clustered


def intervals(queries):
    """Of independent queries, of which 0, 1, 2 … are right: bounds (2, queries + 1)."""
    right = np.arange(queries) < np.arange(queries + 1)[:, None]
    found = Clustered.of(np.arange(queries), right.astype(float))
    return np.array([found.interval(model) for model in range(queries + 1)]).T


@pytest.mark.parametrize("queries", [5, 8, 20, 50, 100, 200])
def test_right_or_wrong_answers_hold_their_chance_in_94_of_100_however_near_1_it_is(queries):
    """The coverage is a sum over the number of right answers, so it is known without drawing any."""
    low, high = intervals(queries)
    chances = np.concatenate([np.linspace(0.5, 0.99, 50), 1 - np.geomspace(1e-5, 0.01, 200)])[:, None]
    held = (low <= chances) & (chances <= high)
    coverage = (binom.pmf(np.arange(queries + 1), queries, chances) * held).sum(axis=1)
    assert coverage.min() >= 0.94


def test_no_width_is_0_and_the_mean_is_inside():
    low, high = intervals(20)
    mean = np.arange(21) / 20
    assert (low <= mean).all() and (mean <= high).all() and (high - low > 0.15).all()
    assert (low[0], high[20]) == (0, 1) and low[20] == pytest.approx(0.780, abs=5e-4)
