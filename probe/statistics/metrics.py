"""What a task's predictions are worth: metrics in a form that counts each item as often as a resample drew it.

A metric prepares a task once and is then asked for many resamples together: from weights (resamples, n) to
values (resamples, columns). With whole weights its values are scikit-learn's of the items repeated so often, with
any others scikit-learn's under that `sample_weight`. Where a task has no value (nothing was drawn; no recall
without positives, no AUROC with one class) it is NaN, and such tasks are left out of the mean over tasks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float64, Int

from bb.probe.statistics.predictions import Table
from bb.store.errors import BBError
from bb.store.plugins import Registry

Values = Callable[[Float64[np.ndarray, "resamples n"]], Float64[np.ndarray, "resamples columns"]]
Terms = Float64[np.ndarray, "n columns"]

CELLS = 1 << 20  # of confusion matrices together


class Influence(NamedTuple):
    """How a task's value follows its items.

    of_items  what each item adds to it, less the mean over the items of its stratum (the task, or its class there)
    bias      how much higher the value is expected to be than that of endlessly many items in these class shares
    """

    of_items: Float64[np.ndarray, "n columns"]
    bias: Float64[np.ndarray, " columns"]


class Metric(Protocol):
    """The contract.

    name    as it is asked for
    fields  of the table that it needs
    by_class  whether the true classes are strata: it is a mean over them, or of pairs of them
    bends     whether it depends on the classes' shares, and is biased for few items
    """

    @property
    def name(self) -> str: ...

    @property
    def fields(self) -> tuple[str, ...]: ...

    @property
    def by_class(self) -> bool: ...

    @property
    def bends(self) -> bool: ...

    def of_task(self, table: Table, task: int) -> Values:
        """The task's values under weights. Errors: BBError where the metric has no meaning for the task."""

    def terms(self, table: Table, task: int) -> Terms | None:
        """What each item adds to the task's value, whatever the other predictions are; None where that depends."""

    def influence(self, table: Table, task: int, shares_drawn: bool = False) -> Influence:
        """See Influence.

        shares_drawn  of a metric that bends: whether the classes' shares are drawn with the items, or given
        """


class Accuracy:
    """The mean of the runs' own scores, which are 1 for a right answer and 0 for a wrong one."""

    name, fields = "accuracy", ("score",)
    by_class, bends = False, False

    def of_task(self, table: Table, task: int) -> Values:
        score_NC = np.ascontiguousarray(table.fields["score"][:, table.of_task(task)].T, float)

        def values(weights_BN: Float64[np.ndarray, "b n"]) -> Float64[np.ndarray, "b columns"]:
            return _ratio(weights_BN @ score_NC, weights_BN.sum(axis=1, keepdims=True))

        return values

    def terms(self, table: Table, task: int) -> Terms | None:
        score_NC = table.fields["score"][:, table.of_task(task)].T.astype(float)
        return score_NC / len(score_NC)

    def influence(self, table: Table, task: int, shares_drawn: bool = False) -> Influence:
        return _of_terms(self.terms(table, task), np.zeros(int(table.sizes[task]), np.int64))


class BalancedAccuracy:
    """The mean recall over the classes that items were drawn of."""

    name, fields = "balanced_accuracy", ("y_pred",)
    by_class, bends = True, False

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

    def influence(self, table: Table, task: int, shares_drawn: bool = False) -> Influence:
        return _of_terms(self.terms(table, task), table.y_true[table.of_task(task)])


