"""Runs to boards: what is best, tied, different, hard; where it comes from; and what is refused."""

import hashlib
import json
import math
import re

import numpy as np
import polars as pl
import pytest

from bb.probe.report.build import boards
from bb.probe.report.formats import svg as figure
from bb.probe.report.leaderboard import KINDS
from bb.probe.report.options import ReportOptions
from bb.probe.report.provenance import origin
from bb.probe.report.reference import Reference, ReferenceScore, read_reference
from bb.probe.statistics.metrics import METRICS
from bb.store import Store
from bb.store.errors import BBError, UsageError
from tests.helpers.boards import predictions, put, sha, small_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("report") / "s.bb")


def board_of(store, **question):
    (board,) = boards(store.runs(), "newt", ReportOptions(resamples=400, **question))
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
    assert claims["tasks"].endswith(
        "; no intervals (4 tasks are too few: an interval needs 5) for further tasks like these"
    )
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
    with pytest.raises(UsageError, match="found no runs at n_train 5: choose from 4, 10"):
        board_of(store, n_train=(5,))
    with pytest.raises(UsageError, match="--sort 7 is not a column: write score, name, or one of 4, 10"):
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


def test_the_command_of_a_run_without_some_images_leaves_them_out_again(tmp_path):
    found = origin([put(Store.create(tmp_path / "s.bb"), "timm:x", 0.8, missing={"cut.jpg": "it is cut off"})])
    assert "--missing skip" in found.command.split(" --seed")[1] and "--max-missing" not in found.command


def test_damaged_images_that_runs_used_are_named(tmp_path):
    store, few = Store.create(tmp_path / "s.bb"), {"count": 1, "images": {"cut.jpg": "premature end"}}
    put(store, "timm:x", 0.8, damaged=few, n_train=4)
    put(store, "timm:x", 0.8, damaged={"count": 2, "images": {**few["images"], "zeros.jpg": "bad code"}})
    put(store, "timm:y", 0.8, damaged={"count": 0, "images": {}})
    (note,) = (note for note in board_of(store).notes if "damaged" in note)
    assert note == (
        "timm:x: 2 of its images are damaged and embedded as decoded: cut.jpg (premature end), zeros.jpg (bad code)"
    )


@pytest.mark.parametrize("share, given", [(0.25, True), (2.0, False), ("0.5 --force", False)])
def test_the_command_of_a_run_allows_the_share_that_the_run_allowed(tmp_path, share, given):
    run = put(Store.create(tmp_path / "s.bb"), "timm:x", 0.8, missing={"cut.jpg": "it is cut off"}, max_missing=share)
    assert (f"--missing skip --max-missing {share}" in origin([run]).command) is given


@pytest.mark.parametrize(
    "changes",
    [
        {"collection_name": "a; rm -rf ~"},
        {"collection_name": "--help"},
        {"classifier": "linear $(id)"},
    ],
)
def test_no_command_is_made_of_what_is_no_word_of_the_command_line(tmp_path, changes):
    run = put(Store.create(tmp_path / "s.bb"), "timm:x; id", 0.8, **changes)
    found = origin([run])
    assert found.command is None and found.extract is None
    (board,) = boards([run], "newt", ReportOptions(resamples=100))
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
    (board,) = boards([good, bad], "newt", ReportOptions(resamples=100), said.append)
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
    assert board.notes[0] == "theirs.csv has the task 't99', which is none of ours"
    assert board.notes[1:] == ("~ theirs.csv does not compare in 2 cells: it does not state protocol and n_train",)
    none = board_of(store, reference=Reference("none.csv", {"other": {"t00": ReferenceScore(0.5)}}))
    assert none.notes == ("none.csv has no score of these backbones on these tasks",)


