"""Metrics of traits against scikit-learn, their variances against the jackknife's."""

import numpy as np
import pytest
from sklearn import metrics as sk

from bb.probe.statistics.multiclass.intervals import spread
from bb.probe.statistics.multilabel import METRICS, Traits, difference, estimate
from bb.store.errors import BBError

N, T = 250, 4
ORACLES = {
    "macro_f1": lambda p: sk.f1_score(p.true, p.predicted, average="macro", zero_division=0),
    "macro_f1@biobench": lambda p: np.mean(
        [sk.f1_score(p.true[:, t], p.predicted[:, t], average="macro") for t in range(T)]
    ),
    "mean_ap": lambda p: sk.average_precision_score(p.true, p.decisions, average="macro"),
    "exact_match": lambda p: sk.accuracy_score(p.true, p.predicted),
}


def drawn(noise=0.8, **more):
    rng = np.random.default_rng(0)
    shown = rng.normal(size=(N, 1)) + rng.normal(size=(N, T)) - np.linspace(0, 1.3, T)
    decisions = shown + noise * np.random.default_rng(round(10 * noise)).normal(size=(N, T))
    return Traits(shown > 0, decisions > 0, decisions, **more)


@pytest.mark.parametrize("name", METRICS)
def test_values(name):
    assert METRICS[name].value(drawn()) == pytest.approx(ORACLES[name](drawn()), abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_the_variance_is_the_jackknifes(name):
    p, metric = drawn(), METRICS[name]

    def without(i):
        keep = np.arange(N) != i
        return metric.value(Traits(p.true[keep], p.predicted[keep], p.decisions[keep]))

    change = np.array([metric.value(p) - without(i) for i in range(N)])
    found = spread(metric.contributions(p), None).variance
    assert np.sqrt(found / (N * change.var(ddof=1))) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", METRICS)
def test_a_trait_is_scored_where_it_is_known_and_an_exact_match_where_all_are(name):
    p, seen = drawn(), np.random.default_rng(3).random((N, T)) < 0.7
    some = Traits(p.true, p.predicted, p.decisions, None, seen)
    columns = [(p.true[rows, t], p.predicted[rows, t], p.decisions[rows, t]) for t in range(T) for rows in [seen[:, t]]]
    whole = seen.all(axis=1)
    assert 0 < whole.sum() < N / 2
    wanted = {
        "macro_f1": np.mean([sk.f1_score(true, said) for true, said, _ in columns]),
        "macro_f1@biobench": np.mean([sk.f1_score(true, said, average="macro") for true, said, _ in columns]),
        "mean_ap": np.mean([sk.average_precision_score(true, given) for true, _, given in columns]),
        "exact_match": sk.accuracy_score(p.true[whole], p.predicted[whole]),
    }[name]
    found = estimate(some, METRICS[name])
    assert found.value == METRICS[name].value(some) == pytest.approx(wanted, abs=1e-12)
    assert found.interval[0] < wanted < found.interval[1]


def test_the_variance_with_unknown_traits_is_the_jackknifes():
    p, seen = drawn(), np.random.default_rng(3).random((N, T)) < 0.7
    for name in ("macro_f1", "macro_f1@biobench", "mean_ap"):
        metric, some = METRICS[name], Traits(p.true, p.predicted, p.decisions, None, seen)
        change = np.array([metric.value(some) - metric.value(some.among(np.arange(N) != i)) for i in range(N)])
        found = spread(metric.contributions(some), None).variance
        assert np.sqrt(found / (N * change.var(ddof=1))) == pytest.approx(1, abs=0.08)


def test_no_image_with_all_traits_known_has_no_exact_match():
    p = drawn()
    seen = np.arange(N)[:, None] % 2 == np.arange(T) % 2
    some = Traits(p.true, p.predicted, p.decisions, None, seen)
    assert estimate(some, METRICS["exact_match"]).reason == "exact_match has no value here"
    assert estimate(some, METRICS["macro_f1"]).interval is not None


def test_intervals_hold_their_estimate_and_pairs_are_narrower():
    first, second = drawn(0.8), drawn(0.9)
    for metric in METRICS.values():
        (low, high), (below, above) = estimate(first, metric).interval, difference(first, second, metric).interval
        assert low < metric.value(first) < high
        assert below < metric.value(first) - metric.value(second) < above
        assert above - below < (high - low) * np.sqrt(2)


def test_reasons():
    few = drawn()
    few.true[:, 0] = False
    few.true[:9, 0] = True
    assert estimate(few, METRICS["macro_f1"]).reason == (
        "9 images of a trait are too few: an interval of macro_f1 needs 10"
    )
    many = drawn()
    many.true[:, 1] = True
    assert estimate(many, METRICS["macro_f1@biobench"]).reason.startswith("0 images of a trait are too few")
    assert estimate(drawn(group=np.arange(N) % 4), METRICS["exact_match"]).reason == (
        "4 groups are too few: an interval of exact_match needs 5"
    )
    none = Traits(np.zeros((2, 2), bool), np.zeros((2, 2), bool), np.zeros((2, 2)))
    assert estimate(none, METRICS["mean_ap"]).reason == "mean_ap has no value here"
    with pytest.raises(BBError) as caught:
        estimate(Traits(few.true, few.predicted), METRICS["mean_ap"])
    assert str(caught.value) == "the classifier gives no decisions: choose one that does, or a metric of predictions."
