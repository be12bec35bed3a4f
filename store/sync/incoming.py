"""What the local store has of the images in segments that a pull brings, and whether the rows agree."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bb.store.errors import BBError
from bb.store.files.paths import StorePart
from bb.store.format.collection import some
from bb.store.format.space import FeatureSpace, short
from bb.store.local.replicates import conflicts
from bb.store.local.row_index import RowIndex
from bb.store.local.segment import Segment
from bb.store.local.tier import Tier
from bb.store.store import Store

BAD_ASIDE = "set aside here, since every copy of it is bad: it has NaN, infinite features or two rows of one image"
SET_ASIDE = "set aside by an earlier pull, since its rows disagree with rows here (move it back, or `bb store gc`)"


@dataclass(frozen=True)
class RowsHere:
    """The rows of sound local segments, as they were before a pull or with what it brought.

    serving  the local segments that are read here
    spaces   the feature spaces that the pull brings segments of, by key
    brought  tiers of the segments among them that the pull brought, whose signatures may not have come yet
    """

    store: Store
    serving: Iterable[StorePart]
    spaces: Mapping[str, FeatureSpace]
    brought: Mapping[str, Tier] = field(default_factory=dict)
    _segments: dict[str, list[Segment]] = field(default_factory=dict)
    _indexes: dict[str, RowIndex] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def rows(self, space: FeatureSpace, worst: Tier) -> RowIndex:
        """The rows of a space in segments of this tier and those before it."""
        segments = self._sound(space)
        return RowIndex.build([s for s in segments if self._tier(s) <= worst])

    def disagreement(self, part: StorePart, segment: Segment, tier: Tier) -> str | None:
        """Why a segment that came is not to be read, in words; None where it agrees with what is read here, or is of a
        better tier than what it disagrees with."""
        space = self.spaces[part.owner]
        with self._lock:
            if space.key not in self._indexes:
                family = [space, *self._older(space)]
                segments = [each for member in family for each in self._sound(member)]
                self._indexes[space.key] = RowIndex.build(segments).preferring(
                    {each.digest: self._tier(each) for each in segments}.__getitem__
                )
        index = self._indexes[space.key]
        found = conflicts(index, segment, space)
        here = {pair.read: index.segments.open(pair.read) for pair in found}
        tiers = {digest: self._tier(each) for digest, each in here.items()}
        adopted = {digest: each.manifest["space"] != space.key for digest, each in here.items()}
        # Of one tier, a space's own rows come before adopted ones.
        worse = [pair for pair in found if (tiers[pair.read], adopted[pair.read]) <= (tier, False)]
        if not worse:
            return None
        images = list(dict.fromkeys(image_id for pair in worse for image_id in pair.image_ids))
        read = some([f"{short(pair.read)} ({tiers[pair.read].describe()})" for pair in worse])
        return (
            f"its rows of {len(images)} images differ from those here by up to {max(p.distance for p in worse):.2g}: "
            f"{some(images)}. Those of segment {read} are read on; this segment ({tier.describe()}) is set aside in "
            f"aside/{part.folder}"
        )

    def kept_aside(self, part: StorePart, tier: Tier) -> str | None:
        """Why a segment stays in `aside/`, in words; None where it is not there, or another copy of it is of use: what
        `bb store verify --repair` moved there because it was damaged."""
        space = self.spaces.get(part.owner)
        if space is None:
            return None
        for path in self.store.directory.match(f"aside/{part.folder}*"):
            try:
                segment = Segment.open(self.store.root / path, space, digest=part.digest)
                segment.check_digests()
            except (BBError, OSError):
                continue
            try:
                segment.check_rows(space)
            except BBError:
                return BAD_ASIDE
            if self.disagreement(part, segment, tier):
                return SET_ASIDE
        return None

    def with_brought(self, parts: Mapping[StorePart, Tier]) -> "RowsHere":
        """The same with segments that have come."""
        serving = sorted([*self.serving, *parts])
        return RowsHere(self.store, serving, self.spaces, {part.digest: tier for part, tier in parts.items()})

    def _sound(self, space: FeatureSpace) -> list[Segment]:
        """The sound ones among the local segments of a space; a damaged one counts for nothing."""
        if space.key not in self._segments:
            found = []
            for part in self.serving:
                if part.owner == space.key:
                    try:
                        segment = Segment.open(self.store.root / part.folder, space)
                        segment.array("image_sha256")
                    except BBError:
                        continue
                    found.append(segment)
            self._segments[space.key] = found
        return self._segments[space.key]

    def _older(self, space: FeatureSpace) -> list[FeatureSpace]:
        try:
            return self.store.predecessors(space)
        except BBError:  # a damaged one serves nothing
            return []

    def _tier(self, segment: Segment) -> Tier:
        found = self.store.tier("segment", str(segment.manifest["space"]), segment.digest)
        return min(found, self.brought.get(segment.digest, found))
