"""The command line as a person meets it: what is printed where, with which exit status, and what is left behind."""

import importlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import bb.stores
from bb.cli import VERBS
from bb.settings import Settings
from bb.store import BBError, Store
from tests.helpers.command_line import (
    RESNET,
    VIT,
    announce_features,
    bb_process,
    call,
    make_newt,
    newt,
    own_place,
)
from tests.helpers.photographs import PHOTOS, needs_photographs
from tests.helpers.servers import GUARD

__all__ = ["call", "newt", "own_place"]  # fixtures

# The whole way


def test_from_images_to_a_report(call, newt):
    status, out, err = call("extract", "--ckpt", VIT, "--ckpt", RESNET, "--data", f"newt={newt}")
    assert status == 0
    assert "made a new store at features.bb" in err
    assert f"{VIT} on newt: 0 of 64 images are there, 64 to compute on cpu" in err
    assert "to store" in err and "free" in err
    assert f"{VIT} on newt: 0 were there, 64 computed" in out and "0 failed; space " in out

    status, out, err = call("probe", "newt", "--n-train", "4", "--n-train", "10,all", "--seed", 0, "--seed", 1,
                            "--data", f"newt={newt}", "--json")  # fmt: skip
    assert status == 0
    assert "2 tasks, where the whole of NeWT has 164" in err
    runs = json.loads(out)
    cells = {(run["backbones"][0], run["n_train"], run["seed"]) for run in runs}
    shots = [(4, 0), (4, 1), (10, 0), (10, 1), ("all", None)]
    assert cells == {(name, *shot) for name in (VIT, RESNET) for shot in shots}
    assert all(run["fresh"] for run in runs)
    for run in runs:
        assert run.keys() >= {"run_id", "tasks", "protocol", "n_train", "seed", "classifier", "backend", "space",
                              "collection", "scores", "provenance"}  # fmt: skip
        assert run["classifier"] == ("search" if run["n_train"] == 10 else "linear")
        assert run["scores"]["chance"] == 0.5
        assert set(run["hyperparameters"]) == {"task0", "task1"}

    status, out, err = call("probe", "newt", "--n-train", "4,10,all", "--data", f"newt={newt}")
    assert status == 0 and "0 runs computed, 6 were there" in out

    status, out, _ = call("report", "newt", "-v")
    assert status == 0
    assert "newt on newt, 2 tasks, 32 test images, protocol biobench" in out and "chance 0.500" in out
    assert VIT in out and "n_train all" in out and "2/2/1" in out
    assert runs[0]["run_id"][:12] in out
    status, out, _ = call("report", "--json")
    (board,) = json.loads(out)
    for row in board["rows"]:
        for cell in row["cells"]:
            assert cell["low"] <= cell["mean"] <= cell["high"]
            means = [run["scores"]["mean"] for run in runs if run["run_id"] in cell["runs"]]
            assert len(means) == cell["seeds"]
            assert cell["mean"] == pytest.approx(np.mean(means))


@pytest.mark.parametrize(
    "words",
    [
        ("extract", "--ckpt", "", "--data", "a=b"),
        ("extract", "--ckpt", VIT, "--text", ""),
        ("probe", "classify", "--labels", "a.csv", "--space", " "),
        ("store", "sign", "--space", "0f", "--ckpt", ""),
        ("search", "a heron", "--ckpt", ""),
    ],
)
def test_a_name_without_text_is_no_missing_option(call, words):
    """A variable of a shell that is not set must not widen what is done."""
    status, out, err = call(*words)
    assert status == 2 and not out and "'' names nothing: give a name, or leave --" in err


def test_stored_predictions_carry_the_ids_of_the_test_images(call, newt):
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    call("probe", "newt", "--n-train", "4", "--data", f"newt={newt}")
    (run,) = Store.open("features.bb").runs()
    predictions, train = run.predictions(), run.train()
    assert predictions.columns == ["task", "cluster", "subcluster", "image_id", "y_true", "y_pred", "decision", "score"]
    assert predictions["image_id"].str.contains("-test-").all() and predictions.height == 32
    label = predictions["image_id"].str.split("-").list.get(2).cast(pl.UInt8)
    assert (label == predictions["y_true"]).all()
    assert ((predictions["y_pred"] == predictions["y_true"]) == (predictions["score"] == 1)).all()
    assert train.columns == ["task", "image_id", "y"]
    assert train["image_id"].str.contains("-train-").all() and train.height == 8
    assert train.filter(pl.col("task") == "task0")["y"].to_list() == [0, 0, 1, 1]


