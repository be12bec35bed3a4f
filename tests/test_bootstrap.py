"""Bootstrap intervals: against scipy's and the binomial, against formulas for their variance, and their promises."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from probe import bootstrap
from probe.bootstrap import resample
from probe.metrics import METRICS
from store.errors import BBError, UsageError
from tests.tables import by_chance, table_of


def test_agrees_with_scipy_where_each_image_has_one_item():
    scores = np.random.default_rng(1).random((2, 300))
    ours = resample(table_of(scores), resamples=20_000).interval()
    for model in range(2):
        theirs = scipy.stats.bootstrap(
            (scores[model],), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
        )
        assert ours.estimate[model] == pytest.approx(scores[model].mean())
        # A 2.5% quantile of 20,000 draws has a standard error of about 0.02 standard deviations.
        assert ours.low[model] == pytest.approx(theirs.confidence_interval.low, abs=0.1 * theirs.standard_error)
        assert ours.high[model] == pytest.approx(theirs.confidence_interval.high, abs=0.1 * theirs.standard_error)


def test_agrees_with_scipy_where_images_have_several_items():
    rng = np.random.default_rng(3)
    image = np.repeat(np.arange(60), rng.integers(1, 6, 60))
    scores = (rng.random(len(image)) < 0.3 + 0.6 * (image % 2)).astype(float)

    def ratio(sums: np.ndarray, rows: np.ndarray, axis: int) -> np.ndarray:
        return sums.sum(axis) / rows.sum(axis)

    sums, rows = np.bincount(image, scores), np.bincount(image)
    theirs = scipy.stats.bootstrap(
        (sums, rows), ratio, paired=True, method="percentile", n_resamples=20_000, rng=np.random.default_rng(4)
    )
    resampled = resample(table_of(scores[None], images=[f"{i:02}" for i in image]), resamples=20_000)
    # Of as many units scipy's percentiles are taken, without the expansion.
    ours = replace(resampled, units=10**9).interval()
    assert ours.low[0] == pytest.approx(theirs.confidence_interval.low, abs=0.1 * theirs.standard_error)
    assert ours.high[0] == pytest.approx(theirs.confidence_interval.high, abs=0.1 * theirs.standard_error)
    alone = resample(table_of(scores[None]), resamples=20_000).interval()
    assert ours.high[0] - ours.low[0] > 1.2 * (alone.high[0] - alone.low[0])  # items of an image are no strangers


def test_zeros_and_ones_follow_the_binomial():
    scores = np.arange(200)[None] < 150
    got = resample(table_of(scores), resamples=50_000).interval()
    low, high = scipy.stats.binom(200, 0.75).ppf([0.025, 0.975]) / 200
    assert abs(got.low[0] - low) <= 0.005 + 1e-12 and abs(got.high[0] - high) <= 0.005 + 1e-12


def test_bounds_are_expanded_as_hesterberg_says():
    """Of a normal sample the expanded interval is the t interval."""
    scores = np.random.default_rng(5).normal(size=(1, 12))
    got = resample(table_of(scores), resamples=100_000).interval()
    half = scipy.stats.t(11).ppf(0.975) * scores.std(ddof=1) / np.sqrt(12)
    assert (got.high - got.low)[0] == pytest.approx(2 * half, rel=0.03)


@settings(max_examples=60, deadline=None)
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
    got = resample(table_of(scores, tasks=tasks, images=images), average=average, resamples=200).interval()
    assert (got.low <= got.estimate).all() and (got.estimate <= got.high).all() and got.holds.all()
    assert not got.undefined.any()
    items = np.lexsort((rng.random(n), tasks))  # another order within each task
    shuffled = table_of(scores[:, items], tasks=tasks[items], images=images[items])
    again = resample(shuffled, average=average, resamples=200).interval()
    assert all(np.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(got, again, strict=True))


@pytest.mark.parametrize("over", [("images",), ("tasks",), ("draws",)])
def test_models_share_each_resample_whatever_blocks_and_threads(over, monkeypatch):
    table = by_chance(5, 3, tasks=4, draws=3)
    table.fields["score"][6:9] = table.fields["score"][0:3] + 0.25
    together = resample(table, average="tasks", over=over, resamples=500).interval()
    assert together.low[2] == pytest.approx(together.low[0] + 0.25)
    assert together.high[2] == pytest.approx(together.high[0] + 0.25)
    monkeypatch.setattr(bootstrap, "BLOCK", len(table) * 7)  # many small blocks instead of one
    again = resample(table, average="tasks", over=over, resamples=500, jobs=1).interval()
    assert np.allclose(again, together, rtol=0, atol=1e-12)


def test_seed_level_and_constant_scores():
    table = table_of(np.random.default_rng(6).random((1, 50)))
    assert resample(table, seed=1).interval() == resample(table, seed=1).interval()
    assert resample(table, seed=1).interval() != resample(table, seed=2).interval()
    assert np.array_equal(resample(table, resamples=100).images, resample(table, resamples=130).images[:100])
    narrow, wide = (resample(table).interval(level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    same = resample(table_of(np.full((1, 50), 0.1))).interval()
    assert same.high - same.low < 1e-15


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_is_resampled_as_reported(metric):
    """The resampled values are those of the items repeated: the mean over tasks of the metric of each."""
    table = by_chance(7, 2, tasks=3, images=20)
    got = resample(table, metric, average="tasks", resamples=20)
    counts = bootstrap._counts(np.random.default_rng([0, 2, 0]), 20, len(table.units))
    for b in (0, 19):
        weights = counts[b, table.unit][None].astype(float)
        values = [METRICS[metric].of_task(table, t)(weights[:, table.of_task(t)])[0] for t in range(3)]
        assert np.allclose(got.images[b], np.mean(values, axis=0), rtol=0, atol=1e-12)
    assert np.allclose(got.estimate, got.by_task.mean(axis=0), rtol=0, atol=1e-12)


def test_tasks_without_a_value_are_left_out_and_said():
    y = [0, 1, 1, 1]
    table = table_of(np.ones((1, 4)), tasks=list("aabb"), y_true=y, decision=[[-1.0, 1.0, 2.0, 3.0]])
    got = resample(table, "auroc", average="tasks", resamples=2000)
    assert np.isnan(got.by_task[1, 0]) and got.estimate[0] == 1  # task b has one class
    found = got.interval()
    # Task a has a value where both of its images were drawn, of four.
    assert found.undefined[0] == pytest.approx(1 - (1 - 2 * (3 / 4) ** 4 + (2 / 4) ** 4), abs=0.04)
    assert found.low == found.high == 1 and found.holds


def test_an_interval_that_does_not_hold_its_estimate_says_so():
    """Images drawn twice are ties with themselves, which average precision gains by where it is near chance."""
    rng = np.random.default_rng(8)
    table = table_of(
        np.ones((1, 600)),
        tasks=np.repeat([f"{t:03}" for t in range(60)], 10),
        y_true=np.tile([0] * 7 + [1] * 3, 60),
        decision=rng.random((1, 600)),
    )
    got = resample(table, "average_precision", average="tasks", resamples=500).interval()
    assert not got.holds[0] and got.low[0] > got.estimate[0]


def test_resampled_tasks_have_the_variance_of_the_formula():
    """s²/T, where s² is among the task means: the noise of their images is in it, once."""
    for sd in (0.0, 0.3):
        rng = np.random.default_rng(9)
        centre = np.repeat(sd * rng.normal(size=200), 20)
        table = table_of(rng.normal(centre)[None], tasks=np.repeat([f"{t:03}" for t in range(200)], 20))
        got = resample(table, average="tasks", over=["tasks"], resamples=20_000)
        assert got.over == ("tasks", "images") and got.units == 200
        _, draws = got.of(np.array([0]))
        assert np.var(draws) == pytest.approx(np.var(got.by_task, ddof=1) / 200, rel=0.1)


def test_resampled_draws_have_the_variance_of_the_formula():
    """Of one value an item, y = D + E: s²/S among the draws' means, within each task."""
    rng = np.random.default_rng(10)
    score = np.repeat(0.5 * rng.normal(size=(3, 100)), 10, axis=1) + rng.normal(size=(3, 1000))
    table = table_of(score, tasks=np.repeat([f"{t:03}" for t in range(100)], 10), draws=3)
    _, draws = resample(table, average="tasks", over=["draws"], resamples=20_000).of(np.array([0]))
    means = score.reshape(3, 100, 10).mean(axis=2)
    assert np.var(draws) == pytest.approx(np.mean(np.var(means, axis=0, ddof=1)) / 3 / 100, rel=0.1)
    fixed = resample(table, average="tasks", resamples=20_000).images
    assert np.var(fixed) < 0.6 * np.var(draws)


