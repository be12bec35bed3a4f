"""Splits: what is on which side, drawn by SHA-256 alone, and what is said of it."""

import hashlib
from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bb.probe.tasks.deal_folds import deal_groups, deal_images
from bb.probe.tasks.few_shot import check_seed, listed
from bb.probe.tasks.fold import draw_shots, parse_shots
from bb.probe.tasks.splits import _one_sided, check_folds, check_sides, parse_split_by, split_table
from bb.probe.tasks.task_table import parse_task_table
from bb.store.errors import BBError, UsageError


def table(labels, *, regression=False, **columns):
    """Images i000, i001, … with these labels."""
    ids = [f"i{i:03}" for i in range(len(labels))]
    return parse_task_table(pl.DataFrame({"image_id": ids, "label": labels, **columns}), regression=regression)


def only(*args, **options):
    """The one split."""
    (split,) = split_table(*args, **options)
    return split


def names(fold):
    return "".join(fold.task.classes[y] for y in fold.train_y), "".join(fold.task.classes[y] for y in fold.test_y)


def test_a_golden_deal():
    """printf 3/t/a | sha256sum, and so on; the first of stratum x goes to fold sha256("fold/3/t/x")[:8] mod 3."""
    order = sorted("abcde", key=lambda i: hashlib.sha256(f"3/t/{i}".encode()).hexdigest())
    first = int(hashlib.sha256(b"fold/3/t/x").hexdigest()[:16], 16) % 3
    expected = {image_id: (first + place) % 3 for place, image_id in enumerate(order)}
    assert deal_images(list("abcde"), ["x"] * 5, 3, task="t", seed=3).tolist() == [expected[i] for i in "abcde"]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=6, max_size=60), st.integers(2, 6), st.integers(0, 9), st.randoms())
def test_folds_are_even_in_each_class_and_depend_on_nothing_else(labels, folds, seed, random):
    ids, strata = [f"{i}" for i in range(len(labels))], [str(label) for label in labels]
    fold = deal_images(ids, strata, folds, task="t", seed=seed)
    for stratum in set(strata):
        counts = np.bincount(fold[np.array(strata) == stratum], minlength=folds)
        assert counts.max() - counts.min() <= 1
    rows = list(range(len(ids)))
    random.shuffle(rows)
    shuffled = deal_images([ids[r] for r in rows], [strata[r] for r in rows], folds, task="t", seed=seed)
    assert np.array_equal(shuffled, fold[rows])
    alone = [i for i, stratum in enumerate(strata) if stratum == strata[0]]
    by_itself = deal_images([ids[i] for i in alone], [strata[i] for i in alone], folds, task="t", seed=seed)
    assert np.array_equal(by_itself, fold[alone]), "another class changes nothing"


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=4, max_size=60), st.integers(0, 9))
def test_a_group_is_on_one_side_and_no_fold_is_empty(rows, seed):
    groups, strata = [f"g{g}" for g, _ in rows], [str(s) for _, s in rows]
    folds = min(4, len(set(groups)))
    fold = deal_groups(groups, strata, folds, task="t", seed=seed)
    assert len(set(fold.tolist())) == folds
    assert all(len({f for f, g in zip(fold, groups, strict=True) if g == group}) == 1 for group in groups)
    back = deal_groups(groups[::-1], strata[::-1], folds, task="t", seed=seed)
    assert np.array_equal(back[::-1], fold)


def test_groups_are_dealt_evenly_and_otherwise_by_another_seed():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), rng.integers(1, 20, 60))
    strata = [str(s) for s in rng.integers(0, 3, 60)[group]]
    folds = [deal_groups([str(g) for g in group], strata, 5, task="t", seed=seed) for seed in (0, 1)]
    for fold in folds:
        for stratum in "012":
            shares = np.bincount(fold[np.array(strata) == stratum], minlength=5) / strata.count(stratum)
            assert shares.min() > 0.13 and shares.max() < 0.27
    assert (folds[0] != folds[1]).mean() > 0.5


def test_folds_cover_every_labelled_image_once_and_hold_every_class():
    split = only(table(list("aabbccddeeaabbccddeeaabbccddee") + [None] * 3), folds=3, seed=1)
    assert split.by == "random" and [fold.name for fold in split.folds] == ["fold 1 of 3", "fold 2 of 3", "fold 3 of 3"]
    assert sorted(image_id for fold in split.folds for image_id in fold.test_ids) == [f"i{i:03}" for i in range(30)]
    for fold in split.folds:
        assert not set(fold.train_ids) & set(fold.test_ids) and len(fold.train) + len(fold.test) == 30
        assert Counter(names(fold)[1]) == dict.fromkeys("abcde", 2) and not len(fold.val)
    assert split.n_units == 30 and split.no_interval is None and split.notes == ()
    other = only(table(list("aabbccddeeaabbccddeeaabbccddee")), folds=3, seed=2)
    assert any(set(a.test_ids) != set(b.test_ids) for a, b in zip(split.folds, other.folds, strict=True))


