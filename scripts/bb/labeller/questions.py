"""What one fit gives: the images to ask for, each with guesses and labelled neighbours, and the learning curve."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import UInt64

from bb.probe.classifiers.multiclass.ridge import Ridge
from bb.probe.classifiers.preprocess import preprocess
from bb.probe.labelling.active_learning.choose_images import RANDOM, Strategy, choose, fitted_on
from bb.probe.labelling.active_learning.learning_curve import LEAST, LearningCurve, learning_curve
from bb.probe.tasks.task_table import sorted_classes

Read: TypeAlias = Callable[[Any], Any]
Labels: TypeAlias = Mapping[int, tuple[str, str]]  # row → label, and how it was suggested
GUESSES, NEIGHBOURS = 3, 5
MOST_FITTED = 2000  # labels that the learning curve looks at
FURTHER = 100


@dataclass(frozen=True)
class Question:
    """An image to label. guesses: likeliest class first; neighbours: rows of labelled images, the nearest first."""

    row: int
    by: str
    guesses: tuple[str, ...] = ()
    neighbours: tuple[int, ...] = ()


@dataclass(frozen=True)
class Fit:
    """labels: how many it was made from; curve_of: on which images the curve was measured; further: labels, beyond
    these, of the forecast, 0 where no image is left."""

    labels: int = 0
    questions: tuple[Question, ...] = ()
    curve: LearningCurve | None = None
    curve_of: str = ""
    further: int = 0
    classes: tuple[str, ...] = field(default=())


def fit(
    read: Read,
    rows: Any,
    labels: Labels,
    n: int,
    strategy: Strategy,
    random_share: float,
    order: UInt64[np.ndarray, " all"],
    seed: int,
    skipped: Sequence[int] = (),
) -> Fit:
    """Fits ridge regression on the labels.

    read   features of rows; rows: all rows that have features, ascending
    random_share, order  of the questions that are drawn at random, on which the curve is measured; all rows have one
    """
    known = np.array(sorted(set(labels) & set(rows.tolist())), np.int64)
    classes = tuple(sorted_classes(sorted({labels[row][0] for row in known.tolist()})))
    y = np.array([classes.index(labels[row][0]) for row in known.tolist()], np.int64)
    x = read(known) if len(known) else read(rows[:1])[:0]
    free = np.setdiff1d(rows, np.concatenate([known, np.array(list(skipped), np.int64)]))
    random = np.array([labels[row][1] == RANDOM for row in known.tolist()], bool)
    rare = _code(strategy, classes)
    before = (sum(bool(labels[row][1]) for row in known.tolist()), int(random.sum()))
    use = fitted_on(y, random, rare)
    asked: list[tuple[int, str]] = []
    if len(free):
        chosen = choose(
            read, free, x[use], y[use], n, _possible(strategy, classes), rare=rare, seed=seed,
            random_share=random_share, order=order[free], before=before,
        )  # fmt: skip
        asked = list(zip(chosen.rows.tolist(), chosen.suggested_by, strict=True))
    questions = _explained(read, asked, x, y, known, classes)
    used = slice(0, MOST_FITTED)
    enough = len(random[used]) and random[used].sum() >= LEAST
    further = min(FURTHER, len(free))
    ahead = (further,) if further else ()
    curve = learning_curve(x[used], y[used], ahead, tested=random[used] if enough else None, seed=seed)
    by = "those drawn at random" if enough else _labelled_ones([labels[row][1] for row in known.tolist()])
    return Fit(len(known), tuple(questions), curve, by, further, classes)


def _labelled_ones(ways: Sequence[str]) -> str:
    """Which images the labelled ones are, for a person, by how each was suggested ("" where nothing says so)."""
    chosen = sum(way not in ("", RANDOM) for way in ways)
    return (
        "labelled ones, which are mostly chosen and harder than the rest" if 2 * chosen > len(ways) else "labelled ones"
    )


def _possible(strategy: Strategy, classes: Sequence[str]) -> Strategy:
    """A cover until there are images of the class that is looked for, and of another."""
    return Strategy("cluster") if strategy.rare and (strategy.rare not in classes or len(classes) < 2) else strategy


def _code(strategy: Strategy, classes: Sequence[str]) -> int:
    return classes.index(strategy.rare) if strategy.rare in classes else -1


def _explained(
    read: Read, asked: Sequence[tuple[int, str]], x: Any, y: Any, known: Any, classes: Sequence[str]
) -> list[Question]:
    if not asked or not len(known):
        return [Question(row, by) for row, by in asked]
    order = np.argsort([row for row, _ in asked])
    features = np.empty((len(asked), x.shape[1]), np.float32)
    features[order] = read(np.sort([row for row, _ in asked]))
    train, test = preprocess("center-l2", x, features)
    near = np.argsort(-(test @ train.T), axis=1, kind="stable")[:, :NEIGHBOURS]
    likely = np.zeros((len(asked), 1), int)
    if len(classes) > 1:
        likely = np.argsort(-Ridge().fit(train, y).decision_function(test), axis=1, kind="stable")[:, :GUESSES]
    return [
        Question(row, by, tuple(classes[k] for k in likely[i]), tuple(known[near[i]].tolist()))
        for i, (row, by) in enumerate(asked)
    ]
