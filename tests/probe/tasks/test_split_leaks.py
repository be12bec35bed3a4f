"""Equal and similar pictures on both sides of a split of many classes; tests/bb/test_label_verbs.py has NeWT's."""

from dataclasses import replace

import polars as pl
import pytest

from bb.probe.tasks.leaks import drop_split_leaks, near_leaks, split_leaks
from bb.probe.tasks.splits import split_table
from bb.probe.tasks.task_table import parse_task_table
from bb.store import Collection
from bb.store.errors import BBError
from bb.store.format.collection import Entry


def made(labels, pictures, **columns):
    """Images a, b, c … with these labels; the letters of `pictures` say whose bytes are equal. Their splits."""
    ids = list("abcdefghijkl"[: len(labels)])
    entries = [Entry(i, p.encode() * 32, 1, None, None) for i, p in zip([*ids, "z"], [*pictures, "z"], strict=True)]
    table = parse_task_table(pl.DataFrame({"image_id": ids, "label": list(labels), **columns}))
    return split_table(table, folds=None if "split" in columns else 3), Collection.from_entries("c", entries)


def test_an_unknown_trait_is_no_other_label():
    entries = [Entry(i, b"p" * 32, 1, None, None) for i in "ab"] + [Entry("c", b"c" * 32, 1, None, None)]
    collection = Collection.from_entries("c", entries)

    def both(fur, wings):
        table = parse_task_table(pl.DataFrame({"image_id": list("abc"), "label:fur": fur, "label:wings": wings}))
        (split,) = split_table(table, folds=3)
        return split_leaks(split, collection).both

    assert both([1, None, 0], [None, 0, 1]) == {}
    assert both([1, 0, 0], [None, 0, 1]) == {"classify": ("a", "b")}


def test_a_test_image_that_equals_a_training_image_is_found():
    side = ["train", "train", "train", "test", "test", "test", "val"]
    (split,), collection = made("xyzxyzx", "pqrpsqp", split=side)
    leaks = split_leaks(split, collection)
    assert leaks.twins == {"classify": {"d": "a", "f": "b"}} and leaks.n_test == {"classify": 3}
    assert leaks.both == {"classify": ("b", "f")}
    first, second = leaks.notes
    assert first.startswith("2 of 3 test images are the same file as a training image of their task (classify; test")
    assert "--drop-leaks leaves them out" in first and "--drop-leaks" not in replace(leaks, stays=True).notes[0]
    assert second == "task classify: images 'b' and 'f' are the same file with different labels"
    dropped = drop_split_leaks(split, leaks)
    assert dropped.folds[0].test_ids.tolist() == ["e"] and dropped.folds[0].train_ids.tolist() == ["a", "b", "c"]
    assert dropped.notes[-1] == "2 test images that equal training images are left out"


def test_validation_images_count_where_they_are_trained_on():
    (split,), collection = made("xyzxyz", "pqrqss", split=["train", "train", "val", "test", "test", "val"])
    assert split_leaks(split, collection).twins == {"classify": {"d": "b"}}
    assert split_leaks(split, collection, with_val=True).twins == {"classify": {"d": "b", "e": "f"}}


def test_of_folds_every_image_with_a_twin_elsewhere_is_found():
    (split,), collection = made("xxxxxxyyyyyy", "ppqqrstuvwwx")
    found = split_leaks(split, collection).twins.get("classify", {})
    fold = {i: k for k, each in enumerate(split.folds) for i in each.test_ids.tolist()}
    expected = {}
    for one, other in ("ab", "cd", "jk"):
        if fold[one] != fold[other]:
            expected |= {one: other, other: one}
    assert found == expected and expected


def test_no_leaks_are_no_leaks():
    (split,), collection = made("xyxy", "pqrs", split=["train", "train", "test", "test"])
    leaks = split_leaks(split, collection)
    assert not leaks and leaks.notes == [] and drop_split_leaks(split, leaks).notes == split.notes
    (only,), collection = made("xyxy", "pqpq", split=["train", "train", "test", "test"])
    with pytest.raises(BBError, match="--drop-leaks leaves no test image in test: correct the split"):
        drop_split_leaks(only, split_leaks(only, collection))


def test_pairs_that_look_alike_leak_where_they_are_on_both_sides():
    (split,), _ = made("xyxy", "pqrs", split=["train", "train", "test", "test"])
    leaks = near_leaks(split, [("a", "c"), ("c", "d"), ("a", "b"), ("a", "nowhere")])
    assert leaks.twins == {"classify": {"c": "a"}}
    assert "1 of 2 test images are nearly the same picture as a training image" in leaks.notes[0]
    assert leaks.both == {"classify": ("c", "d")}
