"""The search against brute force in float64: exact, whatever the order, the blocks, the ties."""

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from bb.probe.retrieval import search as searching
from bb.probe.retrieval.labels import parse_items
from bb.probe.retrieval.ranking import NO_MATCH, Ranking, hits
from bb.probe.retrieval.search import Vectors, search, search_parts
from bb.store.errors import BBError, UsageError
from tests.helpers.retrieval import items_of

COSINE_STEP = 2.0**-32


def brute(x, items, n, distance="cosine"):
    """The definition, said slowly: all pairs in float64, then sorted by distance and row."""
    x = x.astype(np.float64)
    if distance == "cosine":
        norm = np.linalg.norm(x, axis=1, keepdims=True)
        apart = 1 - (x / np.where(norm == 0, 1, norm)) @ (x / np.where(norm == 0, 1, norm)).T
        apart = np.rint(np.clip(apart, 0, 2) / COSINE_STEP) * COSINE_STEP
    else:
        apart = np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=2))
    apart = apart.astype(np.float32)
    nearest = np.full((len(items.queries), n), NO_MATCH, np.int64)
    distances = np.full((len(items.queries), n), np.inf, np.float32)
    relevant = np.zeros(len(items.queries), np.int64)
    for place, q in enumerate(items.queries):
        own = NO_MATCH if items.sequence is None else items.sequence[q]
        may = [g for g in items.gallery if g != q and (own == -1 or items.sequence is None or items.sequence[g] != own)]
        ranked = sorted(may, key=lambda g: (apart[q, g], g))[:n]
        nearest[place, : len(ranked)] = ranked
        distances[place, : len(ranked)] = apart[q, ranked]
        relevant[place] = sum(items.label_codes[g] == items.label_codes[q] for g in may)
    return Ranking(items.queries, nearest, distances, relevant)


def assert_same(found, expected):
    assert np.array_equal(found.query, expected.query) and np.array_equal(found.relevant, expected.relevant)
    assert np.array_equal(found.nearest, expected.nearest)
    assert np.allclose(found.distance, expected.distance, rtol=3e-7, atol=1e-9)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("roles", ["leave one out", "apart", "overlapping", "sequences"])
def test_search_is_brute_force(distance, roles, monkeypatch):
    monkeypatch.setattr(searching, "BLOCK", 32)  # so that a small case has many tiles, some of them cut off
    rng = np.random.default_rng(1)
    n = 150
    columns = {
        "leave one out": {},
        "apart": {"is_query": np.arange(n) % 3 == 0, "is_gallery": np.arange(n) % 3 != 0},
        "overlapping": {"is_query": np.arange(n) < 90, "is_gallery": np.arange(n) > 60},
        "sequences": {"sequence": [None if i % 4 == 0 else f"s{i % 7}" for i in range(n)]},
    }[roles]
    items = items_of(rng.integers(0, 9, n), **columns)
    x = rng.standard_normal((n, 19)).astype(np.float32)
    for k in (1, 5, 149, 200):
        assert_same(search(x, items, k, distance=distance, jobs=2), brute(x, items, k, distance))


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_equal_distances_stand_in_order_of_image_id(distance, monkeypatch):
    monkeypatch.setattr(searching, "BLOCK", 32)
    rng = np.random.default_rng(2)
    x = rng.integers(-1, 2, (200, 3)).astype(np.float32)  # at most 27 different ones, zeros among them
    items = items_of(rng.integers(0, 5, len(x)))
    for k in (2, 3, 50):
        found = search(x, items, k, distance=distance)
        assert_same(found, brute(x, items, k, distance))
        equal = np.diff(found.distance) == 0
        assert equal.any() and (np.diff(found.nearest)[equal] > 0).all()


def test_all_images_the_same():
    items = items_of(np.arange(300) % 2)
    found = search(np.ones((300, 8), np.float32), items, 4)
    assert (found.distance == 0).all()
    assert found.nearest[0].tolist() == [1, 2, 3, 4] and found.nearest[3].tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_neighbours_that_float32_can_not_tell_apart_are_told_apart(distance):
    """Around one point, steps far below the rounding of a float32 product: the order is float64's."""
    rng = np.random.default_rng(3)
    base = rng.standard_normal(256)
    x = (base + 1e-4 * rng.standard_normal((400, 256))).astype(np.float32)
    items = items_of(np.zeros(400, int))
    found, expected = search(x, items, 10, distance=distance), brute(x, items, 10, distance)
    assert_same(found, expected)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    naive = -(unit @ unit.T)
    np.fill_diagonal(naive, np.inf)
    assert (np.argsort(naive, axis=1, kind="stable")[:, :10] != expected.nearest).any()  # plain float32 gets it wrong


