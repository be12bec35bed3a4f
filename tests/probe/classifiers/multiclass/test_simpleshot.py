"""SimpleShot beside scikit-learn's NearestCentroid on features transformed by hand."""

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize

from bb.probe.classifiers.multiclass.simpleshot import SimpleShot

rng = np.random.default_rng(0)
Y = np.arange(60) % 5
X, X_TEST = (rng.normal(1, 1, (n, 9)).astype(np.float32) + np.eye(9, dtype=np.float32)[Y[:n] * 1] for n in (60, 40))
BY_HAND = {
    "UN": lambda x: x,
    "L2N": normalize,
    "CL2N": lambda x: normalize(x - X.mean(axis=0)),
}


@pytest.mark.parametrize("variant", BY_HAND)
def test_nearest_centroid(variant):
    transform = BY_HAND[variant]
    fitted = SimpleShot(variant=variant).fit(X, Y)
    oracle = NearestCentroid().fit(transform(X), Y)
    np.testing.assert_array_equal(fitted.predict(X_TEST), oracle.predict(transform(X_TEST)))
    distances = np.linalg.norm(transform(X_TEST)[:, None] - oracle.centroids_, axis=2)
    np.testing.assert_allclose(fitted.decision_function(X_TEST), -(distances**2), atol=1e-5)


def test_of_equal_distances_the_lowest_class_wins():
    x = np.array([[1, 0], [-1, 0]], np.float32)
    assert SimpleShot(variant="UN").fit(x, np.array([4, 2])).predict(np.zeros((1, 2), np.float32)) == [2]
