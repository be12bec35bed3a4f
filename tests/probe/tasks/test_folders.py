"""Classes and sides out of folders."""

import pytest

from bb.probe.tasks.folders import table_from_folders
from bb.probe.tasks.splits import split_table
from bb.store.errors import UsageError


def rows(*ids, **options):
    table = table_from_folders(ids, **options)
    assert table.target == "classes" and table.tasks == ("classify",)
    return table.frame.drop("task").rows(), table.notes


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["fox/1.jpg", "cat/1.jpg"], [("cat/1.jpg", "cat"), ("fox/1.jpg", "fox")]),
        (["a/b/fox/1.jpg", "a/b/cat/1.jpg"], [("a/b/cat/1.jpg", "cat"), ("a/b/fox/1.jpg", "fox")]),
        (["Aves/x/1.jpg", "Mammalia/x/1.jpg"], [("Aves/x/1.jpg", "Aves/x"), ("Mammalia/x/1.jpg", "Mammalia/x")]),
        (
            ["set/train/x/1", "set/Validation/y/2", "set/testing/x/3", "set/training/y/4", "set/testing/5"],
            [
                ("set/Validation/y/2", "y", "val"),
                ("set/testing/5", None, "test"),
                ("set/testing/x/3", "x", "test"),
                ("set/train/x/1", "x", "train"),
                ("set/training/y/4", "y", "train"),
            ],
        ),
        (["train_mini/x/1", "VAL/y/1"], [("VAL/y/1", "y", "val"), ("train_mini/x/1", "x", "train")]),
        (["train/1", "test/2"], [("test/2", "test"), ("train/1", "train")]),
        (["train/1", "car/2", "bus/3"], [("bus/3", "bus"), ("car/2", "car"), ("train/1", "train")]),
        (["train/x/1", "train/y/1"], [("train/x/1", "x"), ("train/y/1", "y")]),
    ],
)
def test_folders_are_classes_below_sides(ids, expected):
    assert rows(*ids)[0] == expected


def test_nested_classes():
    ids = ["fox/1", "fox/day/2", "cat/night/3", "cat/day/4"]
    found, notes = rows(*ids)
    assert [label for _, label in found] == ["cat/day", "cat/night", "fox", "fox/day"]
    assert notes == ("folder 'fox' has images next to folders: each is a class",)
    found, notes = rows(*ids, depth=1)
    assert [label for _, label in found] == ["cat", "cat", "fox", "fox"] and notes == ()


def test_what_was_taken_and_left_out_is_said():
    table = table_from_folders(["train/x/1", "test/y/2", "test/y /3", "train/y/5", "loose"])
    assert table.taken == "the collection: image_id from 'the path', label from 'all folders', split from " + (
        "'the outermost folder'"
    )
    assert table.notes[0] == "1 images outside of any folder are left out" and "look alike" in table.notes[1]
    assert table.image_ids == ["test/y /3", "test/y/2", "train/x/1", "train/y/5"]
    (split,) = split_table(table)
    assert split.by == "column" and split.folds[0].train_ids.tolist() == ["train/x/1", "train/y/5"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["fox/1", "fox/2"], "all images are in folder 'fox'; classes are two or more folders. Name a table with"),
        (["train/fox/1", "test/fox/2"], "all images are in folder 'fox'; classes are two or more folders"),
        (["1", "2"], "no image is in a folder; classes"),
        ([], "no image is in a folder; classes"),
        (
            ["train/x/1", "test/y/2", "extra/x/3"],
            "'test' and 'train' look like the sides .* there is folder 'extra', too",
        ),
        (
            ["a/train/x/1", "a/test/y/2", "a/3"],
            "'test' and 'train' look like the sides .* there is an image next to them",
        ),
    ],
)
def test_folders_of_no_use(ids, message):
    with pytest.raises(UsageError, match=message):
        table_from_folders(ids)
    with pytest.raises(UsageError, match="depth 0 leaves no folder to be the class"):
        table_from_folders(["a/1", "b/2"], depth=0)
