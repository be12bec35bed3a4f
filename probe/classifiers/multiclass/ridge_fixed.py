"""Ridge regression with a fixed penalty and a penalised bias (google-research/big_vision, evaluators/fewshot_lsr.py).

With x standardised by mean and standard deviation of the training rows, and a column of `bias` added:

    W = (Xᵀ X + l2 I)⁻¹ Xᵀ Y = Xᵀ (X Xᵀ + l2 I)⁻¹ Y

of which the smaller system is solved, in float64.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float64, Int64, Shaped

from bb.probe.classifiers.estimator import checked_arrays, checked_classes, checked_features, parameters_of
from bb.probe.classifiers.multiclass.largest import largest


@dataclass(eq=False)
class FixedRidge:
    """Classes as columns of -1 and 1. Fulfils bb.probe.classifiers.estimator.Estimator.

    l2       the penalty of every coefficient, that of the bias included
    bias     the constant feature
    epsilon  added to the standard deviations
    """

    l2: float = 1024.0
    bias: float = 100.0
    epsilon: float = 1e-5
    targets: ClassVar[frozenset[str]] = frozenset({"classes"})
    classes_: Shaped[np.ndarray, " k"] = field(init=False, repr=False)
    parameters_: dict[str, Any] = field(init=False, repr=False)

    def fit(self, X: Float[np.ndarray, "n d"], y: Shaped[np.ndarray, " rows"]) -> "FixedRidge":
        from scipy.linalg import cho_factor, cho_solve
        from scipy.sparse import csr_array

        given = checked_features(X)
        self.classes_, codes = checked_classes(y, len(given))
        x = np.empty((given.shape[0], given.shape[1] + 1))
        features = x[:, :-1]
        features[:] = given
        x[:, -1] = self.bias
        mean = features.mean(axis=0)
        features -= mean
        scale = np.sqrt(np.square(features).mean(axis=0)) + self.epsilon
        features /= scale
        wide = x.shape[0] < x.shape[1]
        gram = x @ x.T if wide else x.T @ x
        gram[np.diag_indices_from(gram)] += self.l2
        if wide:
            columns = np.where(codes[:, None] == np.arange(len(self.classes_)), 1.0, -1.0)
            weights = x.T @ cho_solve(cho_factor(gram, overwrite_a=True, check_finite=False), columns)
            residual = x.T @ (x @ weights - columns) + self.l2 * weights
        else:  # Xᵀ Y are twice the classes' sums less that of all rows, so that Y itself, (n, k), is never made
            sums = csr_array((np.ones(len(x)), codes, np.arange(len(x) + 1))).T @ x
            columns = 2 * sums.T - x.sum(axis=0)[:, None]
            weights = cho_solve(cho_factor(gram, check_finite=False), columns)
            residual = gram @ weights - columns
        self.coef_ = np.ascontiguousarray((weights[:-1] / scale[:, None]).T)
        self.intercept_ = self.bias * weights[-1] - self.coef_ @ mean
        self.parameters_ = {"l2": self.l2, "certificate": float(np.abs(residual).max()) / len(x)}
        return self

    def predict(self, X: Float[np.ndarray, "m d"]) -> Shaped[np.ndarray, " m"]:
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def best(self, X: Float[np.ndarray, "m d"]) -> tuple[Int64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
        return largest(checked_features(X, self.coef_.shape[1]), self.coef_, self.intercept_)

    def decision_function(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        return checked_features(X, self.coef_.shape[1]).astype(np.float64) @ self.coef_.T + self.intercept_

    def parameters(self) -> dict[str, Any]:
        return parameters_of(self)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"classes": self.classes_, "coef": self.coef_, "intercept": self.intercept_}

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> "FixedRidge":
        found = checked_arrays(arrays, {"coef": "float64 k d", "intercept": "float64 k"})
        self.parameters_ = {}
        self.classes_, self.coef_, self.intercept_ = (found[name] for name in ("classes", "coef", "intercept"))
        return self
