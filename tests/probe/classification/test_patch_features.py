"""`bb probe classify --classifier attentive` on stored patch features: read row by row."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from bb.probe.classifiers.trained.attentive import Attentive
from bb.store import BBError, Store
from bb.store.imported import import_features
from bb.store.local.stored_rows import StoredRows, blocks
from tests.helpers.command_line import call, own_place  # noqa: F401
from tests.helpers.synthetic import NAME, cluster_store

PATCH = "lab:patches"


@pytest.fixture
def place(own_place, monkeypatch):  # noqa: F811
    """Image features, and patches of which one in four is of the image's class."""
    monkeypatch.setattr(Attentive, "epochs", 10)
    monkeypatch.setattr(Attentive.__init__, "__defaults__", (12, 10, 64, (1e-2,), (0.0,), 0.1, 0))
    store, ids, y, x = cluster_store(own_place / "features.bb")
    rng = np.random.default_rng(1)
    tokens = rng.normal(size=(len(ids), 4, x.shape[1])).astype(np.float32)
    tokens[np.arange(len(ids)), rng.integers(0, 4, len(ids))] += 3 * x
    collection = store.collections("pics")[0]
    import_features(store, tokens, collection.digests(ids), ids, name=PATCH, collection="pics")
    side = np.where(np.arange(len(ids)) % 3, "train", "test")
    pl.DataFrame({"image_id": ids, "label": [f"k{k}" for k in y], "split": side}).write_csv("pics.csv")
    return store, ids, y, tokens, side


def runs(call, *words):  # noqa: F811
    status, out, err = call("probe", "classify", "--labels", "pics.csv", "--classifier", "attentive", *words, "--json")
    assert status == 0, err
    return json.loads(out)


def test_an_attentive_probe_is_fitted_on_stored_tokens(place, call):  # noqa: F811
    _, ids, y, tokens, side = place
    (record,) = runs(call)
    (again,) = runs(call)
    assert record["fresh"] and not again["fresh"] and again["run_id"] == record["run_id"]
    assert record["parameters"]["preprocessing"] == "none" and record["backbones"] == [PATCH]
    (run,) = Store.open("features.bb").runs()
    expected = Attentive().fit(tokens[side == "train"], y[side == "train"]).predict(tokens[side == "test"])
    found = dict(run.predictions().select("image_id", "y_pred").iter_rows())
    assert [found[name] for name in np.array(ids)[side == "test"]] == expected.tolist()
    assert record["hyperparameters"]["classify"][0]["torch"] == torch.__version__


def test_each_seed_is_a_run(place, call):  # noqa: F811
    found = runs(call, "--seed", "0,1,2")
    assert len({run["run_id"] for run in found}) == 3
    assert [run["parameters"]["estimator"]["seed"] for run in found] == [0, 1, 2]


def test_rows_are_read_when_they_are_asked_for(place):
    store, ids, _, tokens, _ = place
    space = next(space for space in store.spaces() if space.kind == "patch")
    collection = store.collections("pics")[0]
    rows = store.open_rows(space, collection, ids[::-1])
    assert isinstance(rows, StoredRows) and rows.shape == tokens.shape and rows.dtype == np.float32 and rows.ndim == 3
    np.testing.assert_array_equal(rows[np.array([5, 0, 5])], tokens[::-1][[5, 0, 5]])
    np.testing.assert_array_equal(rows[4:9], tokens[::-1][4:9])
    np.testing.assert_array_equal(rows.take(np.array([7, 2]))[1:], tokens[::-1][[2]])
    assert rows[9:9].shape == (0, 4, 16)
    np.testing.assert_array_equal(np.concatenate(list(blocks(rows))), tokens[::-1])
    with pytest.raises(BBError, match="is missing 1 of 1 images: pics/none.jpg"):
        store.open_rows(space, collection, ["pics/none.jpg"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classifier", "ridge"], "attentive reads patch features and ridge image features: run them one after the"),
        (["--preprocessing", "l2"], "--preprocessing l2 is of image features; attentive takes none or auto."),
        (["--pool-group", "max"], "--pool-group pools image features, and attentive reads patch features: leave"),
        (["--ckpt", NAME], f"has no patch features of {NAME}. To make them: bb extract --ckpt {NAME} --data pics=DIR "
                           "--patch --pool-grid 4x4"),
    ],
)  # fmt: skip
def test_messages(place, call, words, message):  # noqa: F811
    status, _, err = call("probe", "classify", "--labels", "pics.csv", "--classifier", "attentive", *words)
    assert status == 2 and message in err


def test_spaces_of_the_other_kind_are_refused_by_name(place, call):  # noqa: F811
    store, *_ = place
    key = {space.kind: space.key[:12] for space in store.spaces()}
    words = ("probe", "classify", "--labels", "pics.csv", "--classifier")
    status, _, err = call(*words, "ridge", "--space", key["patch"])
    assert status == 2 and f"--space {key['patch']} holds patch features; bb probe takes image features." in err
    status, _, err = call(*words, "attentive", "--space", key["img"])
    assert status == 2 and "holds image features; classifier attentive takes patch features." in err
    status, _, err = call(*words, "ridge", "--ckpt", PATCH)
    assert status == 2 and f"features.bb has no features of {PATCH} but patch features. To make them: bb ext" in err