def test_a_run_is_done_again_only_by_force(call, newt):
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    for options, siblings in (([], 1), ([], 1), (["--force"], 2)):
        status, _, _ = call("probe", "newt", "--n-train", "2", "--data", f"newt={newt}", *options)
        assert status == 0
        runs = list(Store.open("features.bb").runs())
        assert len(runs) == siblings and len({run.run_id for run in runs}) == 1
    status, _, err = call("report")
    assert status == 0 and "disagree" not in err


def test_protocol_newt2021(call, newt):
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    status, out, _ = call(
        "probe", "newt", "--n-train", "10", "--protocol", "newt2021", "--data", f"newt={newt}", "--json"
    )
    assert status == 0
    (run,) = json.loads(out)
    assert run["protocol"] == "newt2021" and run["hyperparameters"]["task0"]["C"] in [10.0**p for p in range(-4, 4)]
    status, _, err = call("probe", "newt", "--n-train", "4", "--protocol", "newt2021", "--data", f"newt={newt}")
    assert (
        status == 1
        and "task 'task0': 2 of class 0 and 2 of class 1 to train on, both fewer than the search's 3 folds" in err
    )


def test_a_run_that_is_refused_leaves_nothing(call, newt):
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    status, _, err = call("probe", "newt", "--n-train", "4", "--svm", "search", "--data", f"newt={newt}")
    assert status == 1 and "Raise --n-train" in err
    assert list(Store.open("features.bb").runs()) == []


def test_a_class_that_is_too_small_is_used_whole_and_said(call, newt):
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    table = pl.read_csv(newt / "newt2021_labels.csv")
    few = (pl.col("task") == "task0") & (pl.col("split") == "train") & (pl.col("label") == 1)
    table.filter(~(few & pl.col("id").str.ends_with("7"))).write_csv("few.csv")
    arguments = ("probe", "newt", "--n-train", "16", "--svm", "linear", "--data", f"newt={newt}", "--labels", "few.csv")
    status, out, err = call(*arguments, "--json")
    assert status == 0
    (run,) = json.loads(out)
    assert run["n_train"] == "all" and run["labels_name"] == "few"
    assert "note: n_train 16 takes every training image of every task, so it is scored as n_train all" in err
    status, out, err = call(*arguments, "--n-train", "15", "--json")
    record = next(run for run in json.loads(out) if run["n_train"] == 15)
    assert record["notes"]["task0"] == ["class 1 has 7 training images, not the 8 asked for; all are used"]
    assert "task0: class 1 has 7 training images" in err
    status, out, err = call("report")
    assert "newt on newt, labels few, 2 tasks" in out and "n_train 15 (linear)" in out
    assert "note: at n_train 15 some tasks have fewer training images: 14 to 15 are used" in err


def test_demo_goes_the_whole_way_and_a_second_time_does_nothing(call, monkeypatch, own_place):
    """All of it but the number of digits and of shots, which scripts/quickstart does not spare."""
    import sklearn.datasets

    pixels, targets = sklearn.datasets.load_digits(return_X_y=True)
    keep = np.flatnonzero(targets < 3)[:200]
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda return_X_y: (pixels[keep], targets[keep]))
    status, out, _ = call("demo")
    assert status == 0
    assert "3 tasks" in out and VIT in out and RESNET in out and "chance 0.500" in out
    assert "400 features and 6 runs were computed" in out
    assert "Digits of 8 by 8 pixels show how bb works" in out and "the grey values themselves score" in out
    assert f"everything is in {own_place / 'bb-demo'}" in out and "cd bb-demo" in out
    assert "Leaderboard" in (own_place / "bb-demo" / "report.html").read_text()
    status, out, _ = call("demo")
    assert status == 0 and "Nothing had to be computed: every feature and every run was there." in out
    os.chdir("bb-demo")
    status, out, _ = call("report", "newt", "-v")
    assert status == 0 and VIT in out
    status, out, _ = call("probe", "newt", "--data", "digits", "--n-train", "2,20", "--seed", "1")
    assert status == 0 and "6 runs computed" in out


# Extraction: what can go wrong


def test_failures_are_listed_and_the_rest_is_kept(call, newt):
    photo = newt / "newt2021_images" / "0-test-0-0.jpg"
    photo.write_bytes(photo.read_bytes()[:200])
    status, out, err = call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    assert status == 1
    assert "63 computed" in out and "1 failed" in out
    assert "  0-test-0-0: " in err
    status, out, err = call("probe", "newt", "--n-train", "4", "--data", f"newt={newt}", "--ckpt", VIT)
    assert status == 1
    assert "1 of 64 images of newt have no features" in err and "bb extract --ckpt" in err
    status, _, err = call("probe", "newt", "--n-train", "4", "--data", f"newt={newt}")
    assert status == 2 and "no feature space of features.bb has all 64 images of newt" in err


