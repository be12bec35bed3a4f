"""Intervals: against formulas for their variance and published bounds, and their promises."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from bb.probe.statistics.bootstrap import resample
from bb.probe.statistics.metrics import METRICS
from bb.store.errors import BBError, UsageError
from tests.helpers.examples import examples
from tests.helpers.tables import by_chance, table_of


def variance(table, metric="accuracy", average="images", over=("images",)):
    got = resample(table, metric, average=average, over=over)
    return got.contrast(np.arange(len(got.models))).variance


def width(table, **options):
    got = resample(table, **options).interval()
    return got.high - got.low


def test_a_normal_sample_has_the_t_interval():
    scores = np.random.default_rng(5).normal(size=(1, 12))
    got = resample(table_of(scores)).interval()
    half = scipy.stats.t(11).ppf(0.975) * scores.std(ddof=1) / np.sqrt(12)
    assert (got.high - got.low)[0] == pytest.approx(2 * half, rel=0.15) and (got.high - got.low)[0] >= 2 * half - 1e-12


@pytest.mark.parametrize(("right", "n"), [(0, 8), (5, 8), (8, 8), (19, 20), (1, 1), (75, 100)])
def test_right_answers_of_one_task_have_agresti_and_coulls_bounds(right, n):
    got = resample(table_of(np.arange(n)[None] < right)).interval()
    z = scipy.stats.norm.ppf(0.975)
    centre = (right + z**2 / 2) / (n + z**2)
    half = z * np.sqrt(centre * (1 - centre) / (n + z**2))
    assert got.low[0] == pytest.approx(max(0, centre - half)) and got.high[0] == pytest.approx(min(1, centre + half))
    assert got.low[0] < got.high[0]


def test_images_of_several_items_are_drawn_whole():
    """The linearised variance of a ratio of sums over images, those of n - 1."""
    rng = np.random.default_rng(3)
    image = np.repeat(np.arange(60), rng.integers(1, 6, 60))
    scores = (rng.random(len(image)) < 0.3 + 0.6 * (image % 2)).astype(float)
    apart = np.bincount(image, scores - scores.mean()) / len(image)
    got = variance(table_of(scores[None], images=[f"{i:02}" for i in image]))
    assert got[0] == pytest.approx((apart**2).sum() * 60 / 59, rel=0.02)


def test_tasks_are_given_and_each_has_its_own_mean():
    rng = np.random.default_rng(4)
    scores = np.concatenate([rng.random(30) * 0.2, 0.8 + rng.random(10) * 0.2])
    table = table_of(scores[None], tasks=["a"] * 30 + ["b"] * 10)
    parts = [np.var(scores[:30], ddof=1) / 30, np.var(scores[30:], ddof=1) / 10]
    assert variance(table, average="tasks")[0] == pytest.approx(sum(parts) / 4)
    assert variance(table)[0] == pytest.approx(0.75**2 * parts[0] + 0.25**2 * parts[1])


def test_a_mean_over_tasks_is_the_share_of_right_answers_to_the_last_digit():
    """Else processors, which add in other orders, would show 41/80 as 0.512 or 0.513."""
    for right in range(161):
        table = table_of((np.arange(160)[None] * 7 % 160) < right, tasks=[f"t{i % 8}" for i in range(160)])
        assert resample(table).estimate[0] == round(right / 160, 12)


@settings(max_examples=examples(60))
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 30),
    models=st.integers(1, 4),
    average=st.sampled_from(["images", "tasks"]),
)
def test_holds_the_estimate_and_knows_no_item_order(seed, n, models, average):
    rng = np.random.default_rng(seed)
    tasks = np.sort(rng.integers(0, 3, n)).astype(str)
    images = rng.integers(0, max(1, n // 2), n).astype(str)
    scores = rng.choice([0, 1 / 3, 2 / 3, 1], (models, n))
    found = resample(table_of(scores, tasks=tasks, images=images), average=average)
    got = found.interval()
    items = np.lexsort((rng.random(n), tasks))  # another order within each task
    shuffled = table_of(scores[:, items], tasks=tasks[items], images=images[items])
    again = resample(shuffled, average=average).interval()
    assert all(np.allclose(a, b, rtol=0, atol=1e-12, equal_nan=True) for a, b in zip(got[:3], again[:3], strict=True))
    assert got.reason == again.reason
    if got.reason:
        assert np.isnan(got.low).all() and np.isnan(got.high).all() and "an interval needs" in got.reason
    else:
        assert (got.low <= got.estimate).all() and (got.estimate <= got.high).all() and got.holds.all()
        assert (got.low < got.high).all() and (got.low >= 0).all() and (got.high <= 1).all()
        pair, _ = found.difference(np.array([0]), np.array([models - 1]))
        assert pair.low[0] <= pair.estimate[0] <= pair.high[0] and pair.low[0] < pair.high[0]


def test_models_that_always_differ_by_the_same_have_the_same_variance():
    table = by_chance(5, 3, tasks=4, draws=3)
    table.fields["score"][6:9] = table.fields["score"][0:3] + 0.25
    for over in (("images",), ("tasks",), ("draws",)):
        found = resample(table, average="tasks", over=over)
        each = found.contrast(np.arange(3))
        assert each.variance[2] == pytest.approx(each.variance[0]) and not found.bounded
        assert found.contrast(np.array([0]), np.array([2])).variance[0] == 0


def test_levels_and_constant_scores():
    table = table_of(np.random.default_rng(6).random((1, 50)))
    narrow, wide = (resample(table).interval(level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    for value in (0.0, 1.0):  # ten images alike are no proof
        same = resample(table_of(np.full((1, 10), value))).interval()
        assert 0.25 < (same.high - same.low)[0] < 0.35


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shares_drawn", [False, True])
def test_influence_is_that_of_the_jackknife(metric, shares_drawn):
    """Each item left out in turn, the others of its stratum weighted up in its place."""
    table, of = by_chance(7, 3, tasks=2, images=25), METRICS[metric]
    for task in range(2):
        y = table.y_true[table.of_task(task)]
        value = of.of_task(table, task)
        stratum = y if of.by_class and not (of.bends and shares_drawn) else np.zeros_like(y)
        size = np.bincount(stratum)[stratum]
        weights = np.where(stratum == stratum[:, None], (size / (size - 1))[:, None], 1.0)
        np.fill_diagonal(weights, 0)
        lost = (value(np.ones((1, 25))) - value(weights)) * (1 - 1 / size)[:, None]
        got = of.influence(table, task, shares_drawn)
        if metric == "average_precision":  # of the precision among others, which is close to it
            assert all(np.corrcoef(got.of_items[:, m], lost[:, m])[0, 1] > 0.85 for m in range(3))
            continue
        for k in np.unique(stratum):
            lost[stratum == k] -= (mean := lost[stratum == k].mean(axis=0))
            assert of.bends or np.allclose(mean, 0, atol=1e-12)
        assert np.allclose(got.of_items, lost, rtol=0, atol=1e-12)
        assert of.bends or np.allclose(got.bias, 0)


@pytest.mark.parametrize("shares_given", [False, True])
def test_precision_among_others_and_without_each_item(shares_given):
    from bb.probe.statistics import rank_metrics as ranking

    rng = np.random.default_rng(8)
    decision = np.round(rng.normal(size=(2, 30)), 1)  # with ties
    positive = np.arange(30) < 12

    def apart(decision, positive, m, n, weight=(1.0, 1.0)):
        """By definition; m and n are the classes' sizes as far as they are given."""
        found = []
        for i in np.flatnonzero(positive):
            above = decision >= decision[i]
            hits, misses = (above & positive).sum() - 1, (above & ~positive).sum()
            hits, misses = hits * m / (positive.sum() - 1), misses * n / (~positive).sum()
            found.append(1.0 if hits + misses == 0 else hits / (hits + misses))
        return np.mean(found)

    order, last = ranking.descending(decision)
    value, without = ranking.apart_average_precision(order, last, positive, shares_given)
    for c in range(2):
        assert value[c] == pytest.approx(apart(decision[c], positive, 12, 18))
        for i in range(30):
            kept = np.arange(30) != i
            m, n = (12, 18) if shares_given else (positive[kept].sum(), (~positive[kept]).sum())
            assert without[c, i] == pytest.approx(apart(decision[c][kept], positive[kept], m, n))


