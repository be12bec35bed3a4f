"""The way of the data: missing images → pixels → features → segments."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from bb.extract.backbones.feature_spaces import Spaces
from bb.extract.data.image_source import ImageSource
from bb.extract.data.scan import Scan
from bb.extract.encoder.encoder import Encoder, Features
from bb.extract.pipeline.extractor import Extractor
from bb.extract.pipeline.feature_writer import FeatureWriter
from bb.extract.pipeline.missing import MissingImages, keys_of
from bb.extract.pipeline.pipeline import Computed, Failed, Pipeline, Threads, running, torch_threads
from bb.extract.pipeline.profile import Profile
from bb.store import Entry, Store


@dataclass(frozen=True)
class EmbedPlan:
    """What a store does not have of a collection; all of it, where there is no store yet.

    wanted   one entry per image (by bytes) that at least one of the spaces does not have
    present  how many entries are there already
    """

    wanted: list[Entry]
    present: int

    @classmethod
    def make(cls, store: Store | None, spaces: Spaces, entries: Iterable[Entry]) -> "EmbedPlan":
        entries = list(entries)
        absent = np.zeros(len(entries), dtype=bool)
        keys = keys_of(entries)
        for space in spaces:
            absent |= True if store is None else ~store.has(space, keys)
        missing = [entry for entry, gone in zip(entries, absent, strict=True) if gone]
        wanted = {entry.image_sha256: entry for entry in reversed(missing)}  # of copies, the first ID
        return cls(list(reversed(wanted.values())), len(entries) - len(missing))

    def store_bytes(self, spaces: Spaces) -> int:
        """Size of the features to come, in bytes."""
        return sum(len(self.wanted) * int(np.prod(s.row_shape)) * s.dtype.itemsize for s in spaces)


@dataclass(frozen=True)
class BackboneWork:
    """A network, and one entry per image that at least one of its spaces does not have."""

    extractor: Extractor
    wanted: list[Entry]


@dataclass
class EmbedResult:
    """What came of it for one network: images computed, those that failed, and notes on others (image ID → words)."""

    computed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


Progress = Callable[[Sequence[EmbedResult], int], None]


def embed(
    store: Store,
    work: Sequence[BackboneWork],
    collection: str,
    scan: Scan,
    *,
    strict: bool = False,
    stop: threading.Event | None = None,
    progress: Progress = lambda outcomes, images: None,
    announce: Callable[[str], None] = lambda words: None,
    cores: int | None = None,
) -> tuple[list[EmbedResult], Profile]:
    """Embeds images of a collection with some networks and publishes the features segment by segment.

    Each image is read and decoded once for all networks that do not have it; they share a device and a decoder. What
    can't be embedded is reported in the outcomes, one for each network, and the rest is kept; `strict` stops at the
    first. Setting `stop` ends what the device has in hand, publishes the open segments and returns. An error publishes
    them before it is raised. The profile says where the time went. `progress` gets the outcomes so far and the number
    of images that are done for every network. `announce` gets what a person may want to know.
    `cores` are those that it may use, by default all of the machine's.
    """
    outcomes = [EmbedResult() for _ in work]
    missing = MissingImages(store, [each.extractor.spaces for each in work], [each.wanted for each in work])
    if not missing.entries:
        return outcomes, Profile.start(work[0].extractor.numerics.device.type, cores)
    waiting = missing.counts()
    images = 0
    writers: list[_BackboneWriter] = []
    prepare = [partial(_encoder, each, announce) for each in work]
    try:
        with open_pipeline(missing, [each.extractor for each in work], scan.sources, prepare, cores) as pipeline:
            for each, outcome in zip(work, outcomes, strict=True):
                writers.append(
                    _BackboneWriter(FeatureWriter.open(store, each.extractor), pipeline, collection, outcome)
                )
            clock = pipeline.profile.clock("writer")
            results = pipeline.outcomes()
            while True:
                with clock("waiting"):
                    result = next(results, None)
                    features = result.features.wait() if isinstance(result, Computed) else None
                if result is None:
                    break
                if isinstance(result, Failed) and not (strict and outcomes[0].stopped):
                    for job in missing.networks(result.place):
                        writers[job].fail(result.place, result.reason)
                    images += 1
                elif isinstance(result, Computed) and features:
                    with clock("write"):
                        writers[result.job].write(result.places, features)
                    waiting[result.places] -= 1
                    images += int((waiting[result.places] == 0).sum())
                    pipeline.profile.add(str(work[result.job].extractor.name), len(result.places), result.seconds)
                    writers[result.job].writer.timed(len(result.places), result.seconds / pipeline.threads.forwards)
                progress(outcomes, images)
                if (stop and stop.is_set()) or (strict and any(outcome.failed for outcome in outcomes)):
                    pipeline.stop()
                    for outcome in outcomes:
                        outcome.stopped = True
    except Exception:
        with suppress(Exception):  # a full disk, for example, fails here once more; the first error is the one to raise
            _close(writers)
        raise
    with clock("write"):
        _close(writers)
    pipeline.profile.close()
    return outcomes, pipeline.profile


@contextmanager
def open_pipeline(
    missing: MissingImages,
    extractors: Sequence[Extractor],
    sources: Mapping[str, ImageSource],
    prepare: Sequence[Callable[[], Encoder]],
    cores: int | None = None,
) -> Iterator[Pipeline]:
    """Starts the one way from files to features, for backbones of one device and decoder; ends it on leaving.

    prepare  of each backbone, what makes its encoder, with as many threads as a forward pass will have
    """
    device, decoder = extractors[0].numerics.device.type, extractors[0].decoder
    threads = Threads.of(device, decoder, cores)
    with torch_threads(threads.within):
        encoders = [encoder() for encoder in prepare]
        geometries = [extractor.backbone.view.geometry() for extractor in extractors]
        profile = Profile.start(device, cores)
        with running(Pipeline(missing, sources, decoder, encoders, geometries, profile, threads)) as pipeline:
            yield pipeline


def _encoder(work: BackboneWork, announce: Callable[[str], None]) -> Encoder:
    """The network, ready, and not on a GPU: each has it alone while its batch size is sought and it is compiled."""
    extractor = work.extractor
    if extractor.compile and work.wanted:
        announce(f"{extractor.name}: {extractor.compile_if_it_repays(len(work.wanted))}")
    encoder = extractor.encoder()
    encoder.offload()
    return encoder


@dataclass
class _BackboneWriter:
    """Takes one network's results: features to its writer, reasons and notes to its outcome."""

    writer: FeatureWriter
    pipeline: Pipeline
    collection: str
    outcome: EmbedResult

    @property
    def missing(self) -> MissingImages:
        return self.pipeline.missing

    def fail(self, place: int, reason: str) -> None:
        self.outcome.failed[self.missing.entries[place].image_id] = reason

    def write(self, places: Sequence[int], features: Features) -> None:
        """Writes the rows that each space still misses, less those that can't be stored."""
        names = [f"{self.collection}/{self.missing.entries[place].image_id}" for place in places]
        missing = {space.key: self.missing.rows(space.key, places) for space in self.writer.extractor.spaces}
        damaged = {i: self.pipeline.damaged[p] for i, p in enumerate(places) if p in self.pipeline.damaged}
        published = self.writer.published
        failed = self.writer.write(self.missing.keys(places), names, features, missing, damaged)
        if self.writer.published > published:
            self.missing.refresh()
        for i, reason in failed.items():
            self.fail(places[i], reason)
        self.outcome.computed += len(places) - len(failed)
        for place in places:
            if note := self.pipeline.notes.get(place):
                self.outcome.notes[self.missing.entries[place].image_id] = note


def _close(writers: Iterable[_BackboneWriter]) -> None:
    """Publishes what is open, at each desk, whatever becomes of the others. Raises what went wrong at the end."""
    with ExitStack() as stack:
        for each in writers:
            stack.callback(each.writer.close)
