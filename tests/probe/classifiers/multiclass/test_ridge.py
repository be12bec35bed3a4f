"""Ridge beside scikit-learn's."""

from unittest.mock import patch

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Oracle
from sklearn.linear_model import RidgeClassifierCV, RidgeCV

from bb.probe.classifiers.multiclass import ridge
from bb.probe.classifiers.multiclass.ridge import L2, Ridge, RidgePath
from bb.probe.classifiers.multiclass.ridge_fixed import FixedRidge


def data(n, d, k=4, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    return (rng.normal(size=(k, d))[y] + 2 * rng.normal(size=(n, d)) + 3).astype(np.float32), y


SHAPES = pytest.mark.parametrize(("n", "d"), [(120, 20), (40, 90)], ids=["tall", "wide"])


@SHAPES
def test_classes(n, d):
    x, y = data(n, d)
    x_test, _ = data(50, d, seed=1)
    fitted, oracle = Ridge().fit(x, y), RidgeClassifierCV(alphas=L2).fit(x.astype(float), y)
    assert fitted.parameters_["l2"] == oracle.alpha_ and fitted.parameters_["certificate"] < 1e-10
    np.testing.assert_array_equal(fitted.predict(x_test), oracle.predict(x_test))
    np.testing.assert_allclose(fitted.decision_function(x_test), oracle.decision_function(x_test), atol=1e-8)


@SHAPES
def test_values(n, d):
    x, _ = data(n, d)
    y = x @ np.random.default_rng(2).normal(size=d) + np.random.default_rng(3).normal(size=n)
    fitted, oracle = Ridge().fit(x, y), RidgeCV(alphas=L2).fit(x.astype(float), y)
    assert fitted.parameters_["l2"] == oracle.alpha_
    np.testing.assert_allclose(fitted.predict(x), oracle.predict(x), atol=1e-7)


@SHAPES
def test_left_out_errors_are_those_of_refits(n, d):
    x, y = data(n, d)
    y = y[:, None].astype(float)
    for l2, errors in zip((0.1, 10.0), RidgePath(x).errors(y, (0.1, 10.0)), strict=True):
        for row in (0, 7):
            others = np.arange(n) != row
            refit = Oracle(alpha=l2, solver="svd").fit(x[others].astype(float), y[others])
            np.testing.assert_allclose(errors[row], y[row] - refit.predict(x[row : row + 1].astype(float)), atol=1e-8)


def test_traits_leave_out_what_is_unknown():
    x, _ = data(100, 10)
    y = (x[:, :2] + np.random.default_rng(0).normal(size=(100, 2)) > 3).astype(float)
    y[:20, 1] = np.nan
    fitted = Ridge().fit(x, y)
    for trait, known in enumerate((slice(0, 100), slice(20, 100))):
        oracle = RidgeClassifierCV(alphas=L2).fit(x[known].astype(float), y[known, trait])
        assert fitted.parameters_["l2"][trait] == oracle.alpha_
        np.testing.assert_allclose(fitted.decision_function(x)[:, trait], oracle.decision_function(x), atol=1e-8)


def test_a_sample_of_the_rows_chooses_as_all_rows_do():
    """And so do columns in parts."""
    rng, n, k = np.random.default_rng(5), 2_600, 12
    y = np.arange(n) % k
    x = (rng.normal(size=(k, 24))[y] + 3 * rng.normal(size=(n, 24))).astype(np.float32)
    columns, path = np.where(y[:, None] == np.arange(k), 1.0, -1.0), RidgePath(x)
    errors = [float((error**2).mean()) for error in path.errors(columns, L2)]
    kept = ridge._candidates(path, ridge._whole(columns), L2)
    assert len(kept) < len(L2) and L2[int(np.argmin(errors))] in kept
    whole = Ridge().fit(x, y)
    assert whole.parameters_["l2"] == L2[int(np.argmin(errors))]
    with patch.object(ridge, "LARGEST", 5 * n):
        parts = Ridge().fit(x, y)
    assert parts.parameters_["l2"] == whole.parameters_["l2"]
    np.testing.assert_allclose(parts.coef_, whole.coef_, atol=1e-12)


@pytest.mark.parametrize(("n", "d"), [(40, 60), (500, 12)])
def test_a_fixed_penalty_is_big_visions(n, d):
    """Both systems, with a class of one image."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(n, d)).astype(np.float32), np.r_[np.arange(n - 1) % 6, 7]
    mine = FixedRidge().fit(x, y)
    z = x.astype(np.float64)
    z = np.pad((z - z.mean(axis=0)) / (z.std(axis=0) + 1e-5), ((0, 0), (0, 1)), constant_values=100.0)
    weights = np.linalg.solve(z.T @ z + 1024.0 * np.eye(d + 1), z.T @ np.where(y[:, None] == np.unique(y), 1.0, -1.0))
    np.testing.assert_allclose(mine.decision_function(x), z @ weights, atol=1e-9)
    assert mine.parameters_["certificate"] < 1e-9
