"""Learning curves: rising, with intervals that hold the truth, and none where there is too little."""

import numpy as np

from bb.probe.labelling.active_learning.learning_curve import LEAST, learning_curve


def world(n, seed=0, noise=1.5):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    return (rng.normal(size=(4, 16))[y] + noise * rng.normal(size=(n, 16))).astype(np.float32), y.astype(np.int64)


def test_the_curve_rises_and_the_forecast_is_no_lower():
    x, y = world(120)
    curve = learning_curve(x, y, (0, 100))
    assert [point.labels for point in curve.points] == sorted(point.labels for point in curve.points)
    assert curve.points[-1].value > curve.points[0].value
    assert all(0 <= p.low <= p.value <= p.high <= 1 for p in (*curve.points, *curve.forecast))
    assert [point.labels for point in curve.forecast] == [120, 220]
    assert curve.forecast[1].value >= curve.forecast[0].value - 0.02 and curve.tested == 120
    assert curve.points[0].record().keys() == {"labels", "value", "low", "high"}
    again = learning_curve(x, y, (0, 100))
    assert again == curve


def test_it_is_measured_on_the_images_that_are_named():
    x, y = world(100)
    tested = np.arange(100) % 4 == 0
    assert learning_curve(x, y, tested=tested).tested == 25
    assert learning_curve(x, y, tested=np.arange(100) < LEAST - 1).tested == 100  # too few of them


def test_too_little_gives_none():
    x, y = world(100)
    assert learning_curve(x[: LEAST - 1], y[: LEAST - 1]) is None
    assert learning_curve(x, np.zeros(100, np.int64)) is None
