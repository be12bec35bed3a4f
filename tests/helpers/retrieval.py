"""Items and features to search."""

from io import BytesIO

import numpy as np
import polars as pl

from bb.probe.retrieval.labels import parse_items
from bb.probe.retrieval.report.thumbnail import Thumbnail


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
