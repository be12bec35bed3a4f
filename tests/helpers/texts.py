"""Stores with made-up image features and vectors of texts that match them; and a tiny network of open_clip."""

import hashlib

import numpy as np

from bb.store import Collection, Entry, FeatureSpace, SegmentWriter, Store
from bb.store.format.text import collection_of, row_ids, text_keys, text_space

CKPT = "open_clip:Tiny/untrained"
TEXT = f"text:{CKPT}"
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def image_space(d=8, projected=True, weights="a" * 64, org="open_clip", **changes):
    fields = {
        "org": org,
        "architecture": {"embed_dim": d, "vision": {"mlp_ratio": 4.0}},
        "weights": weights,
        "view": {"size": [8, 8]},
        "output": {"kind": "img", "pooling": "cls", "projected": projected, "dim": d},
        "numerics": {"compute": "fp32", "stored": "float32"},
        "code": "1" * 40,
    }
    return FeatureSpace(**{**fields, **changes})


def texts_for(images, templates=("{}",), weights="b" * 64, code="2" * 40):
    return text_space(
        image=images.record(), text={"width": 8}, weights=weights, tokenizer={"name": "words"}, templates=templates,
        dim=images.row_shape[0], code=code,
    )  # fmt: skip


def put_images(store, space, x, ids, name="pics", backbone=CKPT, dtype=np.float32):
    entries = [Entry(i, hashlib.sha256(f"{name}/{i}".encode()).digest(), 1, 8, 8) for i in ids]
    collection = store.put_collection(Collection.from_entries(name, entries))
    writer = SegmentWriter(store, space, {"backbone": backbone})
    writer.add(collection.digests(ids), [f"{name}/{i}" for i in ids], np.ascontiguousarray(x, dtype))
    writer.close()
    return collection


def put_texts(store, space, texts, x, name="birds", backbone=TEXT):
    """texts: the text of each name; x: a vector of each text."""
    keys = text_keys(list(texts.values()))
    entries = [Entry(key, bytes(digest), 1, None, None) for key, digest in zip(texts, keys, strict=True)]
    collection = store.put_collection(Collection.from_entries(collection_of(name), entries))
    writer = SegmentWriter(store, space, {"backbone": backbone})
    distinct = list({bytes(key): row for row, key in enumerate(keys)}.values())
    listed = list(texts.values())
    writer.add(
        keys[distinct], row_ids([listed[row] for row in distinct]), np.ascontiguousarray(unit(x)[distinct], np.float32)
    )
    writer.close()
    return collection


def text_store(root, classes=("Amsel", "Bussard", "Star"), n=60, d=8, seed=0, noise=0.6, extra=()):
    """(store, image IDs, class numbers, features, text vectors): images scattered around the text of their class."""
    rng = np.random.default_rng(seed)
    store = Store.create(root)
    w = unit(rng.normal(size=(len(classes) + len(extra), d))).astype(np.float32)
    y = np.arange(n) % len(classes)
    x = (w[y] + noise * rng.normal(size=(n, d))).astype(np.float32)
    ids = [f"{i:03d}.jpg" for i in range(n)]
    images = image_space(d)
    put_images(store, images, x, ids)
    put_texts(store, texts_for(images), {name: name for name in (*classes, *extra)}, w)
    return store, ids, y, x, w
