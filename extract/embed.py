"""The way of the data: missing images → pixels → features → segments."""

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from extract.collection import Scan
from extract.encoder import Encoder, stack
from extract.extractor import Extractor
from extract.loader import Loaded, load_images
from extract.space import Spaces
from store import BBError, Entry, FeatureSpace, SegmentWriter, Store


@dataclass(frozen=True)
class Plan:
    """What a store lacks of a collection; all of it, where there is no store yet.

    wanted   one entry per image (by bytes) that at least one of the spaces lacks
    present  how many entries are there already
    """

    wanted: list[Entry]
    present: int

    @classmethod
    def make(cls, store: Store | None, spaces: Spaces, entries: Iterable[Entry]) -> "Plan":
        entries = list(entries)
        absent = np.zeros(len(entries), dtype=bool)
        keys = keys_of(entries)
        for space in spaces:
            absent |= True if store is None else ~store.has(space, keys)
        lacking = [entry for entry, gone in zip(entries, absent, strict=True) if gone]
        wanted = {entry.image_sha256: entry for entry in reversed(lacking)}  # of copies, the first ID
        return cls(list(reversed(wanted.values())), len(entries) - len(lacking))

    def store_bytes(self, spaces: Spaces) -> int:
        """Size of the features to come, in bytes."""
        return sum(len(self.wanted) * int(np.prod(s.row_shape)) * s.dtype.itemsize for s in spaces)


@dataclass
class Outcome:
    """What came of it: images computed, and those that failed (image ID → reason)."""

    computed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


def embed(
    store: Store,
    extractor: Extractor,
    collection: str,
    scan: Scan,
    wanted: list[Entry],
    *,
    strict: bool = False,
    stop: threading.Event | None = None,
    progress: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Embeds images of a collection and publishes them segment by segment.

    What can't be embedded is reported in the outcome and the rest is kept; `strict` stops at the first. Setting `stop`
    publishes the open segment and returns. An error does the same before it is raised.
    """
    outcome = Outcome()
    if not wanted:
        return outcome
    encoder = extractor.encoder()
    writers = [SegmentWriter(store, space, extractor.provenance) for space in extractor.spaces]
    lacking = _Lacking(store, extractor.spaces, wanted)
    transform = extractor.backbone.make_img_transform()
    loaded = load_images(lacking, scan.sources, transform, ahead=2 * encoder.size + 8)
    try:
        for batch in batches(loaded, encoder):
            good = [image for image in batch if image.pixels is not None]
            outcome.failed |= {image.entry.image_id: image.reason for image in batch if image.pixels is None}
            if good:
                features = encoder(stack([image.pixels for image in good if image.pixels is not None]))
                _write(writers, lacking, [image.entry for image in good], features, collection, outcome)
            progress(outcome)
            if (stop and stop.is_set()) or (strict and outcome.failed):
                outcome.stopped = True
                break
    except Exception:
        for writer in writers:
            writer.close()
        raise
    finally:
        loaded.close()
    for writer in writers:
        writer.close()
    return outcome


@dataclass
class _Lacking:
    """Iterates over the images that are still missing, leaving out what another process published meanwhile.

    It starts at a random place, so that two processes on one store do not run through it in step.
    """

    store: Store
    spaces: Spaces
    wanted: list[Entry]
    absent: dict[str, set[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        keys = keys_of(self.wanted)
        for space in self.spaces:
            there = self.store.has(space, keys)
            self.absent[space.key] = {
                entry.image_sha256 for entry, has in zip(self.wanted, there, strict=True) if not has
            }

    def __iter__(self) -> Iterator[Entry]:
        turn = secrets.randbelow(len(self.wanted)) if self.wanted else 0
        for entry in self.wanted[turn:] + self.wanted[:turn]:
            if any(entry.image_sha256 in absent for absent in self.absent.values()):
                yield entry


def batches(loaded: Iterable[Loaded], encoder: Encoder) -> Iterator[list[Loaded]]:
    batch: list[Loaded] = []
    for image in loaded:
        batch.append(image)
        if len(batch) >= encoder.size:
            yield batch
            batch = []
    if batch:
        yield batch


def _write(
    writers: list[SegmentWriter],
    lacking: _Lacking,
    entries: list[Entry],
    features: tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n p dp"] | None],
    collection: str,
    outcome: Outcome,
) -> None:
    """Hands each writer the rows that its space lacks, less those that can't be stored."""
    stored: list[np.ndarray] = []
    usable = np.ones(len(entries), dtype=bool)
    for writer, rows in zip(writers, features, strict=False):
        if rows is None:
            raise BBError(f"the network gave no {writer.space.kind} features for a batch of {len(entries)} images.")
        stored.append(to_stored(rows, writer.space))
        for i, reason in faults(rows, stored[-1], writer.space.numerics["compute"]).items():
            usable[i] = False
            outcome.failed[entries[i].image_id] = reason
    for writer, rows in zip(writers, stored, strict=True):
        absent = lacking.absent[writer.space.key]
        take = [i for i in np.flatnonzero(usable) if entries[i].image_sha256 in absent]
        closed = len(writer.published)
        writer.add(
            keys_of([entries[i] for i in take]),
            [f"{collection}/{entries[i].image_id}" for i in take],
            rows[take],
        )
        if len(writer.published) > closed:
            lacking.refresh()
    outcome.computed += int(usable.sum())


def to_stored(rows: Float[np.ndarray, "n ..."], space: FeatureSpace) -> Float[np.ndarray, "n ..."]:
    """Rows in the dtype that a space stores; infinite where it can't hold them."""
    with np.errstate(over="ignore"):
        return rows.astype(space.dtype)


def faults(rows: np.ndarray, stored: np.ndarray, compute: str) -> dict[int, str]:
    """Which rows can't be stored, and why."""
    axes = tuple(range(1, rows.ndim))
    finite = np.isfinite(rows).all(axis=axes)
    fits = np.isfinite(stored).all(axis=axes)
    cause = "the weights may be damaged" if compute == "fp32" else "try --precision fp32"
    faults = {int(i): f"its feature is NaN or infinite; {cause}" for i in np.flatnonzero(~finite)}
    for i in np.flatnonzero(finite & ~fits):
        peak = np.abs(rows[i]).max()
        faults[int(i)] = f"its feature reaches {peak:.4g}, which float16 can't hold; use --store-dtype float32"
    return faults


def keys_of(entries: list[Entry]) -> np.ndarray:
    """(n, 32) uint8 of the image digests."""
    return np.frombuffer(b"".join(entry.image_sha256 for entry in entries), dtype=np.uint8).reshape(-1, 32)
