"""The largest of many linear functions is the one that float64 products of all have, whatever float32 rounds."""

import numpy as np
import pytest

from bb.probe.classifiers.multiclass import largest as module
from bb.probe.classifiers.multiclass.largest import largest
from bb.probe.classifiers.multiclass.ridge_fixed import FixedRidge
from bb.probe.classifiers.multiclass.simpleshot import SimpleShot


@pytest.mark.parametrize("k", [5, 64, 900])
@pytest.mark.parametrize("case", ["plain", "nearly equal", "far from 0", "beyond float32"])
def test_as_all_products(k, case, monkeypatch):
    rng = np.random.default_rng(k)
    x, coef, intercept = rng.normal(size=(300, 24)).astype(np.float32), rng.normal(size=(k, 24)), rng.normal(size=k)
    if case == "nearly equal":  # less apart than float32 tells
        coef, intercept = coef[:1] + 1e-9 * coef, intercept * 1e-9
    if case == "far from 0":
        x, intercept = x + np.float32(1000), intercept + 1e6
    if case == "beyond float32":
        x[::2], coef = x[::2] * np.float32(1e37), coef * 100
    monkeypatch.setattr(module, "AT_ONCE", 100 * k)  # some blocks
    place, value = largest(x, coef, intercept)
    products = x.astype(np.float64) @ coef.T + intercept
    np.testing.assert_array_equal(place, products.argmax(axis=1))
    np.testing.assert_allclose(value, products.max(axis=1), rtol=1e-12)


def test_of_equal_ones_the_first_is_the_largest():
    rng = np.random.default_rng(0)
    coef = np.repeat(rng.normal(size=(50, 8)), 2, axis=0)
    place, _ = largest(rng.normal(size=(200, 8)).astype(np.float32), coef, np.zeros(100))
    assert set(place % 2) == {0}


@pytest.mark.parametrize("estimator", [SimpleShot(), SimpleShot("UN"), SimpleShot("L2N"), FixedRidge()])
@pytest.mark.parametrize("classes", [7, 150])
def test_the_best_is_what_decisions_say(estimator, classes):
    rng = np.random.default_rng(1)
    y = np.repeat(2 * np.arange(classes), 4)
    x = (rng.normal(size=(2 * classes, 16))[y] + rng.normal(size=(len(y), 16)) + 3).astype(np.float32)
    estimator.fit(x, y)
    place, value = estimator.best(x)
    decision = estimator.decision_function(x)
    np.testing.assert_array_equal(place, decision.argmax(axis=1))
    np.testing.assert_array_equal(estimator.classes_[place], estimator.predict(x))
    np.testing.assert_allclose(value, decision.max(axis=1), rtol=1e-9, atol=1e-12)
