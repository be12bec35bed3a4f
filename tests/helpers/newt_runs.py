"""NeWT's labels and features, small and made up."""

import numpy as np
import polars as pl
import pytest

from bb.probe.run import FamilyInputs
from bb.probe.tasks.newt import parse_labels
from bb.store import Collection, Entry, FeatureSpace, SegmentWriter, Store

N = 8


def labels(tasks=3, shift=0):
    rows = [
        (f"{t}-{split}-{y}-{i}", "c", None, f"task{t}", str(y), split)
        for t in range(tasks)
        for split in ("train", "test")
        for y in (0, 1)
        for i in range(N + (shift if split == "train" and t == 0 else 0))
    ]
    columns = ["id", "task_cluster", "task_subcluster", "task", "label", "split"]
    return parse_labels(pl.DataFrame(rows, schema=columns, orient="row"))


@pytest.fixture
def inputs(tmp_path):
    store, family = Store.create(tmp_path / "s.bb"), labels(shift=4)
    space = FeatureSpace(
        "timm", {}, "0" * 64, {}, {"kind": "img", "dim": 6}, {"compute": "fp32", "stored": "float32"}, "1" * 40
    )
    rng = np.random.default_rng(0)
    entries = [Entry(i, rng.bytes(32), 1, 1, 1) for i in family.image_ids]
    collection = Collection.from_entries("pics", entries)
    ids = collection.table["image_id"].to_list()
    x = rng.normal(size=(len(ids), 6)) + np.array([[int(i.split("-")[2])] for i in ids])
    writer = SegmentWriter(store, space, {"backbone": "timm:toy"})
    writer.add(collection.all_digests(), ids, x.astype(np.float32))
    writer.close()
    return FamilyInputs.read(store, space, store.put_collection(collection), family, "newt")
