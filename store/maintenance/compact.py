"""Merges small segments of a feature space into full ones. What is read stays the same to the last bit.

Of several rows of one image, readers take the one of the lowest tier (store/local/replicates.py), then that in the
segment of
lowest digest, and nobody can choose the digests of merged segments. So segments are merged with those of their own tier
alone, what a trusted key has signed is left as it is, and the merged segments hold, of each image, the row that was
read, and never one of which a segment of that tier that stays has another version. The old ones are set aside only when
the new ones are in place, the highest digest first: then at any moment what is read is either the old row or its copy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from bb.store.files.canonical_json import canonical_json
from bb.store.files.quarantine import set_aside
from bb.store.format.damaged import group_damage
from bb.store.format.space import FeatureSpace
from bb.store.local.row_index import RowIndex
from bb.store.local.segment import Segment
from bb.store.local.tier import Tier
from bb.store.segment_writer import SegmentWriter
from bb.store.store import Store


@dataclass(frozen=True)
class Compacted:
    """What became of a feature space: digests of the segments merged (now aside) and of those made of them."""

    space: FeatureSpace
    merged: tuple[str, ...]
    made: tuple[str, ...]


def compact(store: Store, space: FeatureSpace) -> Compacted:
    """Merges what is not full, where fewer segments come of it. Run again after being killed, it finishes the work.

    Errors: BBError where a segment is damaged or two versions of a row are in one segment; nothing is moved then.
    """
    parts = [_compact(store, space, tier) for tier in (Tier.MADE_HERE, Tier.OTHER)]
    merged, made = (tuple(digest for part in parts for digest in part[which]) for which in (0, 1))
    return Compacted(space, merged, made)


def _compact(store: Store, space: FeatureSpace, tier: Tier) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The digests of the segments of one tier that were merged, and of those made of them."""
    limit = SegmentWriter(store, space, {}).max_rows
    segments = store.segments(space)
    tiers = {segment.digest: store.tier("segment", space.key, segment.digest) for segment in segments}
    index = RowIndex.build(segments).preferring(tiers.__getitem__)
    of_tier = {i for i, segment in enumerate(segments) if tiers[segment.digest] == tier}
    small = _mergeable(index, {i for i in of_tier if segments[i].rows < limit}, of_tier, space)
    taken = _rows_to_keep(index, small, of_tier)
    if -(-len(taken) // limit) >= len(small):
        return (), ()
    for i in small:
        segments[i].check_digests()
    made = [_merge(store, space, index, taken[start : start + limit], tier) for start in range(0, len(taken), limit)]
    merged = sorted((segments[i].digest for i in small if segments[i].digest not in made), reverse=True)
    for digest in merged:
        set_aside(store.root, store.root / "spaces" / space.key / "segments" / digest)
    return tuple(merged), tuple(made)


def _mergeable(index: RowIndex, small: set[int], of_tier: set[int], space: FeatureSpace) -> set[int]:
    """The small segments that can go: not those read for an image of which one that stays has another version."""
    while True:
        clash = {
            int(winner)
            for stays in of_tier - small
            for winner in _disagreeing_winners(index, stays, space)
            if int(winner) in small
        }
        if not clash:
            return small
        small = small - clash


def _disagreeing_winners(index: RowIndex, which: int, space: FeatureSpace) -> Iterator[int]:
    """The segments read instead of `which` for some image of which they hold other bits."""
    segment = index.segments[which]
    position = index.find(np.asarray(segment.keys))
    read_from = index.segment[position]
    for winner in np.unique(read_from[read_from != which]):
        rows = np.flatnonzero(read_from == winner)
        ours = segment.array(space.array)[rows]
        theirs = index.segments[winner].array(space.array)[index.row[position[rows]]]
        if ours.tobytes() != theirs.tobytes():
            yield int(winner)


def _rows_to_keep(index: RowIndex, small: set[int], of_tier: set[int]) -> Int[np.ndarray, " n"]:
    """Positions in the index of the rows read from small segments, in their order; none that a staying one of their
    tier holds."""
    held = np.zeros(len(index), dtype=bool)
    for i in of_tier - small:
        held[index.find(np.asarray(index.segments[i].keys))] = True
    position = np.flatnonzero(np.isin(index.segment, sorted(small)) & ~held)
    return position[np.lexsort((index.row[position], index.segment[position]))]


def _merge(store: Store, space: FeatureSpace, index: RowIndex, position: Int[np.ndarray, " n"], tier: Tier) -> str:
    """Publishes one segment of rows of others. It names no time of its own, so the same rows make the same segment."""
    origins = [index.segments[i] for i in np.unique(index.segment[position])]
    image_ids = index.gather(position, "image_id").tolist()
    keys = np.ascontiguousarray(index.gather(position, "image_sha256"))
    reasons = {segment.digest: segment.damaged for segment in origins}
    damaged = {
        new: reason
        for new, (segment, row) in enumerate(zip(index.segment[position], index.row[position], strict=True))
        if (reason := reasons[index.segments[segment].digest].get(int(row)))
    }
    provenance = {"merged": distinct_origins(origins), **group_damage(damaged)}
    features = index.gather(position, space.array)
    return store.put_segment(space, keys, image_ids, features, provenance, made_here=tier == Tier.MADE_HERE)


MEASURED = ("made", "images_per_second")  # of a provenance: what differs each time that the same is done


def distinct_origins(segments: list[Segment]) -> list[dict[str, Any]]:
    """The provenances of segments, each once, the one made first of those that are otherwise the same."""
    distinct: dict[bytes, dict[str, Any]] = {}
    for origin in (origin for segment in segments for origin in segment.origins):
        facts = canonical_json({key: value for key, value in origin.items() if key not in MEASURED})
        known = distinct.setdefault(facts, origin)
        if str(origin.get("made", "")) < str(known.get("made", "")):
            distinct[facts] = origin
    return [distinct[facts] for facts in sorted(distinct)]
