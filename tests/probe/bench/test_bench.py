"""`bb.probe.bench`: the board's numbers are those of the runs, and ranks with intervals that hold them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bb import probe
from bb.probe.bench.board import board
from bb.probe.bench.columns import block
from bb.probe.bench.methods import bibtex, methods
from bb.probe.bench.page import page
from bb.probe.statistics.comparison import mean_ranks, ranks
from bb.probe.statistics.multiclass.intervals import estimate
from bb.probe.statistics.multiclass.metrics import METRICS
from bb.probe.statistics.multiclass.predictions import Predictions
from bb.probe.statistics.multiclass.together import TaskScore, together
from bb.store.errors import BBError, UsageError
from tests.helpers.benches import bench_store

FAMILIES = {"ponds": (160, 4), "birds": (120, 3)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    return folder, bench_store(folder, FAMILIES, backbones=3)


def plan(folder, **more):
    families = {name: {"labels": str(folder / f"{name}.csv")} for name in FAMILIES}
    return {"families": families, "classifiers": ["simpleshot"], "shots": [3, "all"], "seeds": [0, 1], **more}


def test_scores_are_those_of_the_runs(place):
    folder, store = place
    found = probe.bench(plan(folder), store, jobs=1)
    assert len(found.fresh) == len(found) == 2 * 3 * 3 and not found.failed
    assert [column.shots for column in found.board.columns] == ["3", "all"] * 2
    for column, place_of in zip(found.board.columns, range(4), strict=True):
        for row in found.board.rows:
            runs = [
                run for run in found.runs[column.family]
                if run.record["backbones"] == [row.name] and str(run.record["n_train"]) == column.shots
            ]  # fmt: skip
            metrics = [run.record["scores"]["tasks"]["classify"]["test"]["metrics"]["accuracy"] for run in runs]
            cell = row.cells[place_of]
            assert len(runs) == column.seeds == (2 if column.shots == "3" else 1)
            assert cell.value == pytest.approx(np.mean([each["value"] for each in metrics]))
            assert cell.low <= cell.value <= cell.high
            if len(runs) == 1:
                assert (cell.low, cell.high) == (metrics[0]["low"], metrics[0]["high"])
    best = found.board.rows[0]
    assert best.name == "lab:net0" and best.rank == 1 and best.low == 1 and best.high < 2
    assert all(row.low <= row.rank <= row.high for row in found.board.rows)
    assert len(found.board.frame()) == 12


@pytest.mark.e2e
def test_two_processes_make_the_same_board(place):
    folder, store = place
    one = probe.bench(plan(folder), store, jobs=1)
    two = probe.bench(plan(folder), store, jobs=2)
    assert one.board == two.board and not two.fresh


@pytest.mark.e2e
def test_relative_paths_are_those_of_the_folder_that_the_caller_is_in(place, tmp_path, monkeypatch):
    """Worker processes are kept between calls, and this one's folder is another than the last one's."""
    folder, store = place
    monkeypatch.chdir(tmp_path)
    there = probe.bench(plan(folder), store, jobs=2)
    monkeypatch.chdir(folder)
    here = probe.bench(plan(Path()), "features.bb", jobs=2)
    assert (len(here), here.failed) == (len(there), {})


def test_only_the_backbones_asked_for(place):
    folder, store = place
    found = probe.bench(plan(folder, ckpts=["lab:net1"]), store, jobs=1, compute=False)
    assert [row.name for row in found.board.rows] == ["lab:net1"]
    assert found.board.rows[0].rank == 1


def test_a_protocol_is_a_column(place):
    folder, store = place
    asked = {**plan(folder), "classifiers": [], "protocols": ["biobench-simpleshot"]}
    with pytest.raises(UsageError, match="nothing would use shots and seeds: only protocols are named"):
        probe.bench(asked, store)
    found = probe.bench({**asked, "shots": "all", "seeds": 0}, store, jobs=1)
    assert {column.method for column in found.board.columns} == {"biobench-simpleshot"} and not found.failed


def test_a_backbone_that_lacks_a_column_is_not_ranked(place):
    folder, store = place
    runs = dict(probe.bench(plan(folder), store, jobs=1).runs)
    runs["birds"] = tuple(run for run in runs["birds"] if run.record["backbones"] != ["lab:net1"])
    found = board("less", runs, {})
    last = found.rows[-1]
    assert (last.name, last.rank, last.lacks) == ("lab:net1", None, 2) and found.ranked == 2


def test_traits_and_values_are_columns_too(place):
    folder, store = place
    rng = np.random.default_rng(0)
    frame = pl.read_csv(folder / "ponds.csv")
    code = frame["label"].str.tail(1).cast(pl.Int64)
    traits = frame.drop("label").with_columns((code > 1).cast(int).alias("label:a"), (code % 2).alias("label:b"))
    values = frame.drop("label").with_columns(label=code + pl.Series(rng.normal(size=len(frame)) / 10))
    traits.write_csv(folder / "traits.csv")
    values.write_csv(folder / "values.csv")
    families = {
        "traits": {"labels": str(folder / "traits.csv"), "data": "ponds"},
        "values": {"labels": str(folder / "values.csv"), "data": "ponds", "regression": True},
    }
    found = probe.bench({"families": families, "classifiers": ["ridge"]}, store, jobs=1)
    assert not found.failed
    assert [column.metric for column in found.board.columns] == ["macro_f1", "r2"]
    assert found.board.rows[0].name == "lab:net0" and all(not reason for reason in found.board.reasons)


def item(p, metric, ids):
    stratum = p.y_true if metric.sampled == "counts" else None
    return TaskScore(ids, metric.value(p), metric.contributions(p), p.group, stratum, metric.of_answers)


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "macro_f1@wilds"])
def test_one_task_has_the_interval_of_its_metric(name):
    rng = np.random.default_rng(1)
    y, metric = np.arange(400) % 5, METRICS[name]
    p = Predictions(y, np.where(rng.random(400) < 0.7, y, rng.integers(0, 5, 400)), 5)
    found = together(["m"], [[[item(p, metric, [str(i) for i in range(400)])]]]).interval()
    low, high = estimate(p, metric).interval
    assert found.low[0] == pytest.approx(low, abs=2e-4) and found.high[0] == pytest.approx(high, abs=2e-4)


def test_other_images_are_refused():
    p = Predictions(np.array([0, 1]), np.array([0, 1]), 2)
    one, other = (item(p, METRICS["accuracy"], ids) for ids in (["a", "b"], ["a", "c"]))
    with pytest.raises(BBError, match="not tested on the same images"):
        together(["m", "n"], [[[one]], [[other]]])


def test_mean_ranks_of_one_column_are_its_ranks():
    rng, ids = np.random.default_rng(2), [str(i) for i in range(600)]
    y = np.arange(600) % 3
    models = []
    for share in (0.9, 0.6, 0.58, 0.3):
        p = Predictions(y, np.where(rng.random(600) < share, y, (y + 1) % 3), 3)
        models.append([[item(p, METRICS["accuracy"], ids)]])
    resampled = together(list("abcd"), models)
    alone = ranks(resampled)
    found = mean_ranks(resampled.estimate[None], [([0], resampled)], np.ones(1))
    assert found.rank.tolist() == alone.rank.tolist()
    assert found.low.tolist() == alone.alone_low.tolist() == [1, 2, 2, 4]
    assert found.high.tolist() == alone.alone_high.tolist() == [1, 3, 3, 4]
    nothing = mean_ranks(resampled.estimate[None], [([0], None)], np.ones(1))
    assert nothing.low.tolist() == [1] * 4 and nothing.high.tolist() == [4] * 4


def test_equal_means_are_both_the_best(place):
    folder, store = place
    (some, *_), *_ = probe.bench(plan(folder), store, jobs=1).runs.values()

    def run(value):
        metrics = {"accuracy": {"value": value, "low": None, "high": None, "reason": "few"}}
        scores = {"main": "accuracy", "tasks": {"t": {"test": {"n": 80, "metrics": metrics}}}}
        return replace(some, record={"tasks": "pets", "published": {"name": "x"}, "scores": scores})

    by_backbone = {"a": [run(0.925 - 1e-16), run(0.95)], "b": [run(0.9375), run(0.9375)], "c": [run(0.1)]}
    found = block("pets", "test", {("x", "all"): by_backbone}, list("abc"))
    assert found.scores.tolist() == [[0.9375, 0.9375, 0.1]]


def test_every_table_with_buttons_in_its_head_can_be_sorted(place):
    folder, store = place
    text = probe.bench(plan(folder), store, jobs=1).page()
    assert text.count("<table class=") == text.count('<table class="board sortable') == 2
    assert text.count('data-kind="text"><button type="button">backbone') == 2


def test_methods_name_what_the_runs_record(place):
    folder, store = place
    found = probe.bench({**plan(folder), "protocols": ["dinov2-knn"]}, store, jobs=1)
    said, runs = methods(found.board, found.runs), [run for each in found.runs.values() for run in each]
    first = runs[0].record
    for words in (
        "We compared 3 frozen vision backbones (lab:net0, lab:net1, lab:net2) on 2 sets of labelled images.",
        "ponds: 80 test images. The split is the table's own. birds: 60 test images.",
        "simpleshot on features taken as they are (variant CL2N)",
        "the protocol dinov2-knn, knn k=20 on features scaled to unit length (k 20, max_k 200, temperature 0.07)",
        "The protocol dinov2-knn is after facebookresearch/dinov2,",
        "Training images of each class (3, all) were drawn; seeds 0, 1.",
        "We report accuracy, the mean over seeds, with 95% intervals for further test images of each set",
        "after Mogstad, Romano, Shaikh and Wilhelm",
        f"numpy {np.__version__}",
        f"ponds {first['collection'][:12]}",
        f"test sets {first['test_set'][:12]}",
        f"{runs[0].record['backbones'][0]} {runs[0].record['space'][:12]}",
        f"and {len(runs) - 6} more.",
    ):
        assert words in said, said
    entries = bibtex(found.runs)
    assert entries.count("@misc{dinov2-knn,") == 1 and entries.endswith("}") and "@misc{bb," in entries
    whole = found.page()
    assert "Methods" in whole and "In short" in whole and said[:60] in whole


def test_a_family_that_bb_knows_is_cited(place):
    folder, store = place
    runs = probe.bench(plan(folder), store, jobs=1).runs
    assert "van horn" in bibtex({"inat21": runs["ponds"]}).lower() and "van horn" not in bibtex(runs).lower()


def test_one_backbone_is_not_ranked_and_no_runs_say_nothing(place):
    folder, store = place
    one = probe.bench(plan(folder, ckpts=["lab:net1"]), store, jobs=1, compute=False)
    assert "Mogstad" not in methods(one.board, one.runs)
    assert methods(board("none", {}, {}), {}) == "" and "Methods" not in page(board("none", {}, {}), {})
