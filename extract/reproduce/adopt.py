"""Adopting: when only the code differs from an existing space, a sample decides whether its rows serve here."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from bb.extract.pipeline.extractor import VERSIONS, Extractor
from bb.extract.reproduce.sample import Images, Sampler
from bb.store import FeatureSpace, Store
from bb.store.format.adopted import Adopted, differing_fields
from bb.store.format.space import short
from bb.store.format.tolerance import relative_distance, tolerance_of
from bb.store.versions import versions

SAMPLE = 64  # images, where the older space holds as many that are available


@dataclass(frozen=True)
class Trial:
    """What the sample said of an older space.

    fills     available images that the newer space does not have and the older one has
    compared  images that were embedded again
    differ    of these, how many are farther apart than the tolerance
    greatest  the largest relative distance
    """

    newer: FeatureSpace
    older: FeatureSpace
    fills: int
    compared: int
    differ: int
    greatest: float
    tolerance: float

    @property
    def adopted(self) -> bool:
        return self.compared > 0 and self.differ == 0

    def describe(self) -> str:
        """For people."""
        alone = f"space {short(self.older.key)} differs from {short(self.newer.key)} in the code alone"
        if self.compared == 0:
            return f"not adopted: {alone}, but no image could be embedded again to compare them"
        allowed = f"{self.greatest:.2g} at most, {self.tolerance:g} is allowed"
        if self.adopted:
            equal = f"{self.compared} images embedded again differ by {allowed}"
            return f"adopted: {alone}; {equal}, so its rows serve for {self.fills} images"
        otherwise = f"{self.differ} of {self.compared} images embedded again come out otherwise, by {allowed}"
        return f"not adopted: {alone}; {otherwise}, so what is missing is computed"


def candidates(store: Store, space: FeatureSpace, images: Images) -> list[tuple[FeatureSpace, int]]:
    """Spaces that differ in the code alone and hold available images which `space` does not have; how many, the most
    first."""
    digests = images.digests()
    missing = ~store.has(space, digests)
    if not missing.any():
        return []
    known = {space.key, *(older.key for older in store.predecessors(space))}
    found = []
    for other in store.spaces():
        if other.key not in known and differing_fields(space, other) == ["code"]:
            fills = int((store.has(other, digests) & missing).sum())
            if fills:
                found.append((other, fills))
    return sorted(found, key=lambda pair: (-pair[1], pair[0].key))


def adopt(store: Store, extractor: Extractor, images: Images) -> Iterator[Trial]:
    """Tries every candidate that would fill something, and publishes the record of each that is found equal."""
    sampler = Sampler(extractor, images)
    for space in extractor.spaces:
        tried: set[str] = set()
        while left := [pair for pair in candidates(store, space, images) if pair[0].key not in tried]:
            older, fills = left[0]
            tried.add(older.key)
            yield _try(store, sampler, space, older, fills)


def sample_order(digests: list[bytes]) -> list[bytes]:
    """By SHA-256 of the image digest: the same sample anywhere, whatever the images' order or names."""
    return sorted(digests, key=lambda digest: hashlib.sha256(digest).digest())


def _try(store: Store, sampler: Sampler, newer: FeatureSpace, older: FeatureSpace, fills: int) -> Trial:
    pairs = sampler.pairs(store, older, sample_order(sampler.images.held(store, older)), SAMPLE)
    distance, allowed = relative_distance(pairs.made, pairs.stored), tolerance_of(newer)
    greatest = float(np.max(distance, initial=0.0))
    trial = Trial(newer, older, fills, len(pairs.keys), int((distance > allowed).sum()), greatest, allowed)
    if trial.adopted:
        provenance = {
            "versions": versions(VERSIONS),
            "device": sampler.extractor.numerics.device_name(),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        sample = tuple(key.hex() for key in pairs.keys)
        codes = (older.code, newer.code)
        store.put_adopted(Adopted(older.key, newer.key, codes, sample, greatest, allowed, provenance), newer)
    return trial
