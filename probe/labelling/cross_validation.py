"""What candidates say of labelled images that they were not fitted on, and what choosing the best of them is worth.

A candidate is a feature space. Its probabilities of an image come from a classifier fitted on the other folds, at the
temperature that is fitted on all such answers. Which candidate is best is decided inside of each fold's training images
again (nested), so that the accuracy stated is not that of the luckiest of several.

Where `bb suggest` chose some images, the others alone are tested (how_chosen.py). Chosen images were not chosen by the
labels of the tested ones, so they are always trained on: then a tested image is to its classifier as a further one is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Num

from bb.probe.classifiers.estimator import make
from bb.probe.classifiers.preprocess import preprocess
from bb.probe.statistics.multiclass.calibration import probabilities, temperature
from bb.probe.statistics.multiclass.intervals import WIDENING
from bb.store.errors import UsageError

BLOCK = 1024  # rows at a time
DIGITS = 9  # of their answers
FEWEST_WRONG = 3  # answers of tested images, of which a temperature is fitted on them alone
LEAST = -50.0  # the decision for a class that a fold was not trained on: its probability is 0 at any temperature


@dataclass(frozen=True)
class Setting:
    """How a candidate is fitted: a classifier of the registry, and the preprocessing by name."""

    classifier: str
    how: str


@dataclass(frozen=True, eq=False)
class Folds:
    """Labelled images.

    y, fold  their classes, numbers below `classes`, and the fold that each is in
    tested   those that figures are measured on
    grouped  whether folds keep groups together; else images that are not tested are trained on with every fold
    """

    y: Int64[np.ndarray, " n"]
    fold: Int64[np.ndarray, " n"]
    classes: int
    tested: Bool[np.ndarray, " n"]
    grouped: bool = False

    def outside(self, k: int) -> tuple[Int64[np.ndarray, " rows"], "Folds"]:
        """The rows that fold k does not test, and these alone: the other folds keep groups together, as before."""
        rows = np.flatnonzero(self.fold != k)
        return rows, Folds(self.y[rows], self.fold[rows], self.classes, self.tested[rows], self.grouped)

    def parts(self) -> Iterator[tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]]:
        """Rows to predict, each once, with those to train on."""
        for k in self.numbers:
            here = self.fold == k
            if self.grouped or self.tested.all():
                yield here, ~here
                continue
            yield here & self.tested, ~(here & self.tested)
            if (others := here & ~self.tested).any():
                yield others, ~here

    @property
    def widening(self) -> float:
        """Of the variance of what tested images say, as many of which are trained on as there are."""
        return 1 + WIDENING * float(self.tested.mean())

    def score(self, answers: Float64[np.ndarray, "n k"]) -> float:
        """The share of the tested images that are right."""
        return float((answers.argmax(axis=1) == self.y)[self.tested].mean())

    @property
    def numbers(self) -> list[int]:
        return np.unique(self.fold).tolist()


@dataclass(frozen=True, eq=False)
class Fitted:
    """A classifier fitted on all labelled images, with what is needed to use it on others.

    x_train  the labelled images' rows as stored, which the preprocessing is fitted on
    heat     the temperature of its probabilities
    classes  how many there are
    """

    estimator: Any
    setting: Setting
    x_train: Num[np.ndarray, "n d"]
    heat: float
    classes: int

    def probabilities(self, x: Num[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """Of each class. An image's are the same to the bit, whatever other images are asked about with it."""

        def of_block(block: Num[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
            _, ready = preprocess(self.setting.how, self.x_train, block)
            return probabilities(_decisions(self.estimator, ready, self.classes), self.heat)

        return in_blocks(of_block, x)


def in_blocks(
    of_block: Callable[[Num[np.ndarray, "rows d"]], Float64[np.ndarray, "rows ..."]], x: Num[np.ndarray, "n d"]
) -> Float64[np.ndarray, "n ..."]:
    """The answers of a function of BLOCK rows, to any number of rows.

    How a library adds up a matrix product depends on the number of rows, so the last block is filled up, and on some
    processors on a row's place among them, so the answers are rounded; they are to be computed in float64.
    """
    made = []
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        full = np.concatenate([block, np.repeat(block[-1:], BLOCK - len(block), axis=0)])
        made.append(np.round(of_block(full)[: len(block)], DIGITS))
    return np.concatenate(made)


@dataclass(frozen=True, eq=False)
class CrossValidated:
    """What a candidate says of images that the classifier was not fitted on: (n, k) probabilities at a temperature."""

    given: Float64[np.ndarray, "n k"]
    heat: float


def fit(x: Num[np.ndarray, "n d"], folds: Folds, setting: Setting, heat: float) -> Fitted:
    """A classifier of all labelled images at the temperature of the folds' answers."""
    train, _ = preprocess(setting.how, x, x[:1])
    return Fitted(make(setting.classifier).fit(train, folds.y), setting, x, heat, folds.classes)


def fold_decisions(
    x: Num[np.ndarray, "n d"], folds: Folds, setting: Setting, known: dict[bytes, Any] | None = None
) -> Float64[np.ndarray, "n k"]:
    """Decisions of each image by a classifier that was not fitted on it.

    known  classifiers by the digest of what they were fitted on: those that are missing join it
    """
    known = {} if known is None else known
    found = np.full((len(x), folds.classes), LEAST)
    for test, fitted in folds.parts():
        if test.any():
            train, ready = preprocess(setting.how, x[fitted], x[test])
            y = folds.y[fitted]
            if (y == y[0]).all():  # no classifier can be fitted to one class, so that is the answer
                found[test, y[0]] = 0
                continue
            key = sha256(np.ascontiguousarray(train).data).digest() + y.tobytes()
            if key not in known:
                known[key] = make(setting.classifier).fit(train, y)
            found[test] = _decisions(known[key], ready, folds.classes)
    return found


def _heat(decisions: Float64[np.ndarray, "n k"], folds: Folds) -> float:
    wrong = (decisions.argmax(axis=1) != folds.y) & folds.tested
    rows = folds.tested if wrong.sum() >= FEWEST_WRONG else np.ones(len(folds.y), bool)
    return temperature(decisions[rows], folds.y[rows])


def cross_validated(
    features: Sequence[Num[np.ndarray, "n _"]],
    folds: Folds,
    setting: Setting,
    progress: Callable[[int], None] = lambda done: None,
) -> list[CrossValidated]:
    """Of each candidate. The temperature is that of `fit`: a threshold of these has to hold for what is predicted."""
    made = []
    for done, x in enumerate(features, 1):
        decisions = fold_decisions(x, folds, setting)
        heat = _heat(decisions, folds)
        made.append(CrossValidated(probabilities(decisions, heat), heat))
        progress(done)
    return made


def nested(
    features: Sequence[Num[np.ndarray, "n _"]],
    outer: Sequence[Float64[np.ndarray, "n k"]],
    folds: Folds,
    setting: Setting,
) -> Float64[np.ndarray, "n k"]:
    """Probabilities of each image by the candidate that is best within the other folds' images.

    outer  their probabilities, of `cross_validated`
    Errors: UsageError where there are several candidates and fewer than three folds.
    """
    if len(features) == 1:
        return outer[0]
    if len(folds.numbers) < 3:
        raise UsageError(
            f"{len(features)} backbones can't be compared within {len(folds.numbers)} folds: raise --folds to 3 or "
            "more (which takes 3 groups), name one with --ckpt, or take all with --ensemble."
        )
    scores = np.array([_scores_inside(x, folds, setting) for x in features])
    found = np.empty_like(outer[0])
    for k, best in zip(folds.numbers, scores.argmax(axis=0), strict=True):
        here = folds.fold == k
        found[here] = outer[best][here]
    return found


def _scores_inside(x: Num[np.ndarray, "n d"], folds: Folds, setting: Setting) -> list[float]:
    """A candidate's score within the images outside of each fold. Outside of two folds is one fit for both."""
    known: dict[bytes, Any] = {}
    made = []
    for k in folds.numbers:
        rows, inner = folds.outside(k)
        made.append(inner.score(fold_decisions(x[rows], inner, setting, known)))
    return made


def _decisions(estimator: Any, x: Num[np.ndarray, "m d"], classes: int) -> Float64[np.ndarray, "m k"]:
    if hasattr(estimator, "decision_function"):
        scores = np.asarray(estimator.decision_function(x), np.float64)
    else:  # a plug-in's, with probabilities
        scores = np.log(np.maximum(estimator.predict_proba(x), np.exp(LEAST)))
    if scores.ndim == 1:  # scikit-learn gives one number for two classes
        scores = np.stack([-scores, scores], axis=1)
    whole = np.full((len(x), classes), LEAST)
    whole[:, np.asarray(estimator.classes_, np.int64)] = scores
    return whole
