"""The contract of a probe engine: what fits the classifiers of many tasks.

An engine is one class in a file of its own (probe/classifiers/exact.py, probe/classifiers/sklearn.py,
probe/classifiers/cuml.py) that passes the suite in
tests/probe/classifiers/test_engines.py. `choose` is the only place that knows them all.
"""

import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Integer

from bb.probe.classifiers.protocol import Classifier, LinearSVM, PluginClassifier
from bb.store.errors import BBError


@dataclass(frozen=True, eq=False)
class Problem:
    """One task, its features preprocessed: train on n rows of d numbers, in this order, and predict m."""

    task: str
    x_train: Float32[np.ndarray, "n d"]
    y_train: Integer[np.ndarray, " n"]
    x_test: Float32[np.ndarray, "m d"]


@dataclass(frozen=True, eq=False)
class FitResult:
    """What an engine found for a task.

    `y_pred` has y_train's type. `decision` is the decision function, positive for the larger label.
    `parameters` are the classifier's chosen ones, JSON-ready; `cv_score` is their mean accuracy over the
    folds, None where nothing was searched. `notes` say what a reader should know.
    """

    task: str
    y_pred: Integer[np.ndarray, " m"]
    decision: Float64[np.ndarray, " m"]
    parameters: dict[str, Any]
    cv_score: float | None
    notes: tuple[str, ...]


@typing.runtime_checkable
class Engine(typing.Protocol):
    """Fits a classifier to each of many problems.

    `identical` tells whether the answer is scikit-learn's own: same candidate, same predictions.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def identical(self) -> bool: ...

    def solve(self, problems: Iterable[Problem], classifier: Classifier, *, jobs: int) -> Iterator[FitResult]:
        """Outcomes as they are finished, in any order, each problem's once; `jobs` CPU cores may be used.

        All problems are checked (`checked`) before the first is fitted. Closing the iterator stops the work.
        Errors: BBError naming the task.
        """
        ...


class Size(NamedTuple):
    """A task's n training and m test rows of d features."""

    n: int
    m: int
    d: int

    @classmethod
    def of(cls, problem: Problem) -> "Size":
        return cls(len(problem.x_train), len(problem.x_test), problem.x_train.shape[1])


def checked(problems: Iterable[Problem], classifier: Classifier) -> list[tuple[Problem, tuple[str, ...]]]:
    """All problems with the notes of `check`, which has passed each of them."""
    return [(problem, check(problem, classifier)) for problem in problems]


def check(problem: Problem, classifier: Classifier) -> tuple[str, ...]:
    """Refuse what can't be fitted, before any fitting; return notes on what is fitted all the same.

    Errors: BBError, naming the task, where features aren't finite, where there is one class, and under a
    search over k folds where a class has fewer than 2 images or every class fewer than k. Where only some
    class has fewer than k the folds are made as scikit-learn makes them, some without that class, and a note
    says so.
    """
    for split, x_ND in (("training", problem.x_train), ("test", problem.x_test)):
        bad = int((~np.isfinite(x_ND)).any(axis=1).sum())
        if bad:
            raise BBError(
                f"task {problem.task!r}: {bad} of {len(x_ND)} {split} images have NaN or infinite features. "
                "`bb store verify` names damaged rows; if it finds none, extract again with --precision fp32."
            )
    return check_classes(problem.task, problem.y_train, classifier)


def check_classes(task: str, y_train: Integer[np.ndarray, " n"], classifier: Classifier) -> tuple[str, ...]:
    """The part of `check` that needs no features, so that a whole grid can be checked before its first fit."""
    where = f"task {task!r}"
    classes, counts = np.unique(y_train, return_counts=True)
    if len(classes) < 2:
        raise BBError(f"{where}: the training images are all of class {classes[0]}; a classifier needs two classes.")
    if isinstance(classifier, LinearSVM | PluginClassifier):
        return ()

    held = " and ".join(f"{n} of class {c}" for c, n in zip(classes, counts, strict=True))
    remedy = "Raise --n-train, or leave out a task that has no more."
    if counts.min() < 2:
        raise BBError(f"{where}: {held} to train on; a search needs 2 of each. {remedy}")
    if counts.max() < classifier.folds:
        raise BBError(f"{where}: {held} to train on, both fewer than the search's {classifier.folds} folds. {remedy}")
    if counts.min() < classifier.folds:
        return (f"{held} to train on, fewer than the {classifier.folds} folds: some folds test on one class only",)
    return ()
