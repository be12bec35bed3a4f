"""The suite that every estimator passes, bb's own and those of plug-ins: `check(make, target)` for each target."""

import json

import numpy as np
import pytest

from bb.store.errors import BBError, Malformed

LABELS = np.array([0, 3, 4, 9])  # gaps between them


def data(target, n=60, m=31, d=12, seed=0):
    """Features of blobs that overlap, and targets of a kind: (x, y, x_test)."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n + m) % len(LABELS)
    means = 1.5 * rng.normal(size=(len(LABELS), d))
    x = (means[codes] + rng.normal(size=(n + m, d))).astype(np.float32)
    traits = (x[:, :3] + rng.normal(size=(n + m, 3)) > 0).astype(np.float64)
    traits[:5, 1] = np.nan
    y = {"classes": LABELS[codes], "traits": traits, "values": x @ rng.normal(size=d) + rng.normal(size=n + m)}[target]
    return x[:n], y[:n], x[n:]


def check(make, target, data=data):
    """Runs the suite on estimators that `make` makes; `data` gives features of other axes, such as `token_data`."""
    for test in (shapes, repeats, order_of_rows, shift_of_labels, few_rows, refusals, written):
        test(make, target, data)


def token_data(target, **sizes):
    """As `data`, with five tokens an image: (n, 5, d)."""
    x, y, x_test = data(target, **sizes)
    rng = np.random.default_rng(7)
    more = [(part[:, None] + 0.3 * rng.normal(size=(len(part), 5, 1))).astype(np.float32) for part in (x, x_test)]
    return more[0], y, more[1]


def shapes(make, target, data):
    x, y, x_test = data(target)
    estimator = make()
    assert estimator.fit(x, y) is estimator
    predicted = np.asarray(estimator.predict(x_test))
    assert predicted.shape == (len(x_test), *y.shape[1:])
    if target == "classes":
        np.testing.assert_array_equal(estimator.classes_, LABELS)
        assert set(predicted) <= set(LABELS) and (predicted == data(target)[1][0]).any()
    if target == "traits":
        assert set(np.unique(predicted)) <= {0, 1}
    if not hasattr(estimator, "decision_function"):
        return
    decision = estimator.decision_function(x_test)
    width = {"classes": len(LABELS), "traits": y.shape[-1], "values": 1}[target]
    assert decision.shape == (len(x_test), width) and decision.dtype == np.float64 and np.isfinite(decision).all()
    expected = {
        "classes": lambda: estimator.classes_[decision.argmax(axis=1)],
        "traits": lambda: (decision > 0).astype(int),
        "values": lambda: decision[:, 0],
    }[target]()
    np.testing.assert_array_equal(predicted, expected)
    if hasattr(estimator, "predict_proba"):
        p = estimator.predict_proba(x_test)
        assert p.shape == decision.shape and (p >= 0).all() and (p <= 1).all()
        if target == "classes":
            np.testing.assert_allclose(p.sum(axis=1), 1)
            np.testing.assert_array_equal(p.argmax(axis=1), decision.argmax(axis=1))
    for record in (estimator.parameters_, estimator.parameters()):
        assert json.loads(json.dumps(record)) == record


def repeats(make, target, data):
    """The same rows give the same bits, float16 counts as the float32 of the same numbers, and refitting forgets."""
    x, y, x_test = data(target)
    half = x.astype(np.float16)
    one, other = make().fit(half, y), make().fit(*data(target, seed=1)[:2]).fit(half.astype(np.float32), y)
    np.testing.assert_array_equal(one.predict(x_test), other.predict(x_test))
    if hasattr(one, "decision_function"):
        np.testing.assert_array_equal(one.decision_function(x_test), other.decision_function(x_test))


def order_of_rows(make, target, data):
    """Test rows are answered one by one, whatever stands beside them."""
    x, y, x_test = data(target)
    fitted, order = make().fit(x, y), np.random.default_rng(0).permutation(len(x_test))
    np.testing.assert_allclose(fitted.predict(x_test[order]), np.asarray(fitted.predict(x_test))[order], atol=1e-6)
    np.testing.assert_allclose(fitted.predict(x_test[:1]), np.asarray(fitted.predict(x_test))[:1], atol=1e-6)


def shift_of_labels(make, target, data):
    """Names of classes carry no meaning."""
    if target == "classes":
        x, y, x_test = data(target)
        np.testing.assert_array_equal(make().fit(x, y + 7).predict(x_test), make().fit(x, y).predict(x_test) + 7)


def few_rows(make, target, data):
    """One row for each of two classes, and fewer rows than features."""
    x, y, x_test = data(target)
    rows = {"classes": [0, 1], "traits": slice(12), "values": slice(4)}[target]
    predicted = np.asarray(make().fit(x[rows], y[rows]).predict(x_test))
    assert predicted.shape == (len(x_test), *y.shape[1:])
    if target == "classes":
        assert set(predicted) <= {LABELS[0], LABELS[1]}


def refusals(make, target, data):
    """Of bb's own estimators; a plug-in's says what its library says."""
    x, y, x_test = data(target)
    if not hasattr(make(), "parameters"):
        return
    broken = x.copy()
    broken[3, 2] = np.nan
    with pytest.raises(BBError, match=r"^1 of 60 images have NaN or infinite features: extract them again"):
        make().fit(broken, y)
    with pytest.raises(
        BBError, match=r"^images have 11 features, but the classifier was fitted on 12: use one feature sp"
    ):
        make().fit(x, y).predict(x_test[..., :11])
    with pytest.raises(BBError, match="^60 rows of features but 59 "):
        make().fit(x, y[:59])
    if target == "classes":
        with pytest.raises(BBError, match="^the training images are all of class 3; a classifier needs two classes"):
            make().fit(x, np.full(60, 3))
    if target == "traits":
        with pytest.raises(BBError, match="^trait 1 has no image with 0 or none with 1 to train on: leave it out"):
            make().fit(x, y * [1, 0, 1])
        with pytest.raises(BBError, match="^a trait has other values than 0, 1 and unknown: fit values with ridge"):
            make().fit(x, y * 2)
    if target == "values":
        with pytest.raises(BBError, match="^1 of 60 values to train on are NaN or infinite: leave these images out"):
            make().fit(x, np.where(np.arange(60) == 4, np.nan, y))


def written(make, target, data):
    """What a store keeps of one fitted to classes makes a new one the same to the bit, and other arrays are refused."""
    if target != "classes" or not hasattr(make(), "arrays"):
        return
    x, y, x_test = data(target)
    fitted = make().fit(x, y)
    arrays = fitted.arrays()
    assert all(a.dtype in (np.float32, np.float64, np.int64) and a.ndim in (1, 2) for a in arrays.values())
    again = make().with_arrays(arrays)
    np.testing.assert_array_equal(again.decision_function(x_test), fitted.decision_function(x_test))
    np.testing.assert_array_equal(again.predict(x_test), fitted.predict(x_test))
    for other in ({}, {**arrays, "more": y}, {**arrays, "classes": y}, {**arrays, "classes": arrays["classes"][::-1]}):
        with pytest.raises(Malformed):
            make().with_arrays(other)
