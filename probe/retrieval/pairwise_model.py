"""Models that take two images' features and say how far apart they are: the contract, and the plain distances."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

Metric = Literal["cosine", "euclidean"]
TINY = 1e-12  # a row this short is taken for one without direction


@runtime_checkable
class PairwiseModel(Protocol):
    """How far apart the images of pairs are. Less is more alike; distances may be negative, and need be no metric."""

    def forward(self, x1: Any, x2: Any) -> Any:
        """For training: (b, d) and (b, d), as arrays of the library that trains; (b,) of what its loss takes."""

    def predict(self, x1: Float[np.ndarray, "b d"], x2: Float[np.ndarray, "b d"]) -> Float[np.ndarray, " b"]:
        """For use: the distances of b pairs, float32. Pairs do not depend on each other."""


@runtime_checkable
class Separable(Protocol):
    """A pairwise model that does most of its work image by image: predict(a, b) is compare(project(a), project(b))."""

    def project(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """What `compare` takes, image by image, float32."""

    def compare(self, z1: Float[np.ndarray, "b k"], z2: Float[np.ndarray, "b k"]) -> Float[np.ndarray, " b"]:
        """The distances of b pairs."""


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
