"""From a task table to what is trained and tested on: the table's own split, k folds, or a cut in time.

A group (the frames of one burst, the images of one animal) is the unit of every interval; split by group, it stays on
one side.
"""

import operator
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, SupportsIndex, get_args

import numpy as np
import polars as pl
from jaxtyping import Int64, Shaped

from bb.probe.tasks.deal_folds import deal_groups, deal_images
from bb.probe.tasks.few_shot import check_seed
from bb.probe.tasks.fold import UNSEEN, By, Fold, Split, TaskImages
from bb.probe.tasks.task_table import TaskTable
from bb.store.errors import BBError, UsageError
from bb.store.text.lookalike import shown
from bb.store.text.size import counted

DRAWN = ("random", "group")  # the ways that depend on the seed
FOLDS = 5
MIN_GROUPS = 5  # below, no interval is stated: the spread of so few means says little
_TESTS, _VALS = ("test", "id_test"), ("val", "id_val")


def parse_split_by(text: str) -> tuple[By, ...]:
    """`--split-by` as typed: "random,group,time". Errors: UsageError."""
    known = get_args(By)
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in known:
            raise UsageError(f"--split-by {word!r} is none of {', '.join(known)}.")
    return tuple(dict.fromkeys(word for word in known if word in words))


def check_folds(folds: Any) -> int:
    """A number of folds, of numpy's numbers as Python's. Errors: UsageError for one below 2, or that is not whole."""
    if not isinstance(folds, SupportsIndex):
        raise UsageError(f"--folds {folds} is not a whole number; give 2 or more.")
    if (number := operator.index(folds)) < 2:
        raise UsageError(f"--folds {folds} leaves nothing to train on; give 2 or more.")
    return number


def check_sides(split: str | None, ways: Sequence[By] | None) -> None:
    """Errors: UsageError for a named column of sides that no way of splitting uses."""
    if split and ways and "column" not in ways:
        by = ",".join(ways)
        raise UsageError(
            f"--split {split} has no use with --split-by {by}, which does not read the sides: leave one of them out, "
            f"or compare both with --split-by column,{by}."
        )


def split_table(
    table: TaskTable, by: Sequence[By] | None = None, *, folds: SupportsIndex | None = None, seed: SupportsIndex = 0
) -> tuple[Split, ...]:
    """Divides each task in each of some ways: task by task, in the order of `by`.

    by     "column": as the table's split says. "random": `folds` stratified folds (by class, by combination of traits).
           "group": the same, but a group keeps to one fold. "time": the last 1 / folds of the images, in whole days,
           are tested by those before. None: the column if there is one, else group, else random.
    folds  FOLDS if None, which is all that a column of sides leaves
    seed   of the order in which images are dealt
    Errors: UsageError for a way that the table has no column for, fewer than two folds, folds where the column says the
    sides, or a bad seed; BBError where a task has too few images, groups or days, or one side no image.
    """
    seed, number = check_seed(seed), FOLDS if folds is None else check_folds(folds)
    ways: Sequence[By] = by or [_usual_way(table)]
    if folds is not None and set(ways) == {"column"}:
        raise UsageError(
            f"--folds {number} has no use: column {shown(table.columns.get('split', 'split'))} of {table.source} says "
            "which images are tested. Leave --folds out, or draw folds with --split-by random."
        )
    for way in ways:
        if way != "random" and _column(way) not in table.frame.columns:
            option = {"column": "--split", "group": "--group"}.get(way)
            name = f"name one with {option} COLUMN" if option else f"call one of its columns {_column(way)!r}"
            raise UsageError(
                f"{table.source} has no column for the {_column(way)}, so it can't be split by {way}; {name}."
            )
    labelled = table.frame.filter(~pl.all_horizontal(pl.col(table.label_columns).is_null()))
    parts = labelled.partition_by("task", maintain_order=True)
    return tuple(_split(table, part, way, number, seed) for part in parts for way in ways)


