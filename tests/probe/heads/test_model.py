"""A head: its contracts, its file, how it begins, how it is trained, and that it goes on after a kill."""

import itertools
import json
import subprocess
import sys
import threading

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save
from scipy.linalg import helmert
from sklearn.covariance import ledoit_wolf_shrinkage

from bb.extract.backbones.registry import load
from bb.probe.heads.examples import Examples
from bb.probe.heads.initialisation import start
from bb.probe.heads.model import Head, linear_layers
from bb.probe.heads.recipe import Angular, HeadRecipe, Sampling, Triplet, parse_loss, parse_sampling
from bb.probe.heads.train import set_stage, train
from bb.probe.heads.validation import parts
from bb.probe.retrieval.labels import parse_items
from bb.store import BBError, UsageError
from bb.store.files.canonical_json import canonical_json, sha256_hex
from tests.contracts.extractor import check_extractor, check_freezable
from tests.helpers.heads import LABELS, PARENT, RECIPES, VALIDATE, X, head, trained


@pytest.mark.parametrize("hidden", [None, 7])
def test_a_head_keeps_the_contracts_of_extractors_and_of_what_can_be_frozen(hidden):
    found = head(hidden)
    check_extractor(found, torch.tensor(X))
    check_freezable(found, lambda: list(found.parameters()))
    for stage in found.stages:
        check_freezable(stage, lambda stage=stage: list(stage.parameters()))
    first, *others = found.stages
    first.freeze()
    assert [p.requires_grad for p in found.parameters()] == [False, False] + [True, True] * len(others)