class MacroF1:
    """The mean F1 over the classes present: those that items were drawn of, or that were predicted for such items."""

    name, fields = "macro_f1", ("y_pred",)
    by_class, bends = True, True

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

    def influence(self, table: Table, task: int, shares_drawn: bool = False) -> Influence:
        rows = table.of_task(task)
        y_N, pred_CN = table.y_true[rows], table.fields["y_pred"][:, rows]
        classes = np.union1d(y_N, np.unique(pred_CN))
        y_N = np.searchsorted(classes, y_N)
        pred_CN = np.searchsorted(classes, pred_CN)
        step = max(1, CELLS // len(classes) ** 2)
        without = [
            _macro_f1_without(y_N, pred_CN[c : c + step], len(classes), shares_drawn)
            for c in range(0, len(pred_CN), step)
        ]
        values = self.of_task(table, task)(np.ones((1, len(y_N))))[0]
        return _of_jackknife(values, np.concatenate(without).T, np.zeros_like(y_N) if shares_drawn else y_N)


class AveragePrecision:
    """Average precision of the decisions for class 1, scikit-learn's: no interpolation, one step a threshold."""

    name, fields = "average_precision", ("decision",)
    by_class, bends = True, True

    def of_task(self, table: Table, task: int) -> Values:
        from bb.probe.statistics import rank_metrics as ranking  # numba takes half a second to import

        return _ranked(ranking.average_precision, table, task)

    def terms(self, table: Table, task: int) -> Terms | None:
        return None

    def influence(self, table: Table, task: int, shares_drawn: bool = False) -> Influence:
        from bb.probe.statistics import rank_metrics as ranking

        rows = table.of_task(task)
        order, last = ranking.descending(table.fields["decision"][:, rows])
        y_N = table.y_true[rows]
        unbiased, without = ranking.apart_average_precision(order, last, y_N == 1, not shares_drawn)
        values = self.of_task(table, task)(np.ones((1, len(y_N))))[0]
        found = _of_jackknife(unbiased, without.T, np.zeros_like(y_N) if shares_drawn else y_N)
        return Influence(found.of_items, np.nan_to_num(values - unbiased) + found.bias)


class AUROC:
    """Area under the receiver operating characteristic: the share of pairs whose decisions are in order."""

    name, fields = "auroc", ("decision",)
    by_class, bends = True, False

    def of_task(self, table: Table, task: int) -> Values:
        from bb.probe.statistics import rank_metrics as ranking

        return _ranked(ranking.auroc, table, task)

    def terms(self, table: Table, task: int) -> Terms | None:
        return None

    def influence(self, table: Table, task: int, shares_drawn: bool = False) -> Influence:
        """An item's share of pairs in order with the other class, over the size of its own: a U-statistic's, unbiased
        (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988)."""
        rows = table.of_task(task)
        y_N, decision_CN = table.y_true[rows], table.fields["decision"][:, rows]
        terms = np.zeros(decision_CN.T.shape)
        for k, sign in ((1, 1), (0, -1)):
            mine, other = decision_CN[:, y_N == k], np.sort(decision_CN[:, y_N != k], axis=1)
            if mine.size and other.size:
                columns = zip(mine, other, strict=True)
                ends = [[np.searchsorted(o, m, side) for side in ("left", "right")] for m, o in columns]
                lower = np.mean(ends, axis=1)  # of the other class, ties half
                terms[y_N == k] = sign * lower.T / (mine.shape[1] * other.shape[1])
        return _of_terms(terms, y_N)


@dataclass(frozen=True)
class FunctionMetric:
    """A metric made of a function such as scikit-learn's, for plug-ins: it is called once for each resample.

        METRIC = FunctionMetric("matthews", matthews_corrcoef)

    function  (y_true, y_pred, sample_weight=weights) to a number; `field` "decision" gives it decisions for y_pred
    """

    name: str
    function: Callable[..., float]
    field: str = "y_pred"
    by_class: bool = True
    bends: bool = True

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.field,)

    def of_task(self, table: Table, task: int) -> Values:
        rows = table.of_task(task)
        y_N, answers_CN = table.y_true[rows], table.fields[self.field][:, rows]

        def value(weights: Float64[np.ndarray, " n"], answers: np.ndarray) -> float:
            drawn = weights > 0
            if not drawn.any():
                return float("nan")
            return float(self.function(y_N[drawn], answers[drawn], sample_weight=weights[drawn]))

        return lambda weights_BN: np.array([[value(w, answers) for answers in answers_CN] for w in weights_BN])

    def terms(self, table: Table, task: int) -> Terms | None:
        return None

    def influence(self, table: Table, task: int, shares_drawn: bool = False) -> Influence:
        """By leaving each item out; where the classes' shares are given, the others of its class weigh more."""
        y_N = table.y_true[table.of_task(task)]
        stratum = np.zeros_like(y_N) if shares_drawn else y_N
        _, place, size = np.unique(stratum, return_inverse=True, return_counts=True)
        others = (
            np.where(size > 1, size / np.maximum(size - 1, 1), 1.0)[place] if not shares_drawn else np.ones(len(y_N))
        )
        weights_NN = np.where(place[:, None] == place[None, :], others[:, None], 1.0)
        np.fill_diagonal(weights_NN, 0)
        values = self.of_task(table, task)
        return _of_jackknife(values(np.ones((1, len(y_N))))[0], values(weights_NN), stratum)


