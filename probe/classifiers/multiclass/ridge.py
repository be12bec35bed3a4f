"""Ridge regression in closed form: all strengths from one factorisation, the strength chosen by leaving one out.

With centred X = U S Vᵀ (thin) the fit at strength l is W = V diag(s / (s² + l)) Uᵀ Y, its fitted values H Y with
H = 11ᵀ/n + U diag(s² / (s² + l)) Uᵀ, and the error of row i where it is left out e_i / (1 - H_ii) (Allen's PRESS).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, TypeAlias

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Shaped

from bb.probe.classifiers.estimator import (
    checked_arrays,
    checked_classes,
    checked_features,
    checked_traits,
    checked_values,
    parameters_of,
)

LARGEST = 2**27  # numbers in the columns of classes that are fitted at once
SAMPLE, SURE = 1024, 8.0  # rows of the first sample; standard errors
L2 = tuple(2.0**power for power in range(-20, 21))


# Targets in parts of some columns each, made when they are asked for.
Parts: TypeAlias = Sequence[Callable[[], Float64[np.ndarray, "n t"]]]


class RidgePath:
    """One factorisation of n rows, for any l2 and target.

    x  (n, d) float32
    """

    def __init__(self, x: Float32[np.ndarray, "n d"]) -> None:
        self._of: Any = None  # the targets that `_along` and `_centred` are of
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

    def errors(
        self, y: Float64[np.ndarray, "n t"], l2: Sequence[float], rows: Int[np.ndarray, " some"] | None = None
    ) -> Iterator[Float64[np.ndarray, "some t"]]:
        """Of each l2 what is missing to each row's target where the row is left out; of all rows, or of some."""
        if self._of is not y:
            centred = y - y.mean(axis=0)
            self._of, self._centred, self._along = y, centred, self.left.T @ centred
        some = slice(None) if rows is None else rows
        left, centred = self.left[some], self._centred[some]
        left_squared = left**2
        for strength in l2:
            share = self.squares / (self.squares + strength)
            leverage = 1 / len(y) + left_squared @ share
            residual = centred - left @ (share[:, None] * self._along)
            yield residual / np.maximum(1 - leverage, np.finfo(np.float64).eps)[:, None]

    def coefficients(
        self, y: Float64[np.ndarray, "n t"], l2: float
    ) -> tuple[Float64[np.ndarray, "t d"], Float64[np.ndarray, " t"]]:
        """Coefficients and intercepts."""
        along = self._along if self._of is y else self.left.T @ (y - y.mean(axis=0))
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
            self.classes_, parts = np.empty(0), _whole(checked_values(y, len(x))[:, None])
        else:
            self.classes_, codes = checked_classes(y, len(x))
            parts = _of_classes(codes, len(self.classes_))
        self.coef_, self.intercept_, l2 = _fit_columns(RidgePath(x), parts, self.l2)
        self.parameters_ = {"l2": l2, "certificate": _certificate(x, parts, self.coef_, self.intercept_, l2)}
        return self

    def _fit_traits(self, x: Float32[np.ndarray, "n d"], y: Float64[np.ndarray, "n t"]) -> "Ridge":
        self._target, self.classes_ = "traits", np.arange(y.shape[1])
        whole = RidgePath(x)
        fits, certificates = [], []
        for column in y.T:
            known = ~np.isnan(column)
            signs = _whole(np.where(column[known] > 0, 1.0, -1.0)[:, None])
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
    path: RidgePath, parts: Parts, l2: Sequence[float]
) -> tuple[Float64[np.ndarray, "t d"], Float64[np.ndarray, " t"], float]:
    errors = {each: _mean_square(path, parts, each) for each in _candidates(path, parts, l2)}
    best = min(errors, key=errors.__getitem__)
    fits = [path.coefficients(part(), best) for part in parts]
    return np.concatenate([coef for coef, _ in fits]), np.concatenate([intercept for _, intercept in fits]), best


def _candidates(path: RidgePath, parts: Parts, l2: Sequence[float]) -> Sequence[float]:
    """The strengths that may have the least error: a sample of the rows excludes others, as a race of models does.

    Strengths are compared on the same rows. One is excluded where its squared errors are above those of the best by
    SURE standard errors of their mean difference, on at least SAMPLE rows spread evenly and the 64 of most leverage,
    without which few rows could decide. Of up to two samples of rows nothing is excluded.
    """
    n, sample = len(path.left), SAMPLE
    highest = np.argsort((path.left**2).sum(axis=1), kind="stable")[-64:]
    while len(l2) > 1 and 2 * sample < n:
        rows = np.union1d(np.linspace(0, n - 1, sample).astype(np.int64), highest)
        of_parts = [np.stack([(e**2).sum(axis=1) for e in path.errors(part(), l2, rows)]) for part in parts]
        each = np.sum(of_parts, axis=0)
        more = each - each[np.argmin(each.mean(axis=1))]
        kept = more.mean(axis=1) <= SURE * more.std(axis=1) / np.sqrt(len(rows))
        l2 = [strength for strength, keep in zip(l2, kept, strict=True) if keep]
        sample *= 4
    return l2


def _mean_square(path: RidgePath, parts: Parts, l2: float) -> float:
    """Over all rows and columns."""
    total = width = 0.0
    for part in parts:
        (error,) = path.errors(part(), [l2])
        total, width = total + float((error**2).mean()) * error.shape[1], width + error.shape[1]
    return total / width if len(parts) > 1 else float((error**2).mean())


def _of_classes(codes: Int[np.ndarray, " n"], k: int) -> Parts:
    """Columns of -1 and 1, as many at once as are not too large."""
    width = max(1, LARGEST // len(codes))
    ranges = [np.arange(start, min(start + width, k)) for start in range(0, k, width)]
    if len(ranges) == 1:
        return _whole(np.where(codes[:, None] == ranges[0], 1.0, -1.0))
    return [partial(lambda some: np.where(codes[:, None] == some, 1.0, -1.0), some) for some in ranges]


def _whole(columns: Float64[np.ndarray, "n t"]) -> Parts:
    return [lambda: columns]


def _certificate(
    x: Float32[np.ndarray, "n d"],
    parts: Parts,
    coef: Float64[np.ndarray, "t d"],
    intercept: Float64[np.ndarray, " t"],
    l2: float,
) -> float:
    """The largest entry of the normal equations' residual, over n."""
    largest, first = 0.0, 0
    for part in parts:
        y = part()
        mine = slice(first, first + y.shape[1])
        residual = x @ coef[mine].T + intercept[mine] - y
        largest = max(largest, float(np.abs(residual.T @ x + l2 * coef[mine]).max()))
        first += y.shape[1]
    return largest / len(x)