def test_tasks_without_a_value_are_left_out():
    y = [0, 0, 0, 1, 1, 1, 1, 1, 1]
    table = table_of(np.ones((1, 9)), tasks=list("aaaaaabbb"), y_true=y, decision=[np.arange(9.0)])
    got = resample(table, "auroc", average="tasks")
    assert np.isnan(got.by_task[1, 0]) and got.estimate[0] == 1 and got.weight.tolist() == [1, 0]
    found = got.interval()
    assert found.high == 1 and 0 < found.low < 1


def test_an_interval_is_extended_to_an_estimate_that_is_more_biased_than_unsure():
    rng = np.random.default_rng(8)
    table = table_of(
        np.ones((1, 6000)),
        tasks=np.repeat([f"{t:03}" for t in range(600)], 10),
        y_true=np.tile([0] * 7 + [1] * 3, 600),
        decision=rng.random((1, 6000)),
    )
    got = resample(table, "average_precision", average="tasks").interval()
    assert not got.holds[0] and got.low[0] < 0.31 and got.high[0] == got.estimate[0] > 0.4  # at random it is 0.3


def test_further_tasks_have_the_variance_of_the_formula():
    """s²/T, where s² is among the task means: the noise of their images is in it, once."""
    for sd in (0.0, 0.3):
        rng = np.random.default_rng(9)
        centre = np.repeat(sd * rng.normal(size=200), 20)
        table = table_of(rng.normal(centre)[None], tasks=np.repeat([f"{t:03}" for t in range(200)], 20))
        got = resample(table, average="tasks", over=["tasks"])
        assert got.over == ("tasks", "images") and got.units == pytest.approx(200)
        assert got.contrast(np.array([0])).variance[0] == pytest.approx(np.var(got.by_task, ddof=1) / 200)


