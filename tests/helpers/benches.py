"""A store of several families and backbones without images, with a table of labels for each family; planted boards."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import polars as pl

from bb.probe.bench.board import BenchBoard, BenchCell, BenchRow
from bb.probe.bench.columns import Column
from bb.store import Collection, Entry, Store
from bb.store.imported import import_features
from bb.store.local.runs import Run
from tests.helpers.boards import sha
from tests.helpers.stores import run_record


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


def planted(rows, columns=("ponds", "birds"), reasons=None):
    """A board of {name: (mean rank, low, high, scores by column)}, without a rank where a score is None; columns: the
    family of each."""
    made = [
        BenchRow(
            name, (sha(name),),
            tuple(s if s is None else BenchCell(float(s), s - 0.03, s + 0.02, False) for s in scores),
            *(None if r is None else float(r) for r in rank), scores.count(None),
        )
        for name, (*rank, scores) in rows.items()
    ]  # fmt: skip
    of = tuple(Column(family, "test", "simpleshot", "all", "accuracy", 80, 1, 1) for family in columns)
    ranked = sum(row.rank is not None for row in made)
    return BenchBoard("b", of, reasons or ("",) * len(of), tuple(made), ranked, {})


def runs_of(board):
    """What the methods of a planted board are taken from: a run of each backbone on each family."""
    families = dict.fromkeys(column.family for column in board.columns)
    return {
        family: tuple(
            Run(Path(sha(f"{family} {row.name}")), run_record(
                run_id=sha(f"run {family} {row.name}"), space=row.spaces[0], backbones=[row.name], tasks=family,
                n_train="all", seed=0, classifier="simpleshot", split_by="column", parameters={"preprocessing": "l2"},
                scores={"tasks": {"classify": {"test": {}}}}, test_set=sha(f"test {family}"),
                collection=sha(family), collection_name=family,
                provenance={"versions": {"numpy": "2.1"}, "extraction": [{"parameters": 5e6, "gflops": 1.3}]},
            )) for row in board.rows
        ) for family in families
    }  # fmt: skip
