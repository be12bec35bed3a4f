"""Sentences, groups, hard images and confusion of classification's page, on planted runs."""

import numpy as np
import polars as pl
import pytest

from bb.probe.classification.board import boards, details
from bb.probe.classification.report import confusion
from bb.probe.classification.report import findings as of_findings
from bb.probe.classification.report.findings import findings
from bb.probe.classification.report.hard_images import best_of_each, groups_of, hardest
from bb.probe.classification.report.page import page
from bb.probe.statistics.multiclass.by_class import Confused
from bb.store import Store
from tests.helpers.boards import sha
from tests.helpers.classified import put_classified

KINDS = ["ara", "bat", "cat"]


def board_of(folder, *scores, **options):
    """A board of backbones a, b, …; scores are shares of right answers."""
    store = Store.create(folder / "s.bb")
    for name, accuracy in zip("abcdefgh", scores, strict=False):
        put_classified(store, name, accuracy, KINDS, **{"images": 300, **options})
    (board,) = boards(list(store.runs()))
    return board


def test_the_best_is_said_to_be_it_only_where_no_other_shares_its_letter(tmp_path):
    board = board_of(tmp_path, 0.97, 0.5)
    assert "a is the best of 2 runs: 0.9" in findings(board)[0] and "every other" in findings(board)[0]
    assert [(row.group, row.ranks) for row in board.rows] == [("a", (1, 1)), ("b", (2, 2))]
    assert findings(board)[-1].startswith("It most often takes ")


def test_what_cannot_be_told_apart_is_said(tmp_path):
    board = board_of(tmp_path, 0.8, 0.79, 0.3)
    first, second, last = board.rows
    assert second.tied and last.tied is False and (first.group, second.group, last.group) == ("a", "a", "b")
    assert first.ranks == second.ranks == (1, 2) and last.ranks == (3, 3)
    assert f"It can't be told apart from {second.name}." in findings(board)[0]
    assert "is the best" not in findings(board)[0]


def test_equal_scores_have_no_leader(tmp_path):
    board = board_of(tmp_path, 1.0, 1.0, 0.5)
    assert findings(board)[0].startswith("a and b have the same highest accuracy: 1.000 (95% interval 0.9")
    none = board_of(tmp_path / "none", 1.0, 1.0, groups=3)
    assert findings(none) == ["a and b have the same highest accuracy: 1.000."]


def test_what_is_confused_most_often_is_said_to_be_it_only_where_nothing_else_is_as_often(tmp_path, monkeypatch):
    board = board_of(tmp_path, 0.9, 0.5)
    classes, _, answers = details(board, board.rows[0])
    for second, said in ((1, "It takes ara for bat as often as any class for another: 1 image, 10% of that class."),
                         (0, "It most often takes ara for bat: 1 image, 10% of that class.")):  # fmt: skip
        pairs = [Confused(0, 1, 1, 0.1), Confused(1, 2, 1, 0.05)][: second + 1]
        monkeypatch.setattr(of_findings, "details", lambda *_, pairs=pairs: (classes, pairs, answers))
        assert said in findings(board)


def test_one_run_and_guessing(tmp_path):
    board = board_of(tmp_path, 0.34)
    said = findings(board)
    assert said[0].endswith("There is no other run to compare it with.") and board.rows[0].group == ""
    assert said[1].startswith("Even a can't be told apart from ")


def test_too_few_groups_leave_open_how_sure_it_is(tmp_path):
    board = board_of(tmp_path, 0.9, 0.5, groups=3)
    assert all(row.tied is None and row.group == "" and row.ranks is None for row in board.rows[1:])
    assert "no interval says how sure that is" in findings(board)[0]


