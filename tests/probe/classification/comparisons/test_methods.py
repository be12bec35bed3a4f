"""The paragraph for a paper names what the runs of a board record."""

from dataclasses import replace

import pytest

from bb.probe.classification.board import boards
from bb.probe.classification.comparisons.methods import bibtex, methods
from bb.store import Store
from tests.helpers.classified import put_classified


@pytest.fixture
def board(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    for name in ("timm:a", "timm:b"):
        put_classified(store, name, 0.8, ["ant", "bee"], images=40)
    return boards(list(store.runs()))[0]


def test_it_names_backbones_split_classifier_and_digests(board):
    said = methods(board)
    record = board.rows[0].run.record
    assert "We compared 2 frozen vision backbones" in said and f"{board.n} test images" in said
    assert record["classifier"] in said and record["test_set"][:12] in said and board.rows[0].run.run_id[:12] in said
    assert ("95% intervals of" in said) == (board.rows[0].metrics[board.metric]["low"] is not None)
    assert "@misc{bb," in bibtex(board)


def test_parameters_shots_and_a_protocol_are_those_of_the_runs(board):
    row = board.rows[0]
    record = row.run.record | {
        "parameters": {"preprocessing": "l2", "estimator": {"C": [0.1, 1.0, 10.0, 100.0], "k": 20, "x": None}},
        "published": {"name": "dinov2-knn", "source": "dinov2, knn.py"},
        "n_train": 5,
        "train_used": "0" * 64,
    }
    one = replace(row, run=replace(row.run, record=record))
    said = methods(replace(board, rows=(one,), protocol="dinov2-knn"))
    assert "on features scaled to unit length (C 0.1 to 100 in 4 steps, k 20)" in said
    assert "The protocol dinov2-knn is after dinov2, knn.py." in said and "were drawn; seeds 0." in said


def test_folds_groups_and_the_intervals_name_are_said(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    put_classified(store, "timm:a", 0.8, ["ant", "bee"], images=40, groups=8)
    (board,) = boards(list(store.runs()))
    said = methods(board)
    assert "by stratified cross-validation (5 folds). The test images are of 8 groups." in said
    assert ", after Agresti and Coull, with a variance from the influence of each independent unit." in said
