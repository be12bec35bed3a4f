"""Which segment and row holds the features of an image: derived from the segments' keys, in memory or from a file.

A key's 32 bytes are held as four big-endian words, since whole words sort and compare far faster than strings do.
"""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int, Integer, UInt8, UInt64

from bb.store.local.segment import Segment

THREADED_BYTES = 8 * 2**20  # below, starting threads costs more than it saves


class StaleIndex(Exception):
    """An index that was read from a file does not fit the segments: it is to be built from them again."""


@dataclass(frozen=True)
class Segments:
    """Segments in order of precedence, opened when they are asked for."""

    digests: tuple[str, ...]
    open: Callable[[str], Segment]

    def __len__(self) -> int:
        return len(self.digests)

    def __getitem__(self, which: int | np.integer) -> Segment:
        return self.open(self.digests[which])

    def __iter__(self) -> Iterator[Segment]:
        return map(self.open, self.digests)


@dataclass(frozen=True)
class Replicates:
    """Further rows of keys in an index.

    position  (k,) where the key stands in the index, ascending
    segment   (k,) which segment holds the row
    row       (k,) where in that segment
    """

    position: Integer[np.ndarray, " k"] = field(default_factory=lambda: np.empty(0, np.int64))
    segment: Integer[np.ndarray, " k"] = field(default_factory=lambda: np.empty(0, np.int32))
    row: Integer[np.ndarray, " k"] = field(default_factory=lambda: np.empty(0, np.int32))

    def __len__(self) -> int:
        return len(self.position)


