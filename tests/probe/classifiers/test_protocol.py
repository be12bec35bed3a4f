"""Protocols: their arithmetic against scikit-learn written out, and which classifier they choose."""

import json

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler, normalize

from bb.probe.classifiers.protocol import (
    BioBench,
    GridLinearSVC,
    LinearSVM,
    NeWT2021,
    RandomSearchSVM,
    parse_protocol,
)
from bb.store.errors import UsageError


def features(dtype: type = np.float16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(1, 3, (12, 7)).astype(dtype), rng.normal(1, 3, (5, 7)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_biobench_to_the_bit(dtype: type):
    x_train, x_test = features(dtype)
    train, test = normalize(x_train.astype(np.float32)), normalize(x_test.astype(np.float32))
    mean = train.mean(axis=0)
    got_train, got_test = BioBench().preprocess(x_train, x_test)
    assert np.array_equal(got_train, normalize(train - mean)) and got_train.dtype == np.float32
    assert np.array_equal(got_test, normalize(test - mean)) and got_test.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_newt2021_to_the_bit(dtype: type):
    x_train, x_test = features(dtype)
    scaler = StandardScaler().fit(x_train.astype(np.float32))
    got_train, got_test = NeWT2021().preprocess(x_train, x_test)
    assert np.array_equal(got_train, normalize(scaler.transform(x_train.astype(np.float32))))
    assert np.array_equal(got_test, normalize(scaler.transform(x_test.astype(np.float32))))


@pytest.mark.parametrize("protocol", [BioBench(), NeWT2021()], ids=lambda protocol: protocol.name)
def test_zero_vectors_and_constant_features_do_not_become_nan(protocol: BioBench | NeWT2021):
    x_train, x_test = features(np.float32)
    given = x_train.copy()
    x_train[3] = 0
    x_test[1] = 0
    for train in (x_train, np.ones_like(x_train), np.zeros_like(x_train)):
        given = train.copy()
        for x in protocol.preprocess(train, x_test):
            assert np.isfinite(x).all()
        assert np.array_equal(train, given)  # what was given stays as it was


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("protocol", [BioBench(), NeWT2021()], ids=lambda protocol: protocol.name)
def test_what_is_not_finite_stays_so_for_the_check(protocol: BioBench | NeWT2021, bad: float):
    x_train, x_test = features(np.float32)
    x_train[3, 2] = bad
    with np.errstate(invalid="ignore"):
        assert not all(np.isfinite(x).all() for x in protocol.preprocess(x_train, x_test))


def test_biobench_searches_from_ten_but_not_at_all():
    protocol = BioBench()
    assert protocol.classifier(9) == protocol.classifier("all") == LinearSVM()
    assert protocol.classifier(10) == protocol.classifier(100) == RandomSearchSVM()
    assert protocol.classifier("all", "search") == RandomSearchSVM()
    assert protocol.classifier(100, "linear") == LinearSVM()
    assert protocol.classifier(2, "search") == RandomSearchSVM()
    with pytest.raises(UsageError, match="--svm 'rbf' is unknown; choose auto, linear, search"):
        protocol.classifier(10, "rbf")


def test_newt2021_has_one_classifier():
    assert NeWT2021().classifier(4) == NeWT2021().classifier("all") == GridLinearSVC()
    with pytest.raises(UsageError, match=r"--svm linear has no meaning in newt2021.*leave --svm out"):
        NeWT2021().classifier(10, "linear")


def test_parameters_tell_all_and_survive_json():
    parameters = BioBench().parameters()
    assert parameters == json.loads(json.dumps(parameters))
    assert parameters == {
        "name": "biobench",
        "preprocessing": ["float32", "l2", "subtract_train_mean", "l2"],
        "search_from": 10,
        "linear": {"C": 1.0, "tol": 1e-3},
        "search": {
            "C": [1e-3, 1e1],
            "gamma": [1e-4, 1e-3],
            "kernel": ["rbf", "linear", "sigmoid", "poly"],
            "n_iter": 100,
            "folds": 5,
            "random_state": 42,
            "tol": 1e-3,
        },
    }
    assert NeWT2021().parameters() == {
        "name": "newt2021",
        "preprocessing": ["float32", "standard_scaler", "l2"],
        "search": {
            "C": [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0],
            "folds": 3,
            "tol": 1e-5,
            "random_state": 0,
            "max_iter": 1000,
        },
    }


def test_protocols_are_found_by_name():
    assert parse_protocol("biobench") == BioBench()
    assert parse_protocol("newt2021") == NeWT2021()
    with pytest.raises(UsageError, match="--protocol 'newt' is unknown; choose biobench or newt2021"):
        parse_protocol("newt")