def images_of_tasks(table: TaskTable) -> list[TaskImages]:
    """The labelled images of each task, which need no split."""
    labelled = table.frame.filter(~pl.all_horizontal(pl.col(table.label_columns).is_null()))
    return [_images(table, part) for part in labelled.partition_by("task", maintain_order=True)]


def images_of(table: TaskTable) -> TaskImages:
    """The labelled images of a table's only task, which need no split."""
    return _images(table, table.frame.filter(~pl.all_horizontal(pl.col(table.label_columns).is_null())))


def _usual_way(table: TaskTable) -> By:
    return "column" if "split" in table.frame.columns else "group" if "group" in table.frame.columns else "random"


def _column(way: By) -> str:
    return {"column": "split", "time": "date"}.get(way, way)


def _split(table: TaskTable, frame: pl.DataFrame, way: By, folds: int, seed: int) -> Split:
    task, where = _images(table, frame), f"{table.source}, task {frame['task'][0]!r}"
    notes: list[str] = []
    if way == "column":
        made = _by_column(task, frame, where, notes)
    elif way == "time":
        made = _by_time(task, frame, folds, where, notes)
    else:
        made = _by_folds(task, frame, way, folds, seed, where, notes)
    notes += _unseen(task, made)
    n_units, no_interval = _units(task, np.concatenate([fold.test for fold in made]))
    return Split(task, way, tuple(made), n_units, no_interval, tuple(notes))


def tested_whole(table: TaskTable) -> tuple[Split, ...]:
    """Each task with all of its images on the side "all", for what trains on none of them."""
    found = []
    for task in images_of_tasks(table):
        fold = Fold("all", task, _NONE, np.arange(len(task.ids)), _NONE)
        found.append(Split(task, "column", (fold,), *_units(task, fold.test)))
    return tuple(found)


def _units(task: TaskImages, tested: Int64[np.ndarray, " n"]) -> tuple[int, str | None]:
    """How many groups, or images, are tested, and why no interval may be stated."""
    if task.group is None:
        return len(np.unique(tested)), None
    n = len(np.unique(task.group[tested]))
    if n >= MIN_GROUPS:
        return n, None
    return n, (
        f"{n} group{'s are' if n > 1 else ' is'} tested, and an interval needs {MIN_GROUPS}: so few say little of how "
        "much other groups would differ"
    )


def _images(table: TaskTable, frame: pl.DataFrame) -> TaskImages:
    """The rows of one task, which are labelled and sorted by image ID."""
    name = frame["task"][0]
    ids = np.array(frame["image_id"].to_list(), np.str_)
    classes = table.traits or table.classes(name)
    if table.target == "classes":
        place = pl.DataFrame({"label": classes, "y": range(len(classes))}, schema_overrides={"y": pl.Int64})
        y = frame.select("label").join(place, on="label", how="left", maintain_order="left")["y"].to_numpy()
    elif table.target == "traits":
        y = frame.select(pl.col(table.label_columns).fill_null(UNSEEN)).to_numpy().astype(np.int8, order="C")
    else:
        y = frame["label"].to_numpy()
    group = weight = None
    names: list[str | None] = []
    if "group" in frame.columns:
        found, codes = np.unique(np.array(groups_of(frame), np.str_), return_inverse=True)
        group = codes.astype(np.int64)
        names = [name.removeprefix("group/") if name.startswith("group/") else None for name in found.tolist()]
    if "weight" in frame.columns:
        weight = frame["weight"].fill_null(1.0).to_numpy()
    return TaskImages(name, table.target, ids, y, classes, group, weight, tuple(names))


def groups_of(frame: pl.DataFrame) -> list[str]:
    """The group of each row of a table: "group/NAME", or "image/ID" where it has none."""
    named, alone = pl.concat_str(pl.lit("group/"), "group"), pl.concat_str(pl.lit("image/"), "image_id")
    return frame.select(pl.coalesce(named, alone).alias("g"))["g"].to_list()