def test_equal_weights_under_another_name_are_one_space_and_said(call, newt, own_place):
    from safetensors.torch import save_file

    from bb.extract.backbones.registry import load

    save_file(load(VIT).vision_state(), own_place / "weights.safetensors")
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    status, out, err = call("extract", "--ckpt", "timm:test_vit@weights.safetensors", "--data", f"newt={newt}")
    assert status == 0 and "0 computed" in out
    assert f"these very features are known as {VIT}; probe them with --ckpt {VIT}" in err
    assert len(Store.open("features.bb").spaces()) == 1


def test_limit_embeds_a_few_for_a_try(call, newt):
    status, out, err = call("extract", "--ckpt", VIT, "--data", f"newt={newt}", "--limit", 5)
    assert status == 0 and "5 computed" in out
    assert "newt: the first 5 images only, so no version of the collection is recorded" in err
    status, out, _ = call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    assert status == 0 and "5 were there, 59 computed" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ckpt", "ViT-B-16/openai"], "bb extract --ckpt ViT-B-16/openai --data newt=DIR"),
        (["--ckpt", "ViT-B-16/openai"], "bb data download newt --to DIR"),
        (["--ckpt", VIT, "--data", "whales"], "where are the images of whales? Say it:"),
        (["--data", "a=."], "which backbone? Give for example --ckpt ViT-B-16/openai"),
        (["--ckpt", VIT, "--data", "a="], "--data a= names no folder: write a=DIR"),
        (["--ckpt", VIT, "--data", "a=.", "--data", "a=.."], "--data names a twice"),
        (["--ckpt", VIT, "--data", "a=nowhere"], "nowhere is not a folder: give --data NAME=DIR"),
        (["--ckpt", VIT, "--data", "a b=."], "'a b' can't name a collection"),
        (["--ckpt", "timm:nonsense", "--data", "a=."], "'nonsense'"),
        (["--ckpt", VIT, "--data", "a=.", "--device", "tpu"], "--device tpu is unknown"),
        (["--ckpt", VIT, "--data", "a=.", "--batch-size", "0"], "--batch-size 0 is not a number of images"),
        (["--ckpt", VIT, "--data", "a=.", "--precision", "int4"], "--precision int4 is unknown"),
    ],
)
def test_bad_usage_of_extract(call, own_place, arguments, message):
    Image.new("RGB", (8, 8)).save("a.png")
    status, out, err = call("extract", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert not Path("features.bb").exists()  # what is asked for is checked before anything is made


def test_a_disk_too_small_is_found_out_before_the_work(call, newt, monkeypatch):
    monkeypatch.setattr("bb.extract.extraction.free_bytes", lambda path: 100)
    status, _, err = call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    assert status == 1
    assert "features.bb has 100 B free, and 16.4 kB are needed: make room, or give --store another place" in err
    monkeypatch.setattr("bb.extract.extraction.download_bytes", lambda name: 10**9)
    status, _, err = call("extract", "--ckpt", "ViT-B-16/openai", "--data", f"newt={newt}")
    assert status == 1 and "1.0 GB to download" in err and "set HF_HOME to a folder that has it" in err


def test_a_full_disk_is_said_without_a_traceback(call, newt, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "features.bb/tmp/x")

    monkeypatch.setattr("bb.store.store.publish_sealed", full)
    status, _, err = call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    assert status == 1 and "No space left on device. Fix this and rerun the command" in err


def test_missing_packages_are_named_with_the_extra(call, newt, monkeypatch):
    monkeypatch.setattr(bb.stores, "NEEDED_TO_EXTRACT", ("torch", "a_package_that_is_not_there"))
    for verb in (["extract", "--ckpt", VIT, "--data", f"newt={newt}"], ["models"], ["demo"]):
        status, _, err = call(*verb)
        assert status == 2 and "needs a_package_that_is_not_there: pip install 'backbone-bench[extract]'" in err
    assert call("data", "check", f"newt={newt}")[0] == 0
    monkeypatch.setattr(bb.stores, "NEEDED_FOR_IMAGES", ("another_package",))
    status, _, err = call("data", "check", f"newt={newt}")
    assert status == 2 and "needs another_package: pip install 'backbone-bench[images]'" in err


# Probing: what can go wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-train", "0"], "use --n-train all"),
        (["--n-train", "-3"], "use --n-train all"),
        (["--n-train", "1"], "the smallest training set is --n-train 2"),
        (["--n-train", "many"], "--n-train 'many' is not a number"),
        (["--protocol", "mine"], "--protocol 'mine' is unknown; choose biobench or newt2021"),
        (["--backend", "mine"], "--backend 'mine' is unknown"),
        (["--svm", "mine"], "--svm 'mine' is unknown"),
        (["--ckpt", "ViT-B-16/openai"], "bb extract --ckpt open_clip:ViT-B-16/openai --data newt=DIR"),
        (["--space", "zz"], "'zz' names no feature space"),
        (["--labels", "nowhere.csv"], "no labels at nowhere.csv"),
        (["--data", "whales"], "where are the labels of whales? Give --data whales=DIR"),
    ],
)
def test_bad_usage_of_probe(call, newt, arguments, message):
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    given = arguments if "--data" in arguments else [*arguments, "--data", f"newt={newt}"]
    status, out, err = call("probe", "newt", *given)
    assert (status, out) == (2, "")
    assert message in err


