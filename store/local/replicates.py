"""Rows of one image in several segments: which one is read, and whether the others agree with it.

Of replicates the one is read that was made here, else one that a trusted key has signed, else any other; of equals the
space's own before adopted ones, then the segment of lowest digest. Anyone who publishes can choose a low digest, so the
digest alone must never decide between rows made here and rows from elsewhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Integer

from bb.store.format.collection import some
from bb.store.format.space import FeatureSpace, short
from bb.store.format.tolerance import relative_distance, tolerance_of
from bb.store.local.row_index import RowIndex
from bb.store.local.segment import Segment

BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Disagreement:
    """Two segments whose rows of some images differ beyond the tolerance.

    read, other   digests of the segment whose rows are read, and of the other one
    image_ids     the images, as the other segment names them
    distance      the largest relative distance
    """

    read: str
    other: str
    image_ids: tuple[str, ...]
    distance: float

    def describe(self, space: FeatureSpace) -> str:
        return (
            f"segments {short(self.read)} and {short(self.other)} disagree on {len(self.image_ids)} images by up to "
            f"{self.distance:.2g} ({tolerance_of(space):g} is allowed): {some(self.image_ids)}"
        )


def disagreements(
    index: RowIndex, space: FeatureSpace, positions: Int[np.ndarray, " n"] | None = None
) -> list[Disagreement]:
    """The replicates in an index that are too far from the row that is read; only at these positions, where given."""
    again = index.again
    asked = np.arange(len(again.position))
    if positions is not None:
        asked = np.flatnonzero(np.isin(again.position, positions))
    read = index.segment[again.position[asked]]
    found = []
    for a, b in np.unique(np.stack([read, again.segment[asked]]), axis=1).T:
        if a == b:  # a damaged segment, which `bb store verify` names
            continue
        rows = asked[(read == a) & (again.segment[asked] == b)]
        mine, theirs = index.segments[a], index.segments[b]
        compared = _compare(mine, index.row[again.position[rows]], theirs, again.row[rows], space)
        found += [compared] if compared else []
    return found


def conflicts(index: RowIndex, segment: Segment, space: FeatureSpace) -> list[Disagreement]:
    """Where a segment, whether or not it is in the index, is too far from what is read by the index."""
    position = index.find(segment.keys)
    rows = np.flatnonzero(position >= 0)
    found = []
    for which in np.unique(index.segment[position[rows]]):
        if index.segments.digests[which] == segment.digest:
            continue
        here = rows[index.segment[position[rows]] == which]
        compared = _compare(index.segments[which], index.row[position[here]], segment, here, space)
        found += [compared] if compared else []
    return found


def _compare(
    a: Segment, rows_a: Integer[np.ndarray, " n"], b: Segment, rows_b: Integer[np.ndarray, " n"], space: FeatureSpace
) -> Disagreement | None:
    """Rows of one segment held against rows of another, pair by pair; None where all are near enough."""
    left, right = a.array(space.array), b.array(space.array)
    blocks = _blocks(len(rows_a), left[0].nbytes)
    distance = np.concatenate([relative_distance(left[rows_a[block]], right[rows_b[block]]) for block in blocks])
    far = distance > tolerance_of(space)
    if not far.any():
        return None
    image_ids = tuple(map(str, b.array("image_id")[rows_b[far]]))
    return Disagreement(a.digest, b.digest, image_ids, float(distance.max()))


def _blocks(rows: int, row_bytes: int) -> Iterator[slice]:
    step = max(1, BLOCK_BYTES // row_bytes)  # rows, so that no segment's size makes more memory of them
    return (slice(start, start + step) for start in range(0, rows, step))