@dataclass(frozen=True)
class RowIndex:
    """All rows of a feature space, sorted by key. Of equal keys the row in the first of the segments is read, unless
    `preferring` says otherwise; the others stand in `again`.

    words    (4, m) the keys' words, unique, ascending
    segment  (m,) which segment holds the row
    row      (m,) where in that segment
    again    further rows of the same keys
    checked  whether all of it was made of the segments themselves just now; if not, `gather` holds it against them
    """

    segments: Segments
    words: UInt64[np.ndarray, "4 m"]
    segment: Integer[np.ndarray, " m"]
    row: Integer[np.ndarray, " m"]
    again: Replicates = field(default_factory=Replicates)
    checked: bool = True

    @classmethod
    def build(cls, segments: Sequence[Segment]) -> "RowIndex":
        """Of segments in order of precedence: by ascending digest, for example."""
        lazy = Segments(tuple(s.digest for s in segments), {s.digest: s for s in segments}.__getitem__)
        words = np.concatenate([words_of(s.keys) for s in segments] or [np.empty((4, 0), np.uint64)], axis=1)
        segment = np.repeat(np.arange(len(segments), dtype=np.int32), [s.rows for s in segments])
        row = np.concatenate([np.arange(s.rows, dtype=np.int32) for s in segments] or [np.empty(0, np.int32)])
        return cls(lazy, *_unique(words, segment, row, np.argsort(words[0])))

    @classmethod
    def join(cls, parts: Sequence["RowIndex"], order: Sequence[str] | None = None) -> "RowIndex":
        """One index of several. `order` holds all digests in order of precedence; without it, earlier parts win.

        Raises StaleIndex where one that was read from a file names segments that it does not cover.
        """
        origin = {digest: part.segments.open for part in parts for digest in part.segments.digests}
        for part in parts:
            part.check_bounds(part.segment)
            part.check_replicates()
        digests = tuple(order or origin)
        place = {digest: i for i, digest in enumerate(digests)}
        lazy = Segments(digests, lambda digest: origin[digest](digest))
        words = np.concatenate([w for p in parts for w in (p.words, p.words[:, p.again.position])], axis=1)
        places = [np.array([place[digest] for digest in p.segments.digests], dtype=np.int32) for p in parts]
        segment = np.concatenate(
            [s[which] for s, p in zip(places, parts, strict=True) for which in (p.segment, p.again.segment)]
        )
        row = np.concatenate([r for p in parts for r in (p.row, p.again.row)])
        runs = np.argsort(words[0], kind="stable")  # which merges what is sorted in parts already
        return cls(lazy, *_unique(words, segment, row, runs), checked=all(part.checked for part in parts))

    def preferring(self, rank: Callable[[str], int]) -> "RowIndex":
        """The same rows, of equal keys reading that of lowest rank, and of these that in the first of the segments.

        rank  of a segment's digest; it is asked of segments that share rows with others alone

        Raises StaleIndex as `join` does.
        """
        if not len(self.again):
            return self
        self.check_bounds(self.segment)
        self.check_replicates()
        shared = np.unique(self.again.position)
        position = np.concatenate([shared, self.again.position])
        segment = np.concatenate([self.segment[shared], self.again.segment])
        row = np.concatenate([self.row[shared], self.again.row])
        which, inverse = np.unique(segment, return_inverse=True)
        ranks = np.array([rank(self.segments.digests[i]) for i in which])[inverse]
        order = np.lexsort((row, segment, ranks, position))
        first = np.concatenate([[True], position[order[1:]] != position[order[:-1]]])
        best, rest = order[first], order[~first]
        read_segment, read_row = np.array(self.segment), np.array(self.row)
        read_segment[shared], read_row[shared] = segment[best], row[best]
        again = Replicates(position[rest], segment[rest], row[rest])
        return replace(self, segment=read_segment, row=read_row, again=again)

    def __len__(self) -> int:
        return self.words.shape[1]

    def find(self, digests: UInt8[np.ndarray, "n 32"]) -> Int[np.ndarray, " n"]:
        """Position of each image digest in the index, -1 where the space has no such row."""
        if len(self) == 0 or len(digests) == 0:
            return np.full(len(digests), -1)
        wanted = words_of(digests)
        order = np.argsort(wanted[0])  # so that each search starts where the one before it ended
        wanted = np.take(wanted, order, axis=1)
        position = np.minimum(np.searchsorted(self.words[0], wanted[0]), len(self) - 1)
        there = np.take(self.words, position, axis=1)
        same = (there == wanted).all(axis=0)
        # Keys that agree in their first word alone: chance will not make any, somebody could.
        for i in np.flatnonzero(~same & (there[0] == wanted[0])):
            position[i] = self._search(wanted[:, i], int(position[i]))
            same[i] = position[i] >= 0
        found = np.empty_like(position)
        found[order] = np.where(same, position, -1)
        return found

    def _search(self, wanted: UInt64[np.ndarray, " 4"], start: int) -> int:
        stop = int(np.searchsorted(self.words[0], wanted[0], side="right"))
        place = bisect_left(
            range(len(self)), tuple(wanted.tolist()), start, stop, key=lambda i: tuple(self.words[:, i].tolist())
        )
        return place if place < stop and (self.words[:, place] == wanted).all() else -1

    def gather(self, position: Int[np.ndarray, " n"], array: str) -> np.ndarray:
        """Rows of an array in the order of the positions; each row is copied once, a whole run of one segment never.

        Raises StaleIndex where the segments do not hold the rows that an index read from a file says.
        """
        shares = list(self._shares(position))
        if not self.checked:
            for which, places, rows in shares:
                self._check(which, rows, position[places])
        if len(shares) == 1:
            which, _, rows = shares[0]
            source = self.segments[which].array(array)
            return source[rows[0] : rows[-1] + 1] if _is_run(rows) else source[rows]
        first = self.segments[shares[0][0]].array(array)
        out = np.empty((len(position), *first.shape[1:]), dtype=first.dtype)

        def fill(share: tuple[int, np.ndarray | slice, np.ndarray]) -> None:
            which, places, rows = share
            source = self.segments[which].array(array)
            out[places] = source[rows[0] : rows[-1] + 1] if _is_run(rows) else source[rows]

        if out.nbytes < THREADED_BYTES or out.dtype.hasobject:
            for share in shares:
                fill(share)
        else:
            with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
                list(pool.map(fill, shares))
        return out

    def _shares(
        self, position: Int[np.ndarray, " n"]
    ) -> Iterator[tuple[int, Int[np.ndarray, " k"] | slice, Integer[np.ndarray, " k"]]]:
        """For each segment that holds some: which of the positions, as a slice where they stand together, and rows."""
        segment, row = self.segment[position], self.row[position]
        self.check_bounds(segment)
        cuts = np.flatnonzero(segment[1:] != segment[:-1]) + 1
        if len(np.unique(segment[np.r_[0, cuts]])) == len(cuts) + 1:
            for start, stop in zip([0, *cuts], [*cuts, len(segment)], strict=True):
                yield int(segment[start]), slice(int(start), int(stop)), row[start:stop]
            return
        order = np.argsort(segment, kind="stable")
        cuts = np.flatnonzero(np.diff(segment[order])) + 1
        for places in np.split(order, cuts):
            yield int(segment[places[0]]), places, row[places]

    def origins(self, position: Int[np.ndarray, " n"]) -> list[Segment]:
        """The segments that hold the rows at these positions, each once. Raises StaleIndex as `gather` does."""
        which = np.unique(self.segment[position])
        self.check_bounds(which)
        return [self.segments[i] for i in which]

    def check_bounds(self, segment: Integer[np.ndarray, " n"]) -> None:
        """Raises StaleIndex where numbers of segments, read from a file, are not."""
        if not self.checked and segment.size and (segment.min() < 0 or segment.max() >= len(self.segments)):
            raise StaleIndex

    def check_replicates(self) -> None:
        """Raises StaleIndex where those of an index read from a file name a segment or a place that is not there."""
        self.check_bounds(self.again.segment)
        at = self.again.position
        if not self.checked and at.size and (at.min() < 0 or at.max() >= len(self)):
            raise StaleIndex

    def _check(self, which: int, rows: Integer[np.ndarray, " k"], position: Int[np.ndarray, " k"]) -> None:
        segment = self.segments[which]
        if rows.min() < 0 or rows.max() >= segment.rows:
            raise StaleIndex
        if not np.array_equal(words_of(segment.array("image_sha256")[rows]), self.words[:, position]):
            raise StaleIndex


def words_of(keys: UInt8[np.ndarray, "n 32"]) -> UInt64[np.ndarray, "4 n"]:
    """Keys as four words each, which compare like the bytes do."""
    return np.ascontiguousarray(np.ascontiguousarray(keys).view(">u8").T, dtype=np.uint64)


def _unique(
    words: UInt64[np.ndarray, "4 n"],
    segment: Integer[np.ndarray, " n"],
    row: Integer[np.ndarray, " n"],
    order: Int[np.ndarray, " n"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Replicates]:
    """Sorted by key, one row of each, and the others. `order` sorts the first words, which does where all differ."""
    first, again = words[0][order], Replicates()
    if (first[1:] == first[:-1]).any():
        order = np.lexsort((row, segment, *words[::-1]))
        new = np.concatenate([[True], (words[:, order[1:]] != words[:, order[:-1]]).any(axis=0)])
        rest = order[~new]
        again = Replicates((np.cumsum(new) - 1)[~new], segment[rest], row[rest])
        order = order[new]
    return np.take(words, order, axis=1), segment[order], row[order], again


def _is_run(rows: Integer[np.ndarray, " k"]) -> bool:
    return bool(rows[-1] - rows[0] == len(rows) - 1 and (rows[1:] - rows[:-1] == 1).all())