def test_the_page_says_why_there_is_no_interval_as_the_terminal_does(tmp_path):
    board = board_of(tmp_path, 0.9, 0.5, groups=3)
    said = board.unstated(("accuracy", "nll"))
    assert any("3 groups" in line for line in said) and all(line.startswith("no interval: ") for line in said)
    written = page([board], {})
    assert all(f"<li>{line}</li>" in written for line in said) and "title=" not in written.partition("<table")[2]


def test_boards_of_a_task_are_together_in_the_order_of_their_seeds(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    for seed in (10, 9, 1):
        run = put_classified(store, "a", 0.9, KINDS, images=60, seed=seed)
        record = {**run.record, "test_set": sha(f"test {seed}"), "run_id": sha(f"run {seed}")}
        store.put_run(record, run.predictions(), run.train())
    found = boards([run for run in store.runs() if run.record["test_set"] != sha("pets")])
    assert [board.rows[0].run.record["seed"] for board in found] == [1, 9, 10]


def test_what_more_labels_bring(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    for shots, accuracy in ((2, 0.5), (8, 0.7), (32, 0.85)):
        put_classified(store, "a", accuracy, KINDS, images=600, n_train=shots)
    (board,) = boards(list(store.runs()))
    assert findings(board)[-1].startswith("32 more training images of each class could bring a, logistic from 0.8")


def test_the_hardest_images_have_each_ones_answer(tmp_path):
    board = board_of(tmp_path, 0.9, 0.6, 0.5)
    assert [row.name for row in best_of_each(board)] == ["a", "b", "c"]
    found = hardest(board)
    assert [hard.wrong for hard in found] == sorted((hard.wrong for hard in found), reverse=True)
    for hard in found:
        wrong = [answer != hard.true for answer in hard.predicted.values()]
        assert hard.wrong == pytest.approx(np.mean(wrong)) and set(hard.predicted) == {"a", "b", "c"}
        rows = board.rows[0].run.predictions().filter(pl.col("image_id") == hard.image_id)
        assert rows["y_pred"].item() == hard.predicted["a"] and rows["y_true"].item() == hard.true


def test_groups_are_named_the_worst_first(tmp_path):
    board = board_of(tmp_path, 0.8, groups=7)
    found = groups_of(board, board.rows[0])
    shares = [each.right / each.n for each in found]
    assert {each.name for each in found} == {f"site {k}" for k in range(7)} and shares == sorted(shares)
    board.rows[0].run.record["group_names"] = "none"
    assert {each.name for each in groups_of(board, board.rows[0])} == {f"group {k}" for k in range(7)}
    assert "<h3>Groups</h3>" in page([board], {})
    alone = board_of(tmp_path / "alone", 0.8)
    assert groups_of(alone, alone.rows[0]) == []


def test_a_large_matrix_has_parts_that_hold_each_class_once():
    rng = np.random.default_rng(0)
    counts = np.diag(np.full(130, 9)) + np.roll(np.eye(130, dtype=int), 1, axis=1) * rng.integers(0, 3, 130)
    parts = confusion.parts_of(counts, confusion.similar(counts))
    assert sorted(k for part in parts for k in part.classes) == list(range(130))
    for part in parts:
        outside = np.delete(counts[part.classes], part.classes, axis=1)
        assert part.leaving == outside.sum() and len(part.classes) <= confusion.PART
    names = [f"<b>{k}" for k in range(130)]
    inside, width, height = confusion.whole_picture(counts, parts, "key")
    assert inside.count("<a href") == len(parts) and 'href="#key-0"' in inside and (width, height) == (600, 600)
    named, *_ = confusion.named_picture(counts, confusion.most_confused(counts), names)
    assert "<b>" not in named and named.count('class="right"') == confusion.LARGEST


def test_confused_classes_stand_together():
    counts = np.diag([8, 8, 8, 8])
    counts[0, 3] = counts[3, 0] = 6
    order = confusion.similar(counts).tolist()
    assert abs(order.index(0) - order.index(3)) == 1
    assert confusion.similar(np.array([[1]])).tolist() == [0]
