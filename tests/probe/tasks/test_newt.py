"""Labels: NeWT's own file, its errors one by one, and the digits in the same columns."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bb.probe.tasks.digits import digits_labels
from bb.probe.tasks.newt import parse_labels, read_labels
from bb.store.errors import BBError, UsageError

PHOTOS = Path(os.environ.get("BB_PHOTOS") or Path(__file__).parents[4] / "shared" / "data" / "newt-mini")


def table(**changes: list) -> pl.DataFrame:
    """A sound table of two tasks, with columns replaced by name."""
    columns = {
        "id": ["d", "c", "b", "a", "a", "b", "e", "f"],
        "task_cluster": ["behavior"] * 4 + ["counting"] * 4,
        "task_subcluster": ["class"] * 4 + [None] * 4,
        "task": ["two"] * 4 + ["one"] * 4,
        "label": [0, 1, 0, 1, 1, 0, 1, 0],
        "text_label": ["x"] * 8,
        "split": ["train", "train", "test", "test"] * 2,
    }
    return pl.DataFrame({**columns, **changes})


def test_tasks_are_sorted_and_row_order_and_further_columns_change_nothing():
    labels = parse_labels(table())
    one, two = labels.tasks
    assert (one.name, one.cluster, one.subcluster) == ("one", "counting", None)
    assert (two.name, two.cluster, two.subcluster) == ("two", "behavior", "class")
    assert one.train_ids.tolist() == ["a", "b"] and one.train_y.tolist() == [1, 0]
    assert two.test_ids.tolist() == ["a", "b"] and two.test_y.tolist() == [1, 0]
    assert labels.image_ids == ["a", "b", "c", "d", "e", "f"]

    shuffled = parse_labels(table().sample(fraction=1, shuffle=True, seed=1).drop("text_label"))
    assert shuffled.table.equals(labels.table)
    for ours, theirs in zip(labels.tasks, shuffled.tasks, strict=True):
        assert np.array_equal(ours.train_ids, theirs.train_ids) and np.array_equal(ours.train_y, theirs.train_y)
        assert np.array_equal(ours.test_ids, theirs.test_ids) and np.array_equal(ours.test_y, theirs.test_y)


def test_classes_have_names_where_each_has_one():
    assert parse_labels(table()).class_names == {}, "both classes of a task have the same one"
    named = table(text_label=["cat", "dog", "cat", "dog", "many", "few", "many", "none"])
    assert parse_labels(named).class_names == {"two": ("cat", "dog")}, "class 0 of task one has two"
    assert parse_labels(table().drop("text_label")).class_names == {}


def test_csv_and_parquet_hold_the_same_labels(tmp_path: Path):
    numbered = table(id=["007", "01", "1", "2", "2", "1", "3", "4"])
    numbered.write_csv(tmp_path / "labels.csv")
    numbered.write_parquet(tmp_path / "labels.parquet")
    from_csv = read_labels(tmp_path / "labels.csv")
    assert from_csv.table.equals(read_labels(tmp_path / "labels.parquet").table)
    assert from_csv.tasks[1].train_ids.tolist() == ["007", "01"]


def test_the_number_of_tasks_is_said_unless_it_is_newts():
    assert parse_labels(table()).note == "2 tasks, where the whole of NeWT has 164"
    many = pl.concat([table().with_columns(pl.col("task") + f"_{i}") for i in range(82)])
    assert parse_labels(many).note is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ["d", None, "b", "a", "a", "b", "e", "f"]}, "labels.csv, line 3: id is empty"),
        ({"id": ["d", "", "", "a", "a", "b", "e", "f"]}, r"line 3: id is empty.*\(1 more like it\)"),
        ({"task": ["two"] * 4 + [None] * 4}, "line 6: task is empty"),
        ({"task_cluster": [None] * 8}, "line 2: task_cluster is empty"),
        ({"label": [0, 1, 0, 1, 1, 0, 2, 0]}, "line 8: label is '2'; it must be 0 or 1"),
        ({"label": [0.0, 1.0] * 4}, "line 2: label is '0.0'"),
        (
            {"split": ["train", "train", "test", "val"] * 2},
            "line 5: split is 'val'; it must be train or test",
        ),
        ({"id": ["d", "c", "b", "d", "a", "b", "e", "f"]}, "line 5: image 'd' stands in task 'two' already"),
        ({"label": [0, 0, 0, 1, 1, 0, 1, 0]}, "task 'two': no train image of class 1; each split needs both"),
        ({"split": ["train", "test"] * 2 + ["train"] * 4}, "task 'one': no test image of class 0 or 1"),
        (
            {"task_cluster": ["a"] * 4 + ["b", "c"] * 2},
            "task 'one': task_cluster is 'b' and 'c'; a task has one",
        ),
        ({"task_subcluster": ["class", None] * 4}, "task_subcluster is '' and 'class'; a task has one"),
    ],
)
def test_a_problem_names_the_line_or_the_task(tmp_path: Path, changes: dict[str, list], message: str):
    table(**changes).write_csv(tmp_path / "labels.csv")
    with pytest.raises(BBError, match=message) as caught:
        read_labels(tmp_path / "labels.csv")
    assert "labels.csv" in str(caught.value)


def test_missing_columns_files_and_rows_are_named(tmp_path: Path):
    with pytest.raises(
        BBError, match=r"does not have the columns label, split; it has id, .*newt2021_labels.csv has all"
    ):
        parse_labels(table().drop("label", "split"))
    with pytest.raises(BBError, match="does not have the column task;"):
        parse_labels(table().drop("task"))
    with pytest.raises(BBError, match="has a header but no rows"):
        parse_labels(table().clear())
    with pytest.raises(UsageError, match=r"no labels at .*nowhere.csv.*bb data download newt"):
        read_labels(tmp_path / "nowhere.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(BBError, match=r"empty.csv can't be read as a table: .* Fetch or export it again"):
        read_labels(tmp_path / "empty.csv")
    (tmp_path / "no.parquet").write_bytes(b"not parquet")
    with pytest.raises(BBError, match=r"no\.parquet can't be read as a table"):
        read_labels(tmp_path / "no.parquet")


@pytest.mark.skipif(not (PHOTOS / "newt2021_labels.csv").exists(), reason=f"no photographs at {PHOTOS} (BB_PHOTOS)")
def test_newts_own_file_reads():
    labels = read_labels(PHOTOS / "newt2021_labels.csv")
    raw = pl.read_csv(PHOTOS / "newt2021_labels.csv")
    assert len(labels.tasks) == raw["task"].n_unique()
    assert sum(len(task.train_ids) + len(task.test_ids) for task in labels.tasks) == len(raw)
    assert {task.subcluster for task in labels.tasks} == set(raw["task_subcluster"].unique())


def test_digits_are_45_sound_tasks():
    from sklearn.datasets import load_digits

    digits = load_digits().target
    ids = [f"{i:04d}.png" for i in range(len(digits))]
    rows = digits_labels(ids, digits)
    labels = parse_labels(rows)
    assert len(labels.tasks) == 45 and len(labels.image_ids) == 1797 and len(rows) == 9 * 1797
    assert {task.cluster for task in labels.tasks} == {"digits"}

    three_vs_eight = next(task for task in labels.tasks if task.name == "digit_3_vs_8")
    threes = {image_id for image_id, digit in zip(ids, digits, strict=True) if digit == 3}
    assert set(three_vs_eight.train_ids[three_vs_eight.train_y == 0]) <= threes
    train = {i for task in labels.tasks for i in task.train_ids}
    test = {i for task in labels.tasks for i in task.test_ids}
    assert not train & test and 0.45 < len(test) / 1797 < 0.55
