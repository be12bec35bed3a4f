"""Which rows to label next: those whose class is least certain, different from each other, or a cover of all.

margin   Of the rows looked at, the candidates are those with the least margin between their two best classes, about
         five for each that is asked for; k-means parts them and each part gives the row nearest its centre (Zhdanov
         2019, "Diverse mini-batch Active Learning", arXiv 1901.05954; without weights).
cluster  k-means of the rows looked at, with as many parts as there are labels and questions together; the largest parts
         with the fewest labels give the row nearest their centre (after TypiClust, Hacohen et al. 2022, arXiv
         2202.02794).
rare     The rows that a one-against-all classifier puts deepest into a class.
random   A sample.

With each of them a share of the rows is drawn at random: accuracy is measured on these alone, since rows that are asked
for because they are hard say nothing of the others (probe/labelling/how_chosen.py). Features are compared by cosine,
less their mean. Rows that are not drawn are not nearer than NEAR to one that is labelled or asked for already, as long
as others are left. Those that were drawn don't count for this, nor for what is hard (`fitted_on`).
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8, UInt64
from threadpoolctl import threadpool_limits

from bb.probe.classifiers.multiclass.ridge import Ridge
from bb.probe.labelling.active_learning.half_kernels import to_single
from bb.store.errors import UsageError

STRATEGIES = ("margin", "cluster", "random", "rare")
RANDOM, RANDOM_SHARE = "random", 0.2
LOOKED_AT = 2**17  # rows that margin and cluster look at; of more a sample
CLUSTERED = 2**13  # rows that k-means looks at
CENTRES = 512  # most parts of k-means
CANDIDATES, SHARE = 5, 4  # candidates for each question, and the largest share of all rows: a quarter
NEAR = 0.95  # cosine from which on two rows are one question
WIDEST = 32  # how many times as many are looked at where most are near-duplicates
BLOCK = 2**15  # rows that are read at once
_SUB = 2**11  # rows that are float32 at once
_MEAN = 2**12  # rows that the mean is taken of
_ROUNDS = 8  # of k-means

Read: TypeAlias = Callable[[Int64[np.ndarray, " m"]], Float[np.ndarray, "m d"]]


@dataclass(frozen=True)
class Strategy:
    """How to choose: a name of STRATEGIES; of `rare` the class, too."""

    name: str
    rare: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Strategy":
        """`margin`, `cluster`, `random`, or `rare:CLASS` (also `rare CLASS`). Errors: UsageError for another."""
        name, rare = (text[:4], text[5:]) if text[:5] in ("rare:", "rare ") else (text, "")
        if name not in STRATEGIES or (name == "rare") != bool(rare):
            raise UsageError(f"--strategy {text!r} is unknown: choose margin, cluster, random or rare:CLASS.")
        return cls(name, rare or None)

    def __str__(self) -> str:
        return f"rare:{self.rare}" if self.rare else self.name


@dataclass(frozen=True, eq=False)
class Chosen:
    """Rows in the order in which they should be labelled.

    rows      numbers as `choose` takes them
    guess     the likeliest class of each, -1 where nothing is fitted
    margin    decision of the likeliest class less that of the next, NaN where nothing is fitted
    drawn     whether each was drawn at random
    strategy  what the others were chosen by: `cluster` where a classifier can't be fitted yet
    """

    rows: Int64[np.ndarray, " n"]
    guess: Int64[np.ndarray, " n"]
    margin: Float64[np.ndarray, " n"]
    drawn: Bool[np.ndarray, " n"]
    strategy: Strategy

    @property
    def suggested_by(self) -> list[str]:
        return [RANDOM if drawn else str(self.strategy) for drawn in self.drawn.tolist()]


def choose(
    read: Read,
    free: Int64[np.ndarray, " f"],
    known: Float[np.ndarray, "k d"],
    y: Int64[np.ndarray, " k"],
    n: int,
    strategy: Strategy,
    *,
    rare: int = -1,
    seed: int = 0,
    random_share: float = 0.0,
    order: UInt64[np.ndarray, " f"] | None = None,
    before: tuple[int, int] = (0, 0),
) -> Chosen:
    """The `n` rows of `free` to label next, fewer where there are fewer; the same for the same seed.

    read   features of some rows, any float dtype; it is called from two threads
    free   rows that may be asked for, ascending
    known  features of labelled rows, of which y are the classes, below 0 where unknown: only not asked for again
    rare   the class of y that the strategy `rare` looks for
    random_share  of these rows, which are drawn at random; they are strewn in evenly (`random_turns`)
    order  of free rows, the least is drawn first (`random_order`); by default any that the seed gives
    """
    rng = np.random.default_rng(seed)
    classes = y[y >= 0]
    fitted = len(np.unique(classes)) > 1
    if strategy.name == "margin" and not fitted:
        strategy = Strategy("cluster")
    n = min(n, len(free))
    turn = random_turns(before, n, 1.0 if strategy.name == RANDOM else random_share)
    order = order if order is not None else rng.permutation(len(free)).astype(np.uint64)
    first = np.argsort(order, kind="stable")[: turn.sum()]
    drawn, free, n = free[first], np.delete(free, first), n - int(turn.sum())
    pool = free if strategy.name == "rare" else _sample(free, LOOKED_AT, rng)
    space = _Space.of(to_single(read(_sample(pool, _MEAN, rng))) if len(pool) else np.zeros((1, known.shape[1]), "f4"))
    labelled = space(known)
    model = Ridge().fit(labelled[y >= 0], classes) if fitted else None
    scores = _Scores(len(pool))
    if model and strategy.name in ("margin", "rare"):
        weights = model.coef_.astype(np.float32), model.intercept_.astype(np.float32)
        scores.fill(read, pool, space, *weights, column=rare_column(model, rare) if rare >= 0 else None)
    match strategy.name:
        case _ if not n:
            rows = free[:0]
        case "cluster":
            rows = _cover(read, pool, labelled, n, space, rng)
        case "rare":
            rows = _most(read, pool, -scores.decision, labelled, n, space)
        case _:
            rows = _uncertain(read, pool, scores.decision, labelled, n, space, rng)
    asked = np.empty(len(turn), np.int64)
    asked[turn], asked[~turn] = drawn, rows
    guess, margin = np.full(len(asked), -1), np.full(len(asked), np.nan)
    if model and len(asked):
        decision = model.decision_function(space(read(asked)))
        ranked = np.sort(decision, axis=1)
        guess, margin = model.classes_[decision.argmax(axis=1)], ranked[:, -1] - ranked[:, -2]
    return Chosen(asked, guess.astype(np.int64), margin, turn, strategy)


def fitted_on(y: Int64[np.ndarray, " k"], drawn: Bool[np.ndarray, " k"], rare: int = -1) -> Bool[np.ndarray, " k"]:
    """Which of the labelled rows may have a say in what is asked for: those not drawn at random, if they suffice.

    Else rows would be asked for that are hard but for the drawn ones' labels, so these would be harder to predict
    without theirs than further rows are, and accuracy on them too low. y: below 0 where unlabelled.
    """
    classes = np.unique(y[(y >= 0) & ~drawn])
    return ~drawn if len(classes) > 1 and (rare < 0 or rare in classes) else np.ones(len(y), bool)


def random_turns(before: tuple[int, int], n: int, share: float) -> Bool[np.ndarray, " n"]:
    """Which of the next n images are drawn at random, so that of all together, small batches too, a share is.

    before  how many were asked for so far, and how many of these were drawn
    """
    asked, drawn = before
    turn = np.zeros(n, bool)
    for i in range(n):
        turn[i] = share * (asked + i + 1) >= drawn + 1
        drawn += int(turn[i])
    return turn


def check_random_share(share: float) -> None:
    """Errors: UsageError for what is not a share."""
    if not 0 <= share <= 1:
        raise UsageError(f"--random-share {share:g} is not a share: choose one from 0 to 1, such as {RANDOM_SHARE}.")


def random_order(digests: UInt8[np.ndarray, "n 32"], seed: int) -> UInt64[np.ndarray, " n"]:
    """A number for each image, by its SHA-256 and the seed alone: those with the least are a sample of any collection.

    The first 64 bits through splitmix64 (Steele, Lea and Flood 2014), which is one to one.
    """
    state = np.ascontiguousarray(digests[:, :8]).view(np.uint64)[:, 0] + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    return state ^ (state >> np.uint64(31))


def rare_column(model: Ridge, rare: int) -> int:
    """Which decision is that of a class."""
    return int(np.flatnonzero(model.classes_ == rare)[0])


@dataclass(frozen=True, eq=False)
class _Space:
    """Unit vectors less a mean, of unit length again; a row that is the mean is zero."""

    mean: Float32[np.ndarray, " d"]

    @classmethod
    def of(cls, x: Float32[np.ndarray, "n d"]) -> "_Space":
        return cls(_unit(x).mean(axis=0))

    def __call__(self, x: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        return _unit(_unit(to_single(x)) - self.mean)


def _unit(x: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    length = np.sqrt(np.einsum("nd,nd->n", x, x))[:, None]
    return x * np.divide(1, length, out=np.zeros_like(length), where=length > 1e-6)


class _Scores:
    """Of each row of the pool the margin between its two best classes, or less the decision for one class."""

    def __init__(self, n: int) -> None:
        self.decision = np.zeros(n, np.float32)

    def fill(
        self,
        read: Read,
        pool: Int64[np.ndarray, " p"],
        space: _Space,
        coef: Float32[np.ndarray, "c d"],
        intercept: Float32[np.ndarray, " c"],
        column: int | None,
    ) -> None:
        """Reads the pool once, in two threads. With weights w and mean m, w·(u - m)/|u - m| of the unit vector u of x
        needs x·w, x·m and |x| alone, so that no row is made ready.
        """
        if column is not None and len(coef) > 1:
            coef, intercept = coef[column : column + 1], intercept[column : column + 1]
        along = np.vstack([coef, space.mean[None]]).T.copy()
        offset, square = coef @ space.mean, float(space.mean @ space.mean)

        def score(start: int) -> None:
            x = read(pool[start : start + BLOCK])
            for at in range(0, len(x), _SUB):
                single = to_single(x[at : at + _SUB])
                dots = single @ along
                length = np.sqrt(np.einsum("nd,nd->n", single, single))
                dots *= np.divide(1, length, out=np.zeros_like(length), where=length > 1e-6)[:, None]
                apart = np.sqrt(np.maximum((length > 1e-6) - 2 * dots[:, -1] + square, 1e-12))
                decision = (dots[:, :-1] - offset) / apart[:, None] + intercept
                place = slice(start + at, start + at + len(single))
                if column is not None:
                    self.decision[place] = decision[:, 0]
                else:
                    two = np.partition(decision, -2, axis=1)[:, -2:]
                    self.decision[place] = two[:, 1] - two[:, 0]

        with threadpool_limits(1, "blas"), ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as threads:
            list(threads.map(score, range(0, len(pool), BLOCK)))


def _uncertain(
    read: Read,
    pool: Int64[np.ndarray, " p"],
    margin: Float32[np.ndarray, " p"],
    labelled: Float32[np.ndarray, "k d"],
    n: int,
    space: _Space,
    rng: np.random.Generator,
) -> Int64[np.ndarray, " n"]:
    """One row of each part of the candidates, the least margin first."""
    wanted = max(n, min(CANDIDATES * n, len(pool) // SHARE))
    candidates, z, apart = _candidates(read, pool, margin, labelled, wanted, space)
    near = np.empty(0, np.int64)
    if len(apart):
        part, centre = _kmeans(z[apart], n, rng)
        near = apart[_nearest(z[apart], part, centre)]
    return _apart(pool[candidates], z, near, margin[candidates], labelled, n)


def _cover(
    read: Read,
    pool: Int64[np.ndarray, " p"],
    labelled: Float32[np.ndarray, "k d"],
    n: int,
    space: _Space,
    rng: np.random.Generator,
) -> Int64[np.ndarray, " n"]:
    """The row nearest the centre of each of the largest parts with the fewest labels."""
    k = min(len(labelled) + n, max(CENTRES, n))
    rows = _sample(pool, min(CLUSTERED, max(4 * k, CLUSTERED * 64 // k)), rng)
    z = space(read(rows))
    part, centre = _kmeans(z, k, rng)
    size = np.bincount(part, minlength=len(centre))
    owned = np.bincount(_part_of(labelled, centre), minlength=len(centre)) if len(labelled) else np.zeros_like(size)
    near = _nearest(z, part, centre)
    order = near[np.lexsort((-size[part[near]], owned[part[near]]))]
    closeness = -np.einsum("nd,nd->n", z, centre[part])  # where the parts do not give enough
    return _apart(rows, z, order[:n], closeness, labelled, n, ordered=True)


def _most(
    read: Read,
    pool: Int64[np.ndarray, " p"],
    cost: Float32[np.ndarray, " p"],
    labelled: Float32[np.ndarray, "k d"],
    n: int,
    space: _Space,
) -> Int64[np.ndarray, " n"]:
    best, z, _ = _candidates(read, pool, cost, labelled, n, space)
    return _apart(pool[best], z, np.empty(0, np.int64), cost[best], labelled, n)


def _candidates(
    read: Read,
    pool: Int64[np.ndarray, " p"],
    cost: Float32[np.ndarray, " p"],
    labelled: Float32[np.ndarray, "k d"],
    wanted: int,
    space: _Space,
) -> tuple[Int64[np.ndarray, " c"], Float32[np.ndarray, "c d"], Int64[np.ndarray, " a"]]:
    """Places of least cost, ascending, their vectors, and which of them are `wanted` that are not near-duplicates.

    More are looked at while near-duplicates take the places, up to WIDEST times as many.
    """
    size = wanted
    while True:
        places = np.sort(_least(cost, size))
        z = space(read(pool[places]))
        blocked, apart = _near_any(z, labelled), list[int]()
        for place in np.argsort(cost[places], kind="stable").tolist():
            if len(apart) < wanted and not blocked[place]:
                apart.append(place)
                blocked |= z @ z[place] > NEAR
        if len(apart) == wanted or size >= min(len(pool), WIDEST * wanted):
            return places, z, np.array(apart, np.int64)
        size = min(2 * size, len(pool))


def _apart(
    rows: Int64[np.ndarray, " c"],
    z: Float32[np.ndarray, "c d"],
    first: Int64[np.ndarray, " q"],
    cost: Float[np.ndarray, " c"],
    labelled: Float32[np.ndarray, "k d"],
    n: int,
    *,
    ordered: bool = False,
) -> Int64[np.ndarray, " n"]:
    """n rows: places `first`, then by ascending cost, without those nearer than NEAR to one before or to a labelled
    one while there are others. In this order if `ordered`, else by cost."""
    places = np.concatenate([first, np.setdiff1d(np.argsort(cost, kind="stable"), first, assume_unique=True)])
    rest = places[len(first) :]
    places[len(first) :] = rest[np.argsort(cost[rest], kind="stable")]
    blocked = _near_any(z, labelled)
    taken: list[int] = []
    for place in places.tolist():
        if len(taken) == n:
            break
        if not blocked[place]:
            taken.append(place)
            blocked |= z @ z[place] > NEAR
    more = [place for place in places.tolist() if place not in set(taken)][: n - len(taken)]
    if not ordered:
        taken.sort(key=lambda place: (cost[place], place))
    return rows[[*taken, *more]]


def _near_any(z: Float32[np.ndarray, "c d"], labelled: Float32[np.ndarray, "k d"]) -> Bool[np.ndarray, " c"]:
    near = np.zeros(len(z), bool)
    for start in range(0, len(labelled), _SUB):
        near |= (z @ labelled[start : start + _SUB].T > NEAR).any(axis=1)
    return near


def _kmeans(
    z: Float32[np.ndarray, "c d"], k: int, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, " c"], Float32[np.ndarray, "k2 d"]]:
    """The part of each row and the parts' centres, at most k: k-means++ and a few rounds of Lloyd's."""
    first = [int(rng.integers(len(z)))]
    apart = np.maximum(2 - 2 * z @ z[first[0]], 0).astype(np.float64)
    while len(first) < min(k, len(z)) and apart.max() > 1e-5:
        total = np.cumsum(apart)
        first.append(min(int(np.searchsorted(total, rng.random() * total[-1], side="right")), len(z) - 1))
        apart = np.minimum(apart, np.maximum(2 - 2 * z @ z[first[-1]], 0))
    centre = z[first]
    part = _part_of(z, centre)
    for _ in range(_ROUNDS):
        order = np.argsort(part, kind="stable")
        there, starts = np.unique(part[order], return_index=True)
        sums = np.add.reduceat(z[order], starts, axis=0)
        centre[there] = sums / np.diff([*starts, len(z)])[:, None]
        moved = _part_of(z, centre)
        if (moved == part).all():
            break
        part = moved
    return part, centre


def _part_of(z: Float32[np.ndarray, "c d"], centre: Float32[np.ndarray, "k d"]) -> Int64[np.ndarray, " c"]:
    half = 0.5 * np.einsum("kd,kd->k", centre, centre)
    return np.concatenate([part for part in _parts(z, centre, half)] or [np.empty(0, np.int64)])


def _parts(
    z: Float32[np.ndarray, "c d"], centre: Float32[np.ndarray, "k d"], half: Float32[np.ndarray, " k"]
) -> Iterator[Int64[np.ndarray, " b"]]:
    for start in range(0, len(z), _SUB):
        yield (z[start : start + _SUB] @ centre.T - half).argmax(axis=1)


def _nearest(
    z: Float32[np.ndarray, "c d"], part: Int64[np.ndarray, " c"], centre: Float32[np.ndarray, "k d"]
) -> Int64[np.ndarray, " q"]:
    """Of each part that has rows the one nearest its centre."""
    away = z - centre[part]
    order = np.lexsort((np.einsum("nd,nd->n", away, away), part))
    return order[np.unique(part[order], return_index=True)[1]]


def _least(cost: Float32[np.ndarray, " p"], n: int) -> Int64[np.ndarray, " n"]:
    """The places of the n least, of equal ones the first; in no order."""
    if n >= len(cost):
        return np.arange(len(cost))
    edge = np.partition(cost, n - 1)[n - 1]
    below = np.flatnonzero(cost < edge)
    return np.concatenate([below, np.flatnonzero(cost == edge)[: n - len(below)]])


def _sample(rows: Int64[np.ndarray, " p"], n: int, rng: np.random.Generator) -> Int64[np.ndarray, " n"]:
    """n of the rows in their order, all where there are no more."""
    return rows if n >= len(rows) else rows[np.sort(rng.choice(len(rows), n, replace=False))]
