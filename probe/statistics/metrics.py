"""What a task's predictions are worth: metrics in a form that counts each item as often as a resample drew it.

A metric prepares a task once and is then asked for many resamples together: from weights (resamples, n) to
values (resamples, columns). With whole weights its values are scikit-learn's of the items repeated so often, with
any others scikit-learn's under that `sample_weight`. Where a task has no value (nothing was drawn; no recall
without positives, no AUROC with one class) it is NaN, and such tasks are left out of the mean over tasks.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from jaxtyping import Float64

from probe.table import Table
from store.errors import BBError

Values = Callable[[Float64[np.ndarray, "resamples n"]], Float64[np.ndarray, "resamples columns"]]
Terms = Float64[np.ndarray, "n columns"]


class Metric(Protocol):
    """The contract.

    name    as it is asked for
    fields  of the table that it needs
    """

    @property
    def name(self) -> str: ...

    @property
    def fields(self) -> tuple[str, ...]: ...

    def of_task(self, table: Table, task: int) -> Values:
        """The task's values under weights. Errors: BBError where the metric has no meaning for the task."""

    def terms(self, table: Table, task: int) -> Terms | None:
        """What each item adds to the task's value, whatever the other predictions are; None where that depends."""


class Accuracy:
    """The mean of the runs' own scores, which are 1 for a right answer and 0 for a wrong one."""

    name, fields = "accuracy", ("score",)

    def of_task(self, table: Table, task: int) -> Values:
        score_NC = np.ascontiguousarray(table.fields["score"][:, table.of_task(task)].T, float)

        def values(weights_BN: Float64[np.ndarray, "b n"]) -> Float64[np.ndarray, "b columns"]:
            return _ratio(weights_BN @ score_NC, weights_BN.sum(axis=1, keepdims=True))

        return values

    def terms(self, table: Table, task: int) -> Terms | None:
        score_NC = table.fields["score"][:, table.of_task(task)].T.astype(float)
        return score_NC / len(score_NC)


class BalancedAccuracy:
    """The mean recall over the classes that items were drawn of."""

    name, fields = "balanced_accuracy", ("y_pred",)

    def of_task(self, table: Table, task: int) -> Values:
        y_N, right_NC = _right(table, task)
        classes = [(y_N == k, right_NC[y_N == k]) for k in np.unique(y_N)]

        def values(weights_BN: Float64[np.ndarray, "b n"]) -> Float64[np.ndarray, "b columns"]:
            total = present = np.zeros((1, 1))
            for of_class, right in classes:
                weights = weights_BN[:, of_class]
                drawn = weights.sum(axis=1, keepdims=True)
                total = total + (weights @ right) / np.where(drawn > 0, drawn, 1)
                present = present + (drawn > 0)
            return _ratio(total, present)

        return values

    def terms(self, table: Table, task: int) -> Terms | None:
        y_N, right_NC = _right(table, task)
        _, place, size = np.unique(y_N, return_inverse=True, return_counts=True)
        return right_NC / (size[place] * len(size))[:, None]


class MacroF1:
    """The mean F1 over the classes present: those that items were drawn of, or that were predicted for such items."""

    name, fields = "macro_f1", ("y_pred",)

    def of_task(self, table: Table, task: int) -> Values:
        y_N, right_NC = _right(table, task)
        pred_NC = table.fields["y_pred"][:, table.of_task(task)].T
        classes = [
            (y_N == k, right_NC[y_N == k], (pred_NC == k).astype(float)) for k in np.union1d(y_N, np.unique(pred_NC))
        ]

        def values(weights_BN: Float64[np.ndarray, "b n"]) -> Float64[np.ndarray, "b columns"]:
            total = present = np.zeros((1, 1))
            for of_class, right, predicted in classes:
                weights = weights_BN[:, of_class]
                both = weights.sum(axis=1, keepdims=True) + weights_BN @ predicted
                total = total + 2 * (weights @ right) / np.where(both > 0, both, 1)
                present = present + (both > 0)
            return _ratio(total, present)

        return values

    def terms(self, table: Table, task: int) -> Terms | None:
        return None


class AveragePrecision:
    """Average precision of the decisions for class 1, scikit-learn's: no interpolation, one step a threshold."""

    name, fields = "average_precision", ("decision",)

    def of_task(self, table: Table, task: int) -> Values:
        from probe import ranking  # numba takes half a second to import

        return _ranked(ranking.average_precision, table, task)

    def terms(self, table: Table, task: int) -> Terms | None:
        return None


class AUROC:
    """Area under the receiver operating characteristic: the share of pairs whose decisions are in order."""

    name, fields = "auroc", ("decision",)

    def of_task(self, table: Table, task: int) -> Values:
        from probe import ranking

        return _ranked(ranking.auroc, table, task)

    def terms(self, table: Table, task: int) -> Terms | None:
        return None


METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (Accuracy(), BalancedAccuracy(), MacroF1(), AveragePrecision(), AUROC())
}


def _ratio(value: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Their ratio; NaN where the divisor is zero."""
    return np.where(by > 0, value / np.where(by > 0, by, 1), np.nan)


def _right(table: Table, task: int) -> tuple[np.ndarray, np.ndarray]:
    """True labels (n,), and 1 where a column has them right, (n, columns)."""
    y_N = table.y_true[table.of_task(task)]
    return y_N, (table.fields["y_pred"][:, table.of_task(task)] == y_N).T.astype(float)


def _ranked(kernel: Callable[..., np.ndarray], table: Table, task: int) -> Values:
    from probe.ranking import descending

    y_N, decision_CN = table.y_true[table.of_task(task)], table.fields["decision"][:, table.of_task(task)]
    strange = set(np.unique(y_N).tolist()) - {0, 1}
    if strange:
        raise BBError(
            f"task {table.tasks[task]!r} has the class {min(strange)}: average precision and AUROC are of two "
            "classes, 0 and 1. Other metrics know more."
        )
    if np.isnan(decision_CN).any():
        raise BBError(f"task {table.tasks[task]!r} has decisions that are NaN, which can't be ranked.")
    order, last = descending(decision_CN)
    return lambda weights_BN: kernel(order, last, y_N == 1, np.ascontiguousarray(weights_BN))
