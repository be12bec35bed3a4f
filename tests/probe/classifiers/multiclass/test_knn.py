"""Nearest neighbours beside scikit-learn's brute force, and DINOv2's vote written out."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors as Oracle

from bb.probe.classifiers.multiclass import knn
from bb.probe.classifiers.multiclass.knn import NearestNeighbours, nearest_rows
from bb.probe.int8_bounds import Candidates, is_possible

needs_vnni = pytest.mark.skipif(not is_possible(256), reason="the processor has no AVX-512 VNNI")
rng = np.random.default_rng(0)
X, Y, X_TEST = rng.normal(size=(500, 16)).astype(np.float32), np.arange(500) % 7, rng.normal(size=(90, 16)).astype("f4")


@pytest.mark.parametrize("at_once", [0, knn.AT_ONCE])
@pytest.mark.parametrize("k", [1, 20, 500])
def test_neighbours_are_those_of_brute_force(k, at_once, monkeypatch):
    monkeypatch.setattr(knn, "BLOCK", 64)
    monkeypatch.setattr(knn, "AT_ONCE", at_once)
    distance, expected = (
        Oracle(n_neighbors=k, algorithm="brute", metric="cosine").fit(X.astype(float)).kneighbors(X_TEST.astype(float))
    )
    rows, distances = nearest_rows(X, X_TEST, k)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(distances, distance, atol=1e-6)


@pytest.mark.parametrize(("n", "d", "k"), [(300, 64, 200), (60, 3, 60), (100, 1, 7)])
def test_all_distances_at_once_are_the_same_to_the_bit(n, d, k, monkeypatch):
    x, queries = (rng.integers(-3, 4, (rows, d)).astype(np.float32) for rows in (n, 80))
    x[5], x[7], queries[2], queries[3] = x[3], 0, 0, x[3]
    x[n // 2 :] = 2 * x[: n - n // 2]  # the same directions
    found = []
    for at_once in (0, n):
        monkeypatch.setattr(knn, "AT_ONCE", at_once)
        found.append(nearest_rows(x, queries, k))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def relu(x):
    """Many rows of few directions, and zeros."""
    few = x[:, :8]
    return np.maximum(few @ rng.standard_normal((few.shape[1], x.shape[1])) + 0.1 * x, 0)


FEATURES = {
    "normal": lambda x: x,
    "small": lambda x: 1e-30 * x,
    "large": lambda x: 1e30 * x,
    "scales": lambda x: x * 10 ** rng.uniform(-30, 30, (len(x), 1)),
    "constant": np.ones_like,
    "duplicated": lambda x: x[rng.integers(0, 30, len(x))],
    "zeros": lambda x: x * (rng.random((len(x), 1)) < 0.3),
    "heavy-tailed": lambda x: x**9,
    "one outlier": lambda x: x + 100 * (np.arange(x.shape[1]) == 1),
    "relu": relu,
    "near": lambda x: 1 + 1e-6 * x,
}


@needs_vnni
@pytest.mark.parametrize(("n", "m", "d", "k"), [(1000, 131, 70, 3), (97, 64, 3, 1), (2500, 200, 256, 20)])
@pytest.mark.parametrize("kind", FEATURES)
def test_bounds_give_the_same_neighbours_to_the_bit(kind, n, m, d, k, monkeypatch):
    features = FEATURES[kind](rng.standard_normal((n + m, d))).astype(np.float32)
    x, queries = features[:n], features[n:]
    expected = nearest_rows(x, queries, k)
    monkeypatch.setattr(knn, "AT_ONCE", 0)
    monkeypatch.setattr(knn, "LEAST_BOUNDED", (0, 0, 0))
    for block, candidates in ((64, 160), (1024, 0)):
        monkeypatch.setattr(knn, "BLOCK", block)
        monkeypatch.setattr(knn, "CANDIDATES", candidates)
        for found, wanted in zip(nearest_rows(x, queries, k), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


@needs_vnni
def test_bounds_prove_the_neighbours_of_features_like_noise(monkeypatch):
    """Then no float32 product is made, and no vector is kept as float32 but the caller's."""
    x, queries = (rng.standard_normal((rows, 256)).astype(np.float32) for rows in (20_000, 256))
    monkeypatch.setattr(knn, "scan_rows", None)
    tracemalloc.start()
    nearest_rows(x, queries, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * (x.nbytes + queries.nbytes)  # the two joined are once, integers of 8 bits a quarter


@needs_vnni
def test_bounds_that_prove_little_are_given_up(monkeypatch):
    looked = []

    def counted(*arguments):
        looked.append(len(arguments))
        return Candidates.of(*arguments)

    x = np.tile(rng.standard_normal((10, 256)), (1_200, 1)).astype(np.float32)
    monkeypatch.setattr(knn, "Candidates", SimpleNamespace(of=counted))
    monkeypatch.setattr(knn, "BLOCK", 16)
    rows, _ = nearest_rows(x, x[:320], 3)
    np.testing.assert_array_equal(rows, np.arange(320)[:, None] % 10 + [0, 10, 20])
    assert len(looked) < 20 / 2


def test_another_processor_has_no_bounds(monkeypatch):
    """Neither one without the instruction, nor one that numba doesn't compile for."""
    monkeypatch.setattr(knn, "is_possible", lambda d: False)
    monkeypatch.setattr(knn, "Candidates", None)
    x = rng.standard_normal((10_000, 256)).astype(np.float32)
    np.testing.assert_array_equal(nearest_rows(x, x[:256], 1)[0][:, 0], np.arange(256))


def test_of_equal_rows_the_lower_is_nearer():
    """More copies than there is room for candidates, so that all rows are looked at."""
    x = np.concatenate([np.tile(X[:1], (200, 1)), X])
    rows, distances = nearest_rows(x, X[:1] * 3, 5)
    np.testing.assert_array_equal(rows, [[0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(distances, 0)


def test_other_k_of_the_same_tasks_search_once(monkeypatch):
    searched = []

    def counted(x, queries, k):
        searched.append((len(x), k))
        return nearest_rows(x, queries, k)

    monkeypatch.setattr(knn, "nearest_rows", counted)
    monkeypatch.setattr(knn, "_kept", {})
    tasks = [(X[:n], Y[:n], X_TEST[: n // 10]) for n in (500, 400, 300)]
    for k in (10, 20, 100):
        for x, y, x_test in tasks:
            NearestNeighbours(k=k, max_k=100).fit(x, y).predict_proba(x_test)
    assert searched == [(500, 100), (400, 100), (300, 100)]
    monkeypatch.setattr(knn, "LARGEST_KEPT", 8 * 100 * 60)  # which the first two exceed together
    for x, y, x_test in tasks:
        NearestNeighbours(max_k=100).fit(x, y).predict(x_test)
    assert [rows.shape for rows, _ in knn._kept.values()] == [(30, 100)]


def test_votes_are_dinov2s():
    fitted = NearestNeighbours(k=10, max_k=50).fit(X, Y)
    unit, unit_test = (x.astype(float) / np.linalg.norm(x.astype(float), axis=1, keepdims=True) for x in (X, X_TEST))
    expected = np.zeros((90, 7))
    for q, similarity in enumerate(unit_test @ unit.T):
        nearest = np.argsort(-similarity, kind="stable")[:50]
        weight = np.exp(similarity[nearest] / 0.07)
        for row, w in zip(nearest[:10], weight[:10] / weight.sum(), strict=True):
            expected[q, Y[row]] += w
    np.testing.assert_allclose(fitted.decision_function(X_TEST), expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(fitted.predict(X_TEST), expected.argmax(axis=1))


def test_of_equal_votes_the_lowest_class_wins():
    x = np.eye(2, dtype=np.float32)
    assert NearestNeighbours(k=2).fit(x, np.array([5, 3])).predict(np.ones((1, 2), np.float32)) == [3]
