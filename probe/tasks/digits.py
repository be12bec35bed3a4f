"""NeWT-style labels for scikit-learn's hand-written digits: what `bb demo` probes, offline and in seconds."""

import hashlib
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import polars as pl
from jaxtyping import Integer

SIDE = 8  # pixels, of the digits as scikit-learn has them


def digits_labels(image_ids: Sequence[str], digits: Integer[np.ndarray, " n"]) -> pl.DataFrame:
    """One task for each pair of digits, in the columns of `newt2021_labels.csv`; class 0 is the smaller.

    All ten digits give 45 tasks, digit_0_vs_1 to digit_8_vs_9, in the cluster "digits". About half the images
    train and half test, decided by a hash of the ID: an image is on one side in all nine tasks that it
    serves.
    """
    rows = [
        (image_id, "digits", None, f"digit_{a}_vs_{b}", digit == b, str(digit), _split(image_id), SIDE, SIDE)
        for a, b in combinations(sorted({int(digit) for digit in digits}), 2)
        for image_id, digit in zip(image_ids, digits.tolist(), strict=True)
        if digit in (a, b)
    ]
    schema = {
        "id": pl.String,
        "task_cluster": pl.String,
        "task_subcluster": pl.String,
        "task": pl.String,
        "label": pl.Int64,
        "text_label": pl.String,
        "split": pl.String,
        "height": pl.Int64,
        "width": pl.Int64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _split(image_id: str) -> str:
    return "test" if hashlib.sha256(f"split/{image_id}".encode()).digest()[0] % 2 else "train"
