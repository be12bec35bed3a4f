"""The whole way on real photographs, and an independent script that predicts the same without bb."""

import ast
import json
import subprocess
import sys

import polars as pl
import pytest

from store import Store
from tests.photographs import PHOTOS, ROOT, needs_photographs

BACKBONES = ("open_clip:ViT-B-16/untrained", "timm:resnet18/untrained", "timm:test_vit/untrained")
SHOTS = (4, 10, "all")
RECOMPUTE = ROOT / "scripts" / "recompute.py"

pytestmark = [needs_photographs, pytest.mark.xdist_group("newt-mini")]


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
