"""A small store with features of labelled images, for tests of probes."""

import numpy as np
import polars as pl

from bb.store import Collection, Entry, FeatureSpace, SegmentWriter, Store
from tests.helpers.boards import sha


def labelled(folder):
    """A store of one feature space over 80 made-up images, and a table that labels them: two tasks of two classes."""
    rng = np.random.default_rng(7)
    ids = [f"{task}-{split}-{i:02}" for task in "ab" for split in ("train", "test") for i in range(20)]
    entries = [Entry(name, bytes.fromhex(sha(name)), 1, None, None) for name in ids]
    space = FeatureSpace(
        org="timm", architecture={"name": "made_up"}, weights="1" * 64, view={"decoder": "pillow"},
        output={"kind": "img", "pooling": "avg", "dim": 8}, numerics={"compute": "fp32", "stored": "float32"},
        code="0" * 40,
    )  # fmt: skip
    store = Store.create(folder / "features.bb")
    collection = Collection.from_entries("newt", entries)
    store.put_collection(collection)
    y = np.tile([0, 1], 40)
    features = (rng.normal(size=(80, 8)) + 0.6 * y[:, None]).astype(np.float32)
    order = {name: i for i, name in enumerate(ids)}
    writer = SegmentWriter(store, space, {"backbone": "timm:made_up/x"})
    table = collection.table["image_id"].to_list()
    writer.add(collection.all_digests(), [f"newt/{name}" for name in table], features[[order[name] for name in table]])
    writer.close()
    rows = [(name, "cluster", None, f"task {name[0]}", int(y[i]), name.split("-")[1]) for i, name in enumerate(ids)]
    columns = ["id", "task_cluster", "task_subcluster", "task", "label", "split"]
    pl.DataFrame(rows, schema=columns, orient="row").write_csv(folder / "newt2021_labels.csv")
    frame = pl.DataFrame({"image_id": ids, "label": [f"individual {i % 8}" for i in range(80)]})
    frame.write_csv(folder / "individuals.csv")
    return store
