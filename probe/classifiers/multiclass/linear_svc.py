"""LinearSVC, one class against the rest, with C chosen by cross-validation: NeWT's authors' classifier."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float64, Shaped

from bb.probe.classifiers.estimator import checked_classes, checked_features, parameters_of
from bb.probe.classifiers.linear_svc_search import grid_search, stratified
from bb.probe.classifiers.protocol import GridLinearSVC

_PUBLISHED = GridLinearSVC()


@dataclass(eq=False)
class LinearSVCSearch:
    """GridSearchCV over LinearSVC(dual=False). Fulfils bb.probe.classifiers.estimator.Estimator.

    C             those compared; the first of the best by mean accuracy over the folds is fitted to all rows
    folds         how many, stratified, rows in their order; as many as the largest class has rows where that is fewer.
                  With one row for each class nothing can be held out, and C is 1
    tol, random_state, max_iter  scikit-learn's

    A fold that has one class to train on is scored as if that class were always predicted; scikit-learn gives NaN
    there, and then takes the first C. Else candidate, coefficients and predictions are scikit-learn's.
    """

    C: tuple[float, ...] = _PUBLISHED.C
    folds: int = _PUBLISHED.folds
    tol: float = _PUBLISHED.tol
    random_state: int = _PUBLISHED.random_state
    max_iter: int = _PUBLISHED.max_iter
    targets: ClassVar[frozenset[str]] = frozenset({"classes"})
    classes_: Shaped[np.ndarray, " k"] = field(init=False, repr=False)
    parameters_: dict[str, Any] = field(init=False, repr=False)

    def fit(self, X: Float[np.ndarray, "n d"], y: Shaped[np.ndarray, " rows"]) -> "LinearSVCSearch":
        from joblib import cpu_count
        from threadpoolctl import threadpool_limits

        x = checked_features(X)
        self.classes_, codes = checked_classes(y, len(x))
        folds = min(self.folds, int(np.bincount(codes).max()))
        made = stratified(codes, folds) if folds > 1 else []
        classifier = GridLinearSVC(self.C, folds, self.tol, self.random_state, self.max_iter)
        with warnings.catch_warnings(), threadpool_limits(1, "blas"), ThreadPoolExecutor(cpu_count()) as pool:
            warnings.simplefilter("ignore")  # what did not converge is in the record
            found = grid_search(x, codes, classifier, made, pool.map)
        self._model = found.model
        self.parameters_ = {"C": found.C, "held_out_accuracy": found.cv_score, "unconverged": found.unconverged}
        return self

    def predict(self, X: Float[np.ndarray, "m d"]) -> Shaped[np.ndarray, " m"]:
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def decision_function(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """Distance to each class's plane; of two classes that of the second, and its negative."""
        x = checked_features(X, self._model.coef_.shape[1])
        decision = self._model.decision_function(x).astype(np.float64)
        return np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision

    def parameters(self) -> dict[str, Any]:
        return parameters_of(self)
