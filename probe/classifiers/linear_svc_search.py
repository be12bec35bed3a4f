"""NeWT's authors' search: GridSearchCV over scikit-learn's LinearSVC(dual=False), with any number of classes.

The fits are scikit-learn's own, without the search's bookkeeping; liblinear releases the interpreter lock, so they run
on threads. They are not moved to the span of the rows, where they would be 3 to 19 times as fast for n < d: liblinear
preconditions its steps with the diagonal of the Hessian and stops at `tol`, so that in other axes it stops elsewhere,
and 6 of 18,000 predictions were others.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int, Shaped

from bb.probe.classifiers.protocol import GridLinearSVC

Fold = tuple[Int[np.ndarray, " _t"], Int[np.ndarray, " _v"]]  # rows to train on, rows to test on


@dataclass(frozen=True, eq=False)
class GridSearch:
    """The chosen classifier, fitted to all rows.

    C            the first of the best
    cv_score     its mean accuracy over the folds; None where there are no folds
    unconverged  fits, of all that were made, that reached `max_iter`
    """

    model: Any
    C: float
    cv_score: float | None
    unconverged: int


def grid_search(
    x: Float[np.ndarray, "n d"],
    y: Shaped[np.ndarray, " n"],
    classifier: GridLinearSVC,
    folds: Iterable[Fold],
    map_: Callable[..., Iterator[Any]] = map,
) -> GridSearch:
    """Accuracy of each C in each fold, and a refit with the first of the best; without folds, with C = 1.

    A fold with one class to train on is scored as if that class were always predicted. `map_` may run on threads; the
    caller silences scikit-learn's warnings, since filters are the whole process's. Errors: ValueError of scikit-learn.
    """
    from sklearn.svm import LinearSVC

    made = list(folds)

    def fitted(C: float, rows: Int[np.ndarray, " _t"] | slice) -> Any:
        options = {"tol": classifier.tol, "random_state": classifier.random_state, "max_iter": classifier.max_iter}
        return LinearSVC(C=C, dual=False, **options).fit(x[rows], y[rows])

    def score(fold: Fold, C: float) -> tuple[float, int]:
        train, test = fold
        if (y[train] == y[train[0]]).all():
            return float((y[test] == y[train[0]]).mean()), 0
        model = fitted(C, train)
        return float((model.predict(x[test]) == y[test]).mean()), int(model.n_iter_ >= classifier.max_iter)

    # A table of C by folds, arranged as in scikit-learn: np.average sums in that order.
    scores: Float64[np.ndarray, "c f"] = np.empty((len(classifier.C), len(made)), order="F")
    each = [(fold, C) for fold in made for C in classifier.C]
    unconverged = 0
    for place, (found, failed) in enumerate(map_(lambda pair: score(*pair), each)):
        scores[place % len(classifier.C), place // len(classifier.C)] = found
        unconverged += failed
    if made:
        mean = np.average(scores, axis=1)
        best = int(mean.argmax())
        C, cv_score = classifier.C[best], float(mean[best])
    else:
        C, cv_score = 1.0, None
    model = fitted(C, slice(None))
    return GridSearch(model, C, cv_score, unconverged + int(model.n_iter_ >= classifier.max_iter))


def stratified(y: Shaped[np.ndarray, " n"], folds: int) -> list[Fold]:
    """StratifiedKFold's splits, in the order of rows. Errors: ValueError where no class has as many rows as folds."""
    from sklearn.model_selection import StratifiedKFold

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        return list(StratifiedKFold(folds).split(y, y))
