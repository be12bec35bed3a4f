"""Which models differ: differences with intervals, paired tests, corrections for many of them, groups and ranks.

Tests. Where two models are equally good on what was sampled, nothing is lost if their answers change places. So
the paired permutation test flips the signs of the units' differences at random, all items of a unit together, and
counts how often the flipped statistic is as far from 0 as the reported one (Fisher 1935; Good, "Permutation,
Parametric and Bootstrap Tests of Hypotheses", 2005). Units are the table's (distinct images, or groups of them), or
tasks where the claim is about tasks. One flip serves all models: a pair's flipped difference is the difference of two
models' flipped sums, so all pairs cost one matrix product.

A statistic that is not a sum over images (F1, average precision, AUROC), or a claim about further few-shot draws, has
no such test; there a t test stands in its place, of the difference and standard error that the interval is made of.

Flips count the data themselves, (1 + hits) / (1 + flips), so no p-value is 0 (Phipson and Smyth, SAGMB 9, 2010).

For 0/1 scores of images that serve one task each, McNemar's exact test (Psychometrika 12, 1947) is the limit of the
permutation test for ever more flips, and stands next to it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int
from joblib import cpu_count
from scipy.special import bdtr, ndtr, stdtr
from threadpoolctl import threadpool_limits

from bb.probe.statistics.bootstrap import Interval, Resampled
from bb.probe.statistics.metrics import METRICS
from bb.probe.statistics.predictions import Table
from bb.store.errors import UsageError

Correction = Literal["holm", "bh"]

PERMUTATIONS = 10_000
CHUNK = 64  # flips with a random stream of their own: so threads change nothing
MOST_DRAWS = 20_000_000  # of differences, for ranks
# Holm multiplies the smallest p-value by the number of pairs: fewer flips than this could call nothing different.
PERMUTATIONS_A_PAIR = 40
ROUNDING = 1e-10  # of the sum of absolute terms: flipped sums that are equal but for their order of adding are equal


@dataclass(frozen=True, eq=False)
class Differences:
    """Pairs of models, by their places: how much better the first is than the second.

    interval  of each difference by itself: not widened for the number of pairs
    test      what `p` is of: "flips of images", "flips of tasks", or "t test"
    p         two-sided p-values of the pairs by themselves
    adjusted  the same, corrected for the number of pairs
    mcnemar   exact p-values by themselves; None where scores are not 0/1 or images have several items
    """

    models: tuple[str, ...]
    first: Int[np.ndarray, " pairs"]
    second: Int[np.ndarray, " pairs"]
    interval: Interval
    test: str
    p: Float64[np.ndarray, " pairs"]
    correction: Correction
    adjusted: Float64[np.ndarray, " pairs"]
    mcnemar: Float64[np.ndarray, " pairs"] | None

    def different(self, alpha: float = 0.05) -> Bool[np.ndarray, "models models"]:
        """Which models are called different; False on the diagonal and for pairs that were not compared."""
        found = np.zeros((len(self.models), len(self.models)), bool)
        found[self.first, self.second] = found[self.second, self.first] = self.adjusted <= alpha
        return found


class Ranks(NamedTuple):
    """Ranks by descending score, 1 the best.

    rank       as reported; equals share the mean of their ranks
    low, high  bounds of intervals that hold for all models together, whole numbers
    alone_low, alone_high  those of each model's by itself: for one that was chosen before the scores were seen
    reason     why every rank is possible; empty where differences have intervals
    """

    rank: Float64[np.ndarray, " models"]
    low: Int[np.ndarray, " models"]
    high: Int[np.ndarray, " models"]
    alone_low: Int[np.ndarray, " models"]
    alone_high: Int[np.ndarray, " models"]
    reason: str = ""


def differences(
    table: Table,
    resampled: Resampled,
    *,
    baseline: str | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
    correction: Correction = "holm",
    level: float = 0.95,
    permutations: int | None = None,
    seed: int = 0,
) -> Differences:
    """Every pair of models; or every other model less the baseline; or some pairs, by the models' places.

    resampled     of this table: it says of which statistic, and over what
    permutations  at least 10,000 by default, and 40 a pair
    Errors: UsageError for a baseline that is not a model.
    """
    n = len(resampled.models)
    if pairs is not None:
        first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    elif baseline is None:
        first, second = np.triu_indices(n, 1)
    elif baseline in resampled.models:
        place = resampled.models.index(baseline)
        first = np.delete(np.arange(n), place)
        second = np.full(n - 1, place)
    else:
        known = ", ".join(resampled.models)
        raise UsageError(f"no model is called {baseline!r}, so nothing can be compared with it (there: {known}).")
    interval, errors = resampled.difference(first, second, level)
    terms = _terms(table, resampled)
    if terms is None:
        test = "t test"
        p = np.ones(len(first)) if resampled.reason else _t_test(errors, resampled.contrast(first, second).freedom)
    else:
        test = "flips of tasks" if "tasks" in resampled.over else "flips of images"
        flips = permutations or max(PERMUTATIONS, PERMUTATIONS_A_PAIR * len(first))
        p = _flipped(terms, first, second, flips, seed)
    mcnemar = _mcnemar(table, resampled, first, second)
    return Differences(resampled.models, first, second, interval, test, p, correction, adjust(p, correction), mcnemar)


def adjust(p: Float64[np.ndarray, " pairs"], correction: Correction) -> Float64[np.ndarray, " pairs"]:
    """p-values that hold for the family of all these tests.

    "holm"  the chance of any false one among those called different is at most alpha, whatever the tests depend on
            (Holm, Scandinavian Journal of Statistics 6, 1979)
    "bh"    their expected share is, for independent or positively dependent tests (Benjamini and Hochberg, JRSS B 57,
            1995)
    """
    n, order = len(p), np.argsort(p, kind="stable")
    if correction == "holm":
        ranked = np.maximum.accumulate(p[order] * (n - np.arange(n)))
    else:
        ranked = np.minimum.accumulate((p[order] * n / (1 + np.arange(n)))[::-1])[::-1]
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(ranked, 1)
    return adjusted


def groups(different: Bool[np.ndarray, "models models"], order: Sequence[int]) -> list[tuple[int, ...]]:
    """The largest sets of models of which no two are called different: letters of a compact letter display.

    Two models share a set if and only if they are not called different. By Piepho's insert-and-absorb (Journal of
    Computational and Graphical Statistics 13, 2004). Sets and their members stand in `order`, best first.
    """
    place = {model: bit for bit, model in enumerate(order)}
    sets = [(1 << len(order)) - 1]
    for i, j in np.argwhere(np.triu(different)):
        one, other = 1 << place[int(i)], 1 << place[int(j)]
        both = one | other
        split = [s for s in sets if s & both == both]
        kept = [s for s in sets if s & both != both]
        for half in (half for s in split for half in (s ^ one, s ^ other)):
            if not any(half & s == half for s in kept):
                kept = [s for s in kept if s & half != s] + [half]
        sets = kept
    members = [tuple(bit for bit in range(len(order)) if s >> bit & 1) for s in sets]
    return [tuple(order[bit] for bit in bits) for bits in sorted(members)]


def letters(different: Bool[np.ndarray, "n n"]) -> list[str]:
    """Of n models, best first, the sets of `groups` that each is in, as letters: the best one is in a."""
    sets = groups(different, range(len(different)))
    names = [ascii_lowercase[k] if k < 26 else f"({k + 1})" for k in range(len(sets))]
    return ["".join(name for name, of in zip(names, sets, strict=True) if k in of) for k in range(len(different))]


def ranks(resampled: Resampled, level: float = 0.95) -> Ranks:
    """How each model ranks, with intervals from its differences to all others (Mogstad, Romano, Shaikh and Wilhelm,
    Review of Economic Studies 91, 2024).

    A model has as many above it as are shown to be better, and no fewer than all below it but those shown to be worse.
    "Shown" holds for all comparisons of a model, or of all models, together: a difference in standard errors exceeds
    the quantile of the greatest one among normal draws with the models' covariances. Comparisons that are shown are
    left out, and the rest tried again, until no more are (Romano and Wolf, Econometrica 73, 2005).
    """
    n = len(resampled.models)
    best, worst = competition_ranks(resampled.estimate[None])
    rank = (best[0] + worst[0]) / 2
    first, second = np.triu_indices(n, 1)
    if n == 1 or resampled.reason:
        whole = np.ones(n, np.int64), np.full(n, n)
        return Ranks(rank, *whole, *whole, resampled.reason)
    _, errors = resampled.difference(first, second, level)
    draws = _normal_draws(resampled, first, second)
    better = _shown(errors, draws, level)
    low, high = 1 + np.bincount(second[better[0]], minlength=n), n - np.bincount(first[better[0]], minlength=n)
    low, high = low + np.bincount(first[better[1]], minlength=n), high - np.bincount(second[better[1]], minlength=n)
    alone = np.empty((2, n), np.int64)
    for model in range(n):
        pairs = np.flatnonzero((first == model) | (second == model))
        sign = np.where(first[pairs] == model, 1, -1).astype(np.float32)
        above, below = _shown(sign * errors[pairs], sign * draws[:, pairs], level)
        alone[:, model] = 1 + below.sum(), n - above.sum()
    return Ranks(rank, np.minimum(low, best[0]), np.maximum(high, worst[0]), *alone)


class MeanRanks(NamedTuple):
    """Of each model the mean of its ranks in several columns, and bounds that hold for one model at a time."""

    rank: Float64[np.ndarray, " models"]
    low: Float64[np.ndarray, " models"]
    high: Float64[np.ndarray, " models"]


def mean_ranks(
    estimate: Float64[np.ndarray, "columns models"],
    blocks: Sequence[tuple[Sequence[int], Resampled | None]],
    weight: Float64[np.ndarray, " columns"],
    level: float = 0.95,
    *,
    draws: int = PERMUTATIONS,
) -> MeanRanks:
    """The mean rank of each model over columns, which are given and not drawn again.

    blocks  columns that were tested on the same images, and how their scores vary: models column by column; None where
            that is not known, and every rank in them is possible
    weight  of each column; 1 in sum
    draws   of the differences of a model to all others, at most

    As `ranks` has it, but of the differences of a model to all others in all columns at once: the places that they
    leave hold in all columns together, so their mean over columns bounds that of the ranks. Blocks are independent.
    """
    columns, n = estimate.shape
    best, worst = competition_ranks(estimate)
    low, high = np.ones((n, columns)), np.full((n, columns), float(n))
    known = [(list(places), found) for places, found in blocks if found is not None and not found.reason]
    pairs = sum(len(places) for places, _ in known) * (n - 1)
    size = max(1_000, min(draws, MOST_DRAWS // max(pairs, 1)))
    for model in range(n) if n > 1 and known else ():
        others = np.delete(np.arange(n), model)
        errors, normal, at = [], [], []
        for number, (places, found) in enumerate(known):
            first = np.repeat(np.arange(len(places)) * n + model, n - 1)
            second = (np.arange(len(places))[:, None] * n + others).ravel()
            errors.append(found.difference(first, second, level)[1])
            normal.append(_normal_draws(found, first, second, size=size, seed=(found.seed, number)))
            at += [(column, other) for column in places for other in others.tolist()]
        above, below = _shown(np.concatenate(errors), np.concatenate(normal, axis=1), level)
        in_column = np.array([column for column, _ in at])
        low[model] = 1 + np.bincount(in_column[below], minlength=columns)
        high[model] = n - np.bincount(in_column[above], minlength=columns)
    rank = (best + worst) / 2
    low, high = np.minimum(low.T, best), np.maximum(high.T, worst)
    return MeanRanks(weight @ rank, weight @ low, weight @ high)


def _shown(
    errors: Float64[np.ndarray, " pairs"], draws: Float32[np.ndarray, "b pairs"], level: float
) -> Bool[np.ndarray, "2 pairs"]:
    """Of which pairs the first is shown to be better, and of which it is shown to be worse."""
    sides = np.stack([errors, -errors])
    shown = np.zeros(sides.shape, bool)
    while not shown.all():
        largest = np.full(len(draws), -np.inf, np.float32)
        for sign, left in zip((1, -1), ~shown, strict=True):
            if left.any():
                largest = np.maximum(largest, (sign * draws[:, left]).max(axis=1))
        further = (sides > np.quantile(largest, level, method="higher")) & ~shown
        if not further.any():
            break
        shown |= further
    return shown


def _normal_draws(
    resampled: Resampled,
    first: Int[np.ndarray, " pairs"],
    second: Int[np.ndarray, " pairs"],
    *,
    size: int | None = None,
    seed: tuple[int, int] | None = None,
) -> Float32[np.ndarray, "b pairs"]:
    """Differences in standard errors of equal models: Student's t with the models' covariances."""
    stream = np.random.default_rng(resampled.seed if seed is None else seed)
    size = size or max(1, min(resampled.resamples, MOST_DRAWS // len(first)))
    values, vectors = np.linalg.eigh(resampled.covariance())
    normal = stream.normal(size=(size, len(values))) @ (vectors * np.sqrt(np.clip(values, 0, None))).T
    found = resampled.contrast(first, second)
    freedom = float(found.freedom.min())
    if np.isfinite(freedom):
        normal *= np.sqrt(freedom / stream.chisquare(freedom, (size, 1)))
    error = np.sqrt(np.where(found.variance > 0, found.variance, np.inf))
    return ((normal[:, first] - normal[:, second]) / error).astype(np.float32)


def _t_test(
    errors: Float64[np.ndarray, " pairs"], freedom: Float64[np.ndarray, " pairs"]
) -> Float64[np.ndarray, " pairs"]:
    """Two-sided p-values; never 0."""
    finite = np.where(np.isfinite(freedom), freedom, 1)
    p = 2 * np.where(np.isfinite(freedom), stdtr(finite, -np.abs(errors)), ndtr(-np.abs(errors)))
    return np.clip(p, np.finfo(float).tiny, 1)


def competition_ranks(
    values_BM: Float64[np.ndarray, "b models"],
) -> tuple[Int[np.ndarray, "b models"], Int[np.ndarray, "b models"]]:
    """The best and the worst rank of each model in each row; they differ for equals."""
    values = np.round(values_BM, 12)  # equal but for their order of adding is equal
    above = [(values > values[:, [m]]).sum(axis=1) for m in range(values.shape[1])]
    level = [(values == values[:, [m]]).sum(axis=1) for m in range(values.shape[1])]
    best = 1 + np.stack(above, axis=1)
    return best, best + np.stack(level, axis=1) - 1


def _terms(table: Table, resampled: Resampled) -> Float64[np.ndarray, "units models"] | None:
    """What each unit whose sign may be flipped adds to the statistic; None where it is not such a sum."""
    if "tasks" in resampled.over:
        return np.nan_to_num(resampled.by_task) * resampled.weight[:, None]
    if "draws" in resampled.over:
        return None
    if resampled.metric == "accuracy":  # linear in the scores of its draws
        table = table.averaged()
    total = np.zeros((len(table.units), len(table.model)))
    for task, weight in enumerate(resampled.weight):
        terms = METRICS[resampled.metric].terms(table, task)
        if terms is None:
            return None
        np.add.at(total, table.unit[table.of_task(task)], weight * terms)
    return np.stack([total[:, table.columns_of(m)].mean(axis=1) for m in range(len(table.models))], axis=1)


def _flipped(
    terms_UM: Float64[np.ndarray, "units models"],
    first: Int[np.ndarray, " pairs"],
    second: Int[np.ndarray, " pairs"],
    flips: int,
    seed: int,
) -> Float64[np.ndarray, " pairs"]:
    """p-values of the pairs' differences under flips of signs by unit."""
    terms_UM = terms_UM[np.ptp(terms_UM, axis=1) > 0]  # where all models are the same, flips change nothing
    sums, size = terms_UM.sum(axis=0), np.abs(terms_UM).sum(axis=0)
    bound = np.abs(sums[first] - sums[second]) - ROUNDING * (size[first] + size[second])

    def hits(start: int) -> Int[np.ndarray, " pairs"]:
        stream = np.random.default_rng([seed, start])
        rounds = min(CHUNK, flips - start)
        signs = stream.integers(0, 2, (rounds, len(terms_UM)), dtype=np.int8).astype(float) * 2 - 1
        flipped = signs @ terms_UM
        return (np.abs(flipped[:, first] - flipped[:, second]) >= bound).sum(axis=0)

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cpu_count()) as pool:
        total = sum(pool.map(hits, range(0, flips, CHUNK)), start=np.zeros(len(first), np.int64))
    return (1 + total) / (1 + flips)


def _mcnemar(
    table: Table, resampled: Resampled, first: Int[np.ndarray, " pairs"], second: Int[np.ndarray, " pairs"]
) -> Float64[np.ndarray, " pairs"] | None:
    """Two-sided exact p-values: how uneven a fair coin would split the items that one of the two alone has right."""
    if resampled.metric != "accuracy" or len(table.units) != len(table) or "tasks" in resampled.over:
        return None
    right_NM = table.averaged().fields["score"].T
    if not np.isin(right_NM, (0, 1)).all():
        return None
    alone = right_NM.T @ (1 - right_NM)  # [i, j]: items that i has right and j has wrong; whole numbers, so exact
    fewer = np.minimum(alone[first, second], alone[second, first])
    p = 2 * bdtr(fewer, (alone[first, second] + alone[second, first]).astype(np.int64), 0.5)
    return np.clip(p, np.finfo(float).tiny, 1)
