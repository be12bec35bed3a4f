"""Nearest class mean that may also answer "none of these": images far from every class are of an unknown one.

Distances are of Mahalanobis, d²(x) = min_c (x - m_c)ᵀ S⁻¹ (x - m_c), as biobench scores FungiCLEF with. S is what
scikit-learn's LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto") has: the mean over training rows of their
classes' covariances, each shrunk on standardised features by Ledoit and Wolf (2004). With centred rows X (n_c, d) of
standard deviations s, a class's is (1 - a) XᵀX / n_c + a v diag(s²), where a is the shrinkage of X / s and v its mean
variance; so S is one product of all rows, weighted, and a diagonal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Shaped

from bb.probe.classifiers.estimator import checked_arrays, checked_classes, checked_features, parameters_of
from bb.probe.classifiers.multiclass.simpleshot import SimpleShot
from bb.store.errors import Malformed

_ROWS = 16_384  # whose distances are taken at once


@dataclass(eq=False)
class Mahalanobis:
    """SimpleShot, and whether an image is of none of the classes. Fulfils bb.probe.classifiers.estimator.Estimator.

    percentile  of the training rows' squared distances: images beyond it are of an unknown class
    """

    percentile: float = 95.0
    targets: ClassVar[frozenset[str]] = frozenset({"classes"})
    classes_: Shaped[np.ndarray, " k"] = field(init=False, repr=False)
    parameters_: dict[str, Any] = field(init=False, repr=False)

    def fit(self, X: Float[np.ndarray, "n d"], y: Shaped[np.ndarray, " rows"]) -> "Mahalanobis":
        x = checked_features(X)
        self._nearest = SimpleShot().fit(x, y)
        self.classes_, codes = checked_classes(y, len(x))
        means, covariance = means_and_covariance(x.astype(np.float64), codes)
        variances, vectors = np.linalg.eigh(covariance)
        real = variances > max(variances[-1], 0) * len(variances) * np.finfo(np.float64).eps
        self._whitening = vectors[:, real] / np.sqrt(variances[real]) if real.any() else np.zeros((x.shape[1], 1))
        self._means = means @ self._whitening
        self._threshold = float(np.percentile(self.distances(x), self.percentile))
        self._describe()
        return self

    def distances(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, " m"]:
        """The squared distance to the nearest class."""
        x = checked_features(X, len(self._whitening))
        found = []
        for start in range(0, len(x), _ROWS):
            z = x[start : start + _ROWS].astype(np.float64) @ self._whitening
            squares = (z**2).sum(axis=1)[:, None] + (self._means**2).sum(axis=1) - 2 * z @ self._means.T
            found.append(np.maximum(squares.min(axis=1), 0))
        return np.concatenate(found)

    def rejects(self, X: Float[np.ndarray, "m d"]) -> Bool[np.ndarray, " m"]:
        """Whether an image is of none of the classes."""
        return self.distances(X) > self._threshold

    def predict(self, X: Float[np.ndarray, "m d"]) -> Shaped[np.ndarray, " m"]:
        """The nearest class, of those that are rejected too."""
        return self._nearest.predict(X)

    def decision_function(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """SimpleShot's."""
        return self._nearest.decision_function(X)

    def parameters(self) -> dict[str, Any]:
        return parameters_of(self)

    def arrays(self) -> dict[str, np.ndarray]:
        return {**self._nearest.arrays(), "whitening": self._whitening, "whitened_means": self._means,
                "threshold": np.array([self._threshold])}  # fmt: skip

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> "Mahalanobis":
        nearest = {"mean": "float32 d", "centroids": "float32 k d"}
        own = {"whitening": "float64 d r", "whitened_means": "float64 k r", "threshold": "float64 one"}
        found = checked_arrays(arrays, {**nearest, **own})
        if len(found["threshold"]) != 1:
            raise Malformed(f"it has {len(found['threshold'])} thresholds for one")
        self._nearest = SimpleShot().with_arrays({name: found[name] for name in ("classes", *nearest)})
        self.classes_, self._whitening, self._means = (
            found[name] for name in ("classes", "whitening", "whitened_means")
        )
        self._threshold = float(found["threshold"][0])
        self._describe()
        return self

    def _describe(self) -> None:
        rank = int(self._whitening.any(axis=0).sum())
        self.parameters_ = {"threshold": self._threshold, "rank": rank, "features": len(self._whitening)}


def means_and_covariance(
    x: Float64[np.ndarray, "n d"], codes: Int64[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, "k d"], Float64[np.ndarray, "d d"]]:
    """The mean of each class, and the covariance that they share; codes 0 … k-1, each at least once."""
    n, d = x.shape
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    means, weighted, diagonal = np.empty((len(starts), d)), np.empty_like(x), np.zeros(d)
    for k, rows in enumerate(np.split(order, starts[1:])):
        means[k] = x[rows].mean(axis=0)
        centred = x[rows] - means[k]
        variance = (centred**2).mean(axis=0)
        deviation = np.sqrt(np.where(variance > 0, variance, 1))
        share, level = _shrinkage(centred / deviation)
        weighted[rows] = centred * np.sqrt((1 - share) / n)  # n_c / n of what the class has by 1 / n_c
        diagonal += len(rows) / n * share * level * deviation**2
    return means, weighted.T @ weighted + np.diag(diagonal)


def _shrinkage(z: Float64[np.ndarray, "n d"]) -> tuple[float, float]:
    """Ledoit and Wolf's shrinkage of centred rows, 0 where nothing varies, and the mean variance."""
    n, d = z.shape
    squares = (z**2).sum(axis=1)
    level = squares.sum() / n / d
    gram = z @ z.T if n < d else z.T @ z
    norm = (gram**2).sum() / n**2
    beta = ((squares**2).sum() / n - norm) / (d * n)
    delta = (norm - d * level**2) / d
    beta = min(beta, delta)
    return (0.0 if beta <= 0 else float(beta / delta)), float(level)