ACCURACY, BALANCED_ACCURACY, MACRO_F1 = Accuracy(), BalancedAccuracy(), MacroF1()
AVERAGE_PRECISION, ROC_AREA = AveragePrecision(), AUROC()

METRICS: Registry[Metric] = Registry(
    "bb.metrics",
    "metric",
    {
        "accuracy": "bb.probe.statistics.metrics:ACCURACY",
        "balanced_accuracy": "bb.probe.statistics.metrics:BALANCED_ACCURACY",
        "macro_f1": "bb.probe.statistics.metrics:MACRO_F1",
        "average_precision": "bb.probe.statistics.metrics:AVERAGE_PRECISION",
        "auroc": "bb.probe.statistics.metrics:ROC_AREA",
    },
    needs=("name", "fields", "by_class", "bends", "of_task", "terms", "influence"),
)


def _ratio(value: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Their ratio; NaN where the divisor is zero."""
    return np.where(by > 0, value / np.where(by > 0, by, 1), np.nan)


def _right(table: Table, task: int) -> tuple[np.ndarray, np.ndarray]:
    """True labels (n,), and 1 where a column has them right, (n, columns)."""
    y_N = table.y_true[table.of_task(task)]
    return y_N, (table.fields["y_pred"][:, table.of_task(task)] == y_N).T.astype(float)


def _of_terms(terms: Terms | None, stratum: Int[np.ndarray, " n"]) -> Influence:
    assert terms is not None
    return Influence(_centred(terms, stratum), np.zeros(terms.shape[1]))


def _of_jackknife(
    values: Float64[np.ndarray, " columns"], without: Float64[np.ndarray, "n columns"], stratum: Int[np.ndarray, " n"]
) -> Influence:
    """From the values without each item: pseudo-values, by stratum."""
    _, place, size = np.unique(stratum, return_inverse=True, return_counts=True)
    lost = np.nan_to_num((values - without) * (1 - 1 / size[place])[:, None])
    return Influence(_centred(lost, place), -lost.sum(axis=0))


def _centred(
    values: Float64[np.ndarray, "n columns"], stratum: Int[np.ndarray, " n"]
) -> Float64[np.ndarray, "n columns"]:
    centred = np.empty_like(values)
    for k in np.unique(stratum):
        mine = stratum == k
        centred[mine] = values[mine] - values[mine].mean(axis=0)
    return centred


def _macro_f1_without(
    y: Int[np.ndarray, " n"], pred: Int[np.ndarray, "columns n"], k: int, shares_drawn: bool
) -> Float64[np.ndarray, "columns n"]:
    """Macro-F1 without each item in turn; with given shares, the others of its class weighted by s to the class's size.

    F1 is 2 t / d, with t right answers and d the class's size and predictions together. Without an item of class c
    that was taken for p, only row c of the confusion matrix N changes: to s N, less s at p. So does the size of c, to
    s (size - 1). With s = 1 this is plain deletion.
    """
    columns = len(pred)
    cell = (np.arange(columns)[:, None] * k + y) * k + pred
    confusion = np.bincount(cell.ravel(), minlength=columns * k * k).reshape(columns, k, k).astype(float)
    size, right = np.bincount(y, minlength=k).astype(float), np.diagonal(confusion, axis1=1, axis2=2)
    both = size + confusion.sum(axis=1)
    s = np.ones(k) if shares_drawn else size / np.where(size > 1, size - 1, np.nan)
    own = np.eye(k, dtype=bool)
    both_CP = both[:, None] + (s - 1)[:, None] * confusion + np.where(own, (s * (size - 1) - size)[:, None], 0)
    right_CP = np.where(own, (s * right)[:, :, None], right[:, None])
    whole = _f1(right_CP, both_CP)
    one_less = _f1(right_CP - np.where(own, s[:, None], 0), both_CP - s[:, None])
    without = (whole.sum(axis=2, keepdims=True) - whole + one_less) / (both > 0).sum(axis=1)[:, None, None]
    return without.ravel()[cell]


def _f1(right: np.ndarray, both: np.ndarray) -> np.ndarray:
    return np.where(both > 1e-9, 2 * right / np.where(both > 1e-9, both, 1), 0)


def _ranked(kernel: Callable[..., np.ndarray], table: Table, task: int) -> Values:
    from bb.probe.statistics.rank_metrics import descending

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