def test_a_reference_for_the_whole_family_lies_beside_the_whole(store, tmp_path):
    file = tmp_path / "leaderboard.csv"
    file.write_text("task,ckpt,score\nnewt,timm:good,0.8\nbeluga,timm:good,0.03\n")
    board = board_of(store, reference=read_reference(file))
    for row in board.rows:
        for cell in row.cells.values():
            expected = (0.8, cell.mean, board.n_tasks) if row.label == "timm:good" else None
            assert (cell.beside and cell.beside[:3]) == expected
    assert "~ leaderboard.csv does not compare in 2 cells: it is over all 164 tasks, ours over 4" in board.notes
    assert "leaderboard.csv has the task 'beluga', which is none of ours" in board.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "task,model,score\n",
            "does not have the column ckpt; it has task, model, score. A reference has task, ckpt, score",
        ),
        ("task,ckpt,score\nt,a,much\n", "line 2: the score 'much' is not a number from 0 to 1"),
        ("task,ckpt,score\nt,a,1\nt,b,87.5\n", "line 3: the score '87.5' is not a number from 0 to 1"),
        ("task,ckpt,score\nt,a,nan\n", "line 2: the score 'nan' is not a number"),
        ("task,ckpt,score\n,a,1\n", "line 2: every row needs a task and a ckpt"),
        ("task,ckpt,score,n_train\nt,a,1,few\n", "line 2: the n_train 'few' is neither all nor a number from 2 up"),
        ("task,ckpt,score\nt,a,1\nt,a,0\n", "line 3: a has a score for task 't' already; keep one of the rows"),
        ("", "can't be read as a table: it is empty"),
    ],
)
def test_a_reference_that_is_none_is_refused(tmp_path, text, message):
    file = tmp_path / "r.csv"
    file.write_text(text)
    with pytest.raises(BBError, match=message):
        read_reference(file)


def test_a_reference_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="the file does not exist. It has the columns task, ckpt, score"):
        read_reference(tmp_path / "none.csv")


def obstacles(run, reference, **question):
    """What keeps a reference's score of the whole family from comparing with the cell of one run."""
    board = board_of(run, reference=reference, **question)
    (row,) = [row for row in board.rows if row.label == "timm:x"]
    ((_, cell),) = row.cells.items()
    return [why for why in cell.beside.obstacles if "164" not in why]


@pytest.mark.parametrize(
    ("made", "published", "reasons"),
    [
        ({"n_train": "all", "pooling": "cls"}, ("biobench", "all"), []),
        ({"n_train": "all", "pooling": "max"}, ("biobench", "all"), []),
        ({"n_train": "all", "pooling": "cls"}, ("newt2021", "all"), ["its protocol is newt2021, ours biobench"]),
        ({"n_train": "all", "pooling": "cls"}, (None, "all"), ["it does not state protocol"]),
        ({"pooling": "cls"}, ("biobench", "all"), ["its n_train is all, ours 10"]),
        ({"pooling": "cls"}, ("biobench", 10), ["its training images are another draw"]),
        (
            {"n_train": "all", "pooling": "avg"},
            ("biobench", "all"),
            ["biobench takes a class token or the maximum of a timm network, our pooling is avg"],
        ),
        (
            {"n_train": "all", "pooling": None},
            ("biobench", "all"),
            ["biobench takes a class token or the maximum of a timm network, our runs do not record the pooling"],
        ),
    ],
)
def test_what_keeps_a_published_score_from_comparing_is_said(tmp_path, made, published, reasons):
    store = Store.create(tmp_path / "s.bb")
    put(store, "timm:x", 0.8, **made)
    reference = Reference("r.csv", {"timm:x": {"newt": ReferenceScore(0.8, *published)}})
    assert obstacles(store, reference) == reasons


