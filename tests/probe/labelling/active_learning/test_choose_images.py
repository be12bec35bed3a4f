"""Which rows to label next: uncertain ones, a cover, members of a class; no near-duplicates; the same for a seed."""

import numpy as np
import pytest

from bb.probe.labelling.active_learning import choose_images
from bb.probe.labelling.active_learning.choose_images import (
    Strategy,
    check_random_share,
    choose,
    random_order,
    random_turns,
)
from bb.probe.labelling.active_learning.half_kernels import to_single
from bb.store.errors import UsageError

WAYS = ("margin", "cluster", "random", "rare:0")


def world(n=600, classes=4, d=16, spread=0.8, seed=0):
    """Rows around a centre for each class, in no order."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = rng.normal(size=(classes, d))[y] + spread * rng.normal(size=(n, d))
    return x.astype(np.float32), y.astype(np.int64)


def chosen(x, y, labelled, n, way, seed=0):
    strategy = Strategy.parse(way)
    free = np.setdiff1d(np.arange(len(x)), labelled)
    rare = 0 if strategy.rare else -1
    return choose(x.__getitem__, free, x[labelled], y[labelled], n, strategy, rare=rare, seed=seed)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rows_are_free_distinct_and_the_same_for_a_seed(way, dtype):
    x, y = world()
    labelled = np.arange(40)
    made = chosen(x.astype(dtype), y, labelled, 30, way)
    assert len(set(made.rows.tolist())) == 30 and made.rows.min() >= 40
    assert np.array_equal(made.rows, chosen(x.astype(dtype), y, labelled, 30, way).rows)
    assert (made.guess >= 0).all() and (made.margin >= 0).all()
    if way in ("random", "cluster"):
        assert not np.array_equal(made.rows, chosen(x.astype(dtype), y, labelled, 30, way, seed=1).rows)


@pytest.mark.parametrize("way", WAYS)
def test_fewer_rows_than_asked_for_are_all_given(way):
    x, y = world(n=50)
    made = chosen(x, y, np.arange(42), 30, way)
    assert sorted(made.rows.tolist()) == list(range(42, 50))


def test_margin_asks_for_less_certain_rows_than_a_sample():
    x, y = world()
    labelled = np.arange(60)
    margin, sample = (chosen(x, y, labelled, 10, way).margin.mean() for way in ("margin", "random"))
    assert margin < 0.6 * sample


@pytest.mark.parametrize("labels", [[], [2, 2, 2], [-1, -1, 3]])
def test_a_cover_of_all_where_there_are_not_two_classes_yet(labels):
    x, y = world(spread=0.2)
    made = choose(x.__getitem__, np.arange(3, 600), x[: len(labels)], np.array(labels, np.int64), 8, Strategy("margin"))
    assert made.strategy == Strategy("cluster") and (made.guess == -1).all() and np.isnan(made.margin).all()
    assert set(y[made.rows].tolist()) == {0, 1, 2, 3}


def test_a_cover_looks_where_there_are_no_labels():
    x, y = world(spread=0.2)
    labelled = np.flatnonzero(y != 3)[:90]
    assert (y[chosen(x, y, labelled, 4, "cluster").rows] == 3).any()


def test_rare_finds_the_class():
    x, y = world(n=2000, classes=20)
    labelled = np.concatenate([np.flatnonzero(y == k)[:3] for k in range(20)])
    found = (y[chosen(x, y, labelled, 20, "rare:0").rows] == 0).mean()
    assert found > 0.8


@pytest.mark.parametrize("way", ["margin", "cluster", "rare:0"])
def test_near_duplicates_are_not_asked_for_twice(way):
    """Ten copies of each row, with a little noise; and copies of labelled rows."""
    x, y = world(n=80, spread=0.5)
    rng = np.random.default_rng(1)
    many = np.repeat(x, 10, axis=0) + 0.01 * rng.normal(size=(800, 16)).astype(np.float32)
    origin, labelled = np.repeat(np.arange(80), 10), np.arange(0, 200, 10)
    made = chosen(many, y[origin], labelled, 15, way)
    asked = origin[made.rows].tolist()
    assert len(set(asked)) == 15 and not set(asked) & set(origin[labelled].tolist())


def test_identical_rows_are_asked_for_where_nothing_else_is_left():
    x = np.repeat(np.eye(4, dtype=np.float32), 20, axis=0)
    y = np.repeat(np.arange(4), 20)
    for way in ("margin", "cluster", "rare:0"):
        assert len(set(chosen(x, y, np.array([0, 20]), 30, way).rows.tolist())) == 30


def test_the_quick_scores_are_those_of_the_classifier():
    """The pool is scored without making its rows ready; zero rows and rows of any length included."""
    x, y = world()
    x = x * np.random.default_rng(1).uniform(0.1, 10, (600, 1)).astype(np.float32)
    x[500] = 0
    made = chosen(x, y, np.arange(60), 540, "margin")
    order = np.argsort(made.margin, kind="stable")
    assert np.allclose(made.margin, made.margin[order], atol=1e-4)


def test_only_a_sample_of_many_rows_is_looked_at(monkeypatch):
    monkeypatch.setattr(choose_images, "LOOKED_AT", 200)
    x, y = world()
    asked = []

    def read(rows):
        asked.append(rows)
        return x[rows]

    choose(read, np.arange(60, 600), x[:60], y[:60], 10, Strategy("margin"))
    assert len(np.unique(np.concatenate(asked))) == 200
    asked.clear()
    choose(read, np.arange(60, 600), x[:60], y[:60], 10, Strategy("rare", "0"), rare=0)
    assert len(np.unique(np.concatenate(asked))) == 540


def test_halves_become_singles_exactly():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)][None]
    assert np.array_equal(to_single(finite), finite.astype(np.float32))
    assert np.array_equal(to_single(finite[:, ::2]), finite[:, ::2].astype(np.float32))


def test_strategies_are_parsed():
    assert Strategy.parse("rare:grey wolf") == Strategy.parse("rare grey wolf") == Strategy("rare", "grey wolf")
    assert str(Strategy.parse("rare:a:b")) == "rare:a:b"
    for text in ("rare", "rare:", "margins", "margin:x", ""):
        with pytest.raises(UsageError, match="choose margin, cluster, random or rare:CLASS"):
            Strategy.parse(text)


@pytest.mark.parametrize("way", WAYS)
def test_a_share_of_the_rows_is_drawn_by_their_order_alone(way):
    x, y = world()
    free, order = np.arange(40, 600), np.random.default_rng(3).permutation(560).astype(np.uint64)
    made = choose(
        x.__getitem__, free, x[:40], y[:40], 20, Strategy.parse(way), rare=0, random_share=0.2, order=order
    )  # fmt: skip
    first = free[np.argsort(order)]
    assert made.rows[made.drawn].tolist() == first[: made.drawn.sum()].tolist()
    assert len(set(made.rows.tolist())) == 20
    assert made.suggested_by.count("random") == made.drawn.sum() == (20 if way == "random" else 4)


def test_of_many_small_batches_the_share_is_random_too():
    turns: list[bool] = []
    for k in range(100):
        turns += random_turns((k, sum(turns)), 1, 0.2).tolist()
    assert turns == random_turns((0, 0), 100, 0.2).tolist() == [False, False, False, False, True] * 20
    assert random_turns((7, 7), 5, 1.0).all() and not random_turns((7, 0), 5, 0.0).any()
    assert random_turns((10, 0), 5, 0.2).tolist() == [True, True, False, False, True]  # two were skipped before


def test_the_random_order_is_that_of_the_images_and_the_seed():
    digests = np.random.default_rng(0).integers(0, 256, (500, 32), np.uint8)
    order = random_order(digests, 1)
    assert np.array_equal(random_order(digests[::-1], 1), order[::-1]) and len(set(order.tolist())) == 500
    assert abs(np.corrcoef(order.astype(float), random_order(digests, 2).astype(float))[0, 1]) < 0.15
    assert abs(np.corrcoef(order.astype(float), digests[:, 7])[0, 1]) < 0.15


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(UsageError, match="is not a share: choose one from 0 to 1"):
        check_random_share(share)
