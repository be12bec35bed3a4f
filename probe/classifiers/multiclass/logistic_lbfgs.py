"""scikit-learn's LogisticRegression as it is, for protocols whose scores depend on where its optimiser stops."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float64, Shaped

from bb.probe.classifiers.estimator import checked_arrays, checked_classes, checked_features, parameters_of
from bb.store.errors import Malformed


@dataclass(eq=False)
class LogisticLBFGS:
    """LogisticRegression(solver="lbfgs") on float32 features. Fulfils bb.probe.classifiers.estimator.Estimator.

    max_iter  steps of the optimiser at most. Where they are too few the answer is not the optimum, and `parameters_`
              says so; it then depends on the order of rows and on scikit-learn's version
    """

    C: float = 1.0
    tol: float = 1e-4
    max_iter: int = 100
    targets: ClassVar[frozenset[str]] = frozenset({"classes"})
    classes_: Shaped[np.ndarray, " k"] = field(init=False, repr=False)
    parameters_: dict[str, Any] = field(init=False, repr=False)

    def fit(self, X: Float[np.ndarray, "n d"], y: Shaped[np.ndarray, " rows"]) -> "LogisticLBFGS":
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        x = checked_features(X)
        checked_classes(y, len(x))
        fitted = LogisticRegression(C=self.C, tol=self.tol, max_iter=self.max_iter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted.fit(x, y)
        self.classes_, self.coef_, self.intercept_ = fitted.classes_, fitted.coef_, fitted.intercept_
        steps = int(fitted.n_iter_.max())
        self.parameters_ = {"C": self.C, "steps": steps, "converged": steps < self.max_iter}
        return self

    def predict(self, X: Float[np.ndarray, "m d"]) -> Shaped[np.ndarray, " m"]:
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def decision_function(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """Scores whose softmax are the probabilities, summed in the precision of scikit-learn's."""
        scores = (checked_features(X, self.coef_.shape[1]) @ self.coef_.T + self.intercept_).astype(np.float64)
        return scores if scores.shape[1] > 1 else np.concatenate([-scores, scores], axis=1) / 2

    def predict_proba(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        from scipy.special import softmax

        return softmax(self.decision_function(X), axis=1)

    def parameters(self) -> dict[str, Any]:
        return parameters_of(self)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"classes": self.classes_, "coef": self.coef_, "intercept": self.intercept_}

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> "LogisticLBFGS":
        found = checked_arrays(arrays, {"coef": "float32 b d", "intercept": "float32 b"})
        self.parameters_ = {}
        self.classes_, self.coef_, self.intercept_ = (found[name] for name in ("classes", "coef", "intercept"))
        rows = 1 if len(self.classes_) == 2 else len(self.classes_)
        if len(self.coef_) != rows:
            raise Malformed(f"it has {len(self.coef_)} rows of coefficients for {len(self.classes_)} classes")
        return self
