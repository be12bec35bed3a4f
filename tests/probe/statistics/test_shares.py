"""Uneven classes: the commonest class's rate, balanced accuracy in its place, and models that name one class alone."""

import csv
import io

import numpy as np
import polars as pl
import pytest

from bb.probe.report.build import boards
from bb.probe.report.formats.csv_file import sheet
from bb.probe.report.formats.html import page
from bb.probe.report.formats.latex import latex_tables
from bb.probe.report.formats.markdown import markdown_tables
from bb.probe.report.options import ReportOptions
from bb.probe.statistics.shares import constant_notes, is_uneven, majority
from bb.store import Store
from tests.helpers.boards import put
from tests.helpers.tables import table_of


def rows_of(positives, right, *, tasks=8, images=36):
    """Predictions of tasks with that many of class 1, each right with a chance; None says 0 always."""
    rng = np.random.default_rng(1)
    y = np.tile((np.arange(images) < positives).astype(np.uint8), tasks)
    answers = np.zeros_like(y) if right is None else np.where(rng.random(len(y)) < right, y, 1 - y).astype(np.uint8)
    names = np.repeat([f"t{t:02}" for t in range(tasks)], images)
    return pl.DataFrame(
        {
            "task": names,
            "cluster": ["c"] * len(y),
            "subcluster": pl.Series([None] * len(y), dtype=pl.String),
            "image_id": [f"{name}-{i % images:03}" for i, name in enumerate(names)],
            "y_true": y,
            "y_pred": answers,
            "decision": answers - 0.5,
            "score": (answers == y).astype(np.float32),
        }
    )


def board_of(folder, positives, **question):
    store = Store.create(folder)
    for name, right in (("timm:sees", 0.8), ("timm:no", None)):
        put(store, name, 0, rows=rows_of(positives, right), tasks=8, images=36)
    (board,) = boards(store.runs(), "newt", ReportOptions(kinds=("task",), details=True, **question))
    return board


def test_uneven_classes_are_scored_by_balanced_accuracy(tmp_path):
    board = board_of(tmp_path / "a.bb", 6)
    assert board.metric == "balanced_accuracy" and board.guessing == "chance 0.500" and board.majority is None
    assert [row.label for row in board.rows] == ["timm:sees", "timm:no"]
    assert board.rows[1].cells[10].mean == pytest.approx(0.5)
    assert (
        "always naming the commonest class has an accuracy of 0.833, so scores are balanced accuracy; "
        "--metric accuracy shows accuracy" in board.notes
    )
    assert "timm:no at n_train 10 always says 0 in 8 of 8 tasks" in board.notes
    assert not any("timm:sees at" in note for note in board.notes)


def test_accuracy_stands_beside_what_the_commonest_class_scores(tmp_path):
    board = board_of(tmp_path / "a.bb", 6, metric="accuracy")
    assert board.metric == "accuracy" and board.majority == pytest.approx(30 / 36)
    assert board.rows[0].label == "timm:no" and board.rows[0].cells[10].mean == pytest.approx(30 / 36)
    words = "chance 0.500, always the commonest class 0.833"
    assert board.guessing == words and board.record()["majority"] == pytest.approx(30 / 36)
    for text in (latex_tables([board]), markdown_tables([board]), page([board])):
        assert words in text and "always says 0 in 8 of 8 tasks" in page([board])
    (first, *_) = csv.DictReader(io.StringIO(sheet([board])))
    assert float(first["majority"]) == pytest.approx(30 / 36) and first["chance"] == "0.5"


def test_even_classes_stay_with_accuracy(tmp_path):
    board = board_of(tmp_path / "a.bb", 18)
    assert board.metric == "accuracy" and board.guessing == "chance 0.500" and board.majority == 0.5


def test_the_commonest_class_over_images_and_over_tasks():
    table = table_of(np.ones((1, 50)), tasks=["a"] * 40 + ["b"] * 10, y_true=[0] * 36 + [1] * 4 + [0, 1] * 5)
    assert majority(table, "images") == pytest.approx(41 / 50) and majority(table, "tasks") == pytest.approx(0.7)
    assert is_uneven(table)
    one = table_of(np.ones((1, 4)), y_true=[1] * 4)
    assert majority(one, "images") == 1 and not is_uneven(one)


def test_models_that_name_one_class_are_noted_with_their_draws():
    y = np.tile([0, 1], 10)
    answers = np.stack([y, np.ones(20, np.int64), np.r_[np.zeros(10), np.ones(10)].astype(np.int64), 1 - y])
    table = table_of(answers == y, tasks=["a"] * 10 + ["b"] * 10, y_true=y, y_pred=answers, draws=2)
    assert constant_notes(table, ["m", "n"]) == [
        "m always says 1 in 2 of 4 draws of 2 tasks",
        "n says one class alone in 2 of 4 draws of 2 tasks",
    ]
    alone = table_of(np.ones((12, 4)), y_true=[0, 1, 0, 1], y_pred=np.zeros((12, 4), np.int64))
    notes = constant_notes(alone, [f"m{k}" for k in range(12)])
    assert len(notes) == 11 and notes[-1] == "2 more backbones name one class alone in some tasks"