def test_an_unknown_head_is_answered_with_those_of_its_folder(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    (tmp_path / "whales.safetensors").write_bytes(head().encode())
    with pytest.raises(UsageError) as caught:
        Head.from_pretrained(str(tmp_path / "wales.safetensors"))
    assert str(caught.value).endswith(
        f"wales.safetensors': give a .safetensors file (in {tmp_path}: whales.safetensors), or head:DIGITS@STORE (`bb "
        "store ls` lists them)."
    )
    with pytest.raises(UsageError, match=r"\(in \.: none\)"):
        Head.from_pretrained("nothing.safetensors")


def test_backbones_are_extractors_too():
    images = torch.rand(4, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    check_extractor(load("timm:test_vit/untrained"), images)


def test_projection_is_the_formula():
    x = X.astype(np.float64)
    found = head()
    weight, bias = (tensor.detach().numpy() for tensor in found.stages[0].parameters())
    z = x / np.linalg.norm(x, axis=1, keepdims=True) @ weight.T + bias
    np.testing.assert_allclose(found.project(X), z / np.linalg.norm(z, axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(found.project(X.astype(np.float16)), found.project(X), atol=1e-2)
    assert found.project(X[:0]).shape == (0, 5)
    assert np.isfinite(found.project(np.zeros((2, 12), np.float32))).all()


# Its file


def test_a_file_is_read_as_it_was_written(tmp_path):
    for hidden in (None, 7):
        one = head(hidden)
        (tmp_path / "h.safetensors").write_bytes(one.encode())
        again = Head.from_pretrained(str(tmp_path / "h.safetensors"))
        assert again.encode() == one.encode() and again.digest == sha256_hex(one.encode()) == one.digest
        assert (again.layers, again.parent, again.name) == (one.layers, PARENT, f"head:{one.digest[:12]}")
        np.testing.assert_array_equal(again.project(X), one.project(X))
    assert head().digest != Head(head().layers, "b" * 64).digest


def file(tensors=None, **said):
    record = {"format": "head 1", "parent": PARENT, "layers": linear_layers(12, 5), **said}
    whole = {"1.weight": torch.zeros(5, 12), "1.bias": torch.zeros(5)}
    return save(whole if tensors is None else tensors, {"bb": canonical_json(record).decode()})


def huge():
    header = json.dumps(
        {"__metadata__": {"bb": "x"}, "t": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    )
    return len(header).to_bytes(8, "little") + header.encode()


@pytest.mark.parametrize(
    "data, fact",
    [
        (b"", "its header is cut off"),
        (b"\xff" * 100, "its header is cut off"),
        (b"\x02" + b"\0" * 7 + b"{}    ", "it does not say so"),
        (huge(), "is not a head"),
        (save({"a": torch.zeros(1)}), "it does not say so"),
        (save({"a": torch.zeros(1)}, {"bb": "[]"}), "it does not say so"),
        (save({"a": torch.zeros(1)}, {"bb": "[" * 100_000}), "is not a head"),
        (file(format="head 2"), "it does not say so"),
        (file(parent="../../etc"), "it does not say so"),
        (file(layers=[]), "it has no list of layers"),
        (file(layers=[{"kind": "unit"}]), "it has no linear layer"),
        (file(layers=[{"kind": "exec", "code": "1"}]), "which this bb does not know"),
        (file(layers=["unit"]), "which this bb does not know"),
        (file(layers=[{"kind": "linear", "from": 2**40, "to": 2**40}]), "does not fit"),
        (file(layers=[{"kind": "linear", "from": True, "to": 5}]), "does not fit"),
        (file(layers=[*linear_layers(12, 5), *linear_layers(4, 5)]), "does not fit"),
        (file(layers=[{"kind": "relu"}] * 40), "it has no list of layers"),
        (file(layers=[{"kind": "linear", "from": 2**16, "to": 2**16}] * 32), "its tensors are not those of its layers"),
        (file(layers=linear_layers(12, 6)), "its tensors are not those of its layers"),
        (file({"1.weight": torch.zeros(5, 12)}), "its tensors are not those of its layers"),
        (file({"1.weight": torch.zeros(5, 12).half(), "1.bias": torch.zeros(5)}), "its tensors are not those"),
        (file({"1.weight": torch.full((5, 12), torch.nan), "1.bias": torch.zeros(5)}), "holds a NaN or an infinity"),
    ],
)  # fmt: skip
def test_what_is_no_head_is_said(tmp_path, data, fact):
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(BBError, match=fact) as caught:
        Head.from_pretrained(str(tmp_path / "x.safetensors"))
    assert "x.safetensors" in str(caught.value) and "bb probe head" in str(caught.value)


# How it begins


def test_the_plain_start_is_the_parents_own_space_turned():
    found = start(Examples(X, LABELS), HeadRecipe(start="plain", dim=12), PARENT, torch.Generator())
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    z = found.project(X)
    np.testing.assert_allclose(z @ z.T, unit @ unit.T, atol=1e-5)
    assert VALIDATE(found) == pytest.approx(VALIDATE.score(VALIDATE.features), abs=1e-6)


def test_the_whitened_start_evens_out_what_varies_within_labels():
    found = start(Examples(X, LABELS), HeadRecipe(dim=12), PARENT, torch.Generator())
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    z = unit @ found.stages[0].weight.detach().numpy().T + found.stages[0].bias.detach().numpy()
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4)

    def within(x):
        return np.cov((x - np.stack([x[label == LABELS].mean(axis=0) for label in LABELS])).T, bias=True)

    before = np.linalg.eigvalsh(within(unit))
    independent = np.concatenate([helmert(10) @ unit[label == LABELS] for label in range(6)])
    a = max(ledoit_wolf_shrinkage(independent, assume_centered=True), 0.1)
    unbiased = before * 60 / 54
    expected = before / ((1 - a) * unbiased + a * unbiased.mean())
    np.testing.assert_allclose(np.linalg.eigvalsh(within(z)), expected, rtol=1e-3)
    assert before.max() / before.min() > 10 > 6 > expected.max() / expected.min()


def test_few_rows_of_many_dimensions_are_hardly_whitened():
    """Where no direction can be told to vary more than another, the start leaves distances as they are."""
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(40, 300)).astype(np.float32), np.arange(40) // 4
    found = start(Examples(x, labels), HeadRecipe(dim=300), PARENT, torch.Generator())
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    z = unit @ found.stages[0].weight.detach().numpy().T + found.stages[0].bias.detach().numpy()
    assert np.corrcoef((z @ z.T).ravel(), (centred @ centred.T).ravel())[0, 1] > 0.99


@pytest.mark.parametrize("how", ["plain", "whitened"])
@pytest.mark.parametrize("dim, hidden", [(3, None), (40, None), (3, 30), (None, None), (None, 6)])
def test_a_start_has_the_length_that_is_asked_for(how, dim, hidden):
    recipe = HeadRecipe(dim=dim, hidden=hidden, start=how)
    one, again = (start(Examples(X, LABELS), recipe, PARENT, torch.Generator().manual_seed(3)) for _ in range(2))
    assert one.feat_dim == (dim or 12) and one.digest == again.digest
    assert np.isfinite(one.project(X)).all()
    same = np.ones((8, 12), np.float32)  # nothing varies at all
    assert np.isfinite(start(Examples(same, np.arange(8) // 4), recipe, PARENT, torch.Generator()).project(same)).all()


# Training


@pytest.mark.parametrize("name", RECIPES)
def test_training_is_decided_by_its_seed(name):
    recipe = RECIPES[name]
    one, again = trained(recipe), trained(recipe)
    assert one.head.digest == again.head.digest and one.history == again.history
    assert len(one.history) == 9 and one.history[one.best] == max(one.history)
    assert VALIDATE(one.head) == max(one.history)
    other = trained(HeadRecipe(**{**recipe.__dict__, "seed": 1}))
    assert other.history[1:] != one.history[1:]
    assert not any(parameter.requires_grad for parameter in one.head.parameters())


def test_training_makes_the_loss_smaller_and_validation_better():
    found = trained(HeadRecipe(start="plain", epochs=60, patience=60, rate=1e-2))
    first = trained(HeadRecipe(start="plain", epochs=1))
    assert found.logs["loss"] < 0.6 * first.logs["loss"]
    assert max(found.history) > found.history[0] + 0.02


def test_it_ends_when_validation_gets_no_better():
    scores = iter([0.5, 0.6, 0.6, 0.59, 0.1, 0.9])
    told = []
    found = train(
        Examples(X, LABELS),
        HeadRecipe(patience=3),
        PARENT,
        lambda head: next(scores),
        progress=lambda epoch, values: told.append((epoch, values["validation"], "loss" in values)),
    )
    assert (found.best, found.history) == (1, (0.5, 0.6, 0.6, 0.59, 0.1))
    assert told == [(1, 0.6, True), (2, 0.6, True), (3, 0.59, True), (4, 0.1, True)]


def test_the_start_is_kept_where_no_epoch_is_better():
    scores = itertools.chain([0.5], itertools.repeat(0.4))
    found = train(Examples(X, LABELS), HeadRecipe(patience=2), PARENT, lambda head: next(scores))
    begun = start(Examples(X, LABELS), HeadRecipe(), PARENT, torch.Generator().manual_seed(0))
    assert found.best == 0 and found.head.digest == begun.digest


def test_warming_up_trains_what_began_by_chance_alone():
    arcface = trained(HeadRecipe(Angular(), epochs=2, warmup=2))
    assert arcface.history == (arcface.history[0],) * 3
    begun = start(Examples(X, LABELS), HeadRecipe(hidden=8), PARENT, torch.Generator().manual_seed(0))
    recipe = HeadRecipe(hidden=8, epochs=1, warmup=1, rate=0.1)
    scores = iter([0.0, 1.0])
    found = train(Examples(X, LABELS), recipe, PARENT, lambda head: next(scores)).head
    assert torch.equal(found.stages[0].weight, begun.stages[0].weight)
    assert not torch.equal(found.stages[1].weight, begun.stages[1].weight)
    loss = recipe.build_loss(6, 12, torch.Generator())
    set_stage(begun, loss, warming=True)
    assert [stage.weight.requires_grad for stage in begun.stages] == [False, True]
    set_stage(begun, loss, warming=False)
    assert [stage.weight.requires_grad for stage in begun.stages] == [True, True]


@pytest.mark.parametrize("name", ["bank", "arcface", "hidden"])
def test_stopped_and_gone_on_is_as_never_stopped(tmp_path, name):
    recipe, place = RECIPES[name], tmp_path / "tmp" / "state.safetensors"
    stop = threading.Event()

    def stop_after(epoch, values):
        if epoch in (1, 4):
            stop.set()

    parts_of_it = []
    for _ in range(3):
        stop.clear()
        parts_of_it.append(trained(recipe, checkpoint=place, stop=stop, progress=stop_after))
    assert [found.stopped for found in parts_of_it] == [True, True, False]
    assert [len(found.history) for found in parts_of_it] == [2, 5, 9]
    whole = trained(recipe)
    assert parts_of_it[-1].history == whole.history and parts_of_it[-1].head.digest == whole.head.digest
    assert [path.name for path in place.parent.iterdir()] == ["state.safetensors"]


@pytest.mark.e2e
def test_killed_and_gone_on_is_as_never_killed(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path; import tests.helpers.heads as t\n"
        "kill = lambda epoch, values: os.kill(os.getpid(), signal.SIGKILL) if epoch == 5 else None\n"
        "t.trained(t.RECIPES['hard'], checkpoint=Path(sys.argv[1]), every=0.0, progress=kill)"
    )
    place = tmp_path / "state.safetensors"
    done = subprocess.run([sys.executable, "-c", script, str(place)], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    seen = []
    found = trained(RECIPES["hard"], checkpoint=place, progress=lambda epoch, values: seen.append(epoch))
    assert seen == [6, 7, 8]
    whole = trained(RECIPES["hard"])
    assert found.history == pytest.approx(whole.history, abs=1e-6)
    np.testing.assert_allclose(found.head.project(X), whole.head.project(X), atol=1e-5)


def test_a_damaged_state_is_said(tmp_path):
    place = tmp_path / "state.safetensors"
    stop = threading.Event()
    stop.set()
    trained(RECIPES["hard"], checkpoint=place, stop=stop)
    whole = place.read_bytes()
    of_another = tmp_path / "other.safetensors"
    trained(RECIPES["hidden"], checkpoint=of_another, stop=stop)
    for data in (whole[:100], b"", whole.replace(b"training 1", b"training 2"), of_another.read_bytes()):
        place.write_bytes(data)
        with pytest.raises(
            BBError, match=r"is not a training state to resume from \(.*\): delete it, and training starts again"
        ):
            trained(RECIPES["hard"], checkpoint=place)


def test_what_can_not_be_trained_is_said():
    with pytest.raises(BBError, match="the features hold a NaN or an infinity: see `bb store verify`"):
        train(Examples(np.where(X > 2, np.nan, X), LABELS), HeadRecipe(), PARENT, VALIDATE)
    with pytest.raises(
        BBError, match=r"the weights became NaN or infinite in epoch \d+: choose a smaller --lr than 1e\+37"
    ):
        trained(HeadRecipe(rate=1e37, decay=10.0, patience=100))
    with pytest.raises(
        UsageError, match="--sampler category needs a column category in the labels, or choose balanced"
    ):
        train(Examples(X, LABELS), RECIPES["category"], PARENT, VALIDATE)


# What a person says


def test_words_are_parsed_once():
    assert (
        parse_loss() == Triplet()
        and parse_loss("arcface") == Angular()
        and parse_loss("arcface", margin="20").margin == 20
    )
    assert parse_loss(margin="soft") == Triplet(margin=None)
    assert parse_loss("triplet", "n-hard:3x7", "0.5", 9) == Triplet("n-hard", (3, 7), 0.5, 9)
    assert parse_loss(miner="n-hard").n == (2, 10)
    assert parse_sampling() == Sampling("balanced", (16, 8)) and parse_sampling("category:3x2x4").sizes == (3, 2, 4)
    json.dumps(HeadRecipe(Angular(), parse_sampling("distinct-categories")).record())


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: parse_loss("hinge"), "unknown loss 'hinge': choose triplet or arcface."),
        (lambda: parse_loss(margin="wide"), "--margin wide is neither a number nor soft."),
        (lambda: parse_loss(margin="-1"), "a margin of -1 makes no sense"),
        (lambda: parse_loss("arcface", "hard"), "--miner and --bank are for --loss triplet"),
        (lambda: parse_loss("arcface", bank=5), "--miner and --bank are for --loss triplet"),
        (lambda: parse_loss("arcface", margin="soft"), "--margin soft is for --loss triplet"),
        (lambda: parse_loss(bank=-5), "--bank -5 makes no sense: choose how many rows, or 0 for none."),
        (lambda: parse_loss(miner="easy"), "--miner easy is unknown; there are all, hard, n-hard, hard-cluster."),
        (lambda: parse_loss(miner="hard:2x2"), "--miner hard:2x2: write n-hard:2x10 for the 2 hardest positives"),
        (lambda: parse_loss(miner="n-hard:2"), "--miner n-hard:2: write n-hard:2x10"),
        (lambda: parse_loss(miner="n-hard:0x3"), "hardest positives are none: count from 1"),
        (lambda: parse_loss(miner="n-hard:axb"), "--miner n-hard:axb: after the colon, write numbers with x between"),
        (
            lambda: parse_sampling("even"),
            "--sampler even is unknown; there are balanced, category, distinct-categories.",
        ),
        (lambda: parse_sampling("balanced:4"), "--sampler balanced:4: balanced takes 2 sizes, as in balanced:16x8."),
        (
            lambda: parse_sampling("category:4x"),
            "after the colon, write numbers with x between them, for example category:4x2.",
        ),
        (lambda: HeadRecipe(dim=0), "--dim 0 makes no sense: choose 1 to 65536."),
        (lambda: HeadRecipe(hidden=-3), "--hidden -3 makes no sense: choose 1 to 65536."),
        (lambda: HeadRecipe(hidden=65537), "--hidden 65537 makes no sense: choose 1 to 65536."),
        (lambda: HeadRecipe(epochs=0), "--epochs 0 makes no sense: choose 1 or more."),
        (lambda: HeadRecipe(patience=0), "--patience 0 makes no sense: choose 1 or more."),
        (lambda: HeadRecipe(warmup=-1), "--warmup -1 makes no sense: choose 0 or more."),
        (lambda: HeadRecipe(seed=-1), "--seed -1 makes no sense: choose a whole number from 0 to"),
        (lambda: HeadRecipe(rate=0.0), "--lr 0 with --decay 0.0001 makes no sense: choose 0.001 and 0.0001."),
        (lambda: HeadRecipe(decay=-1.0), "--lr 0.001 with --decay -1 makes no sense"),
        (lambda: HeadRecipe(start="zero"), "--start zero is unknown; there are whitened, plain."),
        (lambda: HeadRecipe(warmup=3), "--warmup freezes all but what begins by chance, which a linear head"),
    ],
)
def test_what_makes_no_recipe_is_said(make, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        make()


# Who trains and who validates


def table(n_labels=10, each=3, **columns):
    labels = np.repeat(np.arange(n_labels), each)
    base = {"image_id": [f"{i:03}" for i in range(len(labels))], "label": labels}
    return parse_items(pl.DataFrame({**base, **columns}))


def test_labels_are_held_out_where_nothing_is_said():
    training, held, words = parts(table(), 0)
    assert words == "5 labels held out of training" and len(held) == 15 and len(training) == 15
    assert [len(parts(table(n), 0)[1].labels) for n in (4, 7, 16, 30, 60)] == [2, 3, 8, 8, 12]
    assert not set(training.labels) & set(held.labels)
    assert parts(table(), 0)[1].labels == held.labels
    assert len({parts(table(), seed)[1].labels for seed in range(9)}) > 1


def test_given_splits_are_kept():
    split = ["train"] * 12 + ["val"] * 9 + ["test"] * 6 + [None] * 3
    training, held, words = parts(table(split=split), 0)
    assert (len(training), len(held), words) == (12, 9, "the split val")
    query = [i % 3 == 0 for i in range(30)]
    training, held, _ = parts(table(split=split, is_query=query, is_gallery=[not q for q in query]), 0)
    assert len(training) == 12 and (len(held.queries), len(held.gallery)) == (3, 6)
    training, held, _ = parts(table(split=["train"] * 24 + ["test"] * 6), 0)
    assert len(training) + len(held) == 24


@pytest.mark.parametrize(
    "items, error, message",
    [
        (lambda: table(3), BBError, "has 3 labels with two images or more to train on, which can't be parted"),
        (lambda: table(30, 1), BBError, "has 0 labels with two images or more to train on"),
        (lambda: table(split=["test"] * 30), UsageError, "has no rows of split 'train'; it has test."),
        (lambda: table(split=["train"] * 3 + ["val"] * 27), BBError, "split 'train', has no two labels of which one"),
        (lambda: table(10, 1, split=["train"] * 5 + ["val"] * 5), BBError, "split 'train', has no two labels of which"),
    ],
)
def test_what_can_not_be_parted_is_said(items, error, message):
    with pytest.raises(error, match=message):
        parts(items(), 0)
