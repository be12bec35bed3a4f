"""Differences, tests, corrections, groups, ranks: against scipy, against definitions, and against chance."""

from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from bb.probe.statistics.bootstrap import resample
from bb.probe.statistics.comparison import adjust, differences, groups, ranks
from bb.store.errors import UsageError
from tests.helpers.examples import examples
from tests.helpers.tables import by_chance, table_of


def compared(table, metric="accuracy", average="tasks", over=("images",), resamples=2000, **options):
    return differences(table, resample(table, metric, average=average, over=over, resamples=resamples), **options)


def test_all_pairs_or_against_a_baseline():
    table = by_chance(0, 3)
    every = compared(table)
    assert list(zip(every.first, every.second, strict=True)) == [(0, 1), (0, 2), (1, 2)]
    accuracy = table.fields["score"].mean(axis=1)
    assert np.allclose(every.interval.estimate, accuracy[every.first] - accuracy[every.second])
    assert (every.interval.low <= every.interval.estimate).all() and every.interval.holds.all()
    against = compared(table, baseline="m1")
    assert list(zip(against.first, against.second, strict=True)) == [(0, 1), (2, 1)]
    assert against.interval.low[1] == pytest.approx(-every.interval.high[2])
    some = compared(table, pairs=[(2, 0)])
    assert some.interval.estimate[0] == pytest.approx(-every.interval.estimate[1])
    with pytest.raises(
        UsageError, match="no model is called 'm9', so nothing can be compared with it \\(there: m0, m1, m2"
    ):
        compared(table, baseline="m9")


def test_intervals_of_differences_keep_the_pairing():
    scores = np.random.default_rng(1).random((2, 200))
    scores[1] = scores[0] - 0.1
    got = compared(table_of(scores)).interval
    assert got.estimate[0] == pytest.approx(0.1)
    # The spread is that of one answer more for each.
    assert got.high[0] - got.low[0] == pytest.approx(2 * 1.972 * np.sqrt(2) / 200, rel=0.01)


