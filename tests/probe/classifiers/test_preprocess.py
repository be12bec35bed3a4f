"""Preprocessing beside scikit-learn's."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler, normalize

from bb.probe.classifiers.preprocess import PREPROCESSING, preprocess
from bb.store.errors import UsageError

rng = np.random.default_rng(0)
TRAIN, TEST = (rng.normal(2, 3, (n, 5)).astype(np.float32) for n in (12, 7))


def centred():
    mean = normalize(TRAIN).mean(axis=0)
    return normalize(normalize(TRAIN) - mean), normalize(normalize(TEST) - mean)


def standard():
    scaler = StandardScaler().fit(TRAIN)
    return scaler.transform(TRAIN), scaler.transform(TEST)


EXPECTED = {
    "none": lambda: (TRAIN, TEST),
    "l2": lambda: (normalize(TRAIN), normalize(TEST)),
    "center-l2": centred,
    "standard": standard,
    "standard-l2": lambda: tuple(map(normalize, standard())),
}


@pytest.mark.parametrize("how", PREPROCESSING)
def test_preprocessing(how):
    for found, expected in zip(preprocess(how, TRAIN, TEST), EXPECTED[how](), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


def test_another_name_is_refused():
    known = "none, l2, center-l2, standard, standard-l2"
    with pytest.raises(UsageError, match=f"^Unknown preprocessing 'whiten': choose {known}.$"):
        preprocess("whiten", TRAIN, TEST)
