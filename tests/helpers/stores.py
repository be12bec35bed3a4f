"""Small stores with made-up features."""

import hashlib

import numpy as np

from bb.store import Collection, Entry, FeatureSpace, SegmentWriter, Store


def space(kind="img", stored="float16", **changes):
    output = {"img": {"kind": "img", "pooling": "cls", "dim": 6}, "patch": {"kind": "patch", "patches": 4, "dim": 3}}
    fields = {
        "org": "timm",
        "architecture": {"name": "tiny", "drop_path_rate": 0.1},
        "weights": "0" * 64,
        "view": {"mean": [0.5, 0.25, 1.0], "size": [8, 8]},
        "output": output[kind],
        "numerics": {"compute": "fp32", "stored": stored},
        "code": "1" * 40,
    }
    return FeatureSpace(**{**fields, **changes})


def images(n, name="pics", salt=""):
    entries = [Entry(f"{i:03d}.png", hashlib.sha256(f"{salt}{i}".encode()).digest(), i, 8, 8) for i in range(n)]
    return Collection.from_entries(name, entries)


def fill(store, where, collection, features, provenance=None):
    writer = SegmentWriter(store, where, provenance or {"backbone": "timm:tiny/untrained"})
    ids = [f"{collection.name}/{i}" for i in collection.table["image_id"]]
    writer.add(collection.all_digests(), ids, features)
    writer.close()
    return writer.published


def features(where, n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *where.row_shape)).astype(where.dtype)


def run_record(**changes):
    record = dict.fromkeys(
        [
            *(
                "tasks",
                "protocol",
                "n_train",
                "seed",
                "classifier",
                "backend",
                "space",
                "collection",
                "scores",
                "provenance",
            ),
            *("collection_name", "backbones", "identical_to_sklearn", "test_set"),
        ]
    )
    return {**record, "run_id": "a" * 64, **changes}


def spread(store, where, collection, x, parts, provenance=None):
    """Writes the rows of a collection in several segments."""
    writer = SegmentWriter(store, where, provenance or {"backbone": "timm:tiny/untrained", "device": "cpu"})
    ids = [f"{collection.name}/{i}" for i in collection.table["image_id"]]
    for rows in np.array_split(np.arange(len(ids)), parts):
        writer.add(collection.all_digests()[rows], [ids[i] for i in rows], x[rows])
        writer.close()
    return writer.published


def put(store, where, x, keys=None, image_ids=None, provenance=None):
    """One segment, whatever is in it; its folder."""
    n = len(x)
    keys = images(n).all_digests() if keys is None else keys
    digest = store.put_segment(where, keys, image_ids or ["x/a"] * n, x, provenance or {})
    return store.root / "spaces" / where.key / "segments" / digest


def segments(store, where=None):
    return sorted((store.root / "spaces" / (where or space()).key / "segments").glob("*/"))


def read(store, where=None):
    ids = [f"{i:03d}.png" for i in range(20)]
    return np.array(Store.open(store.root).read(where or space(), images(20), ids))
