"""Writes what one backbone makes of images to a store: the last step on one machine and on a cluster's workers."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from bb.extract.embedding.forward import to_stored
from bb.extract.encoder.encoder import Features
from bb.extract.pipeline.extractor import Extractor
from bb.store import BBError, FeatureSpace, SegmentWriter, Store


@dataclass
class FeatureWriter:
    """A segment writer for each space of a backbone; all name the encoder as it is when a segment closes."""

    extractor: Extractor
    writers: list[SegmentWriter]
    provenance: dict[str, Any]
    _images: int = 0
    _seconds: float = 0.0

    @classmethod
    def open(cls, store: Store, extractor: Extractor) -> "FeatureWriter":
        provenance = extractor.provenance
        return cls(extractor, [SegmentWriter(store, space, provenance) for space in extractor.spaces], provenance)

    @property
    def published(self) -> int:
        """How many segments are published."""
        return sum(len(writer.published) for writer in self.writers)

    def write(
        self,
        image_sha256: UInt8[np.ndarray, "n 32"],
        image_ids: Sequence[str],
        features: Features,
        missing: Mapping[str, Bool[np.ndarray, " n"]],
        damaged: Mapping[int, str],
    ) -> dict[int, str]:
        """Adds to each space the rows of a batch that it misses, and returns why others can't be stored, by row.

        missing  of each space, by key, which rows it misses
        damaged  of rows made of damaged images, what is wrong with the image

        Raises BBError where the network made no features of a space's kind.
        """
        self.provenance["batch_size"] = self.extractor.encoder().size  # it shrinks where memory runs out
        stored, failed = _storable(features, self.extractor.spaces)
        usable = np.array([row not in failed for row in range(len(image_ids))], dtype=bool)
        for writer, rows in zip(self.writers, stored, strict=True):
            kept = [int(row) for row in np.flatnonzero(usable & missing[writer.space.key])]
            all_kept = len(kept) == len(rows)
            writer.add(
                image_sha256[kept],
                [image_ids[row] for row in kept],
                rows if all_kept else rows[kept],
                {i: damaged[row] for i, row in enumerate(kept) if row in damaged},
            )
        return failed

    def timed(self, images: int, seconds: float) -> None:
        """Segments that close from now on say how many images a second the device can put through the network.

        seconds  of the device, for that many images
        """
        self._images, self._seconds = self._images + images, self._seconds + seconds
        if self._seconds > 0:
            self.provenance["images_per_second"] = float(f"{self._images / self._seconds:.2g}")

    def close(self) -> None:
        """Publishes the open segments, each whatever becomes of the others; raises the first error at the end."""
        with ExitStack() as stack:
            for writer in self.writers:
                stack.callback(writer.close)


def _storable(
    features: Features, spaces: Iterable[FeatureSpace]
) -> tuple[list[Float[np.ndarray, "n ..."]], dict[int, str]]:
    """A batch's rows in the dtype of each space, and why rows can't be stored in all of them."""
    stored: list[np.ndarray] = []
    failed: dict[int, str] = {}
    for space, rows in zip(spaces, features, strict=False):
        if rows is None:
            raise BBError(f"the network gave no {space.kind} features for a batch of {len(features[0])} images.")
        stored.append(to_stored(rows, space.dtype))
        failed |= _faults(rows, stored[-1], space.numerics["compute"])
    return stored, failed


def _faults(rows: np.ndarray, stored: np.ndarray, compute: str) -> dict[int, str]:
    axes = tuple(range(1, rows.ndim))
    finite = np.isfinite(rows).all(axis=axes)
    fits = np.isfinite(stored).all(axis=axes)
    cause = "the weights may be damaged" if compute == "fp32" else "try --precision fp32"
    faults = {int(i): f"its feature is NaN or infinite; {cause}" for i in np.flatnonzero(~finite)}
    for i in np.flatnonzero(finite & ~fits):
        peak = np.abs(rows[i]).max()
        faults[int(i)] = f"its feature reaches {peak:.4g}, which float16 can't hold; use --store-dtype float32"
    return faults
