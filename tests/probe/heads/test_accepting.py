"""A head is written only where labels that it has not learned from show it to be better than its parent."""

import hashlib
import json
import shutil

import numpy as np
import polars as pl
import pytest

from bb.store import Collection, Store
from bb.store.format.collection import Entry
from tests.helpers.photographs import PHOTOS, needs_photographs
from tests.helpers.retrieval import DIM, clouds
from tests.helpers.stores import fill, space

torch = pytest.importorskip("torch")

from bb.probe.heads.examples import Examples  # noqa: E402
from bb.probe.heads.recipe import HeadRecipe  # noqa: E402
from bb.probe.heads.train import train  # noqa: E402
from bb.probe.heads.validation import Validation, is_better, labels_asked, parts  # noqa: E402
from bb.probe.retrieval.labels import parse_items  # noqa: E402
from tests.helpers.command_line import call, own_place, run_here  # noqa: E402

__all__ = ["call", "own_place"]  # fixtures

LABELS, EACH = 24, 8
NAMES = [f"{row:03}.png" for row in range(LABELS * EACH)]
RECIPE = HeadRecipe(epochs=5, patience=2)


def compared(labels, nuisance, seed=0):
    """A head of some labels, half of which train and half validate, beside its parent."""
    features, codes = clouds(labels, EACH, nuisance=nuisance, seed=seed)
    split = np.where(codes < labels // 2, "train", "val")
    items = parse_items(pl.DataFrame({"image_id": NAMES[: len(codes)], "label": codes, "split": split}))
    training, held, _ = parts(items, 0)
    validation = Validation(held, features[codes >= labels // 2])
    found = train(Examples(features[: len(training)], training.label_codes), RECIPE, "a" * 64, validation)
    return validation.compare(found.head, len(found.history)), found, validation


def test_a_head_that_helps_labels_in_general_is_better():
    change, found, validation = compared(LABELS, nuisance=2.0)
    assert is_better(change) and change.units == labels_asked(validation.items) == LABELS // 2
    assert change.after.mean == pytest.approx(found.history[found.best])
    assert change.before.mean == pytest.approx(validation.score(validation.features))
    narrow = validation.compare(found.head, 1)
    assert change.difference.low < narrow.difference.low, "the best of several is doubted more than the only one"


@pytest.mark.parametrize("seed", range(3))
def test_features_that_say_nothing_have_no_better_head(seed):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(LABELS), 4)
    items = parse_items(pl.DataFrame({"image_id": NAMES[: len(codes)], "label": codes}))
    training, held, _ = parts(items, seed)
    rows = rng.normal(size=(len(items), DIM)).astype(np.float32)
    mask = np.isin(items.image_ids, training.image_ids)
    validation = Validation(held, rows[~mask])
    found = train(Examples(rows[mask], training.label_codes), RECIPE, "a" * 64, validation)
    assert not is_better(validation.compare(found.head, len(found.history)))


def test_two_labels_say_nothing_whatever_their_difference():
    change, _, _ = compared(4, nuisance=2.0)
    assert change.units == 2 and change.difference.low is None and not is_better(change)


def test_from_the_command_line(own_place, call):
    features, codes = clouds(LABELS, EACH, nuisance=2.0)
    entries = [Entry(name, hashlib.sha256(name.encode()).digest(), 9, 8, 8) for name in NAMES]
    store = Store.create(own_place / "features.bb")
    collection = store.put_collection(Collection.from_entries("pics", entries))
    where = space(output={"kind": "img", "pooling": "cls", "dim": DIM})
    fill(store, where, collection, features.astype(np.float16), {"backbone": "timm:cloud/untrained"})
    pl.DataFrame({"image_id": NAMES, "label": codes}).write_csv("labels.csv")
    status, out, err = call("probe", "head", "--labels", "labels.csv", "--epochs", 3, "--json")
    assert status == 0, err
    (head,) = json.loads(out)
    assert head["kept"] == "" and head["rows"] == len(NAMES) and head["head"].startswith("head:")
    known = head["training"]["validated"]
    assert 0 < known["low"] < known["mean"] < known["high"] and known["labels"] == 8


@pytest.mark.e2e
@needs_photographs
def test_two_classes_of_photographs_accept_no_head(pretrained_newt, tmp_path):
    """On pretrained features a head chosen by two classes made five unseen ones worse."""
    shutil.copytree(pretrained_newt, tmp_path / "features.bb")
    table = pl.read_csv(PHOTOS / "newt2021_labels.csv", infer_schema=False)
    classes = table["text_label"].unique().sort().to_list()
    split = dict.fromkeys(classes, "train") | dict.fromkeys(classes[::3], "test") | dict.fromkeys(classes[1:3], "val")
    name = pl.col("text_label")
    table.select(image_id="id", label=name, split=name.replace_strict(split)).write_csv(tmp_path / "classes.csv")
    status, _, err = run_here(tmp_path, "probe", "head", "--labels", "classes.csv", "--data", "newt")
    assert status == 1 and "2 labels validate (the split val), too few to tell whether a head" in err
    assert not Store.open(tmp_path / "features.bb").heads()
