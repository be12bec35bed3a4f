"""Batch samplers: what is in a batch, how often what comes, and what can't be sampled."""

from collections import Counter
from functools import partial

import numpy as np
import pytest

from bb.probe.heads.samplers import Balanced, ByCategory, EachEpoch
from bb.store import UsageError
from tests.contracts.sampler import check_batch_sampler

# 12 labels of 1 to 12 rows, in 4 categories of 1, 2, 4 and 5 labels.
LABELS = np.repeat(np.arange(12), np.arange(1, 13))
CATEGORY = np.repeat([0, 1, 2, 3], [1, 2, 4, 5])[LABELS]
ORDER = np.random.default_rng(0).permutation(len(LABELS))
LABELS, CATEGORY = LABELS[ORDER], CATEGORY[ORDER]


@pytest.mark.parametrize("labels, instances", [(2, 2), (3, 4), (5, 7), (12, 2), (40, 3)])
def test_balanced_by_label(labels, instances):
    sampler = Balanced(LABELS, labels, instances)
    batches = check_batch_sampler(sampler, LABELS)
    assert len(batches) == max(1, round(len(LABELS) / (min(labels, 12) * instances)))
    times = Counter()
    for batch in batches:
        there = Counter(LABELS[batch].tolist())
        assert len(there) == min(labels, 12) and set(there.values()) == {instances}
        times.update(there.keys())
    assert max(times.values()) - min(times[label] for label in range(12)) <= 1


def test_the_rows_of_a_label_come_in_turn():
    labels = np.repeat([0, 1], 30)
    (batch, *more) = list(Balanced(labels, 2, 10))
    assert len(more) == 2 and len({row for each in (batch, *more) for row in each}) == 60


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("categories, labels, instances", [(1, 3, 2), (2, 2, 3), (4, 5, 2), (9, 1, 4)])
def test_by_category(categories, labels, instances, distinct):
    sampler = ByCategory(LABELS, CATEGORY, categories, labels, instances, distinct=distinct)
    if categories == 1:  # a category with one label makes a batch without negatives
        own = CATEGORY > 0
        sampler = ByCategory(LABELS[own], CATEGORY[own], categories, labels, instances, distinct=distinct)
        found = check_batch_sampler(sampler, LABELS[own])
        assert all(len(set(CATEGORY[own][batch].tolist())) == 1 for batch in found)
        return
    seen = []
    for batch in check_batch_sampler(sampler, LABELS):
        there = set(CATEGORY[batch].tolist())
        assert len(there) == min(categories, 4)
        for code in there:
            rows = [row for row in batch if CATEGORY[row] == code]
            own = min(labels, len(set(LABELS[code == CATEGORY].tolist())))
            assert Counter(Counter(LABELS[rows].tolist()).values()) == {instances: own}
        seen.append(there)
    if distinct and categories == 2:
        rounds = [a | b for a, b in zip(seen[::2], seen[1::2], strict=False)]
        assert rounds and all(round == {0, 1, 2, 3} for round in rounds)


def test_categories_that_are_not_distinct_may_come_again_before_all_came():
    seen = [set(CATEGORY[batch].tolist()) for batch in ByCategory(LABELS, CATEGORY, 2, 1, 2)]
    assert any(a & b for a, b in zip(seen[::2], seen[1::2], strict=False))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Balanced(LABELS, 1, 4), "1 labels in a batch make no triplet: choose at least 2."),
        (lambda: Balanced(LABELS, 4, 1), "1 instances in a batch make no triplet"),
        (lambda: Balanced(np.zeros(9, int), 4, 4), "need at least two labels; there is one."),
        (lambda: ByCategory(LABELS, CATEGORY, 0, 4, 4), "0 categories in a batch leave it empty"),
        (lambda: ByCategory(LABELS, CATEGORY, 1, 1, 4), "1 category with 1 label in a batch makes no triplet"),
        (lambda: ByCategory(LABELS, CATEGORY, 2, 2, 1), "1 instances in a batch make no triplet"),
        (lambda: ByCategory(LABELS, np.where(LABELS == 3, -1, 0), 2, 2, 2), "4 images have no category: fill in"),
        (lambda: ByCategory(np.arange(4) // 2, np.arange(4) % 2, 2, 2, 2), "a label stands in two categories"),
    ],
)
def test_what_makes_no_batches_is_said(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_each_epoch_has_other_batches_known_from_the_seed_and_its_number():
    make = partial(Balanced, LABELS, 4, 2)
    batches, again = EachEpoch(make, seed=3), EachEpoch(make, seed=3, epoch=1)
    first, second = list(batches), list(batches)
    assert first == list(make((3, 0))) and second == list(make((3, 1))) != first
    assert list(again) == second and len(batches) == len(first)
