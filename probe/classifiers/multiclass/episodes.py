"""Few-shot episodes as SimpleShot is published with (Wang et al. 2019, arXiv 1911.04623): 5 classes, 15 queries each.

An episode draws `ways` classes, and of each `shots` rows to learn from and `queries` others to test on. bb's own
draws are `--shots` of `bb probe classify`, which test all images; episodes are for comparison with published tables.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Shaped

from bb.probe.classifiers.estimator import checked_classes, checked_features
from bb.store.errors import BBError, UsageError

_BYTES = 2**26  # of the rows of episodes that are held at once


@dataclass(frozen=True, eq=False)
class Episodes:
    """What `simpleshot_episodes` found.

    accuracy    of each episode, in the order drawn
    half_width  1.96 standard errors of their mean: how far other draws from the same images would differ, and not how
                far other images would
    """

    accuracy: Float64[np.ndarray, " episodes"]

    @property
    def mean(self) -> float:
        return float(self.accuracy.mean())

    @property
    def half_width(self) -> float:
        return float(1.96 * self.accuracy.std() / np.sqrt(len(self.accuracy)))


def simpleshot_episodes(
    X: Float[np.ndarray, "n d"],
    y: Shaped[np.ndarray, " n"],
    base: Float[np.ndarray, "b _width"] | None = None,
    *,
    shots: int = 1,
    ways: int = 5,
    queries: int = 15,
    episodes: int = 10_000,
    variant: Literal["CL2N", "L2N", "UN"] = "CL2N",
    seed: int = 0,
) -> Episodes:
    """Nearest class mean in each episode.

    X, y     features (n, d) and classes (n,) of the images that episodes are drawn from
    base     features of the base classes, whose mean CL2N subtracts; X where there are none, which is not as published
    variant  as in SimpleShot; of equal distances the class drawn first wins
    Draws are the order of numpy's PCG64 doubles, so they are the same with any version of numpy. Classes of fewer than
    shots + queries rows are left out.
    Errors: UsageError for a number below 1 (of ways 2), BBError where fewer than `ways` classes have enough rows.
    """
    for name, value, least in (
        ("shots", shots, 1),
        ("ways", ways, 2),
        ("queries", queries, 1),
        ("episodes", episodes, 1),
    ):
        if value < least:
            raise UsageError(f"{name} is {value}; give {least} or more.")
    x = checked_features(X)
    classes, codes = checked_classes(y, len(x))
    x = _transformed(x, x if base is None else checked_features(base, x.shape[1]), variant)
    rows_of = [np.flatnonzero(codes == k) for k in range(len(classes))]
    enough = [rows for rows in rows_of if len(rows) >= shots + queries]
    if len(enough) < ways:
        raise BBError(
            f"{len(enough)} of {len(classes)} classes have the {shots + queries} images that an episode needs of each "
            f"of {ways}: ask for fewer queries, shots or ways."
        )
    rng = np.random.default_rng(seed)
    block = max(1, _BYTES // (4 * ways * (shots + queries) * x.shape[1]))
    found = []
    for start in range(0, episodes, block):
        rows = np.stack([_draw(rng, enough, ways, shots + queries) for _ in range(min(block, episodes - start))])
        found.append(_accuracy(x[rows], shots))
    return Episodes(np.concatenate(found))


def _transformed(
    x: Float32[np.ndarray, "n d"], base: Float32[np.ndarray, "b d"], variant: str
) -> Float32[np.ndarray, "n d"]:
    if variant == "UN":
        return x
    if variant == "CL2N":
        x = x - base.mean(axis=0)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norm > 0, norm, 1)


def _draw(
    rng: np.random.Generator, rows_of: list[Int64[np.ndarray, " _"]], ways: int, each: int
) -> Int64[np.ndarray, "ways each"]:
    """Rows of an episode: classes with the smallest of random keys, and of each the rows with the smallest."""
    drawn = np.argsort(rng.random(len(rows_of)), kind="stable")[:ways]
    return np.stack([rows_of[k][np.argsort(rng.random(len(rows_of[k])), kind="stable")[:each]] for k in drawn])


def _accuracy(x: Float32[np.ndarray, "e ways each d"], shots: int) -> Float64[np.ndarray, " e"]:
    """Share of queries, the rows after the first `shots`, whose own class's mean is the nearest."""
    centroids, queries = x[:, :, :shots].mean(axis=2), x[:, :, shots:]
    e, ways, n, d = queries.shape
    dots = np.matmul(queries.reshape(e, ways * n, d), centroids.transpose(0, 2, 1))
    nearest = (2 * dots - (centroids**2).sum(axis=2)[:, None]).argmax(axis=2).reshape(e, ways, n)
    return (nearest == np.arange(ways)[None, :, None]).mean(axis=(1, 2))