def test_tasks_that_share_images_vary_together():
    scores = np.random.default_rng(10).random(400)
    tasks = np.repeat([f"{t:02}" for t in range(20)], 20)
    alone = variance(table_of(scores[None], tasks=tasks), average="tasks", over=["tasks"])
    shared = np.tile(scores[:20], 20)
    together = table_of(shared[None], tasks=tasks, images=np.tile([f"{i:02}" for i in range(20)], 20))
    got = variance(together, average="tasks", over=["tasks"])
    assert got[0] == pytest.approx(np.var(scores[:20], ddof=1) / 20, rel=0.1) and got[0] > 5 * alone[0]


def test_further_draws_have_the_variance_of_the_formula():
    """Of one value an item, y = D + E: s²/S among the draws' means, within each task."""
    rng = np.random.default_rng(10)
    score = np.repeat(0.5 * rng.normal(size=(3, 100)), 10, axis=1) + rng.normal(size=(3, 1000))
    table = table_of(score, tasks=np.repeat([f"{t:03}" for t in range(100)], 10), draws=3)
    means = score.reshape(3, 100, 10).mean(axis=2)
    got = variance(table, average="tasks", over=["draws"])
    assert got[0] == pytest.approx(np.mean(np.var(means, axis=0, ddof=1)) / 3 / 100, rel=0.1)
    assert variance(table, average="tasks")[0] < 0.6 * got[0]


def test_groups_are_drawn_whole():
    scores = np.repeat(np.random.default_rng(11).random(20), 10)[None]
    table = table_of(scores)
    groups = {image_id: f"{int(image_id) // 10:02}" for image_id in table.image_ids.tolist()}
    assert 2.5 < (width(table.grouped(groups)) / width(table))[0] < 4.5  # √10, and fewer units


def grouped(sizes, score=None):
    n = sum(sizes)
    names = np.repeat([f"{g:02}" for g in range(len(sizes))], sizes)
    table = table_of((np.random.default_rng(12).random(n) if score is None else score)[None])
    return table.grouped(dict(zip(table.image_ids.tolist(), names.tolist(), strict=True)))


def test_degrees_of_freedom_are_those_of_the_groups():
    for sizes, low, high in [([10] * 8, 7, 7), ([4] * 600, 590, 600), ([100] + [1] * 20, 0.9, 1.3)]:
        assert low - 1e-6 <= resample(grouped(sizes)).spread.freedom <= high + 1e-6


def test_too_few_units_have_no_interval_and_say_why():
    got = resample(grouped([10] * 4))
    found = got.interval()
    assert np.isnan(found.low).all() and np.isnan(found.high).all() and not np.isnan(found.estimate).any()
    assert found.reason == "4 groups are too few: an interval needs 5"
    assert resample(grouped([10] * 5)).interval().reason == ""
    assert resample(grouped([100] + [1] * 20)).interval().reason == (
        "a few of the 21 groups have most of the weight: an interval needs more even ones"
    )
    table = by_chance(12, 2, tasks=4, draws=3)
    few = resample(table, average="tasks", over=["tasks"]).interval()
    assert few.reason == "4 tasks are too few: an interval needs 5"
    one = resample(by_chance(12, 2, tasks=1, draws=3), over=["draws"]).interval()
    assert one.reason == "3 draws of 1 task are too few: an interval needs 5, or more tasks"
    lone = table_of(np.ones((1, 9)), y_true=[1] + [0] * 8, y_pred=[[0] * 9], decision=[np.arange(9.0)])
    for metric, fewest in (("balanced_accuracy", 2), ("macro_f1", 2), ("average_precision", 3)):
        got = resample(lone, metric, average="tasks").interval()
        assert got.reason == f"task 't' has 1 images of class 1: an interval of {metric} needs {fewest}"
    ten = table_of(np.ones((1, 90)), y_true=[1] * 10 + [0] * 80, decision=[np.arange(90.0)])
    got = resample(ten, "average_precision", average="tasks").interval()
    assert got.reason == "10 positives are too few: an interval of average_precision needs 20"


