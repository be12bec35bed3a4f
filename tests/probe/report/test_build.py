"""Runs to boards: what is best, tied, different, hard; where it comes from; and what is refused."""

import json
import math

import numpy as np
import polars as pl
import pytest

from probe.board import KINDS
from probe.metrics import METRICS
from probe.origin import origin
from probe.question import Question
from probe.reference import Reference, read_reference
from probe.report import boards
from store import Store
from store.errors import BBError, UsageError
from tests.boards import predictions, put, sha, small_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("report") / "s.bb")


def board_of(store, **question):
    (board,) = boards(store.runs(), "newt", Question(resamples=400, **question))
    return board


def test_the_best_its_ties_its_letters_and_its_rank(store):
    board = board_of(store)
    assert board.columns == (4, 10) and [row.label for row in board.rows][-1] == "timm:poor"
    for n in board.columns:
        cells = {row.label: row.cells[n] for row in board.rows}
        assert sum(cell.best for cell in cells.values()) == 1
        assert {label for label, cell in cells.items() if cell.best or cell.tied} == {"timm:good", "timm:alike"}
        assert cells["timm:poor"].rank == (3, 3, 3) and cells["timm:poor"].group == "b"
        assert cells["timm:good"].group == cells["timm:alike"].group == "a"
        for cell in cells.values():
            assert cell.estimate.low <= cell.mean <= cell.estimate.high and cell.estimate.holds
            assert cell.rank.low <= cell.rank.rank <= cell.rank.high


def test_scores_are_the_mean_of_the_runs_own(store):
    by_run = {run.run_id: run.record["scores"]["mean"] for run in store.runs()}
    for row in board_of(store).rows:
        for cell in row.cells.values():
            assert cell.mean == pytest.approx(np.mean([by_run[made.run_id] for made in cell.origin.runs]))


def test_differences_to_a_baseline(store):
    board = board_of(store, baseline="timm:poor")
    for row in board.rows:
        for n, cell in row.cells.items():
            if row.label == "timm:poor":
                assert cell.delta is None
            else:
                base = next(r for r in board.rows if r.label == "timm:poor").cells[n]
                assert cell.delta.difference == pytest.approx(cell.mean - base.mean)
                assert cell.delta.low < cell.delta.difference < cell.delta.high and 0 < cell.delta.p < 0.05
    with pytest.raises(UsageError, match="--baseline timm:none has no runs: there are those of timm:alike, timm:good"):
        board_of(store, baseline="timm:none")


def test_splits_tell_clusters_subclusters_and_tasks_apart(store):
    board = board_of(store, kinds=KINDS, details=True)
    cell = board.rows[0].cells[10]
    assert set(cell.splits["cluster"]) == {"c", "d"} and set(cell.splits["subcluster"]) == {"c/s"}
    assert set(cell.splits["task"]) == {task.name for task in board.task_list}
    assert cell.mean == pytest.approx(np.mean([e.mean for e in cell.splits["task"].values()]))
    assert sum(share for share in cell.variance.values()) == pytest.approx(1)


