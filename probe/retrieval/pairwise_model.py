"""Models that say how far apart two images are: the contract, how one is used, and the plain distances.

A model takes the rows of two images: their features (d,), or whatever else there is a row of for each image, such as
pixels (3, h, w).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Num

Metric = Literal["cosine", "euclidean"]
TINY = 1e-12  # a row this short is taken for one without direction
FLOATS = 2**23  # of either side of the pairs that a model is given at once: 32 MB


@runtime_checkable
class Rows(Protocol):
    """Rows (n, ...) that pairs are made of: an array, or what reads them when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: Any, /) -> Num[np.ndarray, "b ..."]:
        """Those of an integer array (b,)."""


@runtime_checkable
class NamedRows(Rows, Protocol):
    """Rows of images."""

    @property
    def image_ids(self) -> Sequence[str]: ...


@runtime_checkable
class PairwiseModel(Protocol):
    """How far apart the images of pairs are. Less is more alike; distances may be negative, and need be no metric."""

    def forward(self, x1: Any, x2: Any) -> Any:
        """For training: (b, ...) and (b, ...), as arrays of the library that trains; (b,) of what its loss takes."""

    def predict(self, x1: Num[np.ndarray, "b ..."], x2: Num[np.ndarray, "b ..."]) -> Float[np.ndarray, " b"]:
        """For use: the distances of b pairs, float32. Pairs do not depend on each other."""


@runtime_checkable
class Separable(Protocol):
    """A pairwise model that does most of its work image by image: predict(a, b) is compare(project(a), project(b))."""

    def project(self, x: Num[np.ndarray, "n ..."]) -> Float[np.ndarray, "n k"]:
        """What `compare` takes, image by image, float32."""

    def compare(self, z1: Float[np.ndarray, "b k"], z2: Float[np.ndarray, "b k"]) -> Float[np.ndarray, " b"]:
        """The distances of b pairs."""


def distances(
    model: PairwiseModel, rows: Rows, first: Int[np.ndarray, " p"], second: Int[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """Of pairs of rows, float32, as many at once as fit into 32 MB.

    Raises ValueError where the model returns NaN or distances of another shape.
    """
    predict = model.predict
    if isinstance(model, Separable):
        rows, predict = _projected(model, rows), model.compare  # type: ignore[assignment]
    found = np.empty(len(first), np.float32)
    block = _rows_at_once(rows)
    for start in range(0, len(first), block):
        part = slice(start, start + block)
        made = np.asarray(predict(rows[first[part]], rows[second[part]]))
        if made.shape != found[part].shape:
            raise ValueError(f"the model gave distances of shape {made.shape} for {len(first[part])} pairs")
        found[part] = made
    if np.isnan(found).any():
        raise ValueError("the model gave a distance that is not a number")
    return found


def _projected(model: Separable, rows: Rows) -> Float[np.ndarray, "n k"]:
    if isinstance(rows, np.ndarray):
        return model.project(rows)
    block = _rows_at_once(rows)
    numbers = np.arange(rows.shape[0])
    return np.concatenate([model.project(rows[numbers[start : start + block]]) for start in numbers[::block]])


def _rows_at_once(rows: Rows) -> int:
    return max(1, FLOATS // prod(rows.shape[1:]))


@dataclass(frozen=True)
class Distance:
    """The trivial model: 1 less the cosine, or the Euclidean distance. Nothing is learned.

    Of a row of zeros, which has no direction, the cosine with every other is 0. `forward` takes arrays of NumPy and of
    torch alike, whose gradients it keeps.
    """

    metric: Metric = "cosine"

    def forward(self, x1: Any, x2: Any) -> Any:
        if self.metric == "cosine":
            return 1 - ((x1 * x2).sum(-1) / (_length(x1) * _length(x2)))
        return ((x1 - x2) ** 2).sum(-1).clip(min=TINY**2) ** 0.5

    def predict(self, x1: Float[np.ndarray, "b d"], x2: Float[np.ndarray, "b d"]) -> Float[np.ndarray, " b"]:
        return self.compare(self.project(x1), self.project(x2))

    def project(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        wide = x.astype(np.float32)
        return wide / _length(wide)[:, None] if self.metric == "cosine" else wide

    def compare(self, z1: Float[np.ndarray, "b k"], z2: Float[np.ndarray, "b k"]) -> Float[np.ndarray, " b"]:
        if self.metric == "cosine":
            return 1 - np.einsum("bk,bk->b", z1, z2)
        return np.sqrt(np.square(z1 - z2).sum(axis=1))


def _length(x: Any) -> Any:
    return (x**2).sum(-1).clip(min=TINY**2) ** 0.5
