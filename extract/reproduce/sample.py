"""A sample of images, embedded again: to see whether features that are stored are those that this code makes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8

from bb.extract.data.image_source import ImageSource
from bb.extract.data.scan import Scan
from bb.extract.embedding.forward import to_stored
from bb.extract.pipeline.embed import open_pipeline
from bb.extract.pipeline.extractor import Extractor
from bb.extract.pipeline.missing import MissingImages, keys_of
from bb.extract.pipeline.pipeline import Failed
from bb.store import Collection, Entry, FeatureSpace, Store


@dataclass(frozen=True)
class Images:
    """Images available, each once, known by digest; their IDs are collection/ID."""

    entries: dict[bytes, Entry]
    sources: dict[str, ImageSource]

    @classmethod
    def of(cls, scans: Mapping[str, Scan]) -> "Images":
        """Of the scans of some collections, by name; of copies the first counts."""
        entries: dict[bytes, Entry] = {}
        sources: dict[str, ImageSource] = {}
        for name, scan in scans.items():
            for entry in scan.entries:
                image_id = f"{name}/{entry.image_id}"
                if entry.image_sha256 not in entries:
                    entries[entry.image_sha256] = Entry(image_id, *entry[1:])
                    sources[image_id] = scan.sources[entry.image_id]
        return cls(entries, sources)

    def digests(self) -> UInt8[np.ndarray, "n 32"]:
        """Image digests, in order."""
        return keys_of(list(self.entries.values()))

    def held(self, store: Store, space: FeatureSpace) -> list[bytes]:
        """Digests of those that a space has rows of."""
        return [digest for digest, has in zip(self.entries, store.has(space, self.digests()), strict=True) if has]


@dataclass(frozen=True)
class RecomputedRows:
    """Rows made now and rows that are stored, of the same images in the same order and dtype.

    keys    image digests
    failed  image ID → reason, of those that could not be embedded
    """

    keys: list[bytes]
    made: Float[np.ndarray, "n ..."]
    stored: Float[np.ndarray, "n ..."]
    failed: dict[str, str]


@dataclass
class Sampler:
    """Embeds images of a sample with one backbone, each at most once, and keeps their features."""

    extractor: Extractor
    images: Images
    _made: dict[bytes, tuple[np.ndarray, ...]] = field(default_factory=dict)
    _failed: dict[bytes, str] = field(default_factory=dict)

    def pairs(self, store: Store, stored_in: FeatureSpace, order: Sequence[bytes], n: int) -> RecomputedRows:
        """The first `n` images of `order` that can be embedded, next to their rows in a space.

        order  digests of available images that the space holds
        """
        keys: list[bytes] = []
        tried = 0
        while len(keys) < n and tried < len(order):
            batch = order[tried : tried + n - len(keys)]
            tried += len(batch)
            made, failures = embed_sample(self.extractor, self.images, [key for key in batch if key not in self._made])
            self._made |= made
            self._failed |= failures
            keys += [key for key in batch if key in self._made]
        which = 0 if stored_in.kind == "img" else 1
        rows = [self._made[key][which] for key in keys]
        x = np.stack(rows) if rows else np.empty((0, *stored_in.row_shape), dtype=np.float32)
        failed = {self.images.entries[key].image_id: self._failed[key] for key in order[:tried] if key in self._failed}
        return RecomputedRows(keys, to_stored(x, stored_in.dtype), self._stored(store, stored_in, keys), failed)

    def _stored(self, store: Store, space: FeatureSpace, keys: list[bytes]) -> np.ndarray:
        if not keys:
            return np.empty((0, *space.row_shape), dtype=space.dtype)
        collection = Collection.from_entries("sample", [self.images.entries[key] for key in keys])
        return np.asarray(store.read(space, collection, [self.images.entries[key].image_id for key in keys]))


def embed_sample(
    extractor: Extractor, images: Images, digests: Iterable[bytes]
) -> tuple[dict[bytes, tuple[Float[np.ndarray, "..."], ...]], dict[bytes, str]]:
    """Features of images as extraction makes them, kept here: by digest, one row for each space; and why others failed.

    Rows are float32, finite or not, where a store would refuse some.
    """
    features: dict[bytes, tuple[np.ndarray, ...]] = {}
    failed: dict[bytes, str] = {}
    entries = [images.entries[digest] for digest in digests]
    if not entries:
        return features, failed
    everything = MissingImages(None, [extractor.spaces], [entries])
    with open_pipeline(everything, [extractor], images.sources, [extractor.encoder]) as pipeline:
        for result in pipeline.outcomes():
            if isinstance(result, Failed):
                failed[everything.entries[result.place].image_sha256] = result.reason
                continue
            kinds = zip(result.features.wait(), extractor.spaces, strict=False)
            asked_for = [rows for rows, _ in kinds if rows is not None]
            for i, place in enumerate(result.places):
                features[everything.entries[place].image_sha256] = tuple(rows[i] for rows in asked_for)
    return features, failed


def shuffled(digests: Iterable[bytes], seed: int) -> list[bytes]:
    """A random order that depends on the seed alone, whatever the order given."""
    ordered = sorted(digests)
    return [ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))]