def test_a_class_of_fewer_images_than_folds_is_said_and_still_tested():
    split = only(table(["x"] * 10 + ["y"] * 10 + ["z"]), folds=5)
    assert split.notes[0].startswith("1 of 3 classes have fewer images than the 5 folds, so some folds test none of")
    assert split.notes[1] == "1 test image is of a class without a training image: 'z'"
    assert sum(names(fold)[1].count("z") for fold in split.folds) == 1


def test_fewer_folds_than_asked_for_are_said():
    split = only(table(list("xxyy")), folds=4, seed=1)
    assert len(split.folds) < 4
    assert f"{len(split.folds)} folds, not 4: so few images of each class leave the others empty" in split.notes


def test_the_tables_own_split():
    sides = ["train", "train", "val", "test", "test", "id_test", None, "unlabeled"]
    split = only(table(list("abababab"), split=sides))
    assert split.by == "column" and [fold.name for fold in split.folds] == ["test", "id_test"]
    assert [fold.test_ids.tolist() for fold in split.folds] == [["i003", "i004"], ["i005"]]
    assert all(fold.train_ids.tolist() == ["i000", "i001"] and fold.val.tolist() == [2] for fold in split.folds)
    assert split.notes == ("labelled images that are neither trained on nor tested: 1 of no side, 1 of unlabeled",)
    without = only(table(list("abab"), split=["train", "train", "val", "val"]))
    assert without.folds[0].test.tolist() == [2, 3] and not len(without.folds[0].val)
    assert without.notes == ("no labelled image is of side test, so val is tested on and nothing chosen on it",)


def test_a_class_only_in_test_keeps_its_place_among_the_classes():
    split = only(table(list("cbbca"), split=["train", "train", "test", "test", "test"]))
    assert split.task.classes == ("a", "b", "c") and split.folds[0].test_y.tolist() == [1, 2, 0]
    assert split.notes == ("1 test image is of a class without a training image: 'a'",)


def test_groups_are_the_unit():
    group = ["g1", "g1", "g2", "g2", "g3", "g3", "g4", "g4", "g5", "g5", None, None]
    split = only(table(list("abababababab"), group=group), folds=3)
    assert split.by == "group" and split.n_units == 7 and split.no_interval is None
    assert split.notes == ("2 images without a group count as a group each",)
    for fold in split.folds:
        assert not set(split.task.group[fold.train]) & set(split.task.group[fold.test])
    few = only(table(list("abababab"), group=["g1", "g1", "g2", "g2", "g3", "g3", "g4", "g4"]))
    assert len(few.folds) == 4 and few.notes == ("4 folds, not 5: there are 4 groups",)
    assert few.no_interval.startswith("4 groups are tested, and an interval needs 5")
    mixed = only(table(list("abab"), group=["g", "g", "g", "h"], split=["train", "train", "test", "test"]))
    assert mixed.notes[0] == "1 of 2 groups of side test are trained on, too; --split-by group keeps them apart"
    assert mixed.no_interval.startswith("2 groups are tested")


def test_a_cut_in_time_falls_between_days():
    dates = [f"2026-05-{day:02}T{hour:02}:00" for day in range(1, 11) for hour in (8, 20)]
    split = only(table(list("ab") * 10 + ["a"], date=[*dates, None]), ["time"], folds=5)
    (fold,) = split.folds
    assert fold.name == "from 2026-05-09" and fold.test.tolist() == [16, 17, 18, 19] and len(fold.train) == 16
    assert split.notes == ("1 images without a date are neither trained on nor tested",)
    years = only(table(list("abab"), date=["2024-05-01", "2024", "2025-12-31", "2026-01-01"]), ["time"], folds=2)
    assert years.folds[0].name == "from 2025", "as coarse as the coarsest date"
    assert years.notes == ("1 of 4 dates have no more than a year, so all are compared by year",)
    with pytest.raises(BBError, match="1 of 2 dates have no more than a year, .*; all dated images are of 2024"):
        only(table(list("ab"), date=["2024-05-01", "2024"]), ["time"])


def test_several_ways_and_several_tasks():
    labels = ["a", "a", "b", "b"] * 3
    both = table(labels, task=["t", "u"] * 6, group=[f"g{i // 4}" for i in range(12)])
    made = split_table(both, parse_split_by("group,random"), folds=2)
    assert [(split.task.name, split.by) for split in made] == [
        ("t", "random"),
        ("t", "group"),
        ("u", "random"),
        ("u", "group"),
    ]


def test_traits_and_values():
    frame = pl.DataFrame({"image_id": list("abcdefgh"), "label:p": [1, 0] * 4, "label:q": [1, 1, 0, None] * 2})
    split = only(parse_task_table(frame), folds=2)
    assert split.task.target == "traits" and split.task.classes == ("p", "q")
    assert split.task.y.tolist() == [[1, 1], [0, 1], [1, 0], [0, -1]] * 2 and split.task.y.dtype == np.int8
    for fold in split.folds:
        assert sorted(map(tuple, fold.test_y)) == [(0, -1), (0, 1), (1, 0), (1, 1)], "one of each combination"
    values = only(table([0.5, 1.5, 2.5, 3.5], regression=True, weight=[1, None, 2, 3]), folds=2)
    assert values.task.y.tolist() == [0.5, 1.5, 2.5, 3.5] and values.task.classes == ()
    assert values.task.weight.tolist() == [1, 1, 2, 3]
    for each, what in ((split, "traits"), (values, "values")):
        with pytest.raises(
            UsageError, match=f"--shots 2 is a number of images a class, and task 'classify' has {what}"
        ):
            draw_shots(each.folds[0], 2, 0)


