"""A store without images: clusters of features, imported, for tests of probes."""

from hashlib import sha256

import numpy as np

from bb.store import Collection, Entry, Store
from bb.store.imported import import_features

NAME = "lab:clusters"


def cluster_store(root, n=120, classes=4, d=16, spread=1.0, seed=0, twins=()):
    """(store, image IDs, class numbers, features): rows around a centre for each class; images i and j of `twins` are
    the same file."""
    y = np.arange(n) % classes
    ids = [f"pics/{i:03d}.jpg" for i in range(n)]
    store, x = store_of(root, "pics", ids, y, d=d, spread=spread, seed=seed, twins=twins)
    return store, ids, y, x


def store_of(root, collection, ids, y, *, d=16, spread=1.0, seed=0, twins=()):
    """(store, features): a row for each image ID of a collection, around a centre for each class number of `y`."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(max(y) + 1, d))[y] + spread * rng.normal(size=(len(ids), d))).astype(np.float32)
    same = {j: i for i, j in twins}
    keys = [sha256(ids[same.get(i, i)].encode()).digest() for i in range(len(ids))]
    store = Store.create(root)
    store.put_collection(
        Collection.from_entries(collection, [Entry(name, key, 1, 8, 8) for name, key in zip(ids, keys, strict=True)])
    )
    first = [i for i in range(len(ids)) if i not in same]
    digests = np.frombuffer(b"".join(keys[i] for i in first), np.uint8).reshape(-1, 32)
    import_features(store, x[first], digests, [ids[i] for i in first], name=NAME, collection=collection)
    return store, x
