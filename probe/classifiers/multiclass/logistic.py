"""Multinomial logistic regression, fitted exactly along a path of C; C is chosen on rows held out."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int64, Shaped

from bb.probe.classifiers.estimator import (
    checked_arrays,
    checked_classes,
    checked_features,
    checked_traits,
    parameters_of,
)
from bb.probe.classifiers.multiclass.softmax_path import SoftmaxPath, Solution
from bb.store.errors import BBError

PATH = tuple(float(C) for C in 10 ** np.linspace(-6, 5, 45))  # DINOv2's
NEVER = -1  # the fold of a row that is in every fit
WITHOUT_CHOICE = 1.0


@dataclass(eq=False)
class Logistic:
    """min sum_i -log softmax(W x_i + b)[y_i] + |W|²/(2C), b free. Fulfils bb.probe.classifiers.estimator.Estimator.

    C      ascending; chosen is the first with the most rows right when they are held out, of those at which every fit
           is certified; one C alone is refused where its fit is not
    folds  how many, stratified, rows in their order (StratifiedKFold without shuffling); as many as the largest class
           has rows where that is fewer. With one row for each class nothing can be held out, and C is 1

    Two classes, and each trait, are one binary problem with one vector w in place of W, as scikit-learn has it.
    """

    C: tuple[float, ...] = PATH
    folds: int = 5
    targets: ClassVar[frozenset[str]] = frozenset({"classes", "traits"})
    classes_: Shaped[np.ndarray, " k"] = field(init=False, repr=False)
    parameters_: dict[str, Any] = field(init=False, repr=False)

    def fit(
        self,
        X: Float[np.ndarray, "n d"],
        y: Shaped[np.ndarray, "rows ..."],
        held_out: Int[np.ndarray, " n"] | None = None,
    ) -> "Logistic":
        """Choose C and fit all rows.

        held_out  the fold of each row in place of `folds`, NEVER for rows that are in every fit: a validation split
                  is fold 0
        """
        x, y = checked_features(X), np.asarray(y)
        self._traits = y.ndim == 2
        if not self._traits:
            self.classes_, codes = checked_classes(y, len(x))
            solution, self.parameters_ = self._chosen(x, codes, held_out)
            self.coef_, self.intercept_ = solution.coef, solution.intercept
            return self
        y = checked_traits(y, len(x))
        self.classes_ = np.arange(y.shape[1])
        fits = []
        for column in y.T:
            known = ~np.isnan(column)
            folds = None if held_out is None else held_out[known]
            fits.append(self._chosen(x[known], column[known].astype(np.int64), folds))
        # Two rows of coefficients that sum to 0: their difference is the trait's log odds.
        self.coef_ = np.stack([solution.coef[1] - solution.coef[0] for solution, _ in fits])
        self.intercept_ = np.array([solution.intercept[1] - solution.intercept[0] for solution, _ in fits])
        records = [record for _, record in fits]
        self.parameters_ = {
            "C": [record["C"] for record in records],
            "certificate": max(record["certificate"] for record in records),
            "held_out_accuracy": [record["held_out_accuracy"] for record in records],
        }
        return self

    def predict(self, X: Float[np.ndarray, "m d"]) -> Shaped[np.ndarray, "m ..."]:
        decision = self.decision_function(X)
        return (decision > 0).astype(np.int64) if self._traits else self.classes_[decision.argmax(axis=1)]

    def decision_function(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """Scores whose softmax are the probabilities; of traits log odds."""
        return checked_features(X, self.coef_.shape[1]).astype(np.float64) @ self.coef_.T + self.intercept_

    def predict_proba(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """Of each class; of traits that each is 1."""
        return self.proba_of(self.decision_function(X))

    def proba_of(self, decision: Float64[np.ndarray, "m k"]) -> Float64[np.ndarray, "m k"]:
        from scipy.special import expit, softmax

        return expit(decision) if self._traits else softmax(decision, axis=1)

    def parameters(self) -> dict[str, Any]:
        return parameters_of(self)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"classes": self.classes_, "coef": self.coef_, "intercept": self.intercept_}

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> "Logistic":
        found = checked_arrays(arrays, {"coef": "float64 k d", "intercept": "float64 k"})
        self._traits, self.parameters_ = False, {}
        self.classes_, self.coef_, self.intercept_ = (found[name] for name in ("classes", "coef", "intercept"))
        return self

    def _chosen(
        self, x: Float32[np.ndarray, "n d"], y: Int64[np.ndarray, " n"], held_out: Int[np.ndarray, " n"] | None
    ) -> tuple[Solution, dict[str, Any]]:
        """The fit of all rows at the chosen C, and a record of the choice."""
        folds = _stratified(y, self.folds) if held_out is None else held_out
        tested = int((folds != NEVER).sum())
        Cs, accuracy = self.C, None
        if not tested:
            Cs = Cs if len(Cs) == 1 else (WITHOUT_CHOICE,)
        elif len(Cs) > 1:
            each = [_right(x, y, folds == fold, Cs) for fold in np.unique(folds[folds != NEVER])]
            Cs = Cs[: min(map(len, each))]
            right = np.sum([found[: len(Cs)] for found in each], axis=0)
            best = int(np.argmax(right))
            # The path up to the chosen one: each fit starts from those before it.
            Cs, accuracy = Cs[: best + 1], float(right[best] / tested)
        *_, solution = _exact(_path(x, y), Cs)
        record = {"C": solution.C, "certificate": solution.certificate, "held_out_accuracy": accuracy}
        return solution, record


def _path(x: Float32[np.ndarray, "n d"], y: Int64[np.ndarray, " n"]) -> SoftmaxPath:
    k = int(y.max()) + 1
    return SoftmaxPath(x, y, k, penalty=2.0 if k == 2 else 1.0)


def _exact(path: SoftmaxPath, Cs: Sequence[float]) -> Iterator[Solution]:
    """The solutions along a path up to the first C at which none is certified: on rows that a classifier separates, or
    that hardly differ, float64 is not exact enough for the largest. Errors: BBError where not even the first is.
    """
    found = 0
    try:
        for solution in path.solve(Cs):
            yield solution
            found += 1
    except BBError:
        if not found:
            raise


def _right(
    x: Float32[np.ndarray, "n d"], y: Int64[np.ndarray, " n"], out: Shaped[np.ndarray, " n"], Cs: Sequence[float]
) -> Int64[np.ndarray, " c"]:
    """How many held-out rows each C gets right, up to the last certified one; an untrained class gets none right."""
    classes, codes = np.unique(y[~out], return_inverse=True)
    if len(classes) < 2:
        return np.full(len(Cs), int((y[out] == classes[0]).sum()))
    tests = x[out].astype(np.float64)
    solutions = _exact(_path(x[~out], codes.astype(np.int64)), Cs)
    return np.array([(classes[(tests @ s.coef.T + s.intercept).argmax(axis=1)] == y[out]).sum() for s in solutions])


def _stratified(y: Int64[np.ndarray, " n"], folds: int) -> Int64[np.ndarray, " n"]:
    """The fold of each row; NEVER for all of them where no class has two rows."""
    from sklearn.model_selection import StratifiedKFold

    out = np.full(len(y), NEVER, np.int64)
    folds = min(folds, int(np.bincount(y).max()))
    if folds < 2:
        return out
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, rows) in enumerate(StratifiedKFold(folds).split(y, y)):
            out[rows] = fold
    return out