def _strata(task: TaskImages) -> list[str]:
    """Which images should be spread evenly: those of a class, or of a combination of traits."""
    if task.target == "classes":
        return [task.classes[y] for y in task.y.tolist()]
    return (
        ["".join(f"{y:+d}" for y in row) for row in task.y.tolist()] if task.target == "traits" else [""] * len(task.y)
    )


def _rarest(task: TaskImages) -> list[str]:
    """Of each image the trait and value, of those known of it, that fewest images have."""
    has = np.concatenate([task.y == 0, task.y == 1], axis=1)
    rarity = np.where(has, has.sum(axis=0), len(has) + 1)
    return [str(place) for place in rarity.argmin(axis=1).tolist()]


def _one_sided(task: TaskImages, fold: Int64[np.ndarray, " n"]) -> int:
    """In how many pairs of a trait and a fold training has one of the values alone."""
    sides = [task.y[fold != k] for k in np.unique(fold)]
    return sum(int((~((y == 0).any(axis=0) & (y == 1).any(axis=0))).sum()) for y in sides)


def _rows(mask: Shaped[np.ndarray, " n"]) -> Int64[np.ndarray, " rows"]:
    return np.flatnonzero(mask).astype(np.int64)


_NONE = np.empty(0, np.int64)


def _by_column(task: TaskImages, frame: pl.DataFrame, where: str, notes: list[str]) -> list[Fold]:
    side = np.array(frame["split"].fill_null("").to_list(), np.str_)
    there = Counter(side.tolist())
    vals = [word for word in _VALS if there[word]][:1]
    tests = [word for word in _TESTS if there[word]]
    if not tests and vals:
        tests, vals = vals, []
        notes.append(f"no labelled image is of side test, so {tests[0]} is tested on and nothing chosen on it")
    if not there["train"] or not tests:
        has = ", ".join(f"{n} {word or 'without a side'}" for word, n in sorted(there.items()))
        missing = "train" if not there["train"] else "test or val"
        raise BBError(f"{where}: no labelled image is of side {missing}; there are {has}. Correct the split, or let it "
                      "be drawn with --split ''.")  # fmt: skip
    unused = {word or "no side": n for word, n in there.items() if word not in ("train", *tests, *vals)}
    if unused:
        counted = ", ".join(f"{n} of {word}" for word, n in sorted(unused.items()))
        notes.append(f"labelled images that are neither trained on nor tested: {counted}")
    train, val = _rows(side == "train"), _rows(side == vals[0]) if vals else _NONE
    made = [Fold(word, task, train, _rows(side == word), val) for word in tests]
    if task.group is not None:
        for fold in made:
            if both := len(np.intersect1d(task.group[fold.train], task.group[fold.test])):
                of = len(np.unique(task.group[fold.test]))
                notes.append(f"{both} of {of} groups of side {fold.name} are trained on, too; --split-by group keeps "
                             "them apart")  # fmt: skip
    return made


def _by_folds(
    task: TaskImages, frame: pl.DataFrame, way: By, folds: int, seed: int, where: str, notes: list[str]
) -> list[Fold]:
    ids, strata = task.ids.tolist(), _strata(task)
    if way == "group":
        groups = groups_of(frame)
        n_groups, alone = len(set(groups)), frame["group"].null_count()
        if n_groups < 2:
            raise BBError(f"{where}: all images are of one group, {shown(frame['group'][0])}, so none is kept "
                          "apart. Choose another column with --group, or --split-by random.")  # fmt: skip
        if alone:
            notes.append(f"{alone} images without a group count as a group each")
        if n_groups < folds:
            notes.append(f"{n_groups} folds, not {folds}: there are {n_groups} groups")
        deal = partial(deal_groups, groups, folds=min(folds, n_groups), task=task.name, seed=seed)
    else:
        if len(ids) < folds:
            raise BBError(f"{where}: {len(ids)} labelled images can't fill {folds} folds. Give fewer with --folds.")
        deal = partial(deal_images, ids, folds=folds, task=task.name, seed=seed)
        few = [f"{shown(name)} has {n}" for name, n in sorted(Counter(strata).items()) if n < folds]
        if few and task.target == "classes":
            notes.append(
                f"{len(few)} of {len(task.classes)} classes have fewer images than the {folds} folds, so some "
                f"folds test none of theirs, and the only image of a class is tested without training on it: "
                f"{', '.join(few[:3])}{', …' if len(few) > 3 else ''}"
            )
    fold = deal(strata)
    if task.target == "traits" and (missed := _one_sided(task, fold)):
        other = deal(_rarest(task))
        fold = other if _one_sided(task, other) < missed else fold
    filled = np.unique(fold).tolist()
    if way == "random" and len(filled) < folds:
        notes.append(f"{len(filled)} folds, not {folds}: so few images of each class leave the others empty")
    return [
        Fold(f"fold {place} of {len(filled)}", task, _rows(fold != k), _rows(fold == k), _NONE)
        for place, k in enumerate(filled, 1)
    ]


