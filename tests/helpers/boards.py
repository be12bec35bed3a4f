"""Runs of made-up backbones whose records are whole, for tests of reports."""

import hashlib

import numpy as np
import polars as pl

from bb.probe.classifiers.protocol import parse_protocol
from bb.probe.scores import score
from bb.store import Store
from tests.helpers.stores import run_record


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def predictions(rng, accuracy, *, tasks, images, clusters=("c", "d")):
    """Each task has images of its own; `tasks` are names or their number."""
    names = [f"t{t:02}" for t in range(tasks)] if isinstance(tasks, int) else list(tasks)
    n = len(names) * images
    y = np.tile(np.arange(images) % 2, len(names)).astype(np.uint8)
    right = rng.random(n) < accuracy
    subclusters = [None if t % 2 else "s" for t in range(len(names)) for _ in range(images)]
    return pl.DataFrame(
        {
            "task": np.repeat(names, images),
            "cluster": np.repeat([clusters[t % len(clusters)] for t in range(len(names))], images),
            "subcluster": pl.Series(subclusters, dtype=pl.String),
            "image_id": [f"{name}-{i:03}" for name in names for i in range(images)],
            "y_true": y,
            "y_pred": np.where(right, y, 1 - y).astype(np.uint8),
            "decision": np.where(right == (y == 1), 1.0, -1.0) * rng.random(n),
            "score": right.astype(np.float32),
        }
    )  # fmt: skip


def put(store, backbone, accuracy, *, n_train=10, seed=0, tasks=4, images=40, rows=None, size=None, **changes):
    """A run as `bb probe` would have written it. size: what its segments say of the network's."""
    key = f"{backbone}/{n_train}/{seed}"
    if rows is None:
        rows = predictions(np.random.default_rng(list(key.encode())), accuracy, tasks=tasks, images=images)
    record = run_record(
        run_id=sha(key + str(changes)),
        tasks="newt",
        protocol="biobench",
        n_train=n_train,
        seed=None if n_train == "all" else seed,
        classifier="linear" if n_train == "all" or n_train < 10 else "search",
        backend="exact",
        backend_version="1",
        space=sha(backbone),
        collection=sha("collection"),
        collection_name="pics",
        backbones=[backbone],
        identical_to_sklearn=True,
        test_set=sha(str(tasks) + str(images)),
        train_pool=sha("pool"),
        n_used=[n_train, n_train] if n_train != "all" else [40, 40],
        labels_name=None,
        pooling="avg",
        parameters=parse_protocol("biobench").parameters(),
        width=384,
        view={"crop": [224, 224]},
        scores=score(rows),
        provenance={
            "made": "2026-11-05T12:00:00.250000+00:00",
            "commit": "c" * 40,
            "versions": {"numpy": "2.4"},
            "extraction": [
                {"backbone": backbone, "device": "NVIDIA H100", "versions": {"torch": "2.15"}, **(size or {})}
            ],
        },
    )
    train = pl.DataFrame({"task": ["t00"], "image_id": [f"train-{seed}"], "y": [1]})
    return store.put_run({**record, **changes}, rows, train)


def small_store(folder, *, shots=(4, 10), seeds=2):
    """Three backbones: two alike and one far worse."""
    store = Store.create(folder)
    for name, accuracy in (("timm:good", 0.9), ("timm:alike", 0.89), ("timm:poor", 0.6)):
        for n_train in shots:
            for seed in range(1 if n_train == "all" else seeds):
                put(store, name, accuracy, n_train=n_train, seed=seed)
    return store