def test_the_hardest_images_are_those_most_get_wrong(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    for place in range(3):
        rows = predictions(np.random.default_rng(0), 1.0, tasks=1, images=4)
        right = pl.Series([float(image >= place) for image in range(1, 5)], dtype=pl.Float32)  # image 0 is hardest
        put(store, f"timm:{place}", 1, tasks=1, images=4, rows=rows.with_columns(score=right))
    (task,) = board_of(store, details=True).task_list
    assert [(hard.image_id, hard.wrong) for hard in task.hardest] == [("t00-000", pytest.approx(1 / 3))]


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_a_board(store, metric):
    board = board_of(store, metric=metric)
    assert board.average == ("images" if metric == "accuracy" else "tasks")
    assert (board.chance is None) == (metric in ("macro_f1", "average_precision"))
    assert all(0 <= cell.mean <= 1 for row in board.rows for cell in row.cells.values())


def test_intervals_claim_what_was_resampled(store, tmp_path):
    claims = {over: board_of(store, over=over).claim for over in ("images", "draws", "tasks")}
    assert claims["images"].endswith("95% intervals for further test images")
    assert claims["draws"].endswith("for further draws of training images and further test images")
    assert claims["tasks"].endswith("for further tasks like these")
    every = small_store(tmp_path / "all.bb", shots=(4, "all"))
    assert "n_train all has no draws" in board_of(every, over="draws").notes[0]
    groups = {f"t{t:02}-{i:03}": f"site {i % 7}" for t in range(4) for i in range(40)}
    grouped = board_of(store, groups=lambda name: groups, units="groups of test images (site)")
    assert grouped.claim.endswith("for further groups of test images (site)")


def test_columns_and_order_are_chosen(store):
    assert board_of(store, n_train=(4,)).columns == (4,)
    assert [row.label for row in board_of(store, sort="name").rows] == ["timm:alike", "timm:good", "timm:poor"]
    by_four = board_of(store, sort=4).rows
    assert [row.cells[4].mean for row in by_four] == sorted((row.cells[4].mean for row in by_four), reverse=True)
    with pytest.raises(UsageError, match="there are no runs at n_train 5: there are those at 4, 10"):
        board_of(store, n_train=(5,))
    with pytest.raises(UsageError, match="--sort 7 is no column: write score, name, or one of 4, 10"):
        board_of(store, sort=7)
    with pytest.raises(UsageError, match="no metric is called 'f2': choose accuracy"):
        board_of(store, metric="f2")


def test_the_record_is_plain_json_and_whole(store):
    record = json.loads(json.dumps(board_of(store, kinds=KINDS, details=True).record(), allow_nan=False))
    assert [cell["n_train"] for cell in record["rows"][0]["cells"]] == [4, 10]
    cell = record["rows"][0]["cells"][0]
    assert cell["seeds"] == len(cell["runs"]) == 2 and cell["low"] <= cell["mean"] <= cell["high"]
    assert len(record["task_list"]) == 4


def test_where_a_figure_comes_from(store):
    cell = board_of(store).rows[0].cells[10]
    assert cell.origin.devices == ("NVIDIA H100",) and cell.origin.seeds == (0, 1)
    assert cell.origin.command == (
        f"bb probe newt --space {cell.origin.space} --data pics@{sha('collection')} --protocol biobench "
        f"--n-train 10 --seed 0 --seed 1 --backend exact"
    )
    assert cell.origin.extract == f"bb extract --ckpt {cell.origin.backbones[0]} --data pics=DIR"


@pytest.mark.parametrize(
    "changes",
    [
        {"collection_name": "a; rm -rf ~"},
        {"collection_name": "--help"},
        {"svm": "linear $(id)"},
    ],
)
def test_no_command_is_made_of_what_is_no_word_of_the_command_line(tmp_path, changes):
    run = put(Store.create(tmp_path / "s.bb"), "timm:x; id", 0.8, **changes)
    found = origin([run])
    assert found.command is None and found.extract is None
    (board,) = boards([run], "newt", Question(resamples=100))
    assert board.rows[0].cells[10].origin.command is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("n_train", value) for value in (0, -1, True, "some", [1], 1e300)),
        *(("seed", value) for value in ("0", -1, 1.5)),
        *(("space", value) for value in (None, "x")),
        *(("scores", value) for value in (None, {"chance": "0.5"})),
        *(("provenance", value) for value in ({}, {"made": 5})),
        *(("backbones", value) for value in ("timm:x", [1])),
        ("collection_name", None), ("identical_to_sklearn", "yes"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_is_left_out_and_said(tmp_path, field, value):
    store = Store.create(tmp_path / "s.bb")
    good = put(store, "timm:good", 0.8)
    bad = put(store, "timm:bad", 0.8, seed=1)
    bad.record[field] = value
    said = []
    (board,) = boards([good, bad], "newt", Question(resamples=100), said.append)
    assert [row.label for row in board.rows] == ["timm:good"]
    assert len(said) == 1 and f"is damaged: its run.json has the {field}" in said[0]


def test_a_published_table_is_laid_beside(store, tmp_path):
    file = tmp_path / "theirs.csv"
    file.write_text("task,ckpt,score\nt00,timm:good,0.5\nt01,timm:good,0.7\nt99,timm:good,0.1\n")
    board = board_of(store, reference=read_reference(file))
    cell = next(row for row in board.rows if row.label == "timm:good").cells[10]
    whole = board_of(store, kinds=("task",))
    ours = next(row for row in whole.rows if row.label == "timm:good").cells[10].splits["task"]
    assert cell.beside.score == pytest.approx(0.6) and cell.beside.tasks == 2
    assert cell.beside.difference == pytest.approx((ours["t00"].mean + ours["t01"].mean) / 2 - 0.6)
    assert all(row.cells[10].beside is None for row in board.rows if row.label != "timm:good")
    assert board.notes == ("theirs.csv has the task 't99', which is none of ours",)
    none = board_of(store, reference=Reference("none.csv", {"other": {"t00": 0.5}}))
    assert none.notes == ("none.csv has no score of these backbones on these tasks",)


def test_a_reference_for_the_whole_family_lies_beside_the_whole(store, tmp_path):
    file = tmp_path / "leaderboard.csv"
    file.write_text("task,ckpt,score\nnewt,timm:good,0.8\nbeluga,timm:good,0.03\n")
    board = board_of(store, reference=read_reference(file))
    for row in board.rows:
        for cell in row.cells.values():
            expected = (0.8, cell.mean, board.n_tasks) if row.label == "timm:good" else None
            assert cell.beside == expected
    assert "leaderboard.csv has the task 'beluga', which is none of ours" in board.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task,model,score\n", "lacks the column ckpt; it has task, model, score. A reference has task, ckpt, score"),
        ("task,ckpt,score\nt,a,much\n", "line 2: the score 'much' is no number from 0 to 1"),
        ("task,ckpt,score\nt,a,1\nt,b,87.5\n", "line 3: the score '87.5' is no number from 0 to 1"),
        ("task,ckpt,score\nt,a,nan\n", "line 2: the score 'nan' is no number"),
        ("task,ckpt,score\n,a,1\n", "line 2: every row needs a task and a ckpt"),
        ("task,ckpt,score\nt,a,1\nt,a,0\n", "line 3: a has a score for task 't' already; keep one of the rows"),
        ("", "can't be read as CSV"),
    ],
)
def test_a_reference_that_is_none_is_refused(tmp_path, text, message):
    file = tmp_path / "r.csv"
    file.write_text(text)
    with pytest.raises(BBError, match=message):
        read_reference(file)


def test_a_reference_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no such file. It has the columns task, ckpt, score"):
        read_reference(tmp_path / "none.csv")


def test_rows_with_one_name_are_told_apart(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    for space in ("a", "b"):
        put(store, "timm:x", 0.8, space=sha(space))
    board = board_of(store, baseline="timm:x")
    assert {row.label for row in board.rows} == {f"timm:x ({sha(space)[:12]})" for space in "ab"}
    assert "the baseline timm:x is several rows here" in board.notes[0]


def test_a_metric_without_a_value_is_said(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    rows = predictions(np.random.default_rng(0), 0.8, tasks=1, images=6)
    rows = rows.with_columns(y_true=pl.Series([0] * 6, dtype=pl.UInt8))
    put(store, "timm:x", 1, tasks=1, images=6, rows=rows)
    with pytest.raises(BBError, match="auroc has no value on any of these tasks: choose another metric"):
        board_of(store, metric="auroc")
    assert not math.isnan(board_of(store).rows[0].cells[10].mean)
