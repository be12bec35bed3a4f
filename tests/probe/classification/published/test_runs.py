"""Runs of a published protocol: what they record, which boards they are on, their means, and what is refused."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bb import probe
from bb.probe.classification import run
from bb.probe.classification.comparisons.headline import headlines
from bb.probe.classification.published.protocol import parse_protocol
from bb.probe.classification.run import answer
from bb.probe.tasks.fold import Fold, TaskImages
from bb.store import Store
from tests.helpers.command_line import call, own_place  # noqa: F401
from tests.helpers.synthetic import cluster_store


@pytest.fixture
def place(own_place):  # noqa: F811
    _, ids, y, _ = cluster_store(own_place / "features.bb", n=160, spread=1.5)
    side = np.where(np.arange(160) // 4 % 2, "train", "test")
    pl.DataFrame({"image_id": ids, "label": [f"kind {k}" for k in y], "split": side}).write_csv("birds.csv")


def runs(call, *words):  # noqa: F811
    status, out, err = call("probe", "classify", "--labels", "birds.csv", *words, "--json")
    assert status == 0, err
    return json.loads(out)


def test_a_run_records_its_protocol_and_is_another_than_without(place, call):  # noqa: F811
    (mine,) = runs(call, "--protocol", "biobench-simpleshot")
    assert mine["published"]["name"] == "biobench-simpleshot" and mine["published"]["replica"]
    assert mine["scores"]["main"] == "macro_f1@biobench" and mine["published"]["faults"]
    (other,) = runs(call, "--classifier", "simpleshot")
    assert "published" not in other and other["run_id"] != mine["run_id"] and other["scores"]["main"] == "accuracy"
    again = runs(call, "--protocol", "biobench-simpleshot")
    assert [run["run_id"] for run in again] == [mine["run_id"]] and not again[0]["fresh"]
    status, out, err = call("report", "classify", "birds")
    assert status == 0 and out.count("images tested") == 2 and "side test, protocol biobench-simpleshot" in out
    assert "is a replica of samuelstevens/biobench" in err and "keeps faults of its source: macro-F1 averages" in err
    status, out, _ = call("report", "classify", "birds", "--json")
    assert sorted(board["protocol"] for board in json.loads(out)) == ["", "biobench-simpleshot"]


def test_means_are_over_the_protocols_seeds_and_say_which_are_missing(place, call):  # noqa: F811
    found = probe.classify("features.bb", "birds.csv", protocol="bioclip2-fewshot", shots=5)
    assert len(found) == len(found.boards) == 5 and {run.record["split_by"] for run in found} == {"protocol"}
    values = [run.record["scores"]["mean"] for run in found]
    (mean,) = found.headlines
    assert (mean.value, mean.sd) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values)))
    assert {run.record["scores"]["n"] for run in found} == {160 - 4 * 5} and not mean.missing
    status, out, _ = call("report", "classify", "birds")
    assert status == 0 and "images tested" not in out and f"{mean.value:.4f}" in out and "5 of" not in out
    assert call("report", "classify", "birds", "-v")[1].count("images tested") == 5
    runs(call, "--protocol", "mieb-linear", "--seed", "0,1")
    status, out, _ = call("report", "classify", "birds")
    assert status == 0 and "2 of 5" in out
    status, out, _ = call("report", "classify", "birds", "--csv", "-")
    rows = pl.read_csv(out.encode(), infer_schema=False).filter(pl.col("figure") == "mean over seeds")
    assert set(rows.select("protocol", "n", pl.col("missing_seeds").fill_null("")).rows()) == {
        ("bioclip2-fewshot", "5", ""), ("mieb-linear", "2", "2,3,4")
    }  # fmt: skip
    status, _, err = call("report", "classify", "birds", "--html", "page.html")
    assert status == 0, err
    text = Path("page.html").read_text(encoding="utf-8")
    assert 'id="means"' in text and "2 of 5" in text


def test_settings_of_one_draw_are_on_one_board(place):
    found = probe.classify("features.bb", "birds.csv", protocol="dinov2-knn", shots=12)
    (board,) = found.boards
    assert sorted(row.classifier for row in board.rows) == ["knn k=10", "knn k=12"] and len(headlines([board])) == 2
    assert {run.record["hyperparameters"]["classify"][0]["k"] for run in found} == {10, 12}


def test_draws_that_leave_nothing_to_add_are_fitted_once(place, monkeypatch):
    fitted = []
    monkeypatch.setattr(run, "answer", lambda *given: fitted.append(given[1].shots) or answer(*given))
    few = pl.read_csv("birds.csv").with_row_index().filter(pl.col("index") < 40).drop("index")
    found = probe.classify("features.bb", few, protocol="bigvision-fewshot", shots=[1, 5, 10, 25], seed=0)
    apart = probe.classify("features.bb", few, protocol="bigvision-fewshot", shots=25, seed=0)
    assert fitted == [1, 5]  # 5 images of each class train
    of = {each.record["n_train"]: each for each in found}
    assert len({each.run_id for each in found}) == 4 and [each.run_id for each in apart] == [of[25].run_id]
    assert of[25].predictions().equals(of[5].predictions())
    assert of[25].record["scores"] == of[5].record["scores"] != of[1].record["scores"]


def test_val_rows_are_held_out_where_a_protocol_chooses_on_them_and_left_out_elsewhere(place):
    ids = np.array([f"{i:02}" for i in range(60)])
    task = TaskImages("task", "classes", ids, np.arange(60) % 3, ("a", "b", "c"))
    train, test, val = (np.arange(60)[i::3] for i in range(3))
    fold = Fold("test", task, train, test, val)
    for name in ("dinov2-logreg", "dinov3-logreg", "clip-linear"):
        drawn = parse_protocol(name).draw(fold, "all", 0)
        np.testing.assert_array_equal(drawn.train, train)
        np.testing.assert_array_equal(drawn.val, val)
    assert not len(parse_protocol("dinov2-knn").draw(fold, "all", 0).val)
    side = pl.when(pl.int_range(pl.len()) % 5 == 0).then(pl.lit("val")).otherwise("split")
    table = pl.read_csv("birds.csv").with_columns(split=side)
    for asked in ({"classifier": "ridge"}, {"protocol": "biobench-simpleshot"}):
        (run,) = probe.classify("features.bb", table, **asked)
        assert set(run.train()["image_id"]) == set(table.filter(pl.col("split") == "train")["image_id"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("mieb-linear --classifier knn", "--classifier knn contradicts --protocol mieb-linear"),
        ("mieb-linear --preprocessing l2", "--preprocessing l2 contradicts --protocol mieb-linear"),
        ("mieb-linear --regression", "--regression contradicts --protocol mieb-linear"),
        ("mieb-linear --shots 3,16", "--shots 3 is not part of the protocol mieb-linear, which has 16"),
        ("mieb-linear --seed 7", "--seed 7 is not part of the protocol mieb-linear, which has 0,1,"),
        ("bioclip2-fewshot --split-by random", "--split-by random contradicts --protocol bioclip2-fewshot"),
        ("bioclip2-fewshot --folds 3", "--folds 3 contradicts --protocol bioclip2-fewshot"),
        ("bioclip2-fewshot --drop-leaks", "--drop-leaks contradicts --protocol bioclip2-fewshot"),
        ("newt2021", "run `bb probe newt --protocol newt2021`"),
        ("knn", "Unknown protocol 'knn': choose biobench-simpleshot, "),
    ],
)
def test_what_contradicts_a_protocol_is_refused(place, call, words, message):  # noqa: F811
    status, out, err = call("probe", "classify", "--labels", "birds.csv", "--protocol", *words.split())
    assert (status, out) == (2, "") and message in err
    assert not list(Store.open("features.bb").runs())


@pytest.mark.parametrize(
    ("table", "protocol", "message"),
    [
        ({"species": ["a", "b"] * 79 + ["c", "b"]}, "bioclip2-fewshot", "class 'c' has 1 images, and the protocol"),
        ({"species": ["a", "b"] * 80, "split": ["train"] * 80 + ["test"] * 80}, "clip-linear", "Write val in place"),
        ({"label:x": [0, 1] * 80}, "mieb-linear", "--protocol mieb-linear scores classes, and the labels are traits"),
    ],
)  # fmt: skip
def test_labels_that_a_protocol_does_not_fit(place, call, table, protocol, message):  # noqa: F811
    ids = pl.read_csv("birds.csv")["image_id"].to_list()
    pl.DataFrame({"image_id": ids, **table}).write_csv("other.csv")
    status, out, err = call("probe", "classify", "--labels", "other.csv", "--protocol", protocol)
    assert status in (1, 2) and out == "" and message in err, err