def test_a_grid_that_cannot_be_fitted_whole_is_refused_before_its_first_run(call, newt):
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    status, _, err = call("probe", "newt", "--n-train", "10,4", "--svm", "search", "--data", f"newt={newt}")
    assert status == 1 and "2 of class 0 and 2 of class 1 to train on" in err
    assert list(Store.open("features.bb").runs()) == []


def test_other_labels_make_another_board(call, newt, own_place):
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    table = pl.read_csv(newt / "newt2021_labels.csv")
    table.filter(pl.col("task") == "task0").write_csv(own_place / "one.csv")
    call("probe", "newt", "--n-train", "4", "--data", f"newt={newt}")
    call("probe", "newt", "--n-train", "4", "--seed", 1, "--data", f"newt={newt}", "--labels", "one.csv")
    boards = json.loads(call("report", "--json")[1])
    assert sorted(board["n_tasks"] for board in boards) == [1, 2]
    assert len({board["test_set"] for board in boards}) == 2
    assert call("report")[1].count("protocol biobench") == 2


def test_a_run_of_an_unknown_protocol_is_left_out_and_said(call, newt):
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    call("probe", "newt", "--n-train", "4", "--data", f"newt={newt}")
    store = Store.open("features.bb")
    (run,) = store.runs()
    store.put_run({**run.record, "protocol": "newt2031"}, run.predictions(), run.train())
    status, out, err = call("report")
    assert status == 0 and VIT in out
    assert "note: runs of protocol 'newt2031', which this bb does not know, are left out" in err


def test_a_damaged_run_is_left_out_of_the_report_and_said(call, newt):
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    call("probe", "newt", "--n-train", "2,4", "--data", f"newt={newt}")
    first, _ = Store.open("features.bb").runs()
    (first.folder / "run.json").write_text("{}")
    status, out, err = call("report")
    assert status == 0 and VIT in out
    assert "note: left out: run" in err and "`bb store verify --repair` sets it aside" in err


def test_a_space_chosen_by_key_settles_the_choice_of_its_backbone(call, newt):
    for precision in ("fp32", "bf16"):
        call("extract", "--ckpt", VIT, "--data", f"newt={newt}", "--precision", precision)
    key = Store.open("features.bb").spaces()[0].key
    status, out, _ = call(
        "probe", "newt", "--n-train", "2", "--data", f"newt={newt}", "--ckpt", VIT, "--space", key, "--json"
    )
    assert status == 0 and [run["space"] for run in json.loads(out)] == [key]


def test_patch_features_are_no_input_of_this_probe(call, newt):
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}", "--patch")
    (patch,) = [space for space in Store.open("features.bb").spaces() if space.kind == "patch"]
    status, _, err = call("probe", "newt", "--n-train", "2", "--data", f"newt={newt}", "--space", patch.key)
    assert status == 2 and "holds patch features; bb probe takes image features" in err


def test_several_spaces_of_one_backbone_are_listed_and_chosen_by_key(call, newt):
    for precision in ("fp32", "bf16"):
        call("extract", "--ckpt", VIT, "--data", f"newt={newt}", "--precision", precision)
    probe = ["probe", "newt", "--n-train", "2", "--data", f"newt={newt}"]
    status, _, err = call(*probe, "--ckpt", VIT)
    assert status == 2 and f"2 feature spaces of {VIT} hold the images; choose one:" in err
    keys = [space.key for space in Store.open("features.bb").spaces()]
    assert all(f"--space {key[:12]}" in err for key in keys)
    status, out, _ = call(*probe, "--space", keys[0][:12], "--json")
    assert status == 0 and [run["space"] for run in json.loads(out)] == [keys[0]]
    status, out, _ = call(*probe)
    assert status == 0 and "1 run computed, 1 were there" in out
    status, out, _ = call("report")
    assert f"{VIT} ({keys[0][:12]})" in out and f"{VIT} ({keys[1][:12]})" in out