def test_a_forced_classifier_and_another_metric_keep_a_published_score_from_comparing(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    put(store, "timm:x", 0.8, n_train="all", pooling="cls", classifier="search")
    reference = Reference("r.csv", {"timm:x": {"newt": ReferenceScore(0.8, "biobench", "all")}})
    board = board_of(store, reference=reference)
    (cell,) = board.rows[0].cells.values()
    assert board.rows[0].label == "timm:x --svm search"
    assert "its classifier is the protocol's (linear), ours search" in cell.beside.obstacles
    (cell,) = board_of(store, reference=reference, metric="macro_f1").rows[0].cells.values()
    assert "it is taken for accuracy, ours is macro f1" in cell.beside.obstacles


def test_runs_on_other_training_images_or_labels_stand_on_another_board(tmp_path):
    """One site's images, shuffled labels and the real ones are no seeds of one cell."""
    store = Store.create(tmp_path / "s.bb")
    for seed, (pool, name) in enumerate((("real", None), ("shuffled", "shuffled"), ("site", "site-a"))):
        put(store, "timm:x", 0.8, seed=seed, train_pool=sha(pool), labels_name=name)
    put(store, "timm:x", 0.8, seed=3, train_pool=sha("real"))
    found = boards(store.runs(), "newt", ReportOptions(resamples=100))
    seeds = {
        board.title: [len(cell.origin.runs) for row in board.rows for cell in row.cells.values()] for board in found
    }
    assert seeds == {"newt on pics": [2], "newt on pics, labels shuffled": [1], "newt on pics, labels site-a": [1]}
    assert {board.train_pool for board in found} == {sha("real"), sha("shuffled"), sha("site")}


def test_runs_that_do_not_record_their_training_pool_are_noted(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    run = put(store, "timm:x", 0.8)
    del run.record["train_pool"]
    (board,) = boards([run], "newt", ReportOptions(resamples=100))
    assert board.train_pool == "" and "made before bb recorded the labelled images" in board.notes[0]


def test_requests_share_the_cells_in_which_they_ask_for_the_same_classifier(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    for n_train, classifier in ((4, "linear"), (10, "search"), (10, "linear"), ("all", "linear")):
        put(store, "timm:x", 0.8, n_train=n_train, classifier=classifier)
    board = board_of(store)
    cells = {row.label: {n: cell.origin.classifier for n, cell in row.cells.items()} for row in board.rows}
    assert cells == {
        "timm:x": {4: "linear", 10: "search", "all": "linear"},
        "timm:x --svm linear": {4: "linear", 10: "linear", "all": "linear"},
    }
    own, forced = (next(row for row in board.rows if row.label == label) for label in cells)
    assert own.cells[4] is forced.cells[4] and own.cells[4].rank.rank == 1, "it is one model, which is ranked once"
    assert board.heads == {4: "n_train 4 (linear)", 10: "n_train 10 (search)", "all": "n_train all (linear)"}


def test_a_row_with_no_cell_of_its_own_is_left_out(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    for n_train in (4, 10):
        put(store, "timm:x", 0.8, n_train=n_train, classifier="linear")
    board = board_of(store)
    assert [row.label for row in board.rows] == ["timm:x --svm linear"]
    assert board.heads[10] == "n_train 10 (linear)"


def test_a_curve_breaks_where_the_classifier_changes(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    for n_train in (2, 4, 10, 20, "all"):
        put(store, "timm:x", 0.8, n_train=n_train)
    drawn = figure.curves(board_of(store))[0]
    points = [line.split(" ") for line in re.findall(r'<polyline class="line" points="([^"]*)"', drawn)]
    assert [len(segment) for segment in points] == [2, 2, 1]
    assert [text for text in re.findall(">([a-z]+)</text>", drawn) if text in ("linear", "search")] == [
        *("linear", "search", "linear")
    ]


def test_runs_on_two_versions_of_a_collection_are_noted(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    put(store, "timm:x", 0.8)
    assert board_of(store).notes == ()
    put(store, "timm:y", 0.8, collection=sha("newer"))
    assert "runs on several versions of the collection are compared" in board_of(store).notes[0]


def test_classes_are_called_by_their_names(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    put(store, "timm:x", 0.5, class_names={"t00": ["cat", "dog"]})
    named, plain, *_ = board_of(store, details=True).task_list
    assert [named.class_name(y) for y in (0, 1)] == ["cat", "dog"]
    assert [plain.class_name(y) for y in (0, 1)] == ["class 0", "class 1"]


def test_too_few_training_images_are_noted_beside_the_column(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    put(store, "timm:x", 0.8, n_train=40, n_used=[33, 40])
    assert board_of(store).notes == ("at n_train 40 some tasks have fewer training images: 33 to 40 are used",)


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


def as_written_before(run):
    """The same run with its classifier under the key `svm`, in place of it."""
    record = json.loads((run.folder / "run.json").read_text())
    record["svm"] = record.pop("classifier")
    raw = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    (run.folder / "run.json").write_bytes(raw)
    run.folder.rename(run.folder.parent / hashlib.sha256(raw).hexdigest())


def test_runs_of_the_key_svm_stand_beside_those_of_the_key_classifier(tmp_path):
    new, old = Store.create(tmp_path / "new.bb"), Store.create(tmp_path / "old.bb")
    for store in (new, old):
        runs = [
            put(store, f"timm:{name}", 0.8, n_train=n, seed=seed) for name in "ab" for n in (4, 10) for seed in (0, 1)
        ]
        for run in runs[::2] if store is old else []:
            as_written_before(run)
    assert sum("svm" in run.record for run in old.runs()) == 4
    assert {run.record["classifier"] for run in old.runs()} == {"linear", "search"}
    rows = [[(row.label, n, cell.mean, cell.origin.classifier) for row in board_of(store).rows
             for n, cell in row.cells.items()] for store in (new, old)]  # fmt: skip
    assert rows[0] == rows[1] and len(rows[0]) == 4
