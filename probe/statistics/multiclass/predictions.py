"""One classifier's predictions of one task of any number of classes."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from bb.probe.statistics.multiclass.sparse import Columns, Ranked
from bb.store.errors import BBError

SUM_TO_ONE = 1e-3  # float16 probabilities of 1,000 classes add up to 1 within this


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was predicted for test images. All rows are images in the same order.

    y_true, y_pred  (n,) classes, 0 to classes - 1
    classes         how many classes the classifier was trained to tell apart; an integer above any label will do
    probabilities   (n, classes) of each class; None for a classifier that gives none
    group           (n,) of a site, a date or an animal whose images are not independent; None where images are
    fold            (n,) which of several fitted models predicted the image; None where one predicted all
    Errors: BBError where there is no image, a label is outside the classes, or probabilities are not.
    """

    y_true: Int[np.ndarray, " n"]
    y_pred: Int[np.ndarray, " n"]
    classes: int
    probabilities: Float[np.ndarray, "n classes"] | None = None
    group: Int[np.ndarray, " n"] | None = None
    fold: Int[np.ndarray, " n"] | None = None

    def __post_init__(self) -> None:
        if not len(self.y_true):
            raise BBError("no predictions: give at least one image.")
        for name, labels in (("y_true", self.y_true), ("y_pred", self.y_pred)):
            if labels.min() < 0 or labels.max() >= self.classes:
                bad = labels[(labels < 0) | (labels >= self.classes)][0]
                raise BBError(f"{name} has the class '{bad}': number the {self.classes} classes from 0.")
        if self.probabilities is not None:
            total = self.probabilities.sum(axis=1, dtype=np.float64)
            if not (self.probabilities.min() >= 0 and np.abs(total - 1).max() <= SUM_TO_ONE):
                row = int(np.argmax(~(np.abs(total - 1) <= SUM_TO_ONE) | ~(self.probabilities >= 0).all(axis=1)))
                raise BBError(
                    f"the probabilities of image {row} add up to '{total[row]:g}': give numbers of 0 or more that add "
                    "up to 1, such as a softmax of decisions."
                )

    def __len__(self) -> int:
        return len(self.y_true)

    def among(self, rows: Bool[np.ndarray, " n"]) -> "Predictions":
        """Those of some images."""
        probabilities, group, fold = (
            None if each is None else each[rows] for each in (self.probabilities, self.group, self.fold)
        )
        return Predictions(self.y_true[rows], self.y_pred[rows], self.classes, probabilities, group, fold)

    @cached_property
    def known(self) -> "dict[Any, Float64[np.ndarray, ' n']]":
        """Contributions that a metric's value and its interval both need: contributions.once."""
        return {}

    @cached_property
    def hit(self) -> Bool[np.ndarray, " n"]:
        return self.y_true == self.y_pred

    @cached_property
    def size(self) -> Int[np.ndarray, " classes"]:
        """How many images each class has."""
        return np.bincount(self.y_true, minlength=self.classes)

    @cached_property
    def present(self) -> Bool[np.ndarray, " classes"]:
        """The classes that have images."""
        return self.size > 0

    @cached_property
    def confusion(self) -> Int[np.ndarray, "classes classes"]:
        """How many images of each class (row) were taken for each (column)."""
        k = self.classes
        return np.bincount(self.y_true * k + self.y_pred, minlength=k * k).reshape(k, k)

    @cached_property
    def of_true(self) -> Float64[np.ndarray, " n"]:
        """The probability of the true class."""
        return self.given[np.arange(len(self)), self.y_true].astype(np.float64)

    @cached_property
    def confidence(self) -> Float64[np.ndarray, " n"]:
        """The probability of the predicted class."""
        return self.given[np.arange(len(self)), self.y_pred].astype(np.float64)

    @cached_property
    def columns(self) -> Columns | None:
        """The probabilities class by class where most are 0; else None."""
        return Columns.of(self.given)

    @cached_property
    def ranked(self) -> Ranked:
        """Images by the probability of one class after another."""
        return Ranked.of(self.given, self.columns, self.y_true)

    @property
    def given(self) -> Float[np.ndarray, "n classes"]:
        """The probabilities. Errors: BBError where there are none."""
        if self.probabilities is None:
            raise BBError("the classifier gives no probabilities: choose one that does, or a metric of predictions.")
        return self.probabilities