def test_no_store_no_runs(call, newt):
    status, _, err = call("report")
    assert status == 1 and "found no store at features.bb: `bb extract` or `bb store pull URL` makes one" in err
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}", "--limit", 1)
    status, _, err = call("report")
    assert status == 1 and "features.bb has no runs yet: bb probe newt --n-train 10" in err
    status, _, err = call("report", "cars")
    assert status == 2 and "unknown report 'cars'" in err


# Settings


def test_settings_come_from_flags_then_variables_then_the_nearest_file(call, newt, own_place, monkeypatch):
    (own_place / "bb.toml").write_text(f'store = "from-file.bb"\nprecision = "bf16"\n[data.newt]\nroot = "{newt}"\n')
    below = own_place / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    status, out, _ = call("extract", "--ckpt", VIT, "--limit", 1, "--json")
    assert status == 0
    assert json.loads(out)[0]["store"] == str(own_place / "from-file.bb")
    monkeypatch.setenv("BB_STORE", "from-variable.bb")
    status, out, _ = call("extract", "--ckpt", VIT, "--limit", 1, "--json")
    assert json.loads(out)[0]["store"] == "from-variable.bb"
    status, out, _ = call(
        "extract", "--ckpt", VIT, "--limit", 1, "--json", "--store", "from-flag.bb", "--precision", "fp32"
    )
    assert json.loads(out)[0]["store"] == "from-flag.bb"
    (space,) = Store.open(own_place / "from-file.bb").spaces()
    assert space.numerics["compute"] == "bf16"
    (space,) = Store.open(below / "from-flag.bb").spaces()
    assert space.numerics["compute"] == "fp32"


def test_collections_come_from_a_variable_too(call, newt, monkeypatch, tmp_path):
    other = make_newt(tmp_path / "with space", tasks=1)
    monkeypatch.setenv("BB_DATA", f"newt={newt}{os.pathsep}other={other}")
    status, out, _ = call("extract", "--ckpt", VIT, "--json")
    assert status == 0 and {row["collection"] for row in json.loads(out)} == {"newt", "other"}
    assert call("probe", "newt", "--n-train", "2")[0] == 0
    assert call("probe", "newt", "--n-train", "2", "--data", "other")[0] == 0


def test_what_a_file_says_holds_for_every_verb_that_has_the_option():
    """Else a verb reads another store than the one beside it, and says nothing."""
    said = {"store": "mine.bb", "cache_size": "1GB", "jobs": 2, "device": "cpu", "seed": [3]}
    found = Settings(options=said).defaults(VERBS)
    for group, verbs in VERBS.items():
        for name in verbs:
            module = importlib.import_module(".".join(filter(None, ("bb.verbs", group, name))))
            given = (found[group] if group else found).get(name, {})
            for option in inspect.signature(module.verb).parameters.keys() & {"store", "cache_size", "device"}:
                if (name, option) != ("bench", "store"):  # the store of its own file goes first
                    assert given.get(option) == said[option], (group, name, option)
            assert ("seed" in given) == (name == "newt" and group == "probe")
    assert "jobs" not in found["store"]["push"] and found["bench"]["jobs"] == 2


@pytest.mark.parametrize("verb", [("suggest",), ("search", "owl"), ("label", "--labels", "l.csv", "--data", "p=.")])
def test_the_store_of_a_file_is_read_by_the_verbs_for_labelling(call, own_place, verb):
    (own_place / "bb.toml").write_text('store = "mine.bb"\n')
    status, _, err = call(*verb)
    assert status == 1 and "found no store at" in err and "mine.bb" in err


def test_shots_and_seeds_of_a_file_may_be_one_or_several(call, newt, own_place):
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    for content, runs in (('n_train = "2,4"\nseed = 1\n', 2), ("n_train = [2]\nseed = [1, 2]\n", 2)):
        (own_place / "bb.toml").write_text(f'{content}[data.newt]\nroot = "{newt}"\n')
        assert len(json.loads(call("probe", "newt", "--json")[1])) == runs


def test_settings_of_the_user_lie_below_those_of_the_folder(call, tmp_path, own_place):
    home = tmp_path / "config" / "bb"
    home.mkdir(parents=True)
    (home / "bb.toml").write_text('[data.one]\nroot = "/one"\n[data.two]\nroot = "/two"\n')
    (own_place / "bb.toml").write_text('[data.two]\nroot = "/nearer"\n')
    _, out, _ = call("data", "list", "--json")
    assert {row["name"]: row["root"] for row in json.loads(out)} == {"one": "/one", "two": "/nearer"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("store = ", "is not valid TOML"),
        ("shop = 1\n", "sets shop, which bb does not know; it knows store"),
        ("[data.newt]\n", '[data.newt] needs a line root = "/folder/of/images"'),
        ("data = 5\n", "sets data = 5: write [data.NAME]"),
        ("store = 5\n", 'sets store = 5: write a folder, store = "features.bb"'),
        ("n_train = 1.5\n", "sets n_train = [1.5], which is neither text nor a whole number"),
    ],
)
def test_a_bad_settings_file_is_named(call, own_place, content, message):
    (own_place / "bb.toml").write_text(content)
    status, _, err = call("doctor")
    assert status == 2 and message in err and "bb.toml" in err


