"""A training set with its test set, for any task: rows of labelled images, and draws of K images a class."""

import operator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, SupportsIndex, TypeAlias

import numpy as np
from jaxtyping import Float64, Int8, Int64, Shaped

from bb.probe.tasks.few_shot import MAX_SEED, hash_order
from bb.probe.tasks.task_table import Target
from bb.store.errors import UsageError
from bb.store.text.lookalike import shown

By: TypeAlias = Literal["column", "random", "group", "time"]
Shots: TypeAlias = int | Literal["all"]

UNSEEN = -1  # of a trait that an image has no label for


@dataclass(frozen=True, eq=False)
class TaskImages:
    """The labelled images of one task, sorted by image ID; "row" means a place in this order.

    y         classes: (n,) int64 places among `classes`; traits: (n, t) int8 0, 1 or UNSEEN; values: (n,) float64
    classes   names of the classes, or of the traits; () for values
    group     (n,) int64 codes, where the table has groups; an image without one is a group by itself
    weight    (n,) float64, where the table has weights
    group_names  of each code the group's name; None of an image that is a group by itself
    """

    name: str
    target: Target
    ids: Shaped[np.ndarray, " n"]
    y: Int64[np.ndarray, " n"] | Int8[np.ndarray, "n t"] | Float64[np.ndarray, " n"]
    classes: tuple[str, ...]
    group: Int64[np.ndarray, " n"] | None = None
    weight: Float64[np.ndarray, " n"] | None = None
    group_names: tuple[str | None, ...] = ()


@dataclass(frozen=True, eq=False)
class Fold:
    """One training set with its test set: rows of `task`, which never share an image.

    val  rows to choose a classifier's parameters on; empty unless the table's split has them
    """

    name: str
    task: TaskImages
    train: Int64[np.ndarray, " train"]
    test: Int64[np.ndarray, " test"]
    val: Int64[np.ndarray, " val"]
    notes: tuple[str, ...] = ()

    @property
    def train_ids(self) -> Shaped[np.ndarray, " train"]:
        """Image IDs in the order fitted."""
        return self.task.ids[self.train]

    @property
    def test_ids(self) -> Shaped[np.ndarray, " test"]:
        """Image IDs in the order scored."""
        return self.task.ids[self.test]

    @cached_property
    def orders(self) -> dict[int, list[list[int]]]:
        """Of seeds that were drawn with, the training rows of each class in hash order, classes ascending."""
        return {}

    @property
    def train_y(self) -> Shaped[np.ndarray, "train ..."]:
        """Labels as in TaskImages."""
        return self.task.y[self.train]

    @property
    def one_class(self) -> bool:
        """Whether all images that may be fitted are of one class, so that no classifier can be."""
        if self.task.target != "classes":
            return False
        y = self.task.y[np.concatenate([self.train, self.val])]
        return len(y) > 0 and bool((y == y[0]).all())

    @cached_property
    def rows_of_classes(self) -> list[Int64[np.ndarray, " rows"]]:
        """The training rows of each class of the task, in their order."""
        y = self.train_y
        ends = np.cumsum(np.bincount(y, minlength=len(self.task.classes)))
        return np.split(self.train[np.argsort(y, kind="stable")], ends[:-1])

    @property
    def test_y(self) -> Shaped[np.ndarray, "test ..."]:
        """Labels as in TaskImages; a class may be absent from training, and then counts as an error."""
        return self.task.y[self.test]


@dataclass(frozen=True, eq=False)
class Split:
    """How one task's images are divided.

    by           "protocol" where a published protocol draws what is tested, too
    folds        each tested once in its fold; of a split column one for each test side (test, id_test)
    n_units      groups that are tested, where there are groups, else images
    no_interval  why no interval may be stated of scores of this split; None where one may be
    """

    task: TaskImages
    by: By | Literal["protocol"]
    folds: tuple[Fold, ...]
    n_units: int
    no_interval: str | None = None
    notes: tuple[str, ...] = ()


def parse_shots(value: str | SupportsIndex) -> Shots:
    """`--shots` as typed ("5", "all") or given from Python. Errors: UsageError below 1."""
    if value == "all":
        return "all"
    try:
        shots = int(value) if isinstance(value, str) else operator.index(value)
    except (ValueError, TypeError):
        raise UsageError(f"--shots {value!r} is not a number; give one from 1 up, or --shots all.") from None
    if not 0 < shots < MAX_SEED:
        raise UsageError(f"--shots {shots} is not a number of images; give one from 1 up, or --shots all.")
    return shots


def draw_shots(fold: Fold, shots: Shots, seed: int) -> Fold:
    """The fold with K training images of each class: the first in order of SHA-256 of "{seed}/{task}/{image_id}".

    So a smaller draw is part of every larger one of a seed. They are in the order of classes, each in hash order; "all"
    changes nothing. A class of too few is taken whole, and a note says so. Errors: UsageError for traits and values.
    """
    shots = parse_shots(shots)
    if shots == "all":
        return fold
    task = fold.task
    if task.target != "classes":
        raise UsageError(f"--shots {shots} is a number of images a class, and task {task.name!r} has {task.target}; "
                         "use --shots all.")  # fmt: skip
    if seed not in fold.orders:
        fold.orders[seed] = _hash_orders(fold, seed)
    drawn = [row for order in fold.orders[seed] for row in order[:shots]]
    few = [
        f"{shown(task.classes[task.y[order[0]]])} has {len(order)}" for order in fold.orders[seed] if len(order) < shots
    ]
    note = (
        f"{len(few)} of {len(task.classes)} classes have fewer training images than the {shots} asked for, and all are "
        f"used: {', '.join(few[:3])}{', …' if len(few) > 3 else ''}"
    )
    return replace(fold, train=np.array(drawn, np.int64), notes=(*fold.notes, note) if few else fold.notes)


def _hash_orders(fold: Fold, seed: int) -> list[list[int]]:
    row_of = dict(zip(fold.train_ids.tolist(), fold.train.tolist(), strict=True))
    by_class: dict[int, list[str]] = {}
    for image_id, y in zip(row_of, fold.train_y.tolist(), strict=True):
        by_class.setdefault(y, []).append(image_id)
    return [
        [row_of[image_id] for image_id in hash_order(ids, task=fold.task.name, seed=seed)]
        for _, ids in sorted(by_class.items())
    ]
