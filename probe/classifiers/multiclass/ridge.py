"""Ridge regression in closed form: all strengths from one factorisation, the strength chosen by leaving one out.

With centred X = U S Vᵀ (thin) the fit at strength l is W = V diag(s / (s² + l)) Uᵀ Y, its fitted values H Y with
H = 11ᵀ/n + U diag(s² / (s² + l)) Uᵀ, and the error of row i where it is left out e_i / (1 - H_ii) (Allen's PRESS).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float32, Float64, Shaped

from bb.probe.classifiers.estimator import (
    checked_arrays,
    checked_classes,
    checked_features,
    checked_traits,
    checked_values,
    parameters_of,
)

L2 = tuple(2.0**power for power in range(-20, 21))


class RidgePath:
    """One factorisation of n rows, for any l2 and target.

    x  (n, d) float32
    """

    def __init__(self, x: Float32[np.ndarray, "n d"]) -> None:
        self.mean = x.mean(axis=0, dtype=np.float64)
        centred = x - self.mean
        wide = x.shape[0] < x.shape[1]
        values, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
        real = values > values[-1] * np.finfo(np.float64).eps * max(x.shape)
        self.squares, vectors = values[real], vectors[:, real]
        if wide:
            self.left, self.right = vectors, centred.T @ (vectors / np.sqrt(self.squares))
        else:
            self.left, self.right = centred @ (vectors / np.sqrt(self.squares)), vectors

    def errors(self, y: Float64[np.ndarray, "n t"], l2: Sequence[float]) -> Iterator[Float64[np.ndarray, "n t"]]:
        """Of each l2 what is missing to each row's target where the row is left out."""
        centred = y - y.mean(axis=0)
        along, left_squared = self.left.T @ centred, self.left**2
        for strength in l2:
            share = self.squares / (self.squares + strength)
            leverage = 1 / len(y) + left_squared @ share
            residual = centred - self.left @ (share[:, None] * along)
            yield residual / np.maximum(1 - leverage, np.finfo(np.float64).eps)[:, None]

    def coefficients(
        self, y: Float64[np.ndarray, "n t"], l2: float
    ) -> tuple[Float64[np.ndarray, "t d"], Float64[np.ndarray, " t"]]:
        """Coefficients and intercepts."""
        along = self.left.T @ (y - y.mean(axis=0))
        coef = ((np.sqrt(self.squares) / (self.squares + l2))[:, None] * along).T @ self.right.T
        return coef, y.mean(axis=0) - coef @ self.mean


@dataclass(eq=False)
class Ridge:
    """Least squares with an L2 penalty, min |Y - XWᵀ - b|² + l2 |W|². Fulfils bb.probe.classifiers.estimator.Estimator.

    l2  strengths, ascending; the first with the least mean squared error over rows left out is chosen, one for all
        columns; of traits one for each

    Classes are columns of -1 and 1, traits likewise over the rows where they are known.
    """

    l2: tuple[float, ...] = L2
    targets: ClassVar[frozenset[str]] = frozenset({"classes", "traits", "values"})
    classes_: Shaped[np.ndarray, " k"] = field(init=False, repr=False)
    parameters_: dict[str, Any] = field(init=False, repr=False)

    def fit(self, X: Float[np.ndarray, "n d"], y: Shaped[np.ndarray, "rows ..."]) -> "Ridge":
        x, y = checked_features(X), np.asarray(y)
        if y.ndim == 2:
            return self._fit_traits(x, checked_traits(y, len(x)))
        self._target = "values" if y.dtype.kind == "f" else "classes"
        if self._target == "values":
            self.classes_, columns = np.empty(0), checked_values(y, len(x))[:, None]
        else:
            self.classes_, codes = checked_classes(y, len(x))
            columns = np.where(codes[:, None] == np.arange(len(self.classes_)), 1.0, -1.0)
        self.coef_, self.intercept_, l2 = _fit_columns(RidgePath(x), columns, self.l2)
        self.parameters_ = {"l2": l2, "certificate": _certificate(x, columns, self.coef_, self.intercept_, l2)}
        return self

    def _fit_traits(self, x: Float32[np.ndarray, "n d"], y: Float64[np.ndarray, "n t"]) -> "Ridge":
        self._target, self.classes_ = "traits", np.arange(y.shape[1])
        whole = RidgePath(x)
        fits, certificates = [], []
        for column in y.T:
            known = ~np.isnan(column)
            signs = np.where(column[known] > 0, 1.0, -1.0)[:, None]
            fits.append(_fit_columns(whole if known.all() else RidgePath(x[known]), signs, self.l2))
            certificates.append(_certificate(x[known], signs, *fits[-1]))
        self.coef_, self.intercept_ = (np.concatenate([fit[part] for fit in fits]) for part in (0, 1))
        self.parameters_ = {"l2": [fit[2] for fit in fits], "certificate": max(certificates)}
        return self

    def predict(self, X: Float[np.ndarray, "m d"]) -> Shaped[np.ndarray, "m ..."]:
        decision = self.decision_function(X)
        match self._target:
            case "values":
                return decision[:, 0]
            case "traits":
                return (decision > 0).astype(np.int64)
            case _:
                return self.classes_[decision.argmax(axis=1)]

    def decision_function(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        return checked_features(X, self.coef_.shape[1]).astype(np.float64) @ self.coef_.T + self.intercept_

    def parameters(self) -> dict[str, Any]:
        return parameters_of(self)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"classes": self.classes_, "coef": self.coef_, "intercept": self.intercept_}

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> "Ridge":
        found = checked_arrays(arrays, {"coef": "float64 k d", "intercept": "float64 k"})
        self._target, self.parameters_ = "classes", {}
        self.classes_, self.coef_, self.intercept_ = (found[name] for name in ("classes", "coef", "intercept"))
        return self


def _fit_columns(
    path: RidgePath, columns: Float64[np.ndarray, "n t"], l2: Sequence[float]
) -> tuple[Float64[np.ndarray, "t d"], Float64[np.ndarray, " t"], float]:
    errors = [float((error**2).mean()) for error in path.errors(columns, l2)]
    best = l2[int(np.argmin(errors))]
    return *path.coefficients(columns, best), best


def _certificate(
    x: Float32[np.ndarray, "n d"],
    y: Float64[np.ndarray, "n t"],
    coef: Float64[np.ndarray, "t d"],
    intercept: Float64[np.ndarray, " t"],
    l2: float,
) -> float:
    """The largest entry of the normal equations' residual, over n."""
    residual = x @ coef.T + intercept - y
    return float(np.abs(residual.T @ x + l2 * coef).max()) / len(x)