def test_another_users_settings_are_passed_over(call, own_place, monkeypatch):
    (own_place / "bb.toml").write_text("store = " + "[" * 5000)
    status, _, err = call("store", "ls")
    assert status == 2 and "bb.toml is not valid TOML: it nests too deeply. Fix it, or move it away." in err
    (own_place / "bb.toml").write_text("store = ")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    status, _, err = call("data", "list")
    assert status == 0 and "bb.toml is another user's and is passed over" in err


@pytest.mark.parametrize(("mode", "who"), [(0o664, "its group"), (0o646, "others"), (0o666, "others")])
@pytest.mark.parametrize("where", ["here", "configuration"])
def test_settings_that_others_can_change_are_passed_over(call, own_place, monkeypatch, mode, who, where):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own_place / "config"))
    path = own_place / "bb.toml" if where == "here" else own_place / "config" / "bb" / "bb.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('store = "nowhere.bb"\n[slurm]\nsetup = ["touch owned"]\n')
    path.chmod(mode)
    _, out, err = call("doctor")
    assert f"{path} can be changed by {who} and is passed over: chmod go-w {path}" in err and "nowhere.bb" not in out
    path.chmod(0o644)
    _, out, err = call("doctor")
    assert "passed over" not in err and "nowhere.bb" in out


# The smaller verbs


def test_store_ls_and_info(call, newt):
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    status, out, _ = call("store", "ls")
    assert status == 0 and VIT in out and "collection newt@" in out and "64 images" in out
    status, out, _ = call("store", "ls", "--json")
    (row,) = json.loads(out)
    assert row["rows"] == 64 and row["row_shape"] == [64]
    status, out, _ = call("store", "info", row["key"][:8])
    assert status == 0
    for word in ("torch 2.", "timm 1.", "open_clip_torch 3.", "cpu", "made here by", "bb extract --ckpt", "weights:"):
        assert word in out
    status, out, _ = call("store", "info", row["key"], "--json")
    assert json.loads(out)["parts"][0]["provenance"]["backbone"] == VIT
    status, _, err = call("store", "info", "zz")
    assert status == 2 and "see `bb store ls`" in err


def test_what_comes_from_a_store_cannot_steer_the_terminal(call, newt):
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}", "--limit", 2)
    store = Store.open("features.bb")
    (space,) = store.spaces()
    keys = np.frombuffer(b"k" * 32, np.uint8).reshape(1, 32)
    store.put_segment(
        space, keys, ["x"], np.ones((1, 64), np.float32), {"backbone": "\x1b[2Jevil[bold]", "made": "\x1b]0;x"}
    )
    for verb in (["ls"], ["info", space.key]):
        _, out, err = call("store", *verb)
        assert "\x1b" not in out + err and "evil[bold]" in out


def test_models(call):
    status, out, _ = call("models", "ViT-B-16/openai")
    assert status == 0 and "open_clip:ViT-B-16/openai" in out
    status, out, _ = call("models", "*dinov2*", "--json")
    assert {row["name"].partition(":")[0] for row in json.loads(out)} == {"timm"}
    status, _, err = call("models", "nothing-like-this")
    assert status == 1 and "no backbone is like 'nothing-like-this': `bb models` lists all" in err


def test_data_list(call, newt):
    status, out, _ = call("data", "list")
    assert status == 0 and "no collections: put [data.NAME]" in out
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    Path("bb.toml").write_text(f'[data.newt]\nroot = "{newt}"\n')
    status, out, _ = call("data", "list")
    assert str(newt) in out and re.search(r"\(64 images\) of 20\d\d-", out)


def test_data_check_counts_an_image_once(call, newt):
    """One that can't be decoded has no features either."""
    path = newt / "newt2021_images" / "0-train-0-0.jpg"
    path.write_bytes(path.read_bytes()[:300])
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    status, out, _ = call("data", "check", f"newt={newt}", "--decode")
    assert status == 1 and ", 1 problems" in out and out.count("  0-train-0-0: ") == 1