def test_groups_are_drawn_whole():
    scores = np.repeat(np.random.default_rng(11).random(20), 10)[None]
    table = table_of(scores)
    groups = {image_id: f"{int(image_id) // 10:02}" for image_id in table.image_ids.tolist()}
    whole, apart = (resample(t).interval() for t in (table.grouped(groups), table))
    assert 2.5 < (whole.high - whole.low)[0] / (apart.high - apart.low)[0] < 4.5  # √10, and fewer units


def test_levels_with_too_little_to_resample_are_refused():
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
    """scripts/bench/coverage.py does this for many worlds; here two, of 500 repetitions: ± 0.02."""
    rng = np.random.default_rng(13)
    truth = rng.uniform(0.6, 0.95, 10)
    score = rng.random((500, 10, 40)) < truth[:, None]
    tasks = np.repeat([f"{t}" for t in range(10)], 40)
    got = resample(table_of(score.reshape(500, 400), tasks=tasks), average="tasks", resamples=500).interval()
    assert abs(np.mean((got.low <= truth.mean()) & (truth.mean() <= got.high)) - 0.95) < 0.03
    score = rng.random((500, 10, 40)) < rng.uniform(0.6, 0.9, (500, 10, 1))
    table = table_of(score.reshape(500, 400), tasks=tasks)
    got = resample(table, average="tasks", over=["tasks"], resamples=500).interval()
    assert abs(np.mean((got.low <= 0.75) & (got.high >= 0.75)) - 0.95) < 0.03
