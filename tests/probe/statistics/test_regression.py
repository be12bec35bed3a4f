"""Metrics of numbers against scikit-learn and SciPy, their variances against the jackknife's."""

import numpy as np
import pytest
from scipy.stats import spearmanr, t
from sklearn import metrics as sk

from bb.probe.statistics.regression import METRICS, difference, estimate
from bb.store.errors import BBError

N = 200
ORACLES = {
    "r2": sk.r2_score,
    "mae": sk.mean_absolute_error,
    "rmse": sk.root_mean_squared_error,
    "spearman": lambda y, x: spearmanr(y, x).statistic,
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.round(rng.normal(size=N), 1)  # with ties
    return y, 0.7 * y + 0.5 * rng.normal(size=N), 0.5 * y + 0.7 * rng.normal(size=N)


@pytest.mark.parametrize("name", METRICS)
def test_values(data, name):
    y, x, _ = data
    assert METRICS[name].value(y, x) == pytest.approx(ORACLES[name](y, x), abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_the_variance_is_the_jackknifes(data, name):
    y, x, _ = data
    metric = METRICS[name]
    change = np.array([metric.value(y, x) - metric.value(np.delete(y, i), np.delete(x, i)) for i in range(N)])
    mine = metric.contributions(y, x)
    assert mine.sum() == pytest.approx(0, abs=1e-12)
    assert np.corrcoef(mine, change)[0, 1] > 0.999
    assert mine.std() == pytest.approx(change.std(), rel=0.03)


def test_mean_errors_interval_by_hand(data):
    """Of the logarithm, by Student's t."""
    y, x, _ = data
    each = np.abs(y - x)
    half = t.ppf(0.975, N - 1) * each.std(ddof=1) / np.sqrt(N) / each.mean()
    assert estimate(y, x, METRICS["mae"]).interval == pytest.approx(each.mean() * np.exp([-half, half]))


def test_groups_and_differences_by_hand(data):
    y, first, second = data
    group = np.arange(N) // 10
    apart = (np.abs(y - first) - np.abs(y - second)).reshape(20, 10).mean(axis=1)
    found = difference(y, first, second, METRICS["mae"], group=group)
    half = t.ppf(0.975, 19) * apart.std(ddof=1) / np.sqrt(20)
    assert found.interval == pytest.approx((apart.mean() - half, apart.mean() + half))
    assert found.claim == "these models, on further groups of images"


def test_reasons(data):
    y, x, _ = data
    found = {
        "29 images are too few: an interval needs 30": estimate(y[:29], x[:29], METRICS["mae"]),
        "9 groups are too few: an interval needs 10": estimate(y, x, METRICS["mae"], group=np.arange(N) % 9),
        "r2 has no value where all true values are equal": estimate(np.ones(N), x, METRICS["r2"]),
        "nothing is wrong in these images, which does not say how little is in others": estimate(y, y, METRICS["rmse"]),
    }
    assert all(each.interval is None and each.reason == reason for reason, each in found.items())
    with pytest.raises(BBError) as caught:
        difference(y, x, x, METRICS["mae"])
    assert str(caught.value) == "both models predicted the same numbers: compare two models."


def test_over_folds_ranks_are_compared_within_them_and_what_was_not_shown_has_no_interval(data):
    """Models that predict the mean of their training images have no rank correlation, not a negative one."""
    y, x, _ = data
    fold = np.arange(N) % 5
    found = {name: estimate(y, x, metric, fold=fold) for name, metric in METRICS.items()}
    within = [spearmanr(y[fold == k], x[fold == k]).statistic for k in range(5)]
    assert found["spearman"].value == pytest.approx(np.mean(within))
    assert found["r2"].value == pytest.approx(sk.r2_score(y, x))
    for name in METRICS:
        assert found[name].interval is None
        why = f"intervals of {name} over folds were not shown to hold; a column of splits has one"
        assert found[name].reason == why
    assert found["mae"].claim == "the mean over these 5 fitted models, on further images"
    means = np.array([y[fold != k].mean() for k in range(5)])[fold]
    assert METRICS["spearman"].value(y, means) < 0
    none = estimate(y, means, METRICS["spearman"], fold=fold)
    assert none.reason == "spearman has no value where all predicted values are equal"
