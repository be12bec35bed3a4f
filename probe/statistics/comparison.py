"""Which models differ: differences with intervals, paired tests, corrections for many of them, groups and ranks.

Tests. Where two models are equally good on what was sampled, nothing is lost if their answers change places. So
the paired permutation test flips the signs of the units' differences at random, all items of a unit together, and
counts how often the flipped statistic is as far from 0 as the reported one (Fisher 1935; Good, "Permutation,
Parametric and Bootstrap Tests of Hypotheses", 2005). Units are the table's (distinct images, or groups of them), or
tasks where the claim is about tasks. One flip serves all models: a pair's flipped difference is the difference of two
models' flipped sums, so all pairs cost one matrix product.

A statistic that is no sum over images (F1, average precision, AUROC), or a claim about further few-shot draws, has no
such test; there the bootstrap's own is taken: how often a resample is as far from the reported difference as that is
from 0 (Hall and Wilson, Biometrics 47, 1991; Davison and Hinkley 1997, section 4.4).

Both count the data themselves, (1 + hits) / (1 + resamples), so no p-value is 0 (Phipson and Smyth, SAGMB 9, 2010).

For 0/1 scores of images that serve one task each, McNemar's exact test (Psychometrika 12, 1947) is the limit of the
permutation test for ever more flips, and stands beside it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int
from joblib import cpu_count
from scipy.special import bdtr
from threadpoolctl import threadpool_limits

from probe.bootstrap import CHUNK, Interval, Resampled
from probe.metrics import METRICS
from probe.table import Table
from store.errors import UsageError

Correction = Literal["holm", "bh"]

PERMUTATIONS = 10_000
# Holm multiplies the smallest p-value by the number of pairs: fewer flips than this could call nothing different.
PERMUTATIONS_A_PAIR = 40
ROUNDING = 1e-10  # of the sum of absolute terms: flipped sums that are equal but for their order of adding are equal


@dataclass(frozen=True, eq=False)
class Differences:
    """Pairs of models, by their places: how much better the first is than the second.

    interval  of each difference by itself: not widened for the number of pairs
    test      what `p` is of: "flips of images", "flips of tasks", or "bootstrap"
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
    low, high  bounds of the interval, whole numbers
    """

    rank: Float64[np.ndarray, " models"]
    low: Int[np.ndarray, " models"]
    high: Int[np.ndarray, " models"]


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
    Errors: UsageError for a baseline that is no model.
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
    # Some pairs at a time: the resamples of all 3,570 pairs of 85 models are 286 MB, and are sorted as a copy.
    blocks = np.array_split(np.arange(len(first)), -(-len(first) // 256) or 1)
    shifted, intervals = [], []
    for block in blocks:
        estimate, draws = resampled.of(first[block], second[block])
        intervals.append(resampled.bounds(estimate, draws, level))
        hits = np.abs(draws - estimate) >= np.abs(estimate) - ROUNDING
        shifted.append((1 + hits.sum(axis=0)) / (1 + (~np.isnan(draws)).sum(axis=0)))
    interval = Interval(*(np.concatenate(parts) for parts in zip(*intervals, strict=True)))
    terms = _terms(table, resampled)
    if terms is None:
        test, p = "bootstrap", np.concatenate(shifted)
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


def ranks(resampled: Resampled, level: float = 0.95) -> Ranks:
    """How each model ranks, and the interval of ranks it takes in `level` of the resamples.

    In a resample, equal models take all the ranks between them: the best of these counts for the lower bound and the
    worst for the upper one. The reported rank is always inside.
    """
    estimate, draws = resampled.of(np.arange(len(resampled.models)))
    best, worst = _places(estimate[None])
    best_B, worst_B = _places(draws[~np.isnan(draws).any(axis=1)])
    tail = (1 - level) / 2
    low = np.quantile(best_B, tail, axis=0, method="lower")
    high = np.quantile(worst_B, 1 - tail, axis=0, method="higher")
    return Ranks((best[0] + worst[0]) / 2, np.minimum(low, best[0]), np.maximum(high, worst[0]))


def _places(
    values_BM: Float64[np.ndarray, "b models"],
) -> tuple[Int[np.ndarray, "b models"], Int[np.ndarray, "b models"]]:
    """The best and the worst rank of each model in each row; they differ for equals."""
    values = np.round(values_BM, 12)  # equal but for their order of adding is equal
    above = [(values > values[:, [m]]).sum(axis=1) for m in range(values.shape[1])]
    level = [(values == values[:, [m]]).sum(axis=1) for m in range(values.shape[1])]
    best = 1 + np.stack(above, axis=1)
    return best, best + np.stack(level, axis=1) - 1


def _terms(table: Table, resampled: Resampled) -> Float64[np.ndarray, "units models"] | None:
    """What each unit whose sign may be flipped adds to the statistic; None where it is no such sum."""
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