def test_flips_agree_with_scipy_and_mcnemar_with_the_binomial():
    table = by_chance(2, 2, tasks=1, images=120, accuracy=0.7)
    got = compared(table, permutations=50_000)
    first, second = table.fields["score"]
    theirs = scipy.stats.permutation_test(
        (first, second),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=50_000,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    assert got.test == "flips of images" and got.p[0] == pytest.approx(theirs.pvalue, abs=0.012)
    alone = int(((first == 1) & (second == 0)).sum()), int(((first == 0) & (second == 1)).sum())
    exact = scipy.stats.binomtest(alone[0], sum(alone)).pvalue
    assert got.mcnemar[0] == pytest.approx(exact, rel=1e-12)
    assert got.p[0] == pytest.approx(exact, abs=0.01)  # of which the flips are a sample


def test_mcnemar_is_only_for_single_items_of_zero_or_one():
    assert compared(by_chance(3, 2)).mcnemar is not None
    assert compared(table_of(np.random.default_rng(0).random((2, 9)))).mcnemar is None
    assert compared(by_chance(3, 2, draws=2)).mcnemar is None  # whose average is 0, 1/2 or 1
    assert compared(table_of(np.eye(2), tasks=["a", "b"], images=["x", "x"])).mcnemar is None
    assert compared(by_chance(3, 2), over=["tasks"]).mcnemar is None


@pytest.mark.parametrize(
    ("metric", "over", "test"),
    [
        ("accuracy", ["images"], "flips of images"),
        ("balanced_accuracy", ["images"], "flips of images"),
        ("macro_f1", ["images"], "t test"),
        ("auroc", ["images"], "t test"),
        ("accuracy", ["draws"], "t test"),
        ("auroc", ["tasks"], "flips of tasks"),
        ("accuracy", ["tasks", "draws"], "flips of tasks"),
    ],
)
def test_each_claim_has_its_test(metric, over, test):
    table = by_chance(4, 3, tasks=12, draws=2, images=24)
    table.fields["score"][:2] = table.fields["y_pred"][:2] == table.y_true
    got = compared(table, metric, over=over)
    assert got.test == test and (got.p > 1 / 10**5).all() and (got.p <= 1).all()
    # The first model made perfect is found out by every test.
    table.fields["score"][:2] = 1
    table.fields["y_pred"][:2] = table.y_true
    table.fields["decision"][:2] = 2 * table.y_true - 1
    assert compared(table, metric, over=over).different()[0].tolist() == [False, True, True]


def test_no_p_value_is_zero():
    perfect = table_of(np.stack([np.ones(1500), np.zeros(1500)]))
    got = compared(perfect)
    assert got.p[0] == 1 / 10_001 and 0 < got.mcnemar[0] < 1e-300
    same = compared(table_of(np.ones((2, 10))))
    assert same.p[0] == same.mcnemar[0] == same.adjusted[0] == 1 and not same.different().any()


@pytest.mark.parametrize("over", [["images"], ["tasks"], ["draws"]])
def test_item_order_and_names_change_nothing(over):
    rng = np.random.default_rng(5)
    table = by_chance(5, 3, draws=2)
    items = np.lexsort((rng.random(150), np.repeat(np.arange(5), 30)))
    shuffled = table_of(
        table.fields["score"][:, items],
        tasks=np.repeat([f"t{t}" for t in range(5)], 30),
        images=table.image_ids[items],
        draws=2,
    )
    one, other = compared(table, over=over), compared(shuffled, over=over)
    assert np.allclose(one.p, other.p, rtol=1e-9)
    assert np.allclose(one.interval[:3], other.interval[:3], rtol=0, atol=1e-12)


def test_equal_models_are_not_called_different_more_often_than_alpha():
    """Bounds that a rate of 5% passes once in 10,000 times."""
    bound = scipy.stats.binom(400, 0.05).isf(1e-4) / 400
    table = by_chance(6, 800, tasks=4, images=30)
    # Two equal models share what is hard about an image.
    table.fields["score"][1::2, ::2] = table.fields["score"][0::2, ::2]
    pairs = [(2 * i, 2 * i + 1) for i in range(400)]
    got = compared(table, pairs=pairs, permutations=1000, resamples=500)
    assert 0.01 < (got.p <= 0.05).mean() <= bound and (got.mcnemar <= 0.05).mean() <= bound
    assert got.adjusted.min() > 0.05
    tasks = by_chance(7, 800, tasks=25, images=8)
    got = compared(tasks, pairs=pairs, over=["tasks"], permutations=1000, resamples=500)
    assert 0.01 < (got.p <= 0.05).mean() <= bound


@given(p=st.lists(st.floats(1e-6, 1), min_size=1, max_size=12))
def test_corrections_follow_their_definitions(p):
    p = np.array(p)
    n = len(p)
    assert np.allclose(adjust(p, "bh"), scipy.stats.false_discovery_control(p), rtol=1e-12)
    got = adjust(p, "holm")
    for alpha in (0.01, 0.05, 0.3):
        # Holm's procedure: go up from the smallest while p <= alpha / (tests left).
        rejected = set()
        for step, place in enumerate(np.argsort(p, kind="stable")):
            if p[place] * (n - step) > alpha:
                break
            rejected.add(int(place))
        assert set(np.flatnonzero(got <= alpha).tolist()) == rejected
    assert (got >= p).all() and (got <= np.minimum(1, n * p) + 1e-15).all()


@settings(max_examples=examples(60))
@given(seed=st.integers(0, 2**32), n=st.integers(1, 8), density=st.floats(0, 1))
def test_groups_are_all_largest_sets_without_a_difference(seed, n, density):
    rng = np.random.default_rng(seed)
    different = np.triu(rng.random((n, n)) < density, 1)
    different |= different.T
    alike = [
        set(members)
        for size in range(1, n + 1)
        for members in combinations(range(n), size)
        if not different[np.ix_(members, members)].any()
    ]
    largest = {frozenset(s) for s in alike if not any(s < other for other in alike)}
    order = rng.permutation(n).tolist()
    got = groups(different, order)
    assert len(got) == len(largest) and {frozenset(group) for group in got} == largest
    assert all(sorted(group, key=order.index) == list(group) for group in got)


def test_ranks():
    scores = np.random.default_rng(8).random((4, 400))
    scores[1] = scores[0] + 1
    scores[2] = scores[0]
    scores[3] -= 2
    got = ranks(resample(table_of(scores), resamples=500))
    assert got.rank.tolist() == [2.5, 1, 2.5, 4]
    assert got.low.tolist() == [2, 1, 2, 4] and got.high.tolist() == [3, 1, 3, 4]  # equals take both ranks
    assert got.alone_low.tolist() == [2, 1, 2, 4] and got.alone_high.tolist() == [3, 1, 3, 4]
    chance = by_chance(9, 6)
    got = ranks(resample(chance, resamples=500))
    assert (got.low <= got.rank).all() and (got.rank <= got.high).all() and (got.high - got.low >= 2).all()
    assert (got.low <= got.alone_low).all() and (got.alone_high <= got.high).all()
    assert got.rank.sum() == 21


@pytest.mark.e2e
def test_rank_intervals_hold_for_all_models_together():
    """Ten close models, 300 times: at least 95%, less four standard errors, of all and of each."""
    rng = np.random.default_rng(10)
    truth = 0.7 + 0.015 * np.arange(10)
    together, alone = [], []
    for seed in range(300):
        table = table_of(rng.random((10, 500)) < truth[:, None])
        got = ranks(resample(table, resamples=500, seed=seed))
        rank = np.arange(10, 0, -1)
        together.append(((got.low <= rank) & (rank <= got.high)).all())
        alone.append((got.alone_low <= rank) & (rank <= got.alone_high))
    assert np.mean(together) >= 0.90 and np.mean(alone, axis=0).min() >= 0.90
    assert np.mean(alone) < 1 or (got.high - got.low).max() < 9


def test_ranks_of_too_few_groups_exclude_nothing():
    table = table_of(np.random.default_rng(11).random((3, 40)))
    got = ranks(resample(table.grouped({i: str(int(i) // 10) for i in table.image_ids.tolist()})))
    assert got.low.tolist() == [1, 1, 1] and got.high.tolist() == [3, 3, 3] and "4 groups are too few" in got.reason