def test_shots_are_the_first_of_each_class_in_hash_order():
    fold = only(table(list("aaaaabbbbbccccc"), split=["train"] * 4 + ["test"] + ["train"] * 10), seed=0).folds[0]
    drawn = draw_shots(fold, 2, seed=7)
    ordered = {
        y: sorted((i for i in fold.train_ids if fold.task.y[int(i[1:])] == y),
                  key=lambda i: hashlib.sha256(f"7/classify/{i}".encode()).hexdigest())
        for y in range(3)
    }  # fmt: skip
    assert drawn.train_ids.tolist() == [i for y in range(3) for i in ordered[y][:2]]
    assert drawn.train_y.tolist() == [0, 0, 1, 1, 2, 2] and drawn.notes == ()
    more = draw_shots(fold, 5, seed=7)
    assert set(drawn.train_ids) <= set(more.train_ids) and len(more.train) == 14
    assert more.notes == (
        "1 of 3 classes have fewer training images than the 5 asked for, and all are used: 'a' has 4",
    )
    assert draw_shots(fold, "all", 3) is fold and np.array_equal(drawn.test, fold.test)


def divide(labels, *by, folds=None, **columns):
    return lambda: split_table(table(list(labels), **columns), by or None, folds=folds)


DAY = ["2026-05-01"] * 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (divide("ab", "group"), "no column for the group, so it can't be split by group; name one with --group"),
        (divide("ab", "time"), "no column for the date, .* by time; call one of its columns 'date'"),
        (divide("ab", "column"), "no column for the split, .* by column; name one with --split"),
        (divide("ab", folds=1), "--folds 1 leaves nothing to train on; give 2 or more"),
        (lambda: check_folds(2.5), "--folds 2.5 is not a whole number; give 2 or more"),
        (lambda: check_seed(1.0), "--seed 1.0 makes no sense: choose a whole number from 0"),
        (
            divide("abab", split=["train", "train", "test", "test"], folds=3),
            "--folds 3 has no use: column 'split' of .* says which images are tested. Leave --folds out, or draw folds "
            "with --split-by random",
        ),
        (
            lambda: check_sides("set", ["random", "time"]),
            "--split set has no use with --split-by random,time, .* compare both with --split-by column,random,time",
        ),
        (divide("ab"), "task 'classify': 2 labelled images can't fill 5 folds. Give fewer"),
        (divide("ab", group=["g", "g"]), "all images are of one group, 'g', so none is kept apart"),
        (divide("abab", group=list("abab")), "fold 1 of 2: all training images are of class"),
        (divide("abcd", group=list("xxyy")), "no class that is tested is trained on, such as 'a'"),
        (divide("ab", split=["train", "train"]), "no labelled image is of side test or val; there are 2 train"),
        (divide("ab", split=[None, "test"]), "of side train; there are 1 without a side, 1 test"),
        (divide("ab", "time", date=DAY), "all dated images are of 2026-05-01, so no date divides them"),
        (divide("ab", "time", date=["", ""]), "no labelled image has a date"),
        (lambda: parse_split_by("random,place"), "--split-by 'place' is none of column, random, group, time"),
        (lambda: parse_shots("ten"), "--shots 'ten' is not a number; give one from 1 up, or --shots all"),
        (lambda: parse_shots("0"), "--shots 0 is not a number of images; give one from 1 up"),
    ],
)
def test_what_can_not_be_split_says_why(make, message):
    with pytest.raises(BBError, match=message):
        make()


def test_numpys_whole_numbers_become_pythons():
    made = [check_folds(np.int64(3)), check_seed(np.uint8(7)), parse_shots(np.int32(5))]
    assert made == [3, 7, 5] and all(type(each) is int for each in made)
    assert listed(np.int64(4)) == [4] and listed(np.arange(2)) == [0, 1] and listed("all") == ["all"]


def test_folds_of_traits_leave_both_values_to_train_on_where_they_can():
    """Two images each have a trait, and other traits make every image's combination its own."""
    rng, missed = np.random.default_rng(0), 0
    for seed in range(20):
        rare = {f"label:rare{t}": (rng.permutation(40) < 2).astype(int) for t in range(3)}
        common = {f"label:common{t}": rng.integers(0, 2, 40) for t in range(8)}
        frame = pl.DataFrame({"image_id": [f"i{i:03}" for i in range(40)], **rare, **common})
        split = only(parse_task_table(frame), folds=5, seed=seed)
        fold = np.zeros(40, np.int64)
        for k, each in enumerate(split.folds):
            fold[each.test] = k
        missed += _one_sided(split.task, fold)
    assert missed <= 1, "three of them come together in one image now and then"