def test_data_check(call, newt):
    status, out, _ = call("data", "check", f"newt={newt}")
    assert status == 0 and "64 images" in out and "0 problems" in out
    (newt / "newt2021_images" / "0-test-0-0.jpg").unlink()
    (newt / "newt2021_images" / "0-test-0-1.jpg").write_bytes(b"x")
    status, out, _ = call("data", "check", f"newt={newt}")
    assert status == 1 and "2 problems" in out
    assert "0-test-0-0: named by the labels, but not there" in out
    assert "0-test-0-1: no JPEG, PNG, WEBP" in out
    status, _, err = call("data", "check")
    assert status == 2 and "which collection? bb data check NAME=DIR" in err
    status, _, err = call("data", "check", "whales")
    assert status == 2 and "where are the images of whales? bb data check whales=DIR" in err


def test_data_download(call, tmp_path, newt, monkeypatch):
    """Against a server of our own; tests/store/storage/test_download.py has the server break off."""
    import functools
    import hashlib
    import http.server
    import tarfile
    import threading

    from bb.store.storage.download import Archive

    site = tmp_path / "site"
    site.mkdir()
    for name, member in (("labels.tar.gz", "newt2021_labels.csv"), ("images.tar.gz", "newt2021_images")):
        with tarfile.open(site / name, "w:gz") as tar:
            tar.add(newt / member, member)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        archives = tuple(
            Archive(f"http://127.0.0.1:{server.server_port}/{path.name}", hashlib.md5(path.read_bytes()).hexdigest())
            for path in sorted(site.iterdir())
        )
        monkeypatch.setattr("bb.probe.tasks.newt.NEWT.archives", archives)
        status, out, _ = call("data", "download", "newt", "--to", "there")
        assert status == 0 and "Next: bb extract --ckpt ViT-B-16/openai --data newt=there" in out
        status, _, err = call("data", "download", "newt", "--to", "there")
        assert status == 0 and "was unpacked into there before" in err
        server.shutdown()
    status, out, _ = call("data", "check", "newt=there")
    assert status == 0
    status, _, err = call("data", "download", "cars", "--to", "there")
    assert status == 2 and "bb can't download 'cars', only newt" in err


def test_the_archives_are_the_publishers():
    from bb.probe.tasks.newt import ARCHIVES

    assert {archive.name: archive.md5 for archive in ARCHIVES} == {
        "newt2021_images.tar.gz": "b04a56a5b1ffda87f16e6d4f81f9d38e",
        "newt2021_labels.csv.tar.gz": "4cb26d0ee085904887b1ca14dcb893e7",
    }
    assert all(a.url.startswith("https://ml-inat-competition-datasets.s3.amazonaws.com/newt/") for a in ARCHIVES)


