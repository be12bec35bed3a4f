"""Items and features to search."""

from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl

from bb.probe.retrieval.labels import parse_items
from bb.probe.retrieval.report.html import Sheet
from bb.probe.retrieval.report.thumbnail import Thumbnail
from bb.probe.retrieval.report.worst_queries import Answer, ShownImage
from bb.probe.retrieval.statistics.paired_tests import Behind, QueryEstimate
from bb.store.local.runs import Run
from tests.helpers.boards import sha


def items_of(labels, **columns):
    ids = [f"img-{i:04d}" for i in range(len(labels))]
    return parse_items(pl.DataFrame({"image_id": ids, "label": [str(label) for label in labels], **columns}))


DIM = 16


def clouds(labels, each, *, nuisance, seed=0):
    """Images of labels: half of the directions tell labels apart, in the other half they scatter."""
    rng = np.random.default_rng(seed)
    signal, noise = rng.normal(size=(labels, DIM // 2)), nuisance * rng.normal(size=(labels * each, DIM // 2))
    codes = np.repeat(np.arange(labels), each)
    return np.hstack([signal[codes] + 0.3 * rng.normal(size=noise.shape), noise]).astype(np.float32), codes


def small(colour):
    from PIL import Image

    buffer = BytesIO()
    Image.new("RGB", (40, 30), colour).save(buffer, "JPEG")
    return Thumbnail(buffer.getvalue(), 40, 30)


def retrieval_run(name, *, roles=None, index=None, rerankers=(), tasks="whales", convention="standard", versions=None):
    """A run as far as the paragraph on methods reads it."""
    record = {
        "run_id": sha(f"id {name}"), "tasks": tasks, "space": sha(name), "test_set": sha("test"),
        "collection": sha("collection"), "collection_name": "pics", "backbones": [name], "width": 384,
        "view": {"crop": [224, 224]},
        "parameters": {
            "distance": "cosine", "convention": convention, "index": index, "rerankers": list(rerankers),
            "roles": {"split": None, "against": None, "folds": None, "seed": None, **(roles or {})},
        },
        "scores": {"queries": 90, "gallery": 120}, "units": {"kind": "label", "shared": True, "n": 30},
        "provenance": {
            "versions": versions, "extraction": [{"parameters": 21_700_000, "gflops": 4.6, "device": "cpu"}],
        },
    }  # fmt: skip
    return Run(Path("runs") / sha(f"digest {name}"), record)


def sheets_of(n, name, label="Balaenoptera musculus", image="encounter-07/camera-2/IMG_{:05d}.jpeg"):
    """What is reported of n backbones, each a little worse than the one before, with their runs."""
    names = [name.format(k) for k in range(n)]
    shown = tuple(
        ShownImage("hit" if k % 3 == 0 else "miss", image.format(k), label, k + 1, 0.1 * k) for k in range(10)
    ) + tuple(ShownImage("missed", image.format(90 + k), label) for k in range(5))
    answers = tuple(Answer(image.format(k), label, "whales", 0.1 * k, 9, 5, shown) for k in range(3))
    sheets = []
    for k, each in enumerate(names):
        scores = {
            metric: QueryEstimate(mean, mean - 0.05, mean + 0.04)
            for metric, start in (("map@r", 0.8), ("cmc@1", 0.9), ("precision@5", 0.85))
            for mean in [start * (1 - 0.5 * k / n)]
        }
        behind = (
            Behind(QueryEstimate(-0.4 * k / n, -0.4 * k / n - 0.1, 0.05 - 0.4 * k / n), 0.5 / (k + 1)) if k else None
        )
        categories = {"whales": {metric: 0.5 for metric in scores}, "": {metric: float("nan") for metric in scores}}
        sheets.append(Sheet(each, sha(each), "90 queries, 120 images in the gallery, 30 labels", scores, categories,
                            "map@r", answers, behind, "95% intervals for further labels like these 30"))  # fmt: skip
    return sheets, [retrieval_run(each) for each in names]
