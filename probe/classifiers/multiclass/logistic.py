"""Multinomial logistic regression, fitted exactly along a path of C; C is chosen on rows held out."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int64, Shaped

from bb.probe.classifiers.estimator import (
    NEVER,
    checked_arrays,
    checked_classes,
    checked_features,
    checked_traits,
    parameters_of,
)
from bb.probe.classifiers.multiclass.softmax_path import SoftmaxPath, Solution
from bb.store.errors import BBError

PATH = tuple(float(C) for C in 10 ** np.linspace(-6, 5, 45))  # DINOv2's
WITHOUT_CHOICE = 1.0
COARSE, SPANS = 16, (8, 4, 2, 1)  # places of C between which CLIP's search steps


@dataclass(eq=False)
class Logistic:
    """min sum_i -log softmax(W x_i + b)[y_i] + |W|²/(2C), b free. Fulfils bb.probe.classifiers.estimator.Estimator.

    C      ascending; chosen is the first with the most rows right when they are held out, of those at which every fit
           is certified; one C alone is refused where its fit is not
    folds  how many, stratified, rows in their order (StratifiedKFold without shuffling); as many as the largest class
           has rows where that is fewer. With one row for each class nothing can be held out, and C is 1
    choice "best" compares all C, "peak" those of CLIP's search: it ends at a peak near the best of every 16th C, and
           of equal ones takes the largest
    refit  whether rows that were held out are fitted, too

    Two classes, and each trait, are one binary problem with one vector w in place of W, as scikit-learn has it.
    """

    C: tuple[float, ...] = PATH
    folds: int = 5
    choice: Literal["best", "peak"] = "best"
    refit: bool = True
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
            classes, codes = checked_classes(y, len(x))
            solution, self.parameters_, fitted = self._chosen(x, codes, held_out)
            self.classes_ = classes[fitted]
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
        self.coef_ = np.stack([solution.coef[1] - solution.coef[0] for solution, _, _ in fits])
        self.intercept_ = np.array([solution.intercept[1] - solution.intercept[0] for solution, _, _ in fits])
        records = [record for _, record, _ in fits]
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
        """`choice` and `refit` only where they are not the usual ones, as runs from before them have it."""
        usual = {"choice": "best", "refit": True}
        return {name: value for name, value in parameters_of(self).items() if usual.get(name) != value}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"classes": self.classes_, "coef": self.coef_, "intercept": self.intercept_}

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> "Logistic":
        found = checked_arrays(arrays, {"coef": "float64 k d", "intercept": "float64 k"})
        self._traits, self.parameters_ = False, {}
        self.classes_, self.coef_, self.intercept_ = (found[name] for name in ("classes", "coef", "intercept"))
        return self

    def _chosen(
        self, x: Float32[np.ndarray, "n d"], y: Int64[np.ndarray, " n"], held_out: Int[np.ndarray, " n"] | None
    ) -> tuple[Solution, dict[str, Any], Int64[np.ndarray, " k"]]:
        """The fit at the chosen C, a record of the choice, and which of y's classes the fit has."""
        folds = _stratified(y, self.folds) if held_out is None else held_out
        tested = int((folds != NEVER).sum())
        Cs: Sequence[float] = self.C
        accuracy = None
        if not tested:
            Cs = Cs if len(Cs) == 1 else (WITHOUT_CHOICE,)
        elif len(Cs) > 1:
            each = [_HeldOut(x, y, folds == fold) for fold in np.unique(folds[folds != NEVER])]
            choose = _best if self.choice == "best" else _peak
            Cs, right = choose(each, Cs)
            accuracy = float(right / tested)
        kept = folds == NEVER if tested and not self.refit else np.ones(len(y), bool)
        classes, codes = np.unique(y[kept], return_inverse=True)
        *_, solution = _exact(_path(x[kept], codes.astype(np.int64)), Cs)
        record = {"C": solution.C, "certificate": solution.certified(), "held_out_accuracy": accuracy}
        return solution, record, classes


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


class _HeldOut:
    """Rows that are held out, and the path of the others."""

    def __init__(
        self, x: Float32[np.ndarray, "n d"], y: Int64[np.ndarray, " n"], out: Shaped[np.ndarray, " n"]
    ) -> None:
        self.classes, codes = np.unique(y[~out], return_inverse=True)
        self.path = _path(x[~out], codes.astype(np.int64)) if len(self.classes) > 1 else None
        self.x, self.y = x[out] if self.path is None else self.path.project(x[out]), y[out]

    def right(self, Cs: Sequence[float]) -> Iterator[int]:
        """How many rows each C gets right, up to the last certified one; an untrained class gets none right."""
        if self.path is None:
            yield from [int((self.y == self.classes[0]).sum())] * len(Cs)
            return
        for found in _exact(self.path, Cs):
            decision = self.x @ found.w.T
            yield int((self.classes[decision.argmax(axis=1)] == self.y).sum())


def _best(folds: Sequence[_HeldOut], Cs: Sequence[float]) -> tuple[Sequence[float], int]:
    """The path up to the first C with the most rows right, and how many: each fit starts from those before it."""
    all_right, right = sum(len(fold.y) for fold in folds), list[int]()
    for found in zip(*(fold.right(Cs) for fold in folds), strict=False):
        right.append(sum(found))
        if right[-1] == all_right:  # no later one is better
            break
    best = int(np.argmax(right))
    return Cs[: best + 1], right[best]


def _peak(folds: Sequence[_HeldOut], Cs: Sequence[float]) -> tuple[Sequence[float], int]:
    """CLIP's search: the best of every 16th C, then of it and its neighbours 8, 4, 2 and 1 places away.

    Of equal ones the largest C. Returns a path up to it and how many rows it gets right; C that are not certified get
    none right.
    """
    known: dict[int, int] = {}

    def best_of(places: Sequence[int]) -> int:
        asked = sorted(set(places) - known.keys())
        each = [list(fold.right([Cs[place] for place in asked])) for fold in folds] if asked else []
        for at, place in enumerate(asked):
            known[place] = sum(found[at] for found in each) if all(at < len(found) for found in each) else -1
        return max(sorted(places, reverse=True), key=known.__getitem__)

    peak = best_of(range(0, len(Cs), COARSE))
    for span in SPANS:
        peak = best_of([max(peak - span, 0), peak, min(peak + span, len(Cs) - 1)])
    below = [place for place in range(0, peak, COARSE) if known.get(place, -1) >= 0]
    return [Cs[place] for place in (*below, peak)], known[peak]


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