def _by_time(task: TaskImages, frame: pl.DataFrame, folds: int, where: str, notes: list[str]) -> list[Fold]:
    dates = frame["date"]
    if undated := dates.null_count():
        notes.append(f"{undated} images without a date are neither trained on nor tested")
    lengths = [min(len(date), 10) for date in dates.drop_nulls()]
    precision = min(lengths, default=0)
    coarse, kind = lengths.count(precision), {4: "year", 7: "month"}.get(precision)
    alike = f"{coarse} of {len(lengths)} dates have no more than a {kind}, so all are compared by {kind}"
    by_kind = [alike] if kind and coarse < len(lengths) else []
    notes += by_kind
    days = np.array(dates.str.slice(0, precision).fill_null("").to_list(), np.str_)
    distinct, counts = np.unique(days[days != ""], return_counts=True)
    if len(distinct) < 2:
        seen = f"all dated images are of {distinct[0]}" if len(distinct) else "no labelled image has a date"
        seen = "; ".join([*by_kind, seen])
        raise BBError(f"{where}: {seen}, so no date divides them. Correct the dates, or use --split-by random.")
    # How many images a test side that begins on each day but the first would have
    after = counts[::-1].cumsum()[::-1][1:]
    cut = distinct[1 + int(np.abs(after - counts.sum() / folds).argmin())]
    return [Fold(f"from {cut}", task, _rows((days != "") & (days < cut)), _rows(days >= cut), _NONE)]


def _unseen(task: TaskImages, made: Sequence[Fold]) -> list[str]:
    """Notes of the classes that are tested but not trained on. Errors: BBError where each fold trains on one class, or
    no fold trains on what it tests.
    """
    if task.target != "classes":
        return []
    unseen: Counter[int] = Counter()
    alone = []
    for fold in made:
        trained = np.unique(fold.train_y)
        if not len(trained):
            raise BBError(f"task {task.name!r}: all {len(task.ids)} labelled images are in one fold, so none is left "
                          "to train on. Add images of each class.")  # fmt: skip
        if len(trained) < 2:
            said = f"{fold.name}: all training images are of class {shown(task.classes[trained[0]])}"
            alone.append((said, len(fold.test)))
        unseen.update(fold.test_y[~np.isin(fold.test_y, trained)].tolist())
    if len(alone) == len(made):
        raise BBError(f"task {task.name!r}, {alone[0][0]}; a classifier needs two.")
    if unseen.total() == sum(len(fold.test) for fold in made):
        raise BBError(f"task {task.name!r}: no class that is tested is trained on, such as "
                      f"{shown(task.classes[min(unseen)])}. Split by something other than the classes.")  # fmt: skip
    names = ", ".join(shown(task.classes[y]) for y in sorted(unseen)[:3])
    more = ", …" if len(unseen) > 3 else ""
    notes = [f"{said}, so that is the answer for its {n} test images" for said, n in alone]
    if unseen:
        tested = f"{counted(unseen.total(), 'test image')} {'is' if unseen.total() == 1 else 'are'}"
        notes.append(
            f"{tested} of {'a class' if len(unseen) == 1 else 'classes'} without a training image: {names}{more}"
        )
    return notes
