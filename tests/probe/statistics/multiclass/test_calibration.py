"""Temperatures and reliability bins."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from bb.probe.statistics.multiclass.calibration import calibrated, probabilities, reliability, temperature
from bb.probe.statistics.multiclass.metrics import METRICS
from bb.probe.statistics.multiclass.predictions import Predictions
from bb.store.errors import BBError

K, N = 5, 600


@pytest.fixture(scope="module")
def decisions():
    rng = np.random.default_rng(0)
    y = rng.integers(0, K, N)
    z = rng.normal(size=(N, K))
    z[np.arange(N), y] += 1.5
    return 6 * z, y  # calibrated at 1.5 z


def test_the_temperature_has_the_least_loss(decisions):
    z, y = decisions
    found = temperature(z, y)
    best = minimize_scalar(
        lambda t: log_loss(y, probabilities(z, np.exp(t)), labels=range(K)),
        bounds=(-3, 5),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert found == pytest.approx(np.exp(best.x), rel=1e-4)
    assert found == pytest.approx(4, rel=0.15)


def test_logarithms_of_probabilities_are_as_good(decisions):
    z, y = decisions
    assert temperature(np.log(probabilities(z, 1.0)), y) == pytest.approx(temperature(z, y), rel=1e-6)


def test_the_temperature_has_ends():
    z = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert temperature(z, np.array([0, 1])) == 1e-3
    assert temperature(z, np.array([1, 0])) == 1e3


def test_a_fold_takes_the_others_temperature(decisions):
    z, y = decisions
    fold = np.arange(N) % 3
    found = calibrated(z, y, fold)
    for k in range(3):
        others = fold != k
        assert np.allclose(found[fold == k], probabilities(z[~others], temperature(z[others], y[others])))
    before = Predictions(y, z.argmax(axis=1), K, probabilities(z, 1.0))
    after = Predictions(y, z.argmax(axis=1), K, found)
    assert METRICS["ece"].value(after) < METRICS["ece"].value(before) / 3


def test_a_class_that_was_not_trained_on_changes_no_temperature(decisions):
    """The only image of a class is tested by a classifier that does not have it: -inf there, in the others finite."""
    z, y = decisions
    fold = np.arange(N) % 3
    more = np.where(fold == 0, -np.inf, -500.0)
    wide, lone = np.column_stack([z, more]), np.append(z[0], -np.inf)
    z_more, y_more, fold_more = np.vstack([wide, lone]), np.append(y, K), np.append(fold, 0)
    found, alone = calibrated(z_more, y_more, fold_more), calibrated(z, y, fold)
    assert np.allclose(found[:N, :K], alone, atol=1e-3) and (found[fold_more == 0, K] == 0).all()
    assert temperature(np.full((2, 2), [0.0, -np.inf]), np.array([1, 1])) == 1


def test_one_fold_is_refused(decisions):
    z, y = decisions
    with pytest.raises(BBError) as caught:
        calibrated(z, y, np.zeros(N, int))
    assert str(caught.value) == ("one fold leaves no other images to fit the temperature on: give two folds or more.")


@pytest.mark.parametrize("adaptive, metric", [(False, "ece"), (True, "ece_adaptive")])
def test_bins_add_up_to_the_ece(decisions, adaptive, metric):
    z, y = decisions
    p = Predictions(y, z.argmax(axis=1), K, probabilities(z, 1.5))
    bins = reliability(p, adaptive=adaptive)
    assert sum(b.n for b in bins) == N
    assert sum(b.n / N * abs(b.confidence - b.accuracy) for b in bins) == pytest.approx(METRICS[metric].value(p))
    for b in bins:
        assert b.low <= b.confidence <= b.high
        assert (b.interval is None) == (b.n < 8)
        assert b.interval is None or b.interval[0] <= b.accuracy <= b.interval[1]
