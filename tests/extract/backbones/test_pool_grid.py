"""`--pool-grid`: tokens averaged to a coarser grid, in a feature space of their own."""

import json

import numpy as np
import pytest
import torch

from bb.extract import load_backbone
from bb.extract.backbones.pool_grid import GridPooling, patches_of, pooled_output
from bb.store import FeatureSpace, Store, UsageError
from tests.helpers.command_line import call, own_place  # noqa: F401
from tests.helpers.photographs import ROOT

VIT = "timm:test_vit/untrained"
IMAGES = ROOT / "tests" / "data" / "before" / "images"


@pytest.mark.parametrize(
    ("source", "target"), [((14, 14), (4, 4)), ((10, 7), (4, 3)), ((6, 6), (3, 2)), ((5, 9), (1, 1))]
)
def test_means_are_those_of_adaptive_average_pooling(source, target):
    tokens = np.random.default_rng(0).normal(size=(5, source[0] * source[1], 8)).astype(np.float32)
    pooled = GridPooling(source, target)(tokens)
    maps = torch.from_numpy(tokens).double().transpose(1, 2).reshape(5, 8, *source)
    expected = torch.nn.functional.adaptive_avg_pool2d(maps, target).flatten(2).transpose(1, 2)
    np.testing.assert_allclose(pooled, expected.numpy(), rtol=1e-6, atol=1e-7)
    alone = np.concatenate([GridPooling(source, target)(tokens[i : i + 1]) for i in range(5)])
    assert pooled.dtype == np.float32 and alone.tobytes() == pooled.tobytes()


def test_the_space_says_from_which_grid_and_has_a_key_of_its_own():
    whole, pooled = load_backbone(VIT, patch=True), load_backbone(VIT, patch=True, pool_grid="4x3")
    output = pooled.spaces.patch.output
    assert output["patches"] == 12 and output["grid"] == [4, 3]
    assert output["reduced"] == {"from": [10, 10], "by": "adaptive mean"} and "reduced" not in whole.spaces.patch.output
    assert len({space.key for each in (whole, pooled) for space in each.spaces}) == 3
    assert pooled.spaces.patch.row_shape == (12, 64) and patches_of(pooled.spaces.patch) == (4, 3)
    assert patches_of(whole.spaces.patch) is True and patches_of(whole.spaces.img) is False
    same = load_backbone(VIT, patch=True, pool_grid="10x10")
    assert same.spaces.patch.key == whole.spaces.patch.key


def test_stored_rows_are_the_means_of_stored_tokens(own_place, call):  # noqa: F811
    words = ("extract", "--ckpt", VIT, "--data", f"awkward={IMAGES}", "--patch", "--json")
    assert call(*words)[0] == 0
    status, out, err = call(*words, "--pool-grid", "4x4")
    assert status == 0 and json.loads(out)[0]["computed"] == 12, err
    store = Store.open("features.bb")
    tokens, pooled = sorted((s for s in store.spaces() if s.kind == "patch"), key=lambda s: -s.output["patches"])
    collection = store.collections("awkward")[0]
    ids = collection.table["image_id"].to_list()
    whole, small = (np.asarray(store.read(space, collection, ids)) for space in (tokens, pooled))
    np.testing.assert_array_equal(small, GridPooling((10, 10), (4, 4))(whole))
    assert "--patch --pool-grid 4x4" in store.to_fill(pooled, "awkward")
    assert "--pool-grid" not in store.to_fill(tokens, "awkward")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--patch", "--pool-grid", "4"], "--pool-grid '4' is not a grid: give rows and columns, such as 4x4."),
        (["--patch", "--pool-grid", "0x4"], "--pool-grid '0x4' is not a grid"),
        (["--pool-grid", "4x4"], "--pool-grid 4x4 is of patch features: add --patch."),
        (
            ["--patch", "--pool-grid", "4x11"],
            "has 10x10 tokens, which --pool-grid 4x11 can't average: give at most 10x10",
        ),
    ],
)
def test_messages(own_place, call, words, message):  # noqa: F811
    status, _, err = call("extract", "--ckpt", VIT, "--data", f"awkward={IMAGES}", *words)
    assert status == 2 and message in err
    assert Store.create("features.bb").spaces() == []


def test_a_network_that_does_not_say_its_grid_and_a_record_that_lies_about_it():
    with pytest.raises(UsageError, match="lab:net doesn't say how its 16 tokens form a grid: leave out --pool-grid"):
        pooled_output("lab:net", {"kind": "patch", "patches": 16, "dim": 8}, (2, 2))
    output = {"kind": "patch", "patches": 4, "dim": 8, "grid": [2, 3], "reduced": {"from": [4, 4]}}
    numerics = {"compute": "fp32", "stored": "float32"}
    space = FeatureSpace("lab", {}, "", {}, output, numerics, "")
    assert FeatureSpace.from_record(space.record()).pool_grid is None and patches_of(space) is True
