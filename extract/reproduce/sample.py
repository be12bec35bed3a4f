"""A sample of images, embedded again: to see whether features that are stored are those that this code makes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8

from extract.collection import Scan
from extract.embed import to_stored
from extract.extractor import Extractor
from extract.lacking import keys_of
from extract.loader import batches, load_images
from extract.source import Source
from store import Collection, Entry, FeatureSpace, Store


@dataclass(frozen=True)
class Images:
    """Images at hand, each once, known by digest; their IDs are collection/ID."""

    entries: dict[bytes, Entry]
    sources: dict[str, Source]

    @classmethod
    def of(cls, scans: Mapping[str, Scan]) -> "Images":
        """Of the scans of some collections, by name; of copies the first counts."""
        entries: dict[bytes, Entry] = {}
        sources: dict[str, Source] = {}
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
class Pairs:
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

    def pairs(self, store: Store, stored_in: FeatureSpace, order: Sequence[bytes], n: int) -> Pairs:
        """The first `n` images of `order` that can be embedded, beside their rows in a space.

        order  digests of images at hand that the space holds
        """
        keys: list[bytes] = []
        tried = 0
        while len(keys) < n and tried < len(order):
            batch = order[tried : tried + n - len(keys)]
            tried += len(batch)
            self._embed([self.images.entries[key] for key in batch if key not in self._made])
            keys += [key for key in batch if key in self._made]
        which = 0 if stored_in.kind == "img" else 1
        rows = [self._made[key][which] for key in keys]
        made = np.stack(rows) if rows else np.empty((0, *stored_in.row_shape), dtype=np.float32)
        failed = {self.images.entries[key].image_id: self._failed[key] for key in order[:tried] if key in self._failed}
        return Pairs(keys, to_stored(made, stored_in), self._stored(store, stored_in, keys), failed)

    def _stored(self, store: Store, space: FeatureSpace, keys: list[bytes]) -> np.ndarray:
        if not keys:
            return np.empty((0, *space.row_shape), dtype=space.dtype)
        collection = Collection.from_entries("sample", [self.images.entries[key] for key in keys])
        return np.asarray(store.read(space, collection, [self.images.entries[key].image_id for key in keys]))

    def _embed(self, entries: list[Entry]) -> None:
        encoder = self.extractor.encoder()
        decoder, geometry = self.extractor.decoder, self.extractor.backbone.view.geometry()
        loaded = load_images(entries, self.images.sources, decoder, geometry, ahead=2 * encoder.size + 8)
        for batch in batches(loaded, encoder.size):
            self._failed |= {image.entry.image_sha256: image.reason for image in batch if image.pixels is None}
            good = [image.entry.image_sha256 for image in batch if image.pixels is not None]
            if good:
                features = encoder(encoder.stack([image.pixels for image in batch if image.pixels is not None]))
                asked_for = [rows for rows, _ in zip(features, self.extractor.spaces, strict=False) if rows is not None]
                self._made |= {key: tuple(rows[i] for rows in asked_for) for i, key in enumerate(good)}


def shuffled(digests: Iterable[bytes], seed: int) -> list[bytes]:
    """A random order that hangs on the seed alone, whatever the order given."""
    ordered = sorted(digests)
    return [ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))]
