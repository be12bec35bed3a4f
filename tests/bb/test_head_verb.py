"""bb probe head, from a store and a table of labels to a derived space that every other probe reads, on digits."""

import importlib.util
import json
import os
import shutil
import signal

import numpy as np
import polars as pl
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import bb.console
import bb.extract
import bb.stores
from bb.probe.statistics.bootstrap import resample
from bb.probe.statistics.comparison import differences
from bb.probe.statistics.predictions import read_table
from bb.probe.tasks.digits import digits_labels
from bb.store import Store
from tests.helpers.command_line import RESNET, VIT, call, own_place

__all__ = ["call", "own_place"]  # fixtures

N = 600  # digits
HELD_OUT = (7, 8, 9)  # which neither train nor validate


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A store of two backbones' features of digits, with labels for retrieval and for NeWT's tasks."""
    folder = tmp_path_factory.mktemp("heads")
    (folder / "digits").mkdir()
    pixels, target = load_digits(return_X_y=True)
    ids = [f"{i:04}.png" for i in range(N)]
    for name, values in zip(ids, pixels, strict=False):
        Image.fromarray((values.reshape(8, 8) * 15).astype(np.uint8)).save(folder / "digits" / name)
    bb.extract.run(folder / "features.bb", [VIT, RESNET], {"digits": folder / "digits"})
    split = ["test" if digit in HELD_OUT else "train" for digit in target[:N]]
    pl.DataFrame({"image_id": ids, "label": target[:N], "split": split}).write_csv(folder / "digits.csv")
    tasks = digits_labels(ids, target[:N])
    tasks.filter(pl.col("task") == "digit_7_vs_8").write_csv(folder / "tasks.csv")
    tasks.filter(pl.col("task") == "digit_0_vs_1").write_csv(folder / "seen.csv")
    return folder


@pytest.fixture
def place(template, own_place):
    shutil.copytree(template / "features.bb", own_place / "features.bb")
    for name in ("digits.csv", "tasks.csv", "seen.csv"):
        shutil.copy(template / name, own_place / name)
    return own_place


# Of seven digits three validate, which are too few to accept a head by.
HEAD = ("probe", "head", "--labels", "digits.csv", "--accept", "any")


def test_a_backbone_without_features_is_said_before_a_logger_is_opened(place, call):
    status, _, err = call(*HEAD, "--ckpt", "timm:resnet18", "--log", "tensorboard:tb")
    assert status in (1, 2) and "resnet18" in err and not (place / "tb").exists()


@pytest.mark.e2e
def test_a_head_beats_its_parent_on_classes_that_it_has_never_seen(place, call):
    status, out, err = call(*HEAD, "--json")
    assert status == 0, err
    heads = json.loads(out)
    assert len(heads) == 2 and all(each["fresh"] and each["rows"] == N for each in heads)
    for each in heads:
        status, out, err = call(
            "probe", "retrieval", "--labels", "digits.csv", "--space", each["parent_space"], "--space", each["space"],
            "--no-pairs",
        )  # fmt: skip
        assert status == 0 and "seen" not in err, err
    runs = {run.record["space"]: [run] for run in Store.open("features.bb").runs()}
    for each in heads:
        table = read_table({"parent": runs[each["parent_space"]], "head": runs[each["space"]]}).only(["map@r"])
        found = differences(table, resample(table))
        assert float(np.ravel(found.p).min()) < 0.001
        parent, head = (runs[each[name]][0].record["scores"]["mean"] for name in ("parent_space", "space"))
        assert head > 1.2 * parent
        assert each["training"]["best"] > each["training"]["parent"]


@pytest.mark.e2e
def test_training_itself_beats_the_parent_from_where_it_starts(place, call):
    status, out, err = call(*HEAD, "--start", "plain", "--ckpt", RESNET, "--json")
    assert status == 0, err
    (head,) = json.loads(out)
    training = head["training"]
    assert training["start"] == pytest.approx(training["parent"], abs=1e-5) and training["best_epoch"] > 0
    call("probe", "retrieval", "--labels", "digits.csv", "--space", head["parent_space"], "--space", head["space"])
    runs = {run.record["space"]: [run] for run in Store.open("features.bb").runs()}
    table = read_table({"parent": runs[head["parent_space"]], "head": runs[head["space"]]}).only(["map@r"])
    assert float(np.ravel(differences(table, resample(table)).p).min()) < 0.001
    parent, trained = (runs[head[name]][0].record["scores"]["mean"] for name in ("parent_space", "space"))
    assert trained > 1.1 * parent


def test_words_for_people_and_everything_else_reads_the_space(place, call):
    quick = (*HEAD, "--ckpt", VIT, "--epochs", 2, "--dim", 16)
    status, out, err = call(*quick)
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("MAP@R on ") and "of 3 labels, 3 labels held out of training: of the parent" in lines[0]
    name, key = lines[2].split()[:2]
    store = Store.open("features.bb")
    space = store.space(key)
    parent = space.architecture["parent"][:12]
    assert lines[4] == f"  bb probe retrieval --labels digits.csv --space {parent} --space {key} --store features.bb"
    assert call(*quick)[1].splitlines()[2].endswith("was there")
    skip = ("--missing", "skip", "--max-missing", 0.02, "--not-missing", "NA", "--same-images-as", parent)
    last = call(*quick, *skip)[1].splitlines()[4]
    for option in ("--missing skip", "--max-missing 0.02", "--not-missing NA", f"--same-images-as {parent}"):
        assert option in last

    status, out, _ = call("store", "ls")
    assert status == 0 and f"{key}  {name}" in out
    status, out, _ = call("store", "info", key)
    assert f"{name}: {N} rows" in out and "cpu; backbone-bench" in out
    status, out, _ = call("store", "why", key, parent)
    assert status == 0 and "org: head against timm" in out and "output: dim 16 against 64" in out
    status, out, _ = call("store", "verify")
    assert status == 0 and "0 faults" in out
    status, out, _ = call("store", "du")
    assert status == 0 and name in out and "heads" in out
    status, out, err = call(
        "probe", "newt", "--labels", "tasks.csv", "--data", "digits", "--n-train", 4, "--ckpt", name
    )
    assert status == 0 and name in out and "was trained on" not in err, err
    status, out, err = call("probe", "newt", "--labels", "seen.csv", "--data", "digits", "--n-train", 4, "--ckpt", name)
    assert status == 0 and f"note: {name} was trained on, or chosen by, images that it is tested on here" in err
    status, out, err = call("probe", "retrieval", "--labels", "digits.csv", "--split", "all", "--ckpt", name)
    assert status == 0 and f"{name} was trained on, or chosen by, images that it is tested on here" in err
    status, out, err = call("probe", "classify", "--labels", "digits.csv", "--split", "", "--ckpt", name)
    assert status == 0 and f"{name} was trained on, or chosen by, images that it is tested on here" in out + err
    status, out, err = call("probe", "head", "--load", name)
    assert status == 0 and out.splitlines()[2].split()[:2] == [name, key] and "  0" in out
    status, out, err = call("probe", "head", "--labels", "digits.csv", "--json", "--epochs", 1, "--accept", "any")
    assert status == 0 and {each["parent_space"] for each in json.loads(out)} == {
        s.key for s in store.spaces() if s.org != "head"
    }, "heads are not made of heads unless that is asked for"


def test_a_head_of_a_head_where_it_is_asked_for(place, call):
    (one,) = json.loads(call(*HEAD, "--ckpt", VIT, "--epochs", 1, "--json")[1])
    status, out, err = call(*HEAD, "--ckpt", one["head"], "--epochs", 1, "--json")
    assert status == 0, err
    assert json.loads(out)[0]["parent_space"] == one["space"]


def test_other_losses_miners_and_samplers(place, call):
    for options in (
        ("--loss", "arcface", "--warmup", 1),
        ("--miner", "n-hard:1x5", "--margin", "soft", "--bank", 64, "--sampler", "balanced:4x4"),
        ("--miner", "hard-cluster", "--hidden", 32, "--dim", 8),
    ):
        status, _, err = call(*HEAD, "--ckpt", VIT, "--epochs", 2, *options)
        assert status == 0, err
    assert len(Store.open("features.bb").heads()) == 3


def test_the_parent_is_kept_unless_the_head_is_shown_to_be_better(place, call):
    # On a line, unit vectors are two points: nothing can be told apart that the parent's many directions can.
    names = pl.read_csv("digits.csv")["image_id"]
    pl.DataFrame({"image_id": names, "label": np.arange(N) // 2}).write_csv("pairs.csv")
    worse = ("probe", "head", "--labels", "pairs.csv", "--ckpt", VIT, "--epochs", 1, "--dim", 1)
    status, out, err = call(*worse)
    assert status == 0 and "none: parent kept" in out and "Next:" not in out
    assert "no head is written, it is not better than its parent beyond chance: MAP@R changes by -0." in err
    assert "on 60 labels, widened for the choice among epochs (--accept any writes it)" in err
    assert not Store.open("features.bb").heads() and not list((place / "features.bb" / "tmp" / "heads").glob("*"))
    status, out, err = call(*worse, "--json")
    (kept,) = json.loads(out)
    assert status == 0 and (kept["head"], kept["space"], kept["rows"]) == (None, None, 0)
    assert kept["kept"] and kept["training"]["validated"]["low"] < 0
    status, out, err = call(*worse, "--accept", "any")
    assert status == 0 and "it is not better than its parent beyond chance" in err and "Next:" in out
    assert len(Store.open("features.bb").heads()) == 1


@pytest.mark.parametrize("split", [True, False])
def test_few_labels_to_validate_on_are_refused_unless_forced(place, call, split):
    table = pl.read_csv("digits.csv").with_columns(pl.col("label").cast(pl.String))
    held = pl.when(pl.col("label").is_in(["5", "6"])).then(pl.lit("val")).otherwise("split").alias("split")
    table.with_columns(held if split else pl.col("split")).write_csv("few.csv")
    few = ("probe", "head", "--labels", "few.csv", "--ckpt", VIT, "--epochs", 1)
    status, _, err = call(*few)
    said = "2 labels validate (the split val)" if split else "3 labels validate (3 labels held out of training)"
    assert status == 1 and f"few.csv: {said}, too few to tell whether a head is better than its parent" in err
    assert "(at least 5 labels with two images or more)" in err and not Store.open("features.bb").heads()
    status, _, err = call(*few, "--accept", "any")
    assert status == 0 and f"{2 if split else 3} labels are too few to tell whether it is better than its parent" in err


def test_stopped_it_keeps_its_state_and_goes_on(place, call, monkeypatch):
    quick = (*HEAD, "--ckpt", VIT, "--start", "plain", "--epochs", 6)

    class Impatient(bb.console.Progress):
        def __call__(self, done, total=None):
            super().__call__(done, total)
            if done == 3:
                os.kill(os.getpid(), signal.SIGTERM)  # as Slurm does, or the first Ctrl-C

    with monkeypatch.context() as patched:
        patched.setattr("bb.console.Progress", Impatient)
        status, out, err = call(*quick)
    assert status == 1 and "stopping after this epoch; the state is kept, and the same command goes on" in err
    assert "nothing is written of what was being trained; the same command goes on from there" in err
    assert not Store.open("features.bb").heads()
    (state,) = (place / "features.bb" / "tmp" / "heads").iterdir()
    status, out, err = call(*quick, "--json")
    assert status == 0 and f"going on from {state.relative_to(place)}" in err and not state.exists()
    (head,) = json.loads(out)
    (again,) = json.loads(call(*quick, "--json", "--force")[1])
    assert (again["space"], again["fresh"], again["rows"]) == (head["space"], True, 0)


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (("probe", "head"), 2, "which labels? Give --labels FILE to train a head, or --load HEAD to use one"),
        ((*HEAD, "--load", "head:0123"), 2, "--load trains nothing, and the head says what it is for: leave out"),
        (("probe", "head", "--load", "head:0123"), 2, "'head:0123' is not a head of features.bb (there: none)."),
        (("probe", "head", "--load", "nowhere.safetensors"), 2, "unknown head 'nowhere.safetensors': give a"),
        (
            (*HEAD, "--ckpt", "head:xyz"),
            2,
            "'head:xyz' is not a head: write head: and the first 12 digits of its digest",
        ),
        ((*HEAD, "--ckpt", "head:0123"), 2, "'head:0123' is not a head: write head: and the first 12 digits"),
        (
            (*HEAD, "--ckpt", "head:0123456789ab"),
            2,
            "has no features of head:0123456789ab. To make them: bb probe head;",
        ),
        ((*HEAD[:-1], "anything"), 2, "--accept 'anything' is unknown: choose better or any."),
        ((*HEAD, "--miner", "easy"), 2, "--miner easy is unknown; there are all, hard, n-hard, hard-cluster."),
        ((*HEAD, "--sampler", "category"), 2, "--sampler category needs a column category in the labels"),
        ((*HEAD, "--data", "other"), 2, "has no collection other"),
        ((*HEAD, "--store", "https://example.org/s"), 2, "https://example.org/s is read only in place"),
    ],
)
def test_what_is_wrong_is_said(place, call, arguments, status, message):
    found, _, err = call(*arguments)
    assert (found, message in err) == (status, True), err


def test_rows_of_heads_are_not_recomputed(place, call, template):
    (head,) = json.loads(call(*HEAD, "--ckpt", VIT, "--epochs", 1, "--json")[1])
    data = f"digits={template / 'digits'}"
    status, out, err = call("store", "verify", "--recompute", 4, "--data", data)
    assert status == 0 and "head:" not in out and VIT in out, err
    status, _, err = call("store", "verify", "--recompute", 4, "--data", data, "--space", head["space"])
    assert status == 2 and f"space {head['space'][:12]} is derived by a head, not embedded: --recompute its" in err


def test_without_torch_the_remedy_is_said(place, call, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else there(name))
    status, _, err = call(*HEAD)
    assert status == 2 and "bb probe head needs torch: pip install 'backbone-bench[heads]'" in err
