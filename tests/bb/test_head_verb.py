"""bb probe head, from a store and a table of labels to a derived space that every other probe reads, on digits."""

import importlib.util
import json
import os
import shutil
import signal

import bb
import numpy as np
import polars as pl
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from extract.collection import find_images
from probe.bootstrap import resample
from probe.compare import differences
from probe.digits import digits_labels
from probe.table import read_table
from store import Store
from tests.test_bb import RESNET, VIT, call, own_place

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
    store = bb.open_store(str(folder / "features.bb"), create=True)
    names = bb.parse_names([VIT, RESNET])
    bb.extract_all(store, names, {"digits": find_images(folder / "digits")}, bb.ExtractOptions())
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


HEAD = ("probe", "head", "--labels", "digits.csv")


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
    assert lines[0].startswith("MAP@R on ") and "of 2 labels, 2 labels held out of training: of the parent" in lines[0]
    name, key = lines[2].split()[:2]
    store = Store.open("features.bb")
    space = store.space(key)
    parent = space.architecture["parent"][:12]
    assert lines[4] == f"  bb probe retrieval --labels digits.csv --space {parent} --space {key} --store features.bb"
    assert call(*quick)[1].splitlines()[2].endswith("was there")

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
    status, out, err = call("probe", "head", "--load", name)
    assert status == 0 and out.splitlines()[2].split()[:2] == [name, key] and "  0" in out
    status, out, err = call("probe", "head", "--labels", "digits.csv", "--json", "--epochs", 1)
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


def test_a_head_that_is_no_better_is_said(place, call):
    # On a line, unit vectors are two points: nothing can be told apart that the parent's many directions can.
    names = pl.read_csv("digits.csv")["image_id"]
    pl.DataFrame({"image_id": names, "label": np.arange(N) // 2}).write_csv("pairs.csv")
    status, _, err = call("probe", "head", "--labels", "pairs.csv", "--ckpt", VIT, "--epochs", 1, "--dim", 1)
    assert status == 0 and "is no better than its parent where it was validated" in err


def test_stopped_it_keeps_its_state_and_goes_on(place, call, monkeypatch):
    quick = (*HEAD, "--ckpt", VIT, "--start", "plain", "--epochs", 6)

    class Impatient(bb.Meter):
        def __call__(self, done, total=None):
            if done == 3:
                os.kill(os.getpid(), signal.SIGTERM)  # as Slurm does, or the first Ctrl-C

    with monkeypatch.context() as patched:
        patched.setattr(bb, "Meter", Impatient)
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
        (("probe", "head", "--load", "head:0123"), 2, "'head:0123' is no head of features.bb (there: none)."),
        (("probe", "head", "--load", "nowhere.safetensors"), 2, "there is no head 'nowhere.safetensors': give a"),
        ((*HEAD, "--ckpt", "head:xyz"), 2, "'head:xyz' is no head: write head: and the first 12 digits of its digest"),
        ((*HEAD, "--ckpt", "head:0123"), 2, "'head:0123' is no head: write head: and the first 12 digits"),
        (
            (*HEAD, "--ckpt", "head:0123456789ab"),
            2,
            "has no features of head:0123456789ab. To make them: bb probe head;",
        ),
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
