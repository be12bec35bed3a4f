"""Few-shot training sets that anyone can draw again with nothing but SHA-256.

Within a task and class, training images are ordered by SHA-256 of "{seed}/{task}/{image_id}" in UTF-8, and
the first n are taken. So a smaller training set is part of every larger one of the same seed, and what
is drawn depends on no library's random stream, on no row order and on no other task.
"""

import hashlib
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, SupportsIndex, TypeAlias

import numpy as np
from jaxtyping import Shaped, UInt8

from bb.probe.tasks.newt import BinaryTask
from bb.store.errors import UsageError

# The number of training images of a task, over both classes, at least 2; or all there are.
NTrain: TypeAlias = int | Literal["all"]

MAX_SEED = 2**63  # above every seed and n_train
SEED_OF_ALL = 0  # there is one way to take everything, but fitting depends on the order of the rows


@dataclass(frozen=True, eq=False)
class Sample:
    """The training set of a task in the order fitted: class 0, then class 1, each in hash order."""

    task: str
    image_ids: Shaped[np.ndarray, " n"]
    y: UInt8[np.ndarray, " n"]
    notes: tuple[str, ...] = ()


def parse_n_train(value: str | SupportsIndex) -> NTrain:
    """`--n-train` as typed ("10", "all") or given from Python. Errors: UsageError for anything below 2."""
    if value == "all":
        return "all"
    try:
        n_train = int(value) if isinstance(value, str) else operator.index(value)
    except (ValueError, TypeError):
        raise UsageError(f"--n-train {value!r} is not a number; give one from 2 up, or --n-train all.") from None
    if n_train <= 0:
        raise UsageError(f"--n-train {n_train} leaves nothing to train on; to take every image use --n-train all.")
    if n_train >= MAX_SEED:
        raise UsageError(f"--n-train {n_train} is more than any collection has; to take every image use --n-train all.")
    if n_train == 1:
        raise UsageError("--n-train 1 can't hold both classes; the smallest training set is --n-train 2.")
    return n_train


def check_seed(seed: Any) -> int:
    """A seed, of numpy's numbers as Python's. Errors: UsageError for one that a record couldn't be read with."""
    whole = isinstance(seed, SupportsIndex) and not isinstance(seed, bool)
    if not whole or not 0 <= (number := operator.index(seed)) < MAX_SEED:
        raise UsageError(f"--seed {seed} makes no sense: choose a whole number from 0 to {MAX_SEED - 1}.")
    return number


def check_jobs(jobs: int | None) -> int | None:
    """Errors: UsageError for fewer than one."""
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs {jobs} makes no sense: choose 1 or more, or leave it out for all cores.")
    return jobs


def listed(value: Any) -> list[Any]:
    """One or several names or numbers, as a list."""
    return [value] if isinstance(value, str | Integral) else list(value)


def sample(task: BinaryTask, n_train: NTrain, seed: int) -> Sample:
    """Draw a task's training set: n_train // 2 images of class 0 and the rest of class 1.

    "all" takes every image, in the order of seed 0 whatever the seed. A class that has too few images is
    taken whole, and a note says so. Errors: UsageError as `parse_n_train`.
    """
    n_train = parse_n_train(n_train)
    n_per_class: list[int | None]
    if n_train == "all":
        seed, n_per_class = SEED_OF_ALL, [None, None]
    else:
        n_per_class = [n_train // 2, n_train - n_train // 2]
    drawn: list[list[str]] = []
    notes: list[str] = []
    for label, n in enumerate(n_per_class):
        ordered = hash_order(task.train_ids[task.train_y == label].tolist(), task=task.name, seed=seed)
        drawn.append(ordered[:n])
        if n and len(ordered) < n:
            notes.append(f"class {label} has {len(ordered)} training images, not the {n} asked for; all are used")
    y = np.repeat(np.array([0, 1], dtype=np.uint8), [len(ids) for ids in drawn])
    return Sample(task.name, np.array(drawn[0] + drawn[1], dtype=np.str_), y, tuple(notes))


def takes_all(task: BinaryTask, n_train: NTrain) -> bool:
    """Whether a request for this many training images uses every one that the task has, in both classes."""
    if n_train == "all":
        return True
    positives = int(task.train_y.sum())
    return n_train // 2 >= len(task.train_y) - positives and n_train - n_train // 2 >= positives


def hash_order(image_ids: Sequence[str], *, task: str, seed: int) -> list[str]:
    """Image IDs of one task and class in the order in which they are drawn."""

    def digest(image_id: str) -> bytes:
        return hashlib.sha256(f"{seed}/{task}/{image_id}".encode()).digest()

    return sorted(image_ids, key=digest)
