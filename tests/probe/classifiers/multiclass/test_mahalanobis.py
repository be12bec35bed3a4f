"""The covariance is scikit-learn's LDA's, and distances are those of the definition."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from bb.probe.classifiers.estimator import make
from bb.probe.classifiers.multiclass.mahalanobis import means_and_covariance
from bb.store.errors import Malformed


@pytest.mark.parametrize(("n", "classes"), [(900, 10), (45, 10), (200, 3)])
def test_the_covariance_is_that_of_scikit_learns_lda(n, classes):
    x, y = load_digits(return_X_y=True)  # of which some features are constant
    x, y = x[y < classes][:n], y[y < classes][:n]
    means, covariance = means_and_covariance(x, np.unique(y, return_inverse=True)[1])
    oracle = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", store_covariance=True)
    x = x + 1e-3 * np.random.default_rng(0).normal(size=x.shape)  # else its eigenproblem has no solution
    means, covariance = means_and_covariance(x, np.unique(y, return_inverse=True)[1])
    oracle.fit(x, y)
    np.testing.assert_allclose(means, oracle.means_)
    np.testing.assert_allclose(covariance, oracle.covariance_, atol=1e-9 * np.abs(oracle.covariance_).max())


def test_images_far_from_every_class_are_rejected():
    x, y = load_digits(return_X_y=True)
    x = (x + np.random.default_rng(0).normal(size=x.shape)).astype(np.float32)
    known = y < 7
    train, test = known & (np.arange(len(x)) % 2 == 0), np.arange(len(x)) % 2 == 1
    mine = make("mahalanobis").fit(x[train], y[train])
    oracle = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", store_covariance=True).fit(x[train], y[train])
    inverse = np.linalg.inv(oracle.covariance_)

    def distances(rows):
        difference = rows.astype(np.float64)[:, None] - oracle.means_
        return np.einsum("mkd,de,mke->mk", difference, inverse, difference).min(axis=1)

    np.testing.assert_allclose(mine.distances(x[test]), distances(x[test]), rtol=1e-6)
    limit = np.percentile(distances(x[train]), 95)
    assert mine.parameters_["threshold"] == pytest.approx(limit, rel=1e-6)
    np.testing.assert_array_equal(mine.rejects(x[test]), distances(x[test]) > limit)
    assert mine.rejects(x[test & ~known]).mean() > mine.rejects(x[test & known]).mean() + 0.2
    np.testing.assert_array_equal(mine.predict(x[test]), make("simpleshot").fit(x[train], y[train]).predict(x[test]))


def test_where_nothing_varies_nothing_is_rejected():
    x = np.array([[0.0, 1], [1, 0]], np.float32)
    mine = make("mahalanobis").fit(x, np.array([4, 9]))
    assert mine.parameters_["rank"] == 0 and not mine.rejects(np.array([[50.0, 50]], np.float32)).any()
    again = make("mahalanobis").with_arrays(mine.arrays())
    assert again.parameters_ == mine.parameters_


def test_what_is_kept_rejects_the_same_images_and_has_one_threshold():
    x, y = load_digits(return_X_y=True)
    mine = make("mahalanobis").fit(x[:600], y[:600])
    again = make("mahalanobis").with_arrays(mine.arrays())
    np.testing.assert_array_equal(again.distances(x), mine.distances(x))
    assert again.rejects(x).tolist() == mine.rejects(x).tolist() and again.parameters_ == mine.parameters_
    with pytest.raises(Malformed, match="2 thresholds for one"):
        make("mahalanobis").with_arrays({**mine.arrays(), "threshold": np.ones(2)})
