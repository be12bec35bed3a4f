"""scikit-learn's linear SVC of any number of classes, one against one, from the exact engine.

The engine (bb.probe.classifiers.svm) holds the kernel and each pair's coefficients in memory. Where these exceed
`LARGEST`, scikit-learn's own SVC fits, whose predictions are the same. The span of the rows is not used: the kernel is
computed once for all pairs, which is a small part of the time, and its last bits decide ties.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Float64, Int64, Shaped

from bb.probe.classifiers import svm, svm_fit
from bb.probe.classifiers.estimator import checked_classes, checked_features, parameters_of

LARGEST = 2**30  # bytes of a fit; 7,000 rows of 100 classes, or 1,000 rows of 500
_BLOCK = 2**27  # bytes of decision values that are held at once: one for each pair of classes and row


@dataclass(eq=False)
class SVM:
    """SVC(kernel="linear"), C = 1. Fulfils bb.probe.classifiers.estimator.Estimator.

    class_weight  "balanced" weighs classes by their number of rows, as scikit-learn does; None does not
    tol           the gap at which the solver stops

    Each pair of classes votes; of classes with equal votes the lowest wins, as in libsvm. Predictions equal those of
    scikit-learn.
    """

    C: float = 1.0
    tol: float = 1e-3
    class_weight: Literal["balanced"] | None = None
    targets: ClassVar[frozenset[str]] = frozenset({"classes"})
    classes_: Shaped[np.ndarray, " k"] = field(init=False, repr=False)
    parameters_: dict[str, Any] = field(init=False, repr=False)

    def fit(self, X: Float[np.ndarray, "n d"], y: Shaped[np.ndarray, " rows"]) -> "SVM":
        x = checked_features(X)
        self.classes_, codes = checked_classes(y, len(x))
        self._width = x.shape[1]
        exact = bytes_of_fit(len(x), x.shape[1], len(self.classes_)) <= LARGEST
        self._fitted: Any = self._engine() if exact else self._sklearn()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The number of unique classes")  # many classes of few images
            self._fitted.fit(*([[(x, codes)]] if exact else [x, codes]))
        self.parameters_ = {"C": self.C, "solved_by": "exact" if exact else "scikit-learn"}
        return self

    def predict(self, X: Float[np.ndarray, "m d"]) -> Shaped[np.ndarray, " m"]:
        return self.classes_[np.concatenate([codes for codes, _ in self._answers(X)])]

    def decision_function(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """Votes, and confidences between votes: scikit-learn's decision_function_shape="ovr". Of two classes the margin
        of the second, and its negative. Among classes with equal votes, the largest value is the predicted class's.
        """
        return np.concatenate([_raised(decision, codes) for codes, decision in self._answers(X)])

    def parameters(self) -> dict[str, Any]:
        return parameters_of(self)

    def _engine(self) -> svm.SVC:
        return svm.SVC(C=self.C, tol=self.tol, class_weight=self.class_weight, n_threads=1)

    def _sklearn(self) -> Any:
        from sklearn.svm import SVC

        return SVC(
            C=self.C, kernel="linear", tol=self.tol, class_weight=self.class_weight, decision_function_shape="ovo"
        )

    def _answers(
        self, X: Float[np.ndarray, "m d"]
    ) -> Iterator[tuple[Int64[np.ndarray, " b"], Float64[np.ndarray, "b k"]]]:
        """Of each block of rows the codes of predicted classes, and decision values."""
        x, k = checked_features(X, self._width), len(self.classes_)
        rows = max(16, _BLOCK // (8 * (k * (k - 1) // 2)))
        for start in range(0, max(len(x), 1), rows):
            block = x[start : start + rows]
            if not len(block):
                yield np.empty(0, np.int64), np.empty((0, k))
                continue
            if isinstance(self._fitted, svm.SVC):
                decision, codes = self._fitted.answers([block])[0]
            else:
                decision, codes = self._voted(self._fitted.decision_function(block))
            yield codes.astype(np.int64), np.stack([-decision, decision], axis=1) if k == 2 else decision

    def _voted(
        self, decision: Float64[np.ndarray, "b ..."]
    ) -> tuple[Float64[np.ndarray, "b ..."], Int64[np.ndarray, " b"]]:
        """Of scikit-learn's decision of each pair what the engine gives, without asking libsvm twice."""
        from bb.probe.classifiers import smo

        k = len(self.classes_)
        if k == 2:
            return decision, (decision > 0).astype(np.int64)
        pairs = np.ascontiguousarray(decision.T)
        return svm_fit.one_vs_rest(pairs, k), np.asarray(smo.vote(pairs, k), np.int64)


@dataclass(eq=False)
class BalancedSVM(SVM):
    """`SVM` with class_weight="balanced"."""

    class_weight: Literal["balanced"] | None = "balanced"


def bytes_of_fit(n: int, d: int, k: int) -> int:
    """What the exact engine allocates for n rows of d features and k classes: the kernel, and coefficients of pairs."""
    return svm_fit.bytes_a_thread(n, 0, d, k) + 2 * 8 * n * (k * (k - 1) // 2)


def _raised(decision: Float64[np.ndarray, "m k"], codes: Int64[np.ndarray, " m"]) -> Float64[np.ndarray, "m k"]:
    """Decision values of which the predicted class's is the largest: libsvm breaks ties of votes without them."""
    each = np.arange(len(decision))
    wrong = np.flatnonzero(decision.argmax(axis=1) != codes)
    decision[each[wrong], codes[wrong]] = np.nextafter(decision[wrong].max(axis=1), np.inf)
    return decision
