"""The way of the data: missing images → pixels → features → segments."""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from extract.collection import Scan
from extract.encoder import Encoder, Features
from extract.extractor import Extractor
from extract.lacking import Lacking, keys_of
from extract.pipeline import Computed, Failed, Pipeline, Threads, running, torch_threads
from extract.profile import Profile
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


@dataclass(frozen=True)
class Work:
    """A network, and one entry per image that at least one of its spaces lacks."""

    extractor: Extractor
    wanted: list[Entry]


@dataclass
class Outcome:
    """What came of it for one network: images computed, and those that failed (image ID → reason)."""

    computed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


def embed(
    store: Store,
    work: Sequence[Work],
    collection: str,
    scan: Scan,
    *,
    strict: bool = False,
    stop: threading.Event | None = None,
    progress: Callable[[Sequence[Outcome]], None] = lambda outcomes: None,
    announce: Callable[[str], None] = lambda words: None,
    cores: int | None = None,
) -> tuple[list[Outcome], Profile]:
    """Embeds images of a collection with some networks and publishes the features segment by segment.

    Each image is read and decoded once for all networks that lack it; they share a device and a decoder. What can't be
    embedded is reported in the outcomes, one for each network, and the rest is kept; `strict` stops at the first.
    Setting `stop` ends what the device has in hand, publishes the open segments and returns. An error publishes them
    before it is raised. Where the time went is told as well. `announce` is told what a person may want to know.
    `cores` are those that it may use, all of the machine's if it is not said.
    """
    outcomes = [Outcome() for _ in work]
    lacking = Lacking(store, [each.extractor.spaces for each in work], [each.wanted for each in work])
    numerics = work[0].extractor.numerics
    if not lacking.entries:
        return outcomes, Profile.start(numerics.device.type, cores)
    threads = Threads.of(numerics.device.type, work[0].extractor.decoder, cores)
    with torch_threads(threads.within):
        encoders = [_encoder(each, announce) for each in work]
    profile = Profile.start(numerics.device.type, cores)
    pipeline = Pipeline(
        lacking,
        scan.sources,
        work[0].extractor.decoder,
        encoders,
        [each.extractor.backbone.view.geometry() for each in work],
        profile,
        threads,
    )
    desks = [
        _Desk(each.extractor, store, lacking, collection, outcome) for each, outcome in zip(work, outcomes, strict=True)
    ]
    clock = profile.clock("writer")
    try:
        with torch_threads(threads.within), running(pipeline):
            results = pipeline.outcomes()
            while True:
                with clock("waiting"):
                    result = next(results, None)
                    features = result.features.wait() if isinstance(result, Computed) else None
                if result is None:
                    break
                if isinstance(result, Failed) and not (strict and outcomes[0].stopped):
                    for job in lacking.networks(result.place):
                        desks[job].fail(result.place, result.reason)
                elif isinstance(result, Computed) and features:
                    with clock("write"):
                        desks[result.job].write(result.places, features)
                    profile.add(str(work[result.job].extractor.name), len(result.places), result.seconds)
                progress(outcomes)
                if (stop and stop.is_set()) or (strict and any(outcome.failed for outcome in outcomes)):
                    pipeline.stop()
                    for outcome in outcomes:
                        outcome.stopped = True
    except Exception:
        with suppress(Exception):  # a full disk, say, fails here once more; the first error is the one to tell
            _close(desks)
        raise
    with clock("write"):
        _close(desks)
    profile.close()
    return outcomes, profile


def _encoder(work: Work, announce: Callable[[str], None]) -> Encoder:
    """The network, ready, and not on a GPU: each has it alone while its batch size is sought and it is compiled."""
    extractor = work.extractor
    if extractor.compile and work.wanted:
        announce(f"{extractor.name}: {extractor.compile_if_it_repays(len(work.wanted))}")
    encoder = extractor.encoder()
    encoder.leave()
    return encoder


@dataclass
class _Desk:
    """Where one network's features are written: a segment writer for each of its spaces."""

    extractor: Extractor
    store: Store
    lacking: Lacking
    collection: str
    outcome: Outcome
    writers: list[SegmentWriter] = field(init=False)
    _provenance: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self._provenance = self.extractor.provenance
        self.writers = [SegmentWriter(self.store, space, self._provenance) for space in self.extractor.spaces]

    def fail(self, place: int, reason: str) -> None:
        self.outcome.failed[self.lacking.entries[place].image_id] = reason

    def write(self, places: Sequence[int], features: Features) -> None:
        """Hands each writer the rows that its space lacks, less those that can't be stored."""
        self._provenance["batch_size"] = self.extractor.encoder().size  # which shrinks where memory runs out
        stored: list[np.ndarray] = []
        usable = np.ones(len(places), dtype=bool)
        for writer, rows in zip(self.writers, features, strict=False):
            if rows is None:
                raise BBError(f"the network gave no {writer.space.kind} features for a batch of {len(places)} images.")
            stored.append(to_stored(rows, writer.space))
            for i, reason in faults(rows, stored[-1], writer.space.numerics["compute"]).items():
                usable[i] = False
                self.fail(places[i], reason)
        for writer, rows in zip(self.writers, stored, strict=True):
            take = np.flatnonzero(usable & self.lacking.rows(writer.space.key, places))
            kept = [places[int(i)] for i in take]
            closed = len(writer.published)
            names = [f"{self.collection}/{self.lacking.entries[place].image_id}" for place in kept]
            writer.add(self.lacking.keys(kept), names, rows if len(take) == len(rows) else rows[take])
            if len(writer.published) > closed:
                self.lacking.refresh()
        self.outcome.computed += int(usable.sum())


def _close(desks: Iterable[_Desk]) -> None:
    """Publishes what is open, at each desk, whatever becomes of the others. Raises what went wrong at the end."""
    with ExitStack() as stack:
        for writer in (writer for desk in desks for writer in desk.writers):
            stack.callback(writer.close)


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
