"""Where most probabilities are 0 the ranking metrics are those over all images, to the bit."""

import numpy as np
import pytest

from bb.probe.statistics.multiclass import contributions, sparse
from bb.probe.statistics.multiclass.metrics import METRICS
from bb.probe.statistics.multiclass.predictions import Predictions


def votes(n, classes, k, seed=0):
    """Shares of k votes, half of them for the true class in most images; many are equal, some classes have none."""
    rng = np.random.default_rng(seed)
    y, given = rng.integers(0, classes, n), np.zeros((n, classes))
    for i in range(n):
        named = rng.integers(0, max(classes - 2, 1), k)
        named[: k // 2] = y[i] if rng.random() < 0.8 else named[0]
        np.add.at(given[i], named, np.round(rng.random(k), 1) + 0.1)
    return y, given / given.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("n", "classes", "k"), [(300, 30, 5), (40, 3, 1), (500, 90, 20)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_as_over_all_images(n, classes, k, dtype, monkeypatch):
    y, given = votes(n, classes, k)
    found = []
    for most in (1.0, -1.0):
        monkeypatch.setattr(sparse, "MOST", most)
        p = Predictions(y, given.argmax(axis=1), classes, given.astype(dtype))
        assert (p.columns is None) == (most < 0)
        values = [METRICS[name].value(p) for name in ("average_precision", "auroc")]
        found.append((*values, contributions.auroc(p), contributions.average_precision(p)))
    for sparsely, densely in zip(*found, strict=True):
        np.testing.assert_array_equal(sparsely, densely)


def test_few_zeros_are_not_worth_it():
    y, given = votes(50, 4, 30)
    assert Predictions(y, given.argmax(axis=1), 4, given).columns is None
