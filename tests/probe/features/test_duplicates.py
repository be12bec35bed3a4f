"""Near-duplicates: exactly the pairs that all cosines would give, but for the share that is said to be missed."""

import numpy as np
import pytest
from scipy.stats import binom

from bb.probe.features import duplicates
from bb.probe.features.duplicates import MISS, near_duplicates
from bb.store.errors import BBError, UsageError


def all_pairs(x, cosine):
    """By definition, in float64."""
    x = x.astype(float) - x.astype(float).mean(0)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)
    i, j = np.triu_indices(len(x), 1)
    near = (x @ x.T)[i, j] >= cosine
    return list(zip(i[near].tolist(), j[near].tolist(), strict=True)), (x @ x.T)[i, j][near]


def planted(n, d, copies, noise, seed=0):
    """(n, d) rows around a few centres, the last of them noisy copies of the first."""
    rng = np.random.default_rng(seed)
    x = 3 + rng.standard_normal((20, d))[rng.integers(0, 20, n)] + rng.standard_normal((n, d))
    x[n - copies :] = x[:copies] + noise * rng.standard_normal((copies, d))
    return x


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("jobs", [1, 3])
def test_the_pairs_are_those_of_all_cosines(dtype, jobs):
    x = planted(1500, 64, 200, 0.3).astype(dtype)
    expected, cosine = all_pairs(x, 0.9)
    found = near_duplicates(x, cosine=0.9, jobs=jobs)
    rows = list(map(tuple, found.rows.tolist()))
    assert rows == sorted(rows) and set(rows) <= set(expected) and len(expected) >= 200
    assert len(rows) >= len(expected) - binom.ppf(1 - 1e-6, len(expected), 2 * MISS)
    of = dict(zip(expected, cosine, strict=True))
    np.testing.assert_allclose(found.cosine, [of[pair] for pair in rows], atol=2e-6)


def test_pairs_at_the_threshold_are_missed_as_rarely_as_is_said():
    rng = np.random.default_rng(1)
    n, cosine = 1000, 0.85
    one, side = np.hsplit(rng.standard_normal((n, 512)), 2)
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    side -= (side * one).sum(1, keepdims=True) * one
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    other = (cosine + 1e-3) * one + np.sqrt(1 - (cosine + 1e-3) ** 2) * side
    x = np.concatenate([one, other, -one, -other])  # their mean is nought
    found = near_duplicates(x.astype(np.float32), cosine=cosine)
    hits = sum(b - a == n for a, b in found.rows.tolist())
    assert len(found.rows) == hits >= 2 * n - binom.ppf(1 - 1e-6, 2 * n, 2 * MISS)


def test_a_tile_of_more_candidates_than_room_is_divided(monkeypatch):
    x = planted(600, 32, 200, 0.1).astype(np.float32)
    whole = near_duplicates(x, cosine=0.8)
    monkeypatch.setattr(duplicates, "_ROOM", 3)
    assert np.array_equal(near_duplicates(x, cosine=0.8).rows, whole.rows) and len(whole.rows) >= 200


def test_equal_rows_and_rows_without_direction():
    x = np.zeros((6, 8), np.float32)
    assert len(near_duplicates(x).rows) == 0, "all rows are the mean"
    x[0, 0] = x[1, 0] = 1
    assert [0, 1] in near_duplicates(x).rows.tolist()
    assert len(near_duplicates(np.zeros((0, 8), np.float16)).rows) == 0
    assert len(near_duplicates(np.ones((1, 8), np.float16)).rows) == 0


def test_a_threshold_that_finds_nothing_or_everything_is_refused():
    x = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    for cosine in (0.2, 1.0, float("nan")):
        with pytest.raises(UsageError, match="finds no near-duplicates; choose a cosine from 0.3 to 0.999"):
            near_duplicates(x, cosine=cosine)
    with pytest.raises(BBError, match="more than 5 pairs look alike .* raise the threshold"):
        near_duplicates(x, cosine=0.3, max_pairs=5)
