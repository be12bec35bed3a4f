"""The whole way on real photographs, and an independent script that predicts the same without bb."""

import ast
import json
import subprocess
import sys

import polars as pl
import pytest

from bb.store import Store
from tests.helpers.photographs import PHOTOS, ROOT, needs_photographs

BACKBONES = ("open_clip:ViT-B-16/untrained", "timm:resnet18/untrained", "timm:test_vit/untrained")
SHOTS = (4, 10, "all")
RECOMPUTE = ROOT / "scripts" / "recompute.py"

pytestmark = needs_photographs


def run_bb(*arguments, cwd):
    done = subprocess.run([sys.executable, "-m", "bb", *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a store in which everything was extracted and probed."""
    folder = tmp_path_factory.mktemp("newt-mini")
    data = ["--data", f"newt={PHOTOS}"]
    run_bb("extract", *(word for name in BACKBONES for word in ("--ckpt", name)), *data, cwd=folder)
    run_bb("probe", "newt", "--n-train", ",".join(map(str, SHOTS)), *data, cwd=folder)
    run_bb("probe", "newt", "--n-train", "10", "--protocol", "newt2021", "--ckpt", BACKBONES[1], *data, cwd=folder)
    return folder


def test_every_photograph_has_a_row_in_every_space(place):
    for space in json.loads(run_bb("store", "ls", "--json", cwd=place)):
        assert space["rows"] == 314
    spaces = {space["backbones"][0]: space for space in json.loads(run_bb("store", "ls", "--json", cwd=place))}
    assert {name: space["row_shape"] for name, space in spaces.items()} == {
        "open_clip:ViT-B-16/untrained": [512],
        "timm:resnet18/untrained": [512],
        "timm:test_vit/untrained": [64],
    }


def test_the_report_has_every_cell(place):
    board, newt2021 = json.loads(run_bb("report", "newt", "--json", cwd=place))
    assert {row["backbone"] for row in board["rows"]} == set(BACKBONES)
    for row in board["rows"]:
        assert [cell["n_train"] for cell in row["cells"]] == list(SHOTS)
        for cell in row["cells"]:
            assert 0 < cell["low"] < cell["mean"] < cell["high"] < 1
    assert newt2021["protocol"] == "newt2021"


def test_a_run_holds_what_its_users_need(place):
    for run in Store.open(place / "features.bb").runs():
        scores, predictions = run.record["scores"], run.predictions()
        assert predictions.height == 160 and len(scores["tasks"]) == 8
        assert scores["mean"] == pytest.approx(predictions["score"].mean())
        by_task = predictions.group_by("task").agg(pl.col("score").mean())
        assert scores["mean_over_tasks"] == pytest.approx(by_task["score"].mean())
        assert set(scores["clusters"]) == {"appearance", "context", "gestalt"}
        assert "appearance/breed" in scores["subclusters"]


def test_the_independent_script_is_independent():
    tree = ast.parse(RECOMPUTE.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in names} & {"bb", "store", "probe", "extract"}


def test_it_predicts_the_same_from_the_stored_arrays_and_ids(place):
    """Three runs of biobench (linear, search, all) and one of newt2021."""
    runs = {
        (run.record["protocol"], run.record["n_train"]): run.run_id
        for run in Store.open(place / "features.bb").runs()
        if BACKBONES[1] in run.record["backbones"]
    }
    assert len(runs) == 4
    command = [sys.executable, RECOMPUTE, place / "features.bb", *runs.values()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": 0 of 160 predictions differ") == 4


def test_it_would_notice(place, tmp_path):
    """Predictions that were turned round are found out."""
    import shutil

    (run_id,) = {
        run.run_id
        for run in Store.open(place / "features.bb").runs()
        if BACKBONES[1] in run.record["backbones"] and run.record["n_train"] == 4
    }
    copy = tmp_path / "features.bb"
    shutil.copytree(place / "features.bb", copy)
    (predictions,) = (copy / "runs" / run_id).glob("*/predictions.parquet")
    table = pl.read_parquet(predictions)
    table.with_columns(y_pred=1 - pl.col("y_pred")).write_parquet(predictions)
    done = subprocess.run([sys.executable, RECOMPUTE, copy, run_id], capture_output=True, text=True)
    assert done.returncode == 1 and "160 of 160 predictions differ" in done.stdout


def pairs(store):
    """Runs by the exact engine and by scikit-learn of the same space, protocol and n_train."""
    found = {}
    for run in store.runs():
        record = run.record
        found.setdefault((record["space"], record["protocol"], record["n_train"]), {})[record["backend"]] = run
    return {cell: (by["exact"], by["sklearn"]) for cell, by in found.items() if len(by) == 2}


def assert_identical(exact, sklearn):
    keys = ["task", "image_id"]
    ours, theirs = exact.predictions().sort(keys), sklearn.predictions().sort(keys)
    assert ours.drop("decision").equals(theirs.drop("decision"))
    assert (ours["decision"] - theirs["decision"]).abs().max() < 1e-10
    assert exact.record["hyperparameters"] == sklearn.record["hyperparameters"]
    assert exact.record["scores"] == sklearn.record["scores"]
    assert exact.train().equals(sklearn.train())


def test_the_exact_engine_equals_scikit_learn_on_photographs(place):
    shots = ",".join(map(str, SHOTS))
    data = ["--data", f"newt={PHOTOS}", "--backend", "sklearn"]
    ckpts = [word for name in BACKBONES[:2] for word in ("--ckpt", name)]
    run_bb("probe", "newt", "--n-train", shots, *ckpts, *data, cwd=place)
    run_bb("probe", "newt", "--n-train", "10", "--protocol", "newt2021", "--ckpt", BACKBONES[1], *data, cwd=place)
    compared = pairs(Store.open(place / "features.bb"))
    assert len(compared) == 7
    for exact, sklearn in compared.values():
        assert_identical(exact, sklearn)


def test_the_exact_engine_equals_scikit_learn_on_digits(tmp_path, monkeypatch):
    """Ten of the 45 tasks: the others would say the same and take scikit-learn minutes."""
    import sklearn.datasets

    from bb.verbs.demo import write_digits

    pixels, targets = sklearn.datasets.load_digits(return_X_y=True)
    keep = targets < 5
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda return_X_y: (pixels[keep], targets[keep]))
    write_digits(tmp_path / "digits")
    data = ["--data", f"digits={tmp_path / 'digits'}"]
    run_bb("extract", "--ckpt", BACKBONES[2], *data, cwd=tmp_path)
    for backend in ("exact", "sklearn"):
        run_bb("probe", "newt", "--n-train", "4,10,all", "--backend", backend, *data, cwd=tmp_path)
    compared = pairs(Store.open(tmp_path / "features.bb"))
    assert len(compared) == 3
    for exact, oracle in compared.values():
        assert_identical(exact, oracle)
