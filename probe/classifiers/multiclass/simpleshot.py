"""SimpleShot: the class whose mean is nearest (Wang et al. 2019, arXiv 1911.04623)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Shaped

from bb.probe.classifiers.estimator import checked_arrays, checked_classes, checked_features, parameters_of
from bb.probe.classifiers.multiclass.largest import largest

BLOCK = 4096  # rows that are float64 at once


@dataclass(eq=False)
class SimpleShot:
    """Nearest class mean, Euclidean. Fulfils bb.probe.classifiers.estimator.Estimator.

    variant  "CL2N": less the mean of the training rows, then unit norm; "L2N": unit norm; "UN": as they are

    The mean of a class is not scaled to unit norm again; of equal distances the lowest class wins.
    """

    variant: Literal["CL2N", "L2N", "UN"] = "CL2N"
    targets: ClassVar[frozenset[str]] = frozenset({"classes"})
    classes_: Shaped[np.ndarray, " k"] = field(init=False, repr=False)
    parameters_: dict[str, Any] = field(init=False, repr=False)

    def fit(self, X: Float[np.ndarray, "n d"], y: Shaped[np.ndarray, " rows"]) -> "SimpleShot":
        x = checked_features(X)
        self.classes_, codes = checked_classes(y, len(x))
        self._mean = x.mean(axis=0) if self.variant == "CL2N" else np.zeros(x.shape[1], np.float32)
        x = self._transformed(x)
        rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
        self._centroids = np.stack([x[of_class].mean(axis=0) for of_class in rows])
        self.parameters_ = {"variant": self.variant}
        return self

    def predict(self, X: Float[np.ndarray, "m d"]) -> Shaped[np.ndarray, " m"]:
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def best(self, X: Float[np.ndarray, "m d"]) -> tuple[Int64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
        x, centroids = self._transformed(checked_features(X, len(self._mean))), self._centroids.astype(np.float64)
        place, value = largest(x, 2 * centroids, -(centroids**2).sum(axis=1))
        return place, value - np.einsum("md,md->m", x, x, dtype=np.float64)

    def decision_function(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """Less the squared distance to each mean."""
        x = checked_features(X, len(self._mean))
        centroids = self._centroids.astype(np.float64)
        squares, decision = (centroids**2).sum(axis=1), np.empty((len(x), len(centroids)))
        for start in range(0, len(x), BLOCK):
            rows = self._transformed(x[start : start + BLOCK]).astype(np.float64)
            here = np.matmul(rows, 2 * centroids.T, out=decision[start : start + BLOCK])
            here -= (rows**2).sum(axis=1)[:, None]
            here -= squares
        return decision

    def parameters(self) -> dict[str, Any]:
        return parameters_of(self)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"classes": self.classes_, "mean": self._mean, "centroids": self._centroids}

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> "SimpleShot":
        found = checked_arrays(arrays, {"mean": "float32 d", "centroids": "float32 k d"})
        self.classes_, self._mean, self._centroids = (found[name] for name in ("classes", "mean", "centroids"))
        self.parameters_ = {"variant": self.variant}
        return self

    def _transformed(self, x: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        if self.variant == "UN":
            return x
        x = x - self._mean
        norm = np.linalg.norm(x, axis=1, keepdims=True)
        return x / np.where(norm > 0, norm, 1)
