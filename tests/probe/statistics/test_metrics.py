"""Metrics against scikit-learn's, weights, ties and single classes included."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from bb.probe.statistics.metrics import METRICS, FunctionMetric
from bb.store.errors import BBError
from tests.helpers.examples import examples
from tests.helpers.tables import by_chance, table_of

THEIRS = {
    "accuracy": lambda y, p, d, w: sklearn.metrics.accuracy_score(y, p, sample_weight=w),
    "balanced_accuracy": lambda y, p, d, w: sklearn.metrics.balanced_accuracy_score(y, p, sample_weight=w),
    "macro_f1": lambda y, p, d, w: sklearn.metrics.f1_score(y, p, average="macro", sample_weight=w),
    "average_precision": lambda y, p, d, w: sklearn.metrics.average_precision_score(y, d, sample_weight=w),
    "auroc": lambda y, p, d, w: sklearn.metrics.roc_auc_score(y, d, sample_weight=w),
}
RANKED = ("average_precision", "auroc")


def undefined(name, y):
    """Where there is nothing, no recall without positives (scikit-learn says 0), no AUROC with one class."""
    return not len(y) or (name == "average_precision" and not y.any()) or (name == "auroc" and len(set(y)) == 1)


def test_every_metric_is_compared():
    assert METRICS.keys() == THEIRS.keys()


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@settings(max_examples=examples(80))
@given(seed=st.integers(0, 2**32), n=st.integers(1, 25), classes=st.integers(1, 4), whole=st.booleans())
def test_agrees_with_scikit_learn(name, seed, n, classes, whole):
    rng = np.random.default_rng(seed)
    classes = min(classes, 2) if name in RANKED else classes
    y, y_pred = rng.integers(0, classes, n), rng.integers(0, classes + 1, (3, n))
    decision = rng.integers(-2, 3, (3, n)) / 3  # many ties
    weights = rng.integers(0, 3, (4, n)).astype(float) if whole else rng.random((4, n))
    table = table_of(y_pred == y, y_true=y, y_pred=y_pred, decision=decision)
    values = METRICS[name].of_task(table, 0)(weights)
    assert values.shape == (4, 3)
    for b, weight in enumerate(weights):
        drawn = weight > 0
        for c in range(3):
            if undefined(name, y[drawn]):
                assert np.isnan(values[b, c])
            else:
                theirs = THEIRS[name](y[drawn], y_pred[c, drawn], decision[c, drawn], weight[drawn])
                assert values[b, c] == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_whole_weights_count_items(name):
    table, rng = by_chance(1, 2, tasks=1), np.random.default_rng(2)
    counts = rng.integers(0, 4, 30)
    rows = np.repeat(np.arange(30), counts)
    fields = {field: values[:, rows] for field, values in table.fields.items()}
    repeated = table_of(
        fields["score"], y_true=table.y_true[rows], y_pred=fields["y_pred"], decision=fields["decision"]
    )
    once = METRICS[name].of_task(repeated, 0)(np.ones((1, len(rows))))
    assert np.allclose(METRICS[name].of_task(table, 0)(counts[None].astype(float)), once, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_terms_add_up_to_the_value(name):
    table = by_chance(3, 2, tasks=2)
    terms = METRICS[name].terms(table, 1)
    assert (terms is None) == (name in ("macro_f1", *RANKED))
    if terms is not None:
        value = METRICS[name].of_task(table, 1)(np.ones((1, 30)))[0]
        assert np.allclose(terms.sum(axis=0), value, rtol=0, atol=1e-12)


def test_decisions_that_cannot_be_ranked_are_refused():
    three = table_of(np.ones((1, 3)), y_true=[0, 1, 2], decision=np.zeros((1, 3)))
    nan = table_of(np.ones((1, 2)), y_true=[0, 1], decision=[[0.0, np.nan]])
    for name in RANKED:
        with pytest.raises(BBError, match="task 't' has the class 2: average precision and AUROC are of two classes"):
            METRICS[name].of_task(three, 0)
        with pytest.raises(BBError, match="task 't' has decisions that are NaN, which can't be ranked"):
            METRICS[name].of_task(nan, 0)


@pytest.mark.parametrize("shares_drawn", [True, False])
@pytest.mark.parametrize(
    ("name", "field"), [("macro_f1", "y_pred"), ("balanced_accuracy", "y_pred"), ("auroc", "decision")]
)
def test_a_metric_made_of_a_function_equals_the_one_that_bb_has(name, field, shares_drawn):
    table, theirs = by_chance(3, 2, tasks=2, images=20), METRICS[name]

    def function(y, answers, sample_weight):
        return THEIRS[name](y, answers, answers, sample_weight)

    ours = FunctionMetric(name, function, field, by_class=theirs.by_class, bends=theirs.bends)
    weights = np.random.default_rng(4).integers(1, 4, (5, 20)).astype(float)
    assert np.allclose(ours.of_task(table, 1)(weights), theirs.of_task(table, 1)(weights), rtol=0, atol=1e-12)
    assert ours.fields == theirs.fields and ours.terms(table, 1) is None
    assert np.isnan(ours.of_task(table, 1)(np.zeros((1, 20)))).all()
    if name == "macro_f1":
        expected, found = theirs.influence(table, 1, shares_drawn), ours.influence(table, 1, shares_drawn)
        assert np.allclose(found.of_items, expected.of_items, rtol=0, atol=1e-12)
        assert np.allclose(found.bias, expected.bias, rtol=0, atol=1e-12)
