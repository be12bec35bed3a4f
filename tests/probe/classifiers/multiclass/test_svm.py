"""The SVMs of many classes beside scikit-learn's."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC, LinearSVC

from bb.probe.classifiers.estimator import make
from bb.probe.classifiers.multiclass import svm
from bb.probe.classifiers.preprocess import preprocess


def digits(how, shots=None):
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order].astype(np.float32), y[order]
    train = np.arange(900)
    if shots:
        train = np.sort(np.concatenate([np.flatnonzero(y[:900] == digit)[:shots] for digit in range(10)]))
    x_train, x_test = preprocess(how, x[train], x[900:])
    return x_train, y[train], x_test, y[900:]


@pytest.mark.parametrize("how", ["none", "center-l2", "standard"])
@pytest.mark.parametrize("shots", [None, 1, 5])
@pytest.mark.parametrize("weight", [None, "balanced"])
def test_svm_predicts_as_scikit_learn_does(how, shots, weight):
    x, y, x_test, _ = digits(how, shots)
    if weight:  # classes of different sizes, so that weights matter
        kept = (y > 4) | (np.arange(len(y)) % 3 == 0) | (shots == 1)
        x, y = x[kept], y[kept]
    oracle = SVC(kernel="linear", class_weight=weight).fit(x, y)
    found = make("svm-balanced" if weight else "svm").fit(x, y)
    assert (found.predict(x_test) != oracle.predict(x_test)).sum() == 0
    untied = found.decision_function(x_test).argmax(1) == oracle.decision_function(x_test).argmax(1)
    np.testing.assert_allclose(
        found.decision_function(x_test)[untied], oracle.decision_function(x_test)[untied], atol=1e-6
    )
    np.testing.assert_array_equal(found.classes_[found.decision_function(x_test).argmax(1)], oracle.predict(x_test))
    assert found.parameters_ == {"C": 1.0, "solved_by": "exact"}


def test_svm_of_two_classes():
    x, y, x_test, _ = digits("center-l2")
    two = y < 2
    oracle, found = SVC(kernel="linear").fit(x[two], y[two]), make("svm").fit(x[two], y[two])
    np.testing.assert_array_equal(found.predict(x_test), oracle.predict(x_test))
    np.testing.assert_allclose(found.decision_function(x_test)[:, 1], oracle.decision_function(x_test), atol=1e-8)


def test_svm_that_needs_more_memory_is_scikit_learns(monkeypatch):
    x, y, x_test, _ = digits("center-l2", shots=8)
    exact = make("svm").fit(x, y)
    monkeypatch.setattr(svm, "LARGEST", 0)
    monkeypatch.setattr(svm, "_BLOCK", 2000)  # sixteen rows at a time
    found = make("svm").fit(x, y)
    assert found.parameters_["solved_by"] == "scikit-learn"
    np.testing.assert_array_equal(found.predict(x_test), exact.predict(x_test))
    np.testing.assert_allclose(found.decision_function(x_test), exact.decision_function(x_test), atol=1e-8)
    assert found.predict(x_test[:0]).shape == (0,) and found.decision_function(x_test[:0]).shape == (0, 10)


def test_memory_of_a_fit():
    assert svm.bytes_of_fit(1000, 768, 10) < svm.LARGEST < svm.bytes_of_fit(5000, 768, 1000)


@pytest.mark.parametrize("shots", [None, 3])
def test_linear_svc_is_scikit_learns_search(shots):
    x, y, x_test, _ = digits("standard-l2", shots)
    options = {"C": (1e-3, 1e-1, 1e1)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search = GridSearchCV(LinearSVC(dual=False, tol=1e-5, random_state=0), {"C": list(options["C"])}, cv=3)
        oracle = search.fit(x, y)
    found = replace(make("linear-svc"), **options).fit(x, y)
    assert (found.predict(x_test) != oracle.predict(x_test)).sum() == 0
    np.testing.assert_array_equal(found.decision_function(x_test), oracle.decision_function(x_test))
    assert found.parameters_["C"] == oracle.best_params_["C"]
    assert found.parameters_["held_out_accuracy"] == oracle.best_score_


def test_linear_svc_of_few_rows():
    x, y, x_test, _ = digits("standard-l2", shots=1)
    found = make("linear-svc").fit(x, y)
    assert found.parameters_["C"] == 1.0 and found.parameters_["held_out_accuracy"] is None
    np.testing.assert_array_equal(found.predict(x_test), LinearSVC(dual=False, tol=1e-5).fit(x, y).predict(x_test))
    two = np.isin(y, (3, 4))  # one fold trains on class 0 alone
    again = make("linear-svc").fit(np.concatenate([x[two], x[two][:1] + 0.1]), np.array([0, 1, 0]))
    assert 0 < again.parameters_["held_out_accuracy"] < 1


def test_what_did_not_converge_is_counted():
    x, y, _, _ = digits("none", shots=5)
    found = replace(make("linear-svc"), C=(1e3,), max_iter=2).fit(x, y)
    assert found.parameters_["unconverged"] == 4, "three folds and the refit"
