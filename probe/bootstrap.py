"""How sure a mean score is: percentile bootstrap intervals over distinct test images.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13. Images are what was sampled from
the world, so images are what is resampled: one that serves several tasks is drawn with all of its rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

BLOCK = 1 << 21  # draws held at once: about 50 MB


class Interval(NamedTuple):
    """Estimates and the bounds around them, one of each for every model."""

    estimate: Float64[np.ndarray, " models"]
    low: Float64[np.ndarray, " models"]
    high: Float64[np.ndarray, " models"]


def interval(
    image_ids: Sequence[str],
    scores: Float[np.ndarray, "n models"],
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Interval of the mean over the n rows, for several models scored on the same rows.

    `image_ids` tells which image each row is of. Every resample draws as many images as there are, with
    replacement, and its statistic is the reported one: the sum of the drawn images' scores over the number of
    their rows. The models share each resample, so that differences between them keep their pairing. Row order
    changes nothing. An interval always holds its estimate: it is widened where rounding would leave it out.
    """
    sums_UM, rows_U = _per_image(image_ids, scores)
    estimate = sums_UM.sum(axis=0) / rows_U.sum()
    resampled_BM = resampled_means(sums_UM, rows_U, resamples=resamples, seed=seed)
    low, high = np.quantile(resampled_BM, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Interval(estimate, np.minimum(low, estimate), np.maximum(high, estimate))


def resampled_means(
    sums_UM: Float64[np.ndarray, "images models"],
    rows_U: Float64[np.ndarray, " images"],
    *,
    resamples: int,
    seed: int,
) -> Float64[np.ndarray, "resamples models"]:
    """The mean of each model in each resample, from the images' sums of scores and numbers of rows.

    How often each image was drawn, as a matrix of resamples x images, times the sums: one product for all
    models.
    """
    images = len(rows_U)
    block = max(1, BLOCK // images)
    rng = np.random.default_rng(seed)
    means = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn_BU = rng.integers(0, images, size=(size, images))
        # With each resample in a range of its own, one bincount counts them all apart.
        drawn_BU += np.arange(size)[:, None] * images
        counts_BU = np.bincount(drawn_BU.ravel(), minlength=size * images).reshape(size, images)
        weights_BU = counts_BU.astype(np.float64)
        means.append(weights_BU @ sums_UM / (weights_BU @ rows_U)[:, None])
    return np.concatenate(means)


def _per_image(
    image_ids: Sequence[str], scores_NM: Float[np.ndarray, "n models"]
) -> tuple[Float64[np.ndarray, "images models"], Float64[np.ndarray, " images"]]:
    """Sum of scores and number of rows of each distinct image, images sorted by ID."""
    _, image_N = np.unique(np.asarray(image_ids, dtype=np.str_), return_inverse=True)
    # Within an image rows are ordered by their scores: not even the rounding of the sums shows the row order.
    order = np.lexsort((*scores_NM.T[::-1], image_N))
    rows_U = np.bincount(image_N)
    starts_U = np.cumsum(rows_U) - rows_U
    sums_UM = np.add.reduceat(scores_NM[order].astype(np.float64), starts_U, axis=0)
    return sums_UM, rows_U.astype(np.float64)
