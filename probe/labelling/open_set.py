"""Who is this: the nearest known individuals of an image, and a calibrated probability that it is none of these.

Every labelled image is asked about twice, as if it were new. Known: its individual's other images are there. Removed:
they are taken away, so the right answer is "none of these" (leave-individual-out). Each replay gives the similarity s
of the nearest individual and its lead over the second; an individual is as similar as the most similar of its images.
Multinomial logistic regression on (s, lead) gives the probabilities of three outcomes: the nearest individual is right,
another known one is, none is. Replays are weighted so that a given share of images shows none of the known individuals,
which labelled images can't say.

Units of every interval are individuals, whose images are alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Num

from bb.probe.labelling.cross_validation import in_blocks
from bb.probe.labelling.predictor import unit_rows
from bb.probe.statistics.multiclass.intervals import WIDENING, MetricEstimate, bounds, spread, too_few
from bb.store.errors import BBError

RIGHT, WRONG, NONE = 0, 1, 2  # outcomes: the nearest individual, another known one, none of these
FEWEST = 4  # individuals with two images (of two groups) to calibrate on


@dataclass(frozen=True, eq=False)
class Replays:
    """Labelled images asked about as if they were new: rows are those that are known, then all with theirs removed.

    image, individual  (r,) which image, and whose
    outcome            (r,) RIGHT, WRONG or NONE
    evidence           (r, 2) similarity of the nearest individual, and its lead over the second
    """

    image: Int64[np.ndarray, " r"]
    individual: Int64[np.ndarray, " r"]
    outcome: Int64[np.ndarray, " r"]
    evidence: Float64[np.ndarray, "r 2"]

    def weights(self, none_share: float) -> Float64[np.ndarray, " r"]:
        """Of mean 1, those of removed individuals adding up to a share of all."""
        removed = self.outcome == NONE
        share = np.where(removed, none_share / removed.sum(), (1 - none_share) / max((~removed).sum(), 1))
        return share * len(share)

    def among(self, rows: Bool[np.ndarray, " r"]) -> "Replays":
        return Replays(self.image[rows], self.individual[rows], self.outcome[rows], self.evidence[rows])


def replays(
    x: Num[np.ndarray, "n d"], individual: Int64[np.ndarray, " n"], group: Int64[np.ndarray, " n"] | None
) -> Replays:
    """Both replays of every labelled image.

    individual  numbers 0 … k-1
    group       images of one group, such as a burst, are not evidence for each other
    Errors: BBError for fewer than three individuals, and where fewer than FEWEST have a second image.
    """
    k = int(individual.max()) + 1
    if k < 3:
        raise BBError(f"{k} individuals are labelled; to tell known from unknown ones takes three or more.")
    order = np.argsort(individual, kind="stable")
    known_rows, start = unit_rows(x[order]), np.searchsorted(individual[order], np.arange(k))
    alone = np.arange(len(x)) if group is None else group
    found: list[tuple[int, int, float, float]] = []
    removed: list[tuple[int, int, float, float]] = []
    rows = unit_rows(x)
    for first in range(0, len(x), 1024):
        asking = np.arange(first, min(first + 1024, len(x)))
        similar = rows[asking] @ known_rows.T
        similar[alone[asking][:, None] == alone[order][None]] = -np.inf
        nearest = np.maximum.reduceat(similar, start, axis=1).astype(np.float64)
        own = nearest[np.arange(len(asking)), individual[asking]].copy()
        for i in np.flatnonzero(np.isfinite(own)).tolist():
            best, s, lead = _two_nearest(nearest[i])
            found.append((int(asking[i]), RIGHT if best == individual[asking[i]] else WRONG, s, lead))
        nearest[np.arange(len(asking)), individual[asking]] = -np.inf
        for i in range(len(asking)):
            _, s, lead = _two_nearest(nearest[i])
            if np.isfinite(s):
                removed.append((int(asking[i]), NONE, s, lead))
    seen_twice = len({int(individual[image]) for image, *_ in found})
    if seen_twice < FEWEST:
        of = "groups" if group is not None else "images"
        raise BBError(
            f"{seen_twice} individuals have labelled images in two or more {of}; whether an image shows a known one "
            f"takes {FEWEST} of them: label further images of the same individuals."
        )
    whole = np.array([*found, *removed])
    image = whole[:, 0].astype(np.int64)
    return Replays(image, individual[image], whole[:, 1].astype(np.int64), whole[:, 2:])


@dataclass(frozen=True, eq=False)
class Calibration:
    """Probabilities of the outcomes by evidence: softmax(coef @ z + intercept), z the evidence less mean over scale."""

    mean: Float64[np.ndarray, " 2"]
    scale: Float64[np.ndarray, " 2"]
    coef: Float64[np.ndarray, "3 2"]
    intercept: Float64[np.ndarray, " 3"]

    @classmethod
    def fit(cls, made: Replays, none_share: float) -> "Calibration":
        """Errors: BBError where replays have one outcome alone."""
        from sklearn.linear_model import LogisticRegression

        outcomes = np.unique(made.outcome)
        if len(outcomes) < 2:
            raise BBError("no labelled image can be asked about as a known individual: label further images of each.")
        mean, scale = made.evidence.mean(axis=0), np.maximum(made.evidence.std(axis=0), 1e-9)
        model = LogisticRegression(C=100.0, max_iter=1000, tol=1e-8)
        model.fit((made.evidence - mean) / scale, made.outcome, sample_weight=made.weights(none_share))
        coef, intercept = np.zeros((3, 2)), np.full(3, -50.0)
        if len(outcomes) == 2:  # one vector for both
            coef[outcomes[1]], intercept[outcomes] = model.coef_[0], [0.0, float(model.intercept_[0])]
        else:
            coef, intercept = model.coef_, model.intercept_
        return cls(mean, scale, coef.astype(np.float64), intercept.astype(np.float64))

    def probabilities(self, evidence: Float64[np.ndarray, "m 2"]) -> Float64[np.ndarray, "m 3"]:
        """Of RIGHT, WRONG, NONE."""
        from scipy.special import softmax

        z = (evidence - self.mean) / self.scale
        # Element by element, so that an image's are the same in any company.
        decision = z[:, :1] * self.coef[:, 0] + z[:, 1:] * self.coef[:, 1] + self.intercept
        return np.asarray(softmax(decision, axis=1))

    def record(self) -> dict[str, Any]:
        return {name: getattr(self, name).tolist() for name in ("mean", "scale", "coef", "intercept")}


@dataclass(frozen=True, eq=False)
class ReplayAnswers:
    """What is said in each replay by a calibration that its individual had no part in.

    confidence  (r,) of the answer: the nearest individual, or none of these
    hit         (r,) whether it is right
    """

    confidence: Float64[np.ndarray, " r"]
    hit: Bool[np.ndarray, " r"]

    def among(self, rows: Bool[np.ndarray, " r"]) -> "ReplayAnswers":
        return ReplayAnswers(self.confidence[rows], self.hit[rows])


def answer(p: Float64[np.ndarray, "m 3"]) -> tuple[Bool[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
    """Whether the answer is "none of these", which is where that is likelier than the nearest individual; how sure."""
    none = p[:, NONE] > p[:, RIGHT]
    return none, np.where(none, p[:, NONE], p[:, RIGHT])


def cross_fitted(
    made: Sequence[Replays], folds: int, seed: int, none_share: float
) -> tuple[list[float], ReplayAnswers, Replays]:
    """Of several feature spaces' replays the error of each, and the honest answers with the replays they are of.

    Individuals are dealt to folds; each fold is answered in the space that is best among the others, by the calibration
    of these. Spaces have the same replays, in the same order.
    """
    first = made[0]
    dealt = np.random.default_rng(seed).permutation(int(first.individual.max()) + 1) % folds
    fold = dealt[first.individual]
    weight = first.weights(none_share)
    each = [_answers(replay, fold, none_share) for replay in made]
    errors = [float(weight @ ~answers.hit) / float(weight.sum()) for answers in each]
    if len(made) == 1:
        return errors, each[0], first
    confidence, hit = np.empty(len(fold)), np.zeros(len(fold), bool)
    outcome, evidence = first.outcome.copy(), first.evidence.copy()
    for k in range(folds):
        mine, others = fold == k, fold != k
        inner = []
        for replay in made:
            answers = _answers(replay.among(others), fold[others], none_share)
            inner.append(float(weight[others] @ ~answers.hit))
        best = int(np.argmin(inner))
        confidence[mine], hit[mine] = each[best].confidence[mine], each[best].hit[mine]
        outcome[mine], evidence[mine] = made[best].outcome[mine], made[best].evidence[mine]
    return errors, ReplayAnswers(confidence, hit), Replays(first.image, first.individual, outcome, evidence)


def error_of(
    wrong: Bool[np.ndarray, " r"], weight: Float64[np.ndarray, " r"], individual: Int64[np.ndarray, " r"], claim: str
) -> MetricEstimate:
    """A weighted share of wrong answers, with 95 % bounds over individuals."""
    counts = weight > 0
    wrong, weight, individual = wrong[counts], weight[counts], individual[counts]
    total = float(weight.sum())
    value = float(weight @ wrong) / total
    contributions = weight * (wrong - value) / total
    found = spread(contributions, individual)
    found = replace(found, variance=found.variance * (1 + WIDENING), units=found.units / (1 + WIDENING))
    reason = too_few("the error", individual, found, 1.0).replace("groups", "individuals")
    return MetricEstimate("error", value, None if reason else bounds(value, found, 1.0, 0.95), claim, reason)


def evidence_of(
    x: Num[np.ndarray, "m d"], known: Num[np.ndarray, "n d"], individual: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, "m k"]:
    """The similarity of each individual to each image: the largest cosine of its images; same bits in any company."""
    order = np.argsort(individual, kind="stable")
    rows = unit_rows(known[order])
    start = np.searchsorted(individual[order], np.arange(int(individual.max()) + 1))
    return in_blocks(lambda block: np.maximum.reduceat(unit_rows(block) @ rows.T, start, axis=1), x)


def _answers(made: Replays, fold: Int64[np.ndarray, " r"], none_share: float) -> ReplayAnswers:
    confidence, hit = np.empty(len(fold)), np.zeros(len(fold), bool)
    for k in np.unique(fold):
        mine = fold == k
        p = Calibration.fit(made.among(~mine), none_share).probabilities(made.evidence[mine])
        none, confidence[mine] = answer(p)
        hit[mine] = np.where(none, made.outcome[mine] == NONE, made.outcome[mine] == RIGHT)
    return ReplayAnswers(confidence, hit)


def _two_nearest(nearest: Float64[np.ndarray, " k"]) -> tuple[int, float, float]:
    """The nearest individual, its similarity, and its lead over the second: 0 where there is no second."""
    best = int(np.argmax(nearest))
    second = float(np.max(np.delete(nearest, best)))
    s = float(nearest[best])
    return best, s, s - second if np.isfinite(second) else 0.0