def test_results_do_not_depend_on_threads_blocks_or_order_of_the_file(monkeypatch):
    rng = np.random.default_rng(4)
    labels, x = rng.integers(0, 4, 130), rng.standard_normal((130, 5)).astype(np.float16)
    items = items_of(labels)
    first = search(x, items, 7, jobs=1)
    shuffled = parse_items(items.frame.sample(fraction=1, shuffle=True, seed=1))
    assert shuffled.frame.equals(items.frame)
    monkeypatch.setattr(searching, "BLOCK", 16)
    monkeypatch.setattr(searching, "HEAP_BYTES", 0)  # parts of one block of queries
    vectors = Vectors.of(x, shuffled)
    parts = list(search_parts(vectors, shuffled, 7, jobs=2))
    assert len(parts) == 9 and [len(part) for part in parts] == [16] * 8 + [2]
    again = search(x, shuffled, 7, jobs=2)
    for name in ("query", "nearest", "distance", "relevant"):
        assert np.array_equal(getattr(again, name), getattr(first, name))


def test_float16_features_are_searched_as_their_values():
    x = np.random.default_rng(5).standard_normal((80, 12)).astype(np.float16)
    items = items_of(np.arange(80) % 3)
    half, full = search(x, items, 5), search(x.astype(np.float32), items, 5)
    assert np.array_equal(half.nearest, full.nearest) and np.array_equal(half.distance, full.distance)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_search_agrees_with_scikit_learn(metric):
    rng = np.random.default_rng(6)
    x = rng.standard_normal((500, 40))
    items = items_of(rng.integers(0, 9, 500), is_query=np.arange(500) < 100, is_gallery=np.arange(500) >= 100)
    found = search(x.astype(np.float32), items, 6, distance=metric)
    theirs = NearestNeighbors(n_neighbors=6, metric=metric, algorithm="brute").fit(x[100:])
    distance, place = theirs.kneighbors(x[:100])
    assert np.array_equal(found.nearest, place + 100)
    assert np.allclose(found.distance, distance, atol=1e-6)


def test_large_norms_and_an_offset_do_not_overflow():
    rng = np.random.default_rng(7)
    x = (1e15 + 1e13 * rng.standard_normal((60, 4))).astype(np.float32)
    items = items_of(np.arange(60) % 2)
    found = search(x, items, 3, distance="euclidean")
    expected = pairwise_distances(x.astype(np.float64))
    np.fill_diagonal(expected, np.inf)
    assert np.array_equal(found.nearest[:, 0], expected.argmin(axis=1))


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("size", [1e-38, 1e37])
def test_the_ends_of_float32(distance, size):
    """Features near the smallest and the largest that float32 holds are searched as any others."""
    x = np.random.default_rng(9).standard_normal((50, 4)).astype(np.float32)
    items = items_of(np.arange(50) % 2)
    found = search((x * size).astype(np.float32), items, 3, distance=distance)
    expected = search(x, items, 3, distance=distance)
    assert np.array_equal(found.nearest[:, 0], expected.nearest[:, 0])
    assert np.isfinite(found.distance).all()


def test_one_query_and_one_gallery_item():
    items = items_of(["a", "a"], is_query=[True, False], is_gallery=[False, True])
    found = search(np.eye(2, dtype=np.float32), items, 3)
    assert found.nearest.tolist() == [[1, NO_MATCH, NO_MATCH]] and found.relevant.tolist() == [1]
    assert found.distance.tolist() == [[1.0, np.inf, np.inf]]
    assert hits(items, found).tolist() == [[True, False, False]]


def test_a_single_image_finds_nothing():
    items = items_of(["a"])
    found = search(np.ones((1, 4), np.float32), items, 2)
    assert found.nearest.tolist() == [[NO_MATCH, NO_MATCH]] and found.relevant.tolist() == [0]
    assert found.retrieved.tolist() == [0] and not hits(items, found).any()


def test_a_zero_vector_is_at_cosine_distance_one_from_all():
    x = np.array([[0, 0], [1, 0], [-1, 0], [0, 0]], np.float32)
    found = search(x, items_of("abcd"), 3)
    assert found.distance[0].tolist() == [1, 1, 1] and found.nearest[0].tolist() == [1, 2, 3]


def test_top_keeps_the_first():
    items = items_of(np.zeros(9, int))
    x = np.random.default_rng(8).standard_normal((9, 3)).astype(np.float32)
    assert np.array_equal(search(x, items, 5).top(2).nearest, search(x, items, 2).nearest)


def test_a_nan_is_an_error_that_names_the_image():
    x = np.ones((4, 2), np.float32)
    x[2, 1] = np.nan
    with pytest.raises(BBError, match="the features of image 'img-0002' are not finite.*extract that image again"):
        search(x, items_of("abcd"), 1)
    x[3] = np.inf
    with pytest.raises(BBError, match="image 'img-0002' \\(and 1 more\\) are not finite"):
        search(x, items_of("abcd"), 1)


def test_an_unknown_distance_and_a_search_for_nothing_are_errors():
    x = np.ones((2, 2), np.float32)
    with pytest.raises(UsageError, match="unknown distance 'manhattan': choose cosine or euclidean"):
        search(x, items_of("ab"), 1, distance="manhattan")
    with pytest.raises(UsageError, match="0 nearest items make no search; ask for at least 1"):
        search(x, items_of("ab"), 0)
