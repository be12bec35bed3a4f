"""Search finds the nearest images by cosine, block by block, and refuses text of another checkpoint."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

import bb.probe.text.search as module
from bb.probe import search, zeroshot
from bb.store import Store, UsageError
from bb.store.storage.url import open_place
from tests.helpers.places import copy
from tests.helpers.texts import CKPT, image_space, put_images, put_texts, text_store, texts_for, unit


def encoder(space, vectors):
    return SimpleNamespace(space=space, encode=lambda texts: SimpleNamespace(x=np.array([vectors[t] for t in texts])))


@pytest.mark.parametrize("block", [7, 60, 1000])
def test_hits_are_those_of_brute_force(tmp_path, monkeypatch, block):
    store, ids, _, x, w = text_store(tmp_path / "s.bb", extra=("a bird on a wire",))
    monkeypatch.setattr(module, "BLOCK", block)
    found = search(store, "a bird on a wire", n=9)
    cosine = unit(x.astype(np.float64)) @ w[3]
    best = np.argsort(-cosine, kind="stable")[:9]
    assert found.frame["image_id"].to_list() == [ids[i] for i in best]
    assert found.frame["score"].to_numpy() == pytest.approx(cosine[best], abs=1e-6)
    assert (found.searched, found.absent, len(found), found.backbone) == (60, 0, 9, CKPT)
    assert len(search(store, "a bird on a wire", n=100)) == 60


def test_equal_scores_stand_in_order_of_image_id(tmp_path, monkeypatch):
    store = Store.create(tmp_path / "s.bb")
    images = image_space(2)
    put_images(store, images, np.tile([[1.0, 0.0]], (9, 1)), [f"{i}.jpg" for i in range(9)])
    put_texts(store, texts_for(images), {"x": "x"}, np.array([[1.0, 1.0]]))
    monkeypatch.setattr(module, "BLOCK", 4)
    assert search(store, "x", n=5).frame["image_id"].to_list() == [f"{i}.jpg" for i in range(5)]


def test_a_text_that_is_not_stored_is_encoded(tmp_path):
    store, ids, _, x, w = text_store(tmp_path / "s.bb")
    asked = []

    def load(name):
        asked.append(name)
        return encoder(texts_for(image_space()), {"two birds": unit(w[0] + w[1])})

    found = search(store, "  two birds ", n=1, encode=load)
    assert asked == [CKPT]
    assert found.frame["image_id"].to_list() == [ids[int((unit(x) @ unit(w[0] + w[1])).argmax())]]
    search(store, "Star", encode=load)
    assert len(asked) == 1
    with pytest.raises(UsageError, match=r"1 of 1 texts have no vector of open_clip:Tiny/untrained in .*queries=FILE"):
        search(store, "two birds")
    with pytest.raises(UsageError, match="the text tower that was loaded is not of the checkpoint of open_clip:Tiny"):
        search(store, "two birds", encode=lambda name: encoder(texts_for(image_space(weights="d" * 64)), {}))


def test_the_plain_template_is_preferred(tmp_path):
    store, _, _, _, w = text_store(tmp_path / "s.bb")
    put_texts(store, texts_for(image_space(), ["a {}", "the {}"]), {"Star": "Star"}, w[2:], "others")
    assert search(store, "Star").text_space.key == texts_for(image_space()).key
    other = texts_for(image_space(), ["a {}", "the {}"])
    assert search(store, "Star", text_space=other.key).text_space.key == other.key


def test_images_without_features_are_counted(tmp_path):
    store, ids, _, x, _ = text_store(tmp_path / "s.bb")
    put_images(store, image_space(), x[:50], ids[:50], "more")
    from bb.store import Collection, Entry

    entries = [Entry(*row) for row in store.collection("more", []).table.iter_rows()]
    store.put_collection(Collection.from_entries("more", [*entries, Entry("new.jpg", b"n" * 32, 1, 8, 8)]))
    digest = next(v.digest for v in store.collections("more") if len(v) == 51)
    found = search(store, "Star", f"more@{digest}", n=3)
    assert (found.searched, found.absent) == (50, 1)


def test_which_space_is_searched(tmp_path):
    store, ids, _, x, _ = text_store(tmp_path / "s.bb")
    plain = image_space(projected=False, org="timm")
    put_images(store, plain, x, ids, backbone="timm:resnet18")
    assert search(store, "Star").space.key == image_space().key
    with pytest.raises(UsageError, match="of timm:resnet18 is not projected into a space shared with text"):
        search(store, "Star", ckpt="timm:resnet18")
    with pytest.raises(UsageError, match="has no features of ViT-L-14/openai on pics. To make them: bb extract"):
        search(store, "Star", ckpt="ViT-L-14/openai")
    other = image_space(weights="c" * 64)
    put_images(store, other, x, ids, backbone="open_clip:ViT-B-32/openai")
    with pytest.raises(UsageError, match="2 feature spaces could be searched; choose one:"):
        search(store, "Star")
    with pytest.raises(
        UsageError, match="the text vectors are of open_clip:Tiny/untrained, the images of open_clip:ViT"
    ):
        search(store, "Star", ckpt="open_clip:ViT-B-32/openai")
    with pytest.raises(UsageError, match="--text-space .* holds open_clip:Tiny/untrained, which are image features"):
        search(store, "Star", space=image_space().key, text_space=image_space().key)


def test_a_store_is_used_in_place_by_its_url(tmp_path, s3, monkeypatch):
    monkeypatch.setenv("BB_CACHE", str(tmp_path / "cache"))
    home, ids, y, *_ = text_store(tmp_path / "s.bb")
    copy(home.root, open_place(f"{s3.url}/s.bb"))
    away = Store.open(f"{s3.url}/s.bb")
    assert search(away, "Star", n=4).frame.equals(search(home, "Star", n=4).frame)
    away = replace(away, runs_to=Store.create(tmp_path / "runs.bb"))
    labels = pl.DataFrame({"image_id": ids, "label": [("Amsel", "Bussard", "Star")[i] for i in y]})
    assert zeroshot(away, labels).runs[0].run_id == zeroshot(home, labels).runs[0].run_id


@pytest.mark.parametrize(
    ("query", "n", "message"),
    [
        (" ", 3, "the text is empty"),
        ("h\udce9ron", 3, r"the text 'h\\udce9ron' is not UTF-8"),
        ("x", 0, "-n 0 asks for nothing"),
    ],
)
def test_what_is_refused(tmp_path, query, n, message):
    store, *_ = text_store(tmp_path / "s.bb")
    with pytest.raises(UsageError, match=message):
        search(store, query, n=n)
