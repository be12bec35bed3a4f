"""`Store.features`: image IDs and their features, in one call."""

import numpy as np
import pytest

from bb.store import BBError, Collection, Entry, FeatureSpace, SegmentWriter, Store, UsageError
from bb.store.local.failures import Failures

NAMES = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def space(code="1", kind="img", dim=3):
    output = {"kind": kind, "dim": dim, **({"patches": 2} if kind == "patch" else {})}
    numerics = {"compute": "fp32", "stored": "float32"}
    return FeatureSpace("timm", {}, "0" * 64, {}, output, numerics, code * 40)


def put(store, where, names, backbone="timm:toy"):
    collection = Collection.from_entries("pics", [Entry(name, name.encode().ljust(32), 1, 1, 1) for name in NAMES])
    store.put_collection(collection)
    rows = np.arange(3, dtype=np.float32) + 10 * np.array([[NAMES.index(name)] for name in names], np.float32)
    writer = SegmentWriter(store, where, {"backbone": backbone})
    writer.add(collection.digests(names), [f"pics/{name}" for name in names], rows)
    writer.close()
    return collection


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "s.bb")


def test_ids_and_array_in_one_call(store):
    put(store, space(), NAMES)
    ids, x = store.features("timm:toy", "pics")
    assert ids == NAMES and x.tolist() == [[10 * i, 10 * i + 1, 10 * i + 2] for i in range(4)]
    ids, x = store.features()
    assert ids == NAMES, "a store's only backbone and collection need not be named"
    ids, x = store.features(image_ids=["c.jpg", "a.jpg"])
    assert (ids, x[:, 0].tolist()) == (["c.jpg", "a.jpg"], [20, 0])


def test_images_without_features_are_left_out_and_named(store):
    collection = put(store, space(), ["a.jpg", "c.jpg"])
    failed = {collection.digests(["b.jpg"])[0].tobytes().hex(): "it is cut off"}
    store.put_failures("pics", [space()], Failures(failed, {"e.jpg": "it is empty"}))
    found = store.features("timm:toy", "pics")
    assert found.image_ids == ["a.jpg", "c.jpg"] and found.array.shape == (2, 3)
    assert found.missing == {"b.jpg": "it is cut off", "d.jpg": "not extracted", "e.jpg": "it is empty"}
    key = space().key[:12]
    assert repr(found) == f"Features(2 images of pics, float32[3], space {key}, 3 images left out)"
    assert "<td>b.jpg</td><td>left out: it is cut off</td>" in found._repr_html_()


def test_html_shows_a_strange_name_as_text(store):
    put(store, space(), ["a.jpg"])
    store.put_failures("pics", [space()], Failures({}, {"<script>": "<b>"}))
    assert "<script>" not in store.features()._repr_html_() and "&lt;script&gt;" in store.features()._repr_html_()


@pytest.mark.parametrize("name", ["ViT-B-16/openai", "open_clip:ViT-B-16/openai", "lab:net"])
def test_a_backbone_is_found_by_any_name_that_the_store_has(store, name):
    put(store, space("1"), NAMES, "open_clip:ViT-B-16/openai")
    put(store, space("2"), NAMES, "lab:net")
    assert store.features(name, "pics").space.code == ("2" if name == "lab:net" else "1") * 40
    assert store.features("timm-vit:x", "pics", space=space("2").key).space.code == "2" * 40


def test_the_space_with_most_images_is_read_and_equals_have_to_be_told_apart(store):
    put(store, space("1"), NAMES[:2])
    put(store, space("2"), NAMES)
    assert store.features("timm:toy").space.code == "2" * 40
    put(store, space("3"), NAMES)
    with pytest.raises(UsageError, match="has 2 feature spaces for this: choose with space=, of .*timm:toy.*timm:toy"):
        store.features("timm:toy")


def test_what_leads_to_nothing_is_answered_with_what_there_is(store):
    put(store, space(), NAMES)
    with pytest.raises(
        UsageError, match=r"no img features of timm:other; it has those of timm:toy\. To make them: bb ex"
    ):
        store.features("timm:other", "pics")
    with pytest.raises(UsageError, match="no patch features of any backbone; it has those of none"):
        store.features(data="pics", kind="patch")
    with pytest.raises(UsageError, match="has no collection 'birds'; it has pics"):
        store.features("timm:toy", "birds")
    with pytest.raises(BBError, match="collection pics has no image x.jpg: see its table"):
        store.features("timm:toy", "pics", image_ids=["a.jpg", "x.jpg"])


def test_versions_that_differ_have_to_be_told_apart(store):
    put(store, space(), NAMES)
    other = store.put_collection(Collection.from_entries("pics", [Entry("a.jpg", b"x" * 32, 1, 1, 1)]))
    with pytest.raises(UsageError, match=r"several versions of collection pics: choose .*pics@\w{12} \(4 images\)"):
        store.features("timm:toy", "pics")
    assert store.features("timm:toy", f"pics@{other.digest}").missing == {"a.jpg": "not extracted"}
