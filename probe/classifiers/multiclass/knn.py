"""Weighted nearest neighbours as DINO and DINOv2 vote (facebookresearch/dinov2, dinov2/eval/knn.py).

The neighbours are exact: float64 sums in a fixed order decide (bb.probe.search_kernels). Bounds of 8-bit integers
propose what is measured where they pay (bb.probe.int8_bounds), float32 products elsewhere, and queries that both leave
open are measured against all rows.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from operator import ge
from threading import Event
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64, Shaped
from threadpoolctl import threadpool_info, threadpool_limits

from bb.probe.classifiers.estimator import checked_arrays, checked_classes, checked_features, parameters_of
from bb.probe.int8_bounds import Candidates, Int8Rows, choose_centre, is_possible
from bb.probe.int8_kernels import GALLERY
from bb.probe.search_kernels import measure_cosines, scan_rows, settle_bounded, squares
from bb.store.errors import Malformed

BLOCK = 1024  # queries and training rows of a tile: with twice as many, 10,000 queries are 3 turns of two threads
AT_ONCE = 50  # training rows for each neighbour up to which all distances are computed
SUMS = 1 << 20  # of these at once, on each thread
LARGEST_KEPT = 1 << 26  # bytes of neighbours, and as many of distances, that stay for the next calls
TILE = 20 * GALLERY  # training rows of a tile of bounds
LEAST_BOUNDED = (10_000, 256, 256)  # rows, queries and dimensions from which bounds pay, and twice AT_ONCE
CANDIDATES = 160  # by bounds, beyond twice those asked for
SPARE = 6  # candidates beyond those asked for, and an eighth of these


def nearest_rows(
    x: Float32[np.ndarray, "n d"], queries: Float32[np.ndarray, "m d"], k: int
) -> tuple[Int64[np.ndarray, "m k"], Float64[np.ndarray, "m k"]]:
    """The k nearest rows of each query by cosine distance, nearest first, of equal ones the lower row; the distances.

    k  at most n; distances are in [0, 2], whole multiples of 2^-32, and 1 from a zero vector
    """
    n, d = x.shape
    both = np.concatenate([x, queries])
    square = squares(both)
    norm = np.sqrt(square)
    inverse = np.divide(1, norm, out=np.zeros(len(norm)), where=norm > 0)[:, None]
    if n <= AT_ONCE * k:
        return _nearest_of_all(both, square, n, k)
    rows, distances = np.empty((len(queries), k), np.int64), np.empty((len(queries), k))
    left, sizes = np.arange(len(queries)), (n, len(queries), d)
    if n > 2 * AT_ONCE * k and all(map(ge, sizes, LEAST_BOUNDED)) and is_possible(d):
        left = left[~_settle_by_bounds(both, square, inverse, rows, distances)]
    if not len(left):
        return rows, distances
    kept = min(k + SPARE + k // 8, n + 1)
    no_sequence = np.full(len(both), -1, np.int64)
    slack = (d + 18) * 2.0**-24  # of a float32 sum of d products of unit vectors (Higham, Accuracy and Stability, 3.1)
    units = [(both[a:b] * inverse[a:b]).astype(np.float32) for a, b in pairwise([*range(0, n, BLOCK), n])]

    def answer(first: int) -> None:
        places = left[first : first + BLOCK]
        asking = n + places
        unit = (both[asking] * inverse[asking]).astype(np.float32)
        score = np.full((len(asking), kept), -np.inf, np.float32)
        row = np.full((len(asking), kept), -1, np.int32)
        for b, answering in enumerate(units):
            gallery = np.arange(b * BLOCK, b * BLOCK + len(answering))
            scan_rows(unit @ answering.T, asking, gallery, no_sequence, score, row)
        measured = measure_cosines(both, square, asking, row)
        order = np.lexsort((row, measured))[:, :k]
        rows[places], distances[places] = (np.take_along_axis(of_all, order, 1) for of_all in (row, measured))
        # A row that was dropped scored no more than the worst that was kept, so it is at least so far:
        dropped = 1 - score.min(axis=1).astype(np.float64) - slack
        for q in places[dropped <= distances[places, -1]]:
            of_all = measure_cosines(both, square, np.array([n + q]), np.arange(n)[None])[0]
            rows[q] = np.argsort(of_all, kind="stable")[:k]
            distances[q] = of_all[rows[q]]

    _in_threads(answer, range(0, len(left), BLOCK))
    return rows, distances


def _settle_by_bounds(
    both: Float32[np.ndarray, "b d"],
    square: Float64[np.ndarray, " b"],
    inverse: Float64[np.ndarray, "b 1"],
    rows: Int64[np.ndarray, "m k"],
    distances: Float64[np.ndarray, "m k"],
) -> Bool[np.ndarray, " m"]:
    """Writes the same where bounds of 8-bit integers (bb.probe.int8_bounds) prove it, and returns for which queries.

    Many equal or almost equal rows leave most queries of a block open; then no further block is begun.
    """
    m, k = rows.shape
    n, inverse = len(both) - m, inverse[:, 0]
    wanted, gave_up = 2 * k + CANDIDATES, Event()
    centre = choose_centre(both[:n], inverse[:n])
    order = np.random.default_rng(0).permutation(n).astype(np.int32)
    gallery: dict[int, Int8Rows] = {}
    proven = np.zeros(m, bool)

    def prepare(first: int) -> None:
        some = order[first : first + TILE]
        gallery[first] = Int8Rows.of(both[some], inverse[some], centre, asking=False)

    def answer(first: int) -> None:
        if gave_up.is_set():
            return
        here = slice(first, min(first + BLOCK, m))
        asking = np.arange(n + first, n + here.stop)
        asked = Int8Rows.of(both[asking], inverse[asking], centre, asking=True)
        found = Candidates.of(asked, [gallery[start] for start in range(0, n, TILE)], order, wanted)
        settle_bounded(
            both, square, asking, found.bound, found.row, found.count, found.floor,
            rows[here], distances[here], proven[here],
        )  # fmt: skip
        if proven[here].mean() < 0.5:
            gave_up.set()

    _in_threads(prepare, range(0, n, TILE))
    _in_threads(answer, range(0, m, BLOCK))
    return proven


def _nearest_of_all(
    both: Float32[np.ndarray, "b d"], square: Float64[np.ndarray, " b"], n: int, k: int
) -> tuple[Int64[np.ndarray, "m k"], Float64[np.ndarray, "m k"]]:
    """The same from products with all rows in float64, where k is a large share of them.

    A product is off by less than (d + 18) 2^-52 |x| |y|, so that a distance which is further than that from where
    rounding to a multiple of 2^-32 changes is the exact one; the others, about one in 1,000, are measured.
    """
    x = both.astype(np.float64)
    doubt, bits = (x.shape[1] + 18) * 2.0**-20, int(n).bit_length()
    m, size = len(both) - n, max(64, SUMS // n)
    rows, distances = np.empty((m, k), np.int64), np.empty((m, k))

    def answer(first: int) -> None:
        asking = np.arange(n + first, n + min(first + size, m))
        products = square[asking][:, None] * square[:n]
        with np.errstate(divide="ignore", invalid="ignore"):
            apart = np.clip(1 - x[asking] @ x[:n].T / np.sqrt(products), 0, 2) * 2.0**32
        apart[products == 0] = 2.0**32
        query, row = np.nonzero(np.abs(apart - np.floor(apart) - 0.5) < doubt)
        apart = np.rint(apart, out=apart)
        apart[query, row] = measure_cosines(both, square, asking[query], row[:, None])[:, 0] * 2.0**32
        # One number for distance and row, so that of equal distances the lower row is less.
        key = (apart.astype(np.int64) << bits) + np.arange(n)
        if k < n:
            key = np.partition(key, k - 1, axis=1)[:, :k]
        key.sort(axis=1)
        here = slice(first, first + len(asking))
        rows[here], distances[here] = key & ((1 << bits) - 1), (key >> bits) / 2.0**32

    _in_threads(answer, range(0, m, size))
    return rows, distances


_kept: dict[bytes, tuple[Int64[np.ndarray, "m k"], Float64[np.ndarray, "m k"]]] = {}


def _latest(
    x: Float32[np.ndarray, "n d"], queries: Float32[np.ndarray, "m d"], k: int
) -> tuple[Int64[np.ndarray, "m k"], Float64[np.ndarray, "m k"]]:
    """`nearest_rows`, or what it gave before: runs with other k and probabilities ask for the same ones, of many tasks
    one after the other."""
    key = b"".join(sha256(np.ascontiguousarray(part).data).digest() for part in (x, queries)) + bytes(str(k), "ascii")
    found = _kept.pop(key, None) or nearest_rows(x, queries, k)
    _kept[key] = found  # the last of them all
    while sum(rows.nbytes for rows, _ in _kept.values()) > LARGEST_KEPT:
        del _kept[next(iter(_kept))]
    return found


def _in_threads(answer: Callable[[int], None], firsts: range) -> None:
    """Calls it for each first query, on as many threads as BLAS would take; asking how many takes milliseconds."""
    if len(firsts) < 2:
        for first in firsts:
            answer(first)
        return
    threads = max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        list(pool.map(answer, firsts))


@dataclass(eq=False)
class NearestNeighbours:
    """Votes of the k nearest training rows. Fulfils bb.probe.classifiers.estimator.Estimator.

    k            how many vote
    max_k        the weights are a softmax over that many neighbours (all rows where there are fewer)
    temperature  of the softmax over cosine similarities

    Of equal similarities the lower training row is nearer, of equal votes the lowest class wins.
    """

    k: int = 20
    max_k: int = 200
    temperature: float = 0.07
    targets: ClassVar[frozenset[str]] = frozenset({"classes"})
    classes_: Shaped[np.ndarray, " k"] = field(init=False, repr=False)
    parameters_: dict[str, Any] = field(init=False, repr=False)

    def fit(self, X: Float[np.ndarray, "n d"], y: Shaped[np.ndarray, " rows"]) -> "NearestNeighbours":
        self._x = checked_features(X)
        self.classes_, self._codes = checked_classes(y, len(self._x))
        self.parameters_ = {"k": min(self.k, len(self._x))}
        return self

    def predict(self, X: Float[np.ndarray, "m d"]) -> Shaped[np.ndarray, " m"]:
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def decision_function(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """The sum of the weights of each class's votes."""
        x = checked_features(X, self._x.shape[1])
        rows, distances = _latest(self._x, x, min(self.max_k, len(self._x)))
        weights = np.exp((distances[:, :1] - distances) / self.temperature)
        weights /= weights.sum(axis=1, keepdims=True)
        voters, votes = slice(self.parameters_["k"]), np.zeros((len(x), len(self.classes_)))
        places = np.arange(len(x))[:, None] * len(self.classes_) + self._codes[rows[:, voters]]
        np.add.at(votes.reshape(-1), places.reshape(-1), weights[:, voters].reshape(-1))
        return votes

    def predict_proba(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """Each class's share of the votes."""
        return self.proba_of(self.decision_function(X))

    def proba_of(self, decision: Float64[np.ndarray, "m k"]) -> Float64[np.ndarray, "m k"]:
        return decision / decision.sum(axis=1, keepdims=True)

    def parameters(self) -> dict[str, Any]:
        return parameters_of(self)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"classes": self.classes_, "rows": self._x, "codes": self._codes}

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> "NearestNeighbours":
        found = checked_arrays(arrays, {"rows": "float32 n d", "codes": "int64 n"})
        self.classes_, self._x, self._codes = (found[name] for name in ("classes", "rows", "codes"))
        if self._codes.min() < 0 or self._codes.max() >= len(self.classes_):
            raise Malformed("its rows are of classes that it does not have")
        self.parameters_ = {"k": min(self.k, len(self._x))}
        return self