def test_a_difference_of_models_that_agree_is_not_certain():
    table = table_of(np.tile(np.arange(20) < 15, (2, 1)))
    got, _ = resample(table).difference(np.array([0]), np.array([1]))
    assert got.estimate[0] == 0 and got.high[0] == -got.low[0]
    # Bonett and Price: one more answer in favour of each.
    assert got.high[0] == pytest.approx(1.96 * np.sqrt(2) / 20, rel=1e-3)


def test_levels_with_too_little_to_draw_again_are_refused():
    table = by_chance(12, 2, tasks=1, draws=2)
    with pytest.raises(BBError, match="one task says nothing of others: a claim about tasks needs two at least"):
        resample(table, over=["tasks"])
    with pytest.raises(
        BBError, match="m0 has one few-shot draw, which says nothing of others: probe with several --seed"
    ):
        resample(by_chance(12, 2), over=["draws"])
    ragged = replace(table, seeds=(0, 1, 0, None))
    with pytest.raises(
        BBError, match="m0 has the seeds 0, 1, m1 has 0, none: few-shot draws can be resampled where all"
    ):
        resample(ragged, over=["draws"])
    with pytest.raises(UsageError, match="no metric is called 'f1': choose accuracy, balanced_accuracy, macro_f1, "):
        resample(table, "f1", average="tasks")
    with pytest.raises(BBError, match="macro_f1 is a number of a whole task and has no mean over images: average it"):
        resample(table, "macro_f1")


def test_intervals_cover_what_they_claim():
    """scripts/bench/coverage.py does this for many worlds; here three, of 500 repetitions: ± 0.02."""
    rng = np.random.default_rng(13)
    truth = rng.uniform(0.6, 0.95, 10)
    score = rng.random((500, 10, 40)) < truth[:, None]
    tasks = np.repeat([f"{t}" for t in range(10)], 40)
    got = resample(table_of(score.reshape(500, 400), tasks=tasks), average="tasks").interval()
    assert abs(np.mean((got.low <= truth.mean()) & (truth.mean() <= got.high)) - 0.95) < 0.03
    score = rng.random((500, 10, 40)) < rng.uniform(0.6, 0.9, (500, 10, 1))
    table = table_of(score.reshape(500, 400), tasks=tasks)
    got = resample(table, average="tasks", over=["tasks"]).interval()
    assert abs(np.mean((got.low <= 0.75) & (got.high >= 0.75)) - 0.95) < 0.03
    score = rng.random((500, 200)) < np.repeat(rng.uniform(0.6, 0.9, (500, 10)), 20, axis=1)
    table = table_of(score)
    groups = {image_id: str(int(image_id) // 20) for image_id in table.image_ids.tolist()}
    got = resample(table.grouped(groups)).interval()
    assert abs(np.mean((got.low <= 0.75) & (got.high >= 0.75)) - 0.95) < 0.03


def test_average_precision_is_as_sure_as_its_positives_are_many():
    rng = np.random.default_rng(11)
    y = np.arange(200) < 20
    few = table_of(np.ones((1, 200)), y_true=y.astype(int), decision=rng.normal(size=(1, 200)) + 2 * y)
    assert 18 < resample(few, "average_precision", average="tasks").units < 60
    assert resample(few, "auroc", average="tasks").units == pytest.approx(2 * 2 / (1 / 20 + 1 / 180))
    certain = table_of(np.ones((1, 200)), y_true=y.astype(int), decision=y[None].astype(float))
    assert resample(certain, "average_precision", average="tasks").units == pytest.approx(200), "nothing varies"


def test_equal_shares_of_right_answers_are_equal_scores_on_every_processor():
    """A product of a matrix and a vector has other last bits where a processor adds in another order."""
    rng, sizes = np.random.default_rng(5), [30, 30, 40, 60]
    score = np.zeros((200, sum(sizes)))
    right = rng.integers(1, sum(sizes), 200)
    for row, n in zip(score, right, strict=True):
        row[rng.choice(sum(sizes), n, replace=False)] = 1
    found = resample(table_of(score, tasks=np.repeat(list("abcd"), sizes)))
    assert found.estimate.tolist() == [round(n / sum(sizes), 12) for n in right.tolist()]
