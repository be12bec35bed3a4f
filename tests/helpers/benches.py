"""A store of several families and backbones without images, with a table of labels for each family."""

from hashlib import sha256

import numpy as np
import polars as pl

from bb.store import Collection, Entry, Store
from bb.store.imported import import_features


def bench_store(folder, families, backbones=2, d=12, seed=0):
    """The store `features.bb` and NAME.csv of each family {name: (images, classes)}; backbone 0 has the least noise."""
    store, rng = Store.create(folder / "features.bb"), np.random.default_rng(seed)
    for name, (n, classes) in families.items():
        y = np.arange(n) % classes
        ids = [f"{name}/{i:04d}.jpg" for i in range(n)]
        keys = [sha256(image_id.encode()).digest() for image_id in ids]
        store.put_collection(
            Collection.from_entries(name, [Entry(i, key, 1, 8, 8) for i, key in zip(ids, keys, strict=True)])
        )
        means, digests = rng.normal(size=(classes, d)), np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32)
        for b in range(backbones):
            x = (means[y] + (0.8 + 1.2 * b) * rng.normal(size=(n, d))).astype(np.float32)
            import_features(store, x, digests, ids, name=f"lab:net{b}", collection=name)
        side = np.where(np.arange(n) % (2 * classes) < classes, "train", "test")
        pl.DataFrame({"image_id": ids, "label": [f"class {k}" for k in y], "split": side}).write_csv(
            folder / f"{name}.csv"
        )
    return store
