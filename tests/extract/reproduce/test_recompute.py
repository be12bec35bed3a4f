"""A stranger's features, held against what this code makes of a few of the images."""

import dataclasses
import importlib.util
import json
import re
import shutil

import numpy as np
import pytest

from bb.extract.backbones.decoders import find_decoder
from bb.extract.reproduce.sample import shuffled
from bb.store import Store
from bb.store.format.tolerance import (
    cosine_distance,
    cosine_tolerance_of,
    nearer_to_another,
    relative_distance,
    tolerance_of,
)
from tests.helpers.command_line import call, make_newt, newt, own_place, run_here
from tests.helpers.photographs import PHOTOS, needs_photographs
from tests.helpers.stores import space

__all__ = ["call", "newt", "own_place"]  # fixtures

VIT, RESNET = "timm:test_vit/untrained", "timm:test_resnet/untrained"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A store of image and patch features in two precisions."""
    folder = tmp_path_factory.mktemp("recompute")
    words = ["--data", f"newt={make_newt(folder / 'newt')}", "--store", "features.bb"]
    for options in (["--patch"], ["--precision", "bf16"]):
        status, _, err = run_here(folder, "extract", "--ckpt", VIT, *words, *options)
        assert status == 0, err
    return folder / "features.bb"


@pytest.fixture
def data(template, own_place, newt):
    """A copy of that store here; the words that name its images."""
    shutil.copytree(template, own_place / "features.bb")
    return ["--data", f"newt={newt}"]


def forge(change, where=None, into="forged.bb", provenance=None):
    """The store again, with digests that are all right, and features or feature spaces that are not."""
    source, forged = Store.open("features.bb"), Store.create(into)
    for each in source.spaces():
        (segment,) = source.segments(each)
        x = np.array(segment.array(each.array))
        made = provenance if provenance is not None else segment.provenance
        keys, ids = segment.keys, segment.array("image_id").tolist()
        forged.put_segment(where(each) if where else each, keys, ids, change(x), made)
    forged.put_collection(source.collections("newt")[0])
    return ["--store", into]


def test_sound_features_are_found_sound(call, data):
    status, out, err = call("store", "verify", "--recompute", 20, *data, "--seed", 3)
    assert status == 0 and err.count(f"loading {VIT} for space") == 3
    assert "sample drawn with --seed 3" in out
    assert f"({VIT}): 20 of 64 images embedded anew; cosine distance at most 0, mean 0 (5e-07 is allowed)" in out
    assert "relative distance at most 0 (0.05 is allowed)" in out
    status, out, _ = call("store", "verify", "--recompute", 99, *data, "--json")
    record = json.loads(out)
    assert status == 0 and record["faults"] == [] and isinstance(record["seed"], int)
    assert [each["compared"] for each in record["recompute"]] == [64, 64, 64]
    assert {each["relative_allowed"] for each in record["recompute"]} == {1e-3, 5e-2}


def test_what_is_fresh_is_drawn_by_the_seed_alone():
    digests = [bytes([i]) * 32 for i in range(50)]
    assert shuffled(digests, 1) == shuffled(digests[::-1], 1) != shuffled(digests, 2)
    assert sorted(shuffled(digests, 1)) == digests


def test_shuffled_features_with_sound_digests_are_caught(call, data):
    """Also in bf16, whose tolerance is wider than these images of noise are apart."""
    forged = forge(lambda x: np.roll(x, 1, axis=0))
    assert call("store", "verify", *forged)[0] == 0
    status, out, _ = call("store", "verify", "--recompute", 16, *data, *forged, "--seed", 0)
    assert status == 1 and out.count("16 of 16 rows are not what is made here; the worst: newt/") >= 2
    assert len(re.findall(r"\d+ of 16 rows are nearer to those of other images than to their own", out)) == 3


def test_scaled_features_are_caught_though_their_angles_are_right(call, data):
    forged = forge(lambda x: x * x.dtype.type(1.1))
    status, out, _ = call("store", "verify", "--recompute", 16, *data, *forged)
    assert status == 1 and out.count("16 of 16 rows are not what is made here; the worst: newt/") == 3


def test_a_few_tampered_rows_among_many(call, data):
    def change(x):
        x[5] = -x[5]
        return x

    status, out, _ = call("store", "verify", "--recompute", 64, *data, *forge(change))
    assert status == 1 and out.count("1 of 64 rows are not what is made here; the worst: newt/") == 3


@pytest.mark.e2e
@needs_photographs
def test_photographs_that_were_shuffled_are_caught_in_the_coarsest_precision(call):
    photos = ["--data", f"newt={PHOTOS}"]
    call("extract", "--ckpt", RESNET, *photos, "--precision", "bf16")
    assert call("store", "verify", "--recompute", 32, *photos)[0] == 0
    forged = forge(lambda x: np.roll(x, 7, axis=0))
    status, out, _ = call("store", "verify", "--recompute", 32, *photos, *forged)
    assert status == 1 and "32 of 32 rows are not what is made here" in out


def test_another_code_alone_is_compared_and_said(call, data):
    forged = forge(lambda x: x, where=lambda each: dataclasses.replace(each, code="1" * 40))
    status, out, _ = call("store", "verify", "--recompute", 8, *data, *forged)
    assert status == 0 and out.count("note: its code differs, 111111111111 against ") == 3
    assert out.count("8 of 64 images embedded anew") == 3


def test_each_space_is_recomputed_with_the_decoder_of_its_record(call, newt, monkeypatch):
    words = ["--data", f"newt={newt}"]
    for decoder in ("pillow", "simplejpeg"):
        assert call("extract", "--ckpt", VIT, *words, "--decode", decoder)[0] == 0
    asked = []

    def spy(options, device):
        asked.append(options.name)
        return find_decoder(options, device)

    monkeypatch.setattr("bb.extract.reproduce.recompute.find_decoder", spy)
    status, out, _ = call("store", "verify", "--recompute", 20, *words)
    assert status == 0 and out.count("relative distance at most 0 ") == 2
    assert sorted(asked) == ["pillow", "simplejpeg"]


def test_a_decoder_that_is_not_here_is_a_fault(call, data):
    forged = forge(lambda x: x, lambda each: dataclasses.replace(each, view={**each.view, "decoder": "dali"}))
    status, out, _ = call("store", "verify", "--recompute", 4, *data, *forged)
    assert (
        status == 1 and "can't be compared: --decode dali is unknown: choose auto, simplejpeg, pillow, nvjpeg." in out
    )


def test_what_differs_in_more_cannot_be_compared(call, data):
    def where(each):
        return dataclasses.replace(each, view={**each.view, "crop": [99, 99]}, weights="2" * 64)

    status, out, _ = call("store", "verify", "--recompute", 8, *data, *forge(lambda x: x, where=where))
    assert status == 1 and out.count(f"({VIT}): nothing compared") == 3
    assert f"can't be compared, since {VIT} is another space here (stored against here): weights: differs, 2222" in out
    assert "; view: crop 99 against " in out
    status, out, _ = call("store", "verify", "--recompute", 8, *data, "--store", "forged.bb", "--json")
    assert json.loads(out)["recompute"][0]["cosine_max"] is None


@pytest.mark.parametrize(
    "provenance, said",
    [
        ({}, "can't be compared: its segments name no backbone"),
        ({"backbone": "timm:test_vit@w.pt"}, "it was made of a file, timm:test_vit@w.pt: give --ckpt with its path"),
        (
            {"backbone": "timm:no_such/untrained"},
            "can't be compared: timm:no_such/untrained: timm has no architecture",
        ),
        ({"backbone": "timm:no_such_net/x@"}, "can't be compared: 'timm:no_such_net/x@' ends in @ without a path"),
    ],
)
def test_a_backbone_that_cannot_be_loaded_is_a_fault(call, data, provenance, said):
    forged = forge(lambda x: x, provenance=provenance)
    status, out, _ = call("store", "verify", "--recompute", 8, *data, *forged)
    assert status == 1 and out.count(said) == 3


def test_restricted_to_spaces_and_backbones(call, data, newt):
    call("extract", "--ckpt", RESNET, *data)
    keys = [each.key for each in Store.open("features.bb").spaces()]
    status, out, _ = call("store", "verify", "--recompute", 4, *data, "--space", keys[0], "--json")
    assert status == 0 and [each["space"] for each in json.loads(out)["recompute"]] == [keys[0]]
    status, out, _ = call("store", "verify", "--recompute", 4, *data, "--ckpt", RESNET, "--json")
    assert [each["backbones"] for each in json.loads(out)["recompute"]] == [[RESNET]]


def test_other_images_than_the_collections_are_said(call, data, newt):
    first, second = sorted((newt / "newt2021_images").iterdir())[:2]
    first.write_bytes(second.read_bytes())
    status, _, err = call("store", "verify", "--recompute", 4, *data)
    assert status == 0 and "1 available images differ from those of the store's collection newt: 0-test-0-0" in err
    assert "the store has no collection mine: its rows are found by the images' bytes alone" in call(
        "store", "verify", "--recompute", 4, "--data", f"mine={newt}"
    )[2]  # fmt: skip


def test_an_image_that_cannot_be_embedded_is_left_out_and_said(call, data, newt, monkeypatch):
    (newt / "newt2021_images" / "0-test-0-0.jpg").write_bytes(b"changed")
    monkeypatch.setattr("bb.extract.data.scan.HashMemory.keep", lambda self, rows: None)
    status, out, _ = call("store", "verify", "--recompute", 64, *data)
    assert status == 0 and out.count("63 of 63 images embedded anew") == 3


def test_messages(call, data, newt, tmp_path, monkeypatch):
    status, _, err = call("store", "verify", "--recompute", 4)
    assert status == 2 and "--recompute embeds images, and where are they? Give --data newt=DIR." in err
    status, _, err = call("store", "verify", "--recompute", 4, "--data", "mine")
    assert status == 2 and "Give --data mine=DIR." in err
    status, _, err = call("store", "verify", *data)
    assert status == 2 and "say what --recompute N compares: give that, too" in err
    other = make_newt(tmp_path / "other", seed=9)
    status, _, err = call("store", "verify", "--recompute", 4, "--data", f"newt={other}")
    assert status == 1 and "none of the 64 available images has a row in the feature spaces of features.bb" in err
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else real(name))
    status, _, err = call("store", "verify", "--recompute", 4, *data)
    assert status == 2 and "needs torch: pip install 'backbone-bench[extract]'" in err


def test_distances():
    x = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    zero = np.zeros_like(x)
    assert (cosine_distance(x, x) == 0).all() and (relative_distance(x, x) == 0).all()
    np.testing.assert_allclose(cosine_distance(x, -x), 2)
    np.testing.assert_allclose(cosine_distance(x, 3 * x), 0, atol=1e-14)
    np.testing.assert_allclose(relative_distance(x, 3 * x), 2 / 3)
    assert (cosine_distance(zero, zero) == 0).all() and (cosine_distance(zero, x) == 1).all()
    assert (relative_distance(zero, zero) == 0).all() and (relative_distance(zero, x) == 1).all()
    nan = np.full_like(x, np.nan)
    assert (cosine_distance(x, nan) == 2).all() and (relative_distance(x, nan) == np.inf).all()


def test_rows_are_nearest_to_their_own():
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    assert not nearer_to_another(x, x).any() and nearer_to_another(x, np.roll(x, 1, axis=0)).sum() > 4
    assert not nearer_to_another(x, np.repeat(x[:1], 9, axis=0)).any(), "copies are no nearer than one another"


@pytest.mark.parametrize("compute", ["fp32", "fp16", "bf16"])
def test_what_is_within_the_relative_bound_is_within_the_cosine_bound(compute):
    where = space(numerics={"compute": compute, "stored": "float32"})
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(500, 16)), rng.normal(size=(500, 16))
    step = noise / np.linalg.norm(noise, axis=1, keepdims=True) * np.linalg.norm(x, axis=1, keepdims=True)
    y = x + tolerance_of(where) * step * rng.random((500, 1))
    near = relative_distance(x, y) <= tolerance_of(where)
    assert near.any() and (cosine_distance(x, y)[near] <= cosine_tolerance_of(where)).all()
