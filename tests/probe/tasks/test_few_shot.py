"""Few-shot sampling: the golden example, and the properties that make it repeatable."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb.probe.tasks.few_shot import parse_n_train, sample, takes_all
from bb.probe.tasks.newt import BinaryTask
from bb.store.errors import UsageError

IDS = st.lists(st.text(min_size=1, max_size=8).filter(lambda s: "\0" not in s), min_size=2, unique=True)


def task_of(ids: list[str], n_ones: int, name: str = "t") -> BinaryTask:
    """A task whose first n_ones images are of class 1, tested on one image of each class."""
    y = (np.arange(len(ids)) < n_ones).astype(np.uint8)
    return BinaryTask(name, "c", None, np.array(ids), y, np.array(["p", "q"]), np.array([0, 1], dtype=np.uint8))


def test_golden_example():
    # printf 7/fox/a | sha256sum, and so on: h 17d19c…, d 242097…, f 25ae48…, c 376143…, e 441278…, b 8db56f…
    order = sorted("abcdefgh", key=lambda i: hashlib.sha256(f"7/fox/{i}".encode()).hexdigest())
    assert order == ["h", "d", "f", "c", "e", "b", "g", "a"]
    drawn = sample(task_of(list("abcdefgh"), 4, "fox"), 5, seed=7)  # a to d are of class 1
    assert drawn.image_ids.tolist() == ["h", "f", "d", "c", "b"]
    assert drawn.y.tolist() == [0, 0, 1, 1, 1]
    assert drawn.notes == ()


@given(ids=IDS, data=st.data(), seed=st.integers(0, 99))
def test_nested_and_independent_of_row_order(ids: list[str], data: st.DataObject, seed: int):
    task = task_of(ids, data.draw(st.integers(1, len(ids) - 1)))
    small, large = sorted(data.draw(st.lists(st.integers(2, 12), min_size=2, max_size=2)))
    few, many = sample(task, small, seed), sample(task, large, seed)
    for label in (0, 1):
        of_few, of_many = few.image_ids[few.y == label], many.image_ids[many.y == label]
        assert np.array_equal(of_few, of_many[: len(of_few)])
    assert few.y.tolist() == sorted(few.y)
    assert (few.y == 0).sum() == min(small // 2, (task.train_y == 0).sum())
    assert (few.y == 1).sum() == min(small - small // 2, (task.train_y == 1).sum())

    rows = np.array(data.draw(st.permutations(range(len(ids)))))
    shuffled = BinaryTask(
        task.name, task.cluster, None, task.train_ids[rows], task.train_y[rows], task.test_ids, task.test_y
    )
    assert np.array_equal(sample(shuffled, large, seed).image_ids, many.image_ids)


@given(ids=IDS, seed=st.integers(0, 99))
def test_all_is_everything_in_seed_0s_order(ids: list[str], seed: int):
    task = task_of(ids, 1)
    everything = sample(task, "all", seed)
    assert sorted(everything.image_ids) == sorted(ids) and everything.notes == ()
    assert np.array_equal(everything.image_ids, sample(task, 2 * len(ids), 0).image_ids)


def test_tasks_and_seeds_draw_apart():
    ids = [f"{i}.jpg" for i in range(200)]
    drawn = {(name, seed): set(sample(task_of(ids, 100, name), 20, seed).image_ids) for name in "ab" for seed in (0, 1)}
    overlaps = [len(x & y) for x in drawn.values() for y in drawn.values() if x is not y]
    assert max(overlaps) < 10  # 2 are expected by chance


def test_a_small_class_is_used_whole_and_said():
    drawn = sample(task_of(list("abcdef"), 1), 10, seed=0)
    assert drawn.y.tolist() == [0] * 5 + [1]
    assert drawn.notes == ("class 1 has 1 training images, not the 5 asked for; all are used",)


@pytest.mark.parametrize(("n_train", "whole"), [("all", True), (10, True), (7, True), (6, False), (2, False)])
def test_a_request_takes_all_once_it_takes_both_classes_whole(n_train, whole):
    task = task_of(list("abcdef"), 4)  # 2 of class 0, 4 of class 1
    assert takes_all(task, n_train) is whole
    assert (len(sample(task, n_train, 3).image_ids) == 6) is whole


def test_n_train_is_parsed():
    assert parse_n_train("all") == "all"
    assert parse_n_train("10") == 10 == parse_n_train(10)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("ten", "--n-train 'ten' is not a number; give one from 2 up, or --n-train all"),
        ("0", "--n-train 0 leaves nothing to train on; to take every image use --n-train all"),
        ("-1", "--n-train -1 leaves nothing.* use --n-train all"),
        ("1", "--n-train 1 can't hold both classes; the smallest training set is --n-train 2"),
    ],
)
def test_impossible_n_train_is_refused(value: str, message: str):
    with pytest.raises(UsageError, match=message):
        parse_n_train(value)
    if value != "ten":
        with pytest.raises(UsageError, match=message):
            sample(task_of(["a", "b"], 1), int(value), seed=0)
