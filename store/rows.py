"""Which segment and row holds the features of an image: a derived index, built from the segments' keys on opening."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from store.segment import Segment


@dataclass(frozen=True)
class RowIndex:
    """All rows of a feature space, sorted by key. Of equal keys the row in the first of the segments is kept.

    segments  in order of precedence
    keys      (m,) bytes of length 32, unique, ascending
    segment   (m,) which segment holds the row
    row       (m,) where in that segment
    """

    segments: tuple[Segment, ...]
    keys: np.ndarray
    segment: Int[np.ndarray, " m"]
    row: Int[np.ndarray, " m"]

    @classmethod
    def build(cls, segments: Sequence[Segment]) -> "RowIndex":
        """Of segments in order of precedence: by ascending digest, say."""
        ordered = tuple(segments)
        keys = np.concatenate([_as_bytes(s.keys) for s in ordered] or [np.empty(0, dtype="S32")])
        segment = np.repeat(np.arange(len(ordered)), [s.rows for s in ordered])
        row = np.concatenate([np.arange(s.rows) for s in ordered] or [np.empty(0, dtype=np.int64)])
        unique, first = np.unique(keys, return_index=True)  # the first of equals
        return cls(ordered, unique, segment[first], row[first])

    @classmethod
    def join(cls, parts: Sequence["RowIndex"]) -> "RowIndex":
        """One index of several; earlier parts win."""
        return parts[0] if len(parts) == 1 else cls.build([segment for part in parts for segment in part.segments])

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, digests: UInt8[np.ndarray, "n 32"]) -> Int[np.ndarray, " n"]:
        """Position of each image digest in the index, -1 where the space has no such row."""
        if len(self.keys) == 0:
            return np.full(len(digests), -1)
        wanted = _as_bytes(digests)
        position = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[position] == wanted, position, -1)

    def gather(self, position: Int[np.ndarray, " n"], array: str) -> np.ndarray:
        """Rows of an array in the order of the positions; each row is copied once, a whole run of one segment never."""
        segment, row = self.segment[position], self.row[position]
        held_by = np.unique(segment)
        if len(held_by) == 1:
            source = self.segments[held_by[0]].array(array)
            if np.array_equal(row, np.arange(row[0], row[0] + len(row))):
                return source[row[0] : row[0] + len(row)]
            return source[row]
        first = self.segments[held_by[0]].array(array)
        out = np.empty((len(position), *first.shape[1:]), dtype=first.dtype)
        for which in held_by:
            places = np.flatnonzero(segment == which)
            out[places] = self.segments[which].array(array)[row[places]]
        return out


def _as_bytes(digests: UInt8[np.ndarray, "n 32"]) -> np.ndarray:
    """(n, 32) uint8 as (n,) strings of 32 bytes, which numpy sorts and compares like memcmp does."""
    return np.ascontiguousarray(digests).view("S32").reshape(-1)