def test_doctor(call, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    status, out, _ = call("doctor")
    assert status == 0
    for word in ("python", "torch", "would use", "not made yet", "HF_HUB_OFFLINE", "no bb.toml"):
        assert word in out
    facts = json.loads(call("doctor", "--json")[1])
    assert facts["torch"].startswith("2.") and facts["decoders"].startswith("simplejpeg, pillow")
    monkeypatch.setattr("bb.extract.backbones.decoders.find_spec", lambda name: None)
    facts = json.loads(call("doctor", "--json")[1])
    assert facts["decoders"] == "none" and "needs simplejpeg" in facts["decoder simplejpeg"]
    monkeypatch.setattr(bb.stores, "NEEDED_TO_EXTRACT", ("a_package_that_is_not_there",))
    assert "needs a_package_that_is_not_there" in call("doctor")[1]


def test_version_and_usage(call):
    assert call("--version")[1].startswith("bb 0.")
    status, _, err = call("extract", "--no-such-option")
    assert status == 2 and "--no-such-option" in err
    status, _, err = call("nonsense")
    assert status == 2


# Whole processes


def test_help_imports_nothing_heavy():
    script = (
        "import sys, bb\n"
        "sys.argv = ['bb', '--help']\n"
        "try: bb.main()\n"
        "except SystemExit: pass\n"
        "heavy = ('torch', 'sklearn', 'zarr', 'polars', 'numpy', 'rich', 'bb.verbs', 'bb.extract', 'bb.probe')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.strip() == "[]", done.stderr


@pytest.mark.e2e
@needs_photographs
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_publishes_and_stops(own_place, monkeypatch, number):
    announce_features(monkeypatch)
    process = bb_process("extract", "--ckpt", "timm:resnet10t/untrained", "--data", f"newt={PHOTOS}",
                         "--batch-size", 2, cwd=own_place)  # fmt: skip
    assert any(line == "features added\n" for line in iter(process.stderr.readline, ""))
    process.send_signal(number)
    out, err = process.communicate(timeout=GUARD)
    assert process.returncode == 1, err
    assert "what is embedded will be kept" in err and "stopped early, the same command goes on" in out
    (space,) = Store.open(own_place / "features.bb").spaces()
    assert 0 < len(Store.open(own_place / "features.bb").rows(space)) < 314


@pytest.mark.e2e
@needs_photographs
def test_two_processes_extract_into_one_store(own_place):
    command = ["extract", "--ckpt", "timm:test_vit/untrained", "--data", f"newt={PHOTOS}"]
    processes = [bb_process(*command, cwd=own_place) for _ in range(2)]
    for process in processes:
        _, err = process.communicate(timeout=GUARD)
        assert process.returncode == 0, err
    store = Store.open(own_place / "features.bb")
    (space,) = store.spaces()
    assert len(store.rows(space)) == 314
    assert len(store.collections("newt")) == 1


@pytest.mark.e2e
@needs_photographs
def test_killed_ten_times_nothing_is_lost_or_changed(own_place, monkeypatch):
    """SIGKILL at random moments; segments close after every batch, so that there is something to lose."""
    announce_features(monkeypatch)
    monkeypatch.setenv("EAGER", "1")
    command = ["extract", "--ckpt", "timm:test_vit/untrained", "--data", f"newt={PHOTOS}", "--batch-size", 4]
    rng = np.random.default_rng()
    published: dict[str, bytes] = {}
    store = None
    for _ in range(10):
        process = bb_process(*command, cwd=own_place)
        steps = rng.integers(0, 12)  # a batch each
        for line in iter(process.stderr.readline, ""):
            steps -= line == "features added\n"
            if steps < 0:
                break
        process.kill()
        process.communicate()
        if (own_place / "features.bb" / "zarr.json").exists():
            store = Store.open(own_place / "features.bb")
            now = {
                segment.digest: segment.array("img_features").tobytes()
                for space in store.spaces()
                for segment in store.segments(space)
            }
            assert published.items() <= now.items()
            published = now
    process = bb_process(*command, cwd=own_place)
    _, err = process.communicate(timeout=GUARD)
    assert process.returncode == 0, err
    clean = bb_process(*command, "--store", "clean.bb", cwd=own_place)
    clean.communicate(timeout=GUARD)
    killed, whole = Store.open(own_place / "features.bb"), Store.open(own_place / "clean.bb")
    (space,), (version,) = whole.spaces(), whole.collections("newt")
    assert [s.key for s in killed.spaces()] == [space.key]
    assert [v.digest for v in killed.collections("newt")] == [version.digest]
    ids = version.table["image_id"].to_list()
    np.testing.assert_array_equal(killed.read(space, version, ids), whole.read(space, version, ids))


@pytest.mark.e2e
def test_an_interrupted_grid_keeps_its_finished_runs(own_place, newt):
    command = ["--ckpt", VIT, "--data", f"newt={newt}"]
    assert bb_process("extract", *command, cwd=own_place).wait() == 0
    seeds = [word for seed in range(400) for word in ("--seed", seed)]
    process = bb_process("probe", "newt", "--n-train", "12", *seeds, *command, cwd=own_place)
    runs = own_place / "features.bb" / "runs"
    while not list(runs.glob("*/*/run.json")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=GUARD)
    assert process.returncode == 1
    assert "bb: stopped. What was finished is in the store" in err and "Traceback" not in err
    store = Store.open(own_place / "features.bb")
    assert 1 <= len(list(store.runs())) < 400
    assert all(run.predictions().height == 32 for run in store.runs())


def test_ctrl_c_while_bb_is_still_loading_is_no_traceback():
    program = """
import sys

class Interrupted:
    def find_spec(name, path=None, target=None):
        if name == "bb.store.format.space":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted)
import bb
bb.main()
"""
    done = subprocess.run([sys.executable, "-c", program, "store", "ls"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "bb: stopped before anything was done.\n"


def test_a_cache_that_is_removed_while_bb_runs_is_named(call, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("BB_CACHE", str(cache))

    def gone(*_):
        raise FileNotFoundError(2, "No such file or directory", str(cache / "stores" / "tmp"))

    monkeypatch.setattr("bb.cli.app", gone)
    status, _, err = call("status")
    assert status == 1 and "The cache was removed while bb ran: rerun the command." in err

    class Gone:
        root = cache / "stores" / "0"

    monkeypatch.setattr("bb.store.storage.read_cache.ReadCache.open", lambda *_: Gone)
    with pytest.raises(BBError, match="the cache of http://127.0.0.1:1/f, was removed while bb ran: rerun"):
        Store.open("http://127.0.0.1:1/f")
