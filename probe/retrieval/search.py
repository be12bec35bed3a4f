"""Exact search for the nearest gallery items of each query, in bounded memory, the same on every machine.

Scores come from float32 matrix products of blocks of queries and blocks of gallery, and are off by a bounded
rounding error that depends on the machine. So more candidates are kept than are asked for, those that the error
leaves open are measured in float64, pair by pair and in a fixed order of adding, and the few queries whose kept
candidates may not be all are looked at again in full. Distances are float32; equal ones stand in order of image ID.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from threading import Lock

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64
from joblib import cpu_count
from threadpoolctl import threadpool_limits

from bb.probe.retrieval.labels import RetrievalLabels
from bb.probe.retrieval.ranking import NO_MATCH, Ranking, count_relevant
from bb.probe.search_kernels import measure_pairs, scan_columns, scan_rows, settle, squares
from bb.store.errors import BBError, UsageError

DISTANCES = ("cosine", "euclidean")
BLOCK = 2048  # queries and gallery items of a tile: 16 MiB of scores
SPARE = 6  # candidates that are kept beyond those asked for, and an eighth of these
HEAP_BYTES = 256 * 2**20  # of the candidates of all queries that are searched for at once
KEPT_BYTES = 512 * 2**20  # of blocks made ready for products

Progress = Callable[[int, int], None]
Side = Callable[[int], np.ndarray]


def check_distance(distance: str) -> None:
    """Errors: UsageError for an unknown one."""
    if distance not in DISTANCES:
        raise UsageError(f"unknown distance {distance!r}: choose {' or '.join(DISTANCES)}.")


@dataclass(frozen=True, eq=False)
class Vectors:
    """Features made ready for measuring.

    x        (n, d) float32
    square   (n,) float64 squared norms
    centre   (d,) what euclidean scores are taken around; scale a power of two that leaves no norm above 1
    """

    x: Float32[np.ndarray, "n d"]
    distance: str
    square: Float64[np.ndarray, " n"]
    centre: Float32[np.ndarray, " d"]
    scale: float

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"], items: RetrievalLabels, distance: str = "cosine") -> "Vectors":
        """Features of the items, in their order. Errors: UsageError for another distance, BBError where a feature is
        not finite or is too large to be squared.
        """
        check_distance(distance)
        if len(features) != len(items):
            raise ValueError(f"{len(features)} rows of features for {len(items)} items")
        x = np.ascontiguousarray(features, np.float32)
        square = squares(x)
        if not np.isfinite(square).all():
            bad = np.flatnonzero(~np.isfinite(square))
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            raise BBError(
                f"the features of image {str(items.image_ids[bad[0]])!r}{more} are not finite, so they have no "
                "distance: extract that image again, or leave it out of the labels."
            )
        centre = np.zeros(x.shape[1], np.float32)
        largest = 1.0
        if distance == "euclidean":
            centre = x.mean(axis=0, dtype=np.float64).astype(np.float32)
            largest = float(np.sqrt(square.max(initial=0))) + float(np.linalg.norm(centre.astype(np.float64)))
        power = np.ceil(np.log2(largest)) if largest > 0 else 0.0
        return cls(x, distance, square, centre, float(2.0 ** -np.clip(power, -126, 126)))

    @property
    def is_cosine(self) -> bool:
        return self.distance == "cosine"

    def side(self, rows: Int64[np.ndarray, " b"], *, asking: bool) -> Float32[np.ndarray, "b e"]:
        """A block of one side of a product: that of an asking and an answering side holds scores, higher is nearer.

        Cosine: unit vectors, the score is their cosine. Euclidean: -|x - y|²/2 = x·y - |x|²/2 - |y|²/2, by two further
        columns on either side.
        """
        if self.is_cosine:
            norm = np.sqrt(self.square[rows])
            inverse = np.divide(1, norm, out=np.zeros(len(norm)), where=norm > 0)
            return (self.x[rows] * inverse[:, None]).astype(np.float32)
        block = self._centred(rows)
        half = (squares(block) / 2).astype(np.float32)
        extra = (-half, np.ones_like(half)) if asking else (np.ones_like(half), -half)
        return np.concatenate([block, np.stack(extra, axis=1)], axis=1)

    def slack(self, rows: Int64[np.ndarray, " b"]) -> Float64[np.ndarray, " b"]:
        """How far a score of each asking row may be from the true one: a sum of d products of float32, in any order,
        is off by at most d 2^-24 times the sum of their sizes (Higham, Accuracy and Stability, 3.1), here |x||y| or
        (|x| + |y|)²/2; and a few roundings of the factors and of the distance itself.
        """
        steps = (self.x.shape[1] + 18) * 2.0**-24
        if self.is_cosine:
            return np.full(len(rows), steps)
        return steps * (np.sqrt(squares(self._centred(rows))) + 1) ** 2 / 2

    def _centred(self, rows: Int64[np.ndarray, " b"]) -> Float32[np.ndarray, "b d"]:
        """Scaled first, so that nothing overflows."""
        scale = np.float32(self.scale)
        return self.x[rows] * scale - self.centre * scale

    def measured(self, query: Int64[np.ndarray, " q"], rows: Int64[np.ndarray, "q m"]) -> Float32[np.ndarray, "q m"]:
        """Exact distances of queries to some rows each, inf where a row is -1."""
        return measure_pairs(self.x, self.square, self.is_cosine, query, rows)


def search(
    features: Float[np.ndarray, "n d"],
    items: RetrievalLabels,
    n: int,
    *,
    distance: str = "cosine",
    jobs: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Ranking:
    """The n nearest gallery items of every query, itself and its sequence left out.

    features  (n, d) of the items, in their order; float16 is taken as float32
    distance  "cosine": 1 - cosine, in [0, 2], and 1 from a zero vector; or "euclidean"
    jobs      threads; all cores where None
    progress  gets how many of how many tiles are done
    Errors: see `Vectors.of`; UsageError where n < 1.
    """
    vectors = Vectors.of(features, items, distance)
    parts = list(search_parts(vectors, items, n, jobs=jobs, progress=progress))
    query, nearest, distances, relevant = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("query", "nearest", "distance", "relevant")
    )
    return Ranking(query, nearest, distances, relevant)


def search_parts(
    vectors: Vectors,
    items: RetrievalLabels,
    n: int,
    *,
    jobs: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Iterator[Ranking]:
    """The same in parts of consecutive queries, as large as fits HEAP_BYTES, so that n may be large."""
    if n < 1:
        raise UsageError(f"{n} nearest items make no search; ask for at least 1.")
    relevant, queries = count_relevant(items), items.queries
    wanted = min(n, len(items.gallery))
    kept = min(wanted + SPARE + wanted // 8, len(items.gallery) + 1)
    part = HEAP_BYTES // (kept * 8)
    part = part // BLOCK * BLOCK or max(part, min(BLOCK, 256))
    both = len(queries) <= part and np.array_equal(queries, items.gallery)
    jobs = jobs or cpu_count()
    _, answering = both_sides(vectors, items, jobs)
    starts = range(0, len(queries), part)
    searches = [_Search(vectors, items, queries[start : start + part], answering, both, jobs) for start in starts]
    total, done = sum(len(each.tiles) for each in searches), 0
    for start, each in zip(starts, searches, strict=True):
        nearest, distances = each.run(wanted, kept, partial(_count, progress, done, total))
        done += len(each.tiles)
        if n > wanted:
            nearest = np.pad(nearest, ((0, 0), (0, n - wanted)), constant_values=NO_MATCH)
            distances = np.pad(distances, ((0, 0), (0, n - wanted)), constant_values=np.inf)
        yield Ranking(each.query, nearest, distances, relevant[start : start + part])


def _count(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def tiles_of(queries: int, gallery: int, both: bool) -> list[tuple[int, int]]:
    """Which blocks of queries meet which of the gallery; where both are the same, each two blocks meet once."""
    rows, columns = (range(-(-n // BLOCK)) for n in (queries, gallery))
    return [(i, j) for i in rows for j in columns if j >= i or not both]


def blocks(vectors: Vectors, rows: Int64[np.ndarray, " n"], *, asking: bool, keep: int) -> Side:
    """The blocks of one side of the products, by number; the last `keep` are kept."""

    @lru_cache(keep)
    def block(b: int) -> np.ndarray:
        return vectors.side(rows[b * BLOCK : (b + 1) * BLOCK], asking=asking)

    return block


def both_sides(vectors: Vectors, items: RetrievalLabels, jobs: int) -> tuple[Side, Side]:
    """The blocks of queries, and those of the gallery, which are kept while there is room."""
    room = KEPT_BYTES // (BLOCK * 4 * (vectors.x.shape[1] + 2))
    return (
        blocks(vectors, items.queries, asking=True, keep=2 * jobs),
        blocks(vectors, items.gallery, asking=False, keep=max(2 * jobs, room)),
    )


class _Search:
    """One part of the queries against the whole gallery.

    both  whether the queries are the gallery: then each tile off the diagonal serves both of its sides
    """

    def __init__(
        self, vectors: Vectors, items: RetrievalLabels, query: np.ndarray, answering: Side, both: bool, jobs: int
    ) -> None:
        self.vectors, self.query, self.gallery, self.both, self.jobs = vectors, query, items.gallery, both, jobs
        self.sequence = np.full(len(items), -1, np.int64) if items.sequence is None else items.sequence
        self.tiles = tiles_of(len(query), len(items.gallery), both)
        self.asking, self.answering = blocks(vectors, query, asking=True, keep=2 * jobs), answering

    def block(self, rows: np.ndarray, b: int) -> np.ndarray:
        return rows[b * BLOCK : (b + 1) * BLOCK]

    def run(self, n: int, kept: int, progress: Callable[[int], None]) -> tuple[np.ndarray, np.ndarray]:
        """(q, n) rows and distances."""
        score = np.full((len(self.query), kept), -np.inf, np.float32)
        row = np.full((len(self.query), kept), NO_MATCH, np.int32)
        rows = range(-(-len(self.query) // BLOCK))
        locks = [Lock() for _ in rows]

        def scan(tile: tuple[int, int]) -> None:
            i, j = tile
            query, gallery = self.block(self.query, i), self.block(self.gallery, j)
            scores = self.asking(i) @ self.answering(j).T
            with locks[i]:
                scan_rows(scores, query, gallery, self.sequence, self.block(score, i), self.block(row, i))
            if self.both and i != j:
                with locks[j]:
                    scan_columns(scores, query, gallery, self.sequence, self.block(score, j), self.block(row, j))

        nearest = np.full((len(self.query), n), NO_MATCH, np.int64)
        distance = np.full((len(self.query), n), np.inf, np.float32)
        floor = np.empty(len(self.query))

        def finish(b: int) -> None:
            query = self.block(self.query, b)
            settle(
                self.vectors.x, self.vectors.square, self.vectors.is_cosine, query, self.block(score, b),
                self.block(row, b), self.vectors.slack(query), self.block(nearest, b), self.block(distance, b),
                self.block(floor, b),
            )  # fmt: skip

        with ExitStack() as stack:
            stack.enter_context(threadpool_limits(1, "blas"))
            pool = stack.enter_context(ThreadPoolExecutor(self.jobs))
            for done, _ in enumerate(pool.map(scan, self.tiles), 1):
                progress(done)
            list(pool.map(finish, rows))
            unsure = np.flatnonzero(floor > -np.inf)
            looks = [unsure[start : start + 256] for start in range(0, len(unsure), 256)]
            list(pool.map(lambda some: self.look_again(some, floor[some], nearest, distance), looks))
        return nearest, distance

    def look_again(self, places: np.ndarray, floor: np.ndarray, nearest: np.ndarray, distance: np.ndarray) -> None:
        """All gallery items whose score is above the floor are measured, for queries with more of them than were kept.

        Scores may differ from the first look's by another order of adding; the floor allows for both.
        """
        query = self.query[places]
        asking = self.vectors.side(query, asking=True)
        found: list[list[np.ndarray]] = [[] for _ in places]
        for b in range(-(-len(self.gallery) // BLOCK)):
            gallery = self.block(self.gallery, b)
            scores = asking @ self.answering(b).T
            for q, scores_G in enumerate(scores):
                rows = gallery[scores_G >= floor[q]]
                own = self.sequence[query[q]]
                found[q].append(rows[(rows != query[q]) & ((own < 0) | (self.sequence[rows] != own))])
        for q, parts in enumerate(found):
            rows = np.concatenate(parts)
            distances = self.vectors.measured(query[q : q + 1], rows[None])[0]
            best = np.lexsort((rows, distances))[: nearest.shape[1]]
            nearest[places[q], : len(best)], distance[places[q], : len(best)] = rows[best], distances[best]
