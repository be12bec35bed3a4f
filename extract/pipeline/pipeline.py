"""The stages from file to feature, which overlap: readers, decoders, and the device. The caller is the last stage.

Each stage has some threads; all release the interpreter lock while they work. Images wait for the networks in an
InFlightBuffer, which bounds how many there are; files that were read wait for decoders, and features for the writer, in
short bounded queues.

On a CPU the thread that completes a batch also runs its forward pass, alone: with one thread for each core none waits
for another, as threads of one operation have to, and the system interrupts none while it holds the interpreter lock,
as happens where more want to run than there are cores. On a machine with too many cores for a batch each in memory, a
few threads compute, with several cores each, next to the decoders.
"""

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from joblib import cpu_count

from bb.extract.data.image_source import ImageSource
from bb.extract.data.read_image import read_image
from bb.extract.embedding.decoder import BatchDecoder, Decoder
from bb.extract.embedding.geometry import Geometry
from bb.extract.embedding.images import UnreadableImage
from bb.extract.encoder.encoder import Encoder, PendingFeatures
from bb.extract.encoder.offload import ModelOffloader
from bb.extract.pipeline.bounded_queue import BoundedQueue
from bb.extract.pipeline.in_flight import Batch, InFlightBuffer
from bb.extract.pipeline.missing import MissingImages
from bb.extract.pipeline.profile import Clock, Profile
from bb.extract.pipeline.reading import make_all_pixels

READERS = 4
CACHE = 4 * 2**30  # bytes of pixels that are kept for networks which take turns, so that these are long
LANES = 8  # at most, of threads that compute on a CPU: each holds a batch
PARTING = 5.0  # seconds that work in hand is waited for when a person quits


@dataclass(frozen=True)
class Failed:
    """An image that could not become pixels, and why."""

    place: int
    reason: str


@dataclass(frozen=True)
class Computed:
    """Features of images, for one network."""

    job: int
    places: list[int]
    features: PendingFeatures
    launch: float

    @property
    def seconds(self) -> float:
        """Of the device, once the features are there: by its own clock where it has one."""
        return self.features.seconds() or self.launch


@dataclass(frozen=True)
class Threads:
    """How many of each stage, and how many threads an operation of torch takes.

    lanes  threads that compute; 0 where decoders do
    """

    readers: int
    decoders: int
    lanes: int
    within: int

    @property
    def forwards(self) -> int:
        """How many forward passes run at once."""
        return self.lanes or self.decoders

    @classmethod
    def of(cls, device: str, decoder: Decoder, cores: int | None = None) -> "Threads":
        """device: "cpu", "cuda" or "mps"; one thread keeps a GPU busy, since it waits for nothing."""
        cores = cores or cpu_count()
        decoders = 1 if isinstance(decoder, BatchDecoder) else cores
        if device != "cpu":
            return cls(READERS, decoders, 1, 1)
        return cls(READERS, decoders, 0, 1) if cores <= LANES else cls(READERS, decoders, LANES, cores // LANES)


@dataclass
class Pipeline:
    """One pass over what is missing. `outcomes` come in order of completion.

    damaged, notes  of pictures that were decoded, what their decoder says, by place
    """

    missing: MissingImages
    sources: Mapping[str, ImageSource]
    decoder: Decoder
    encoders: Sequence[Encoder]
    geometries: Sequence[Geometry]
    profile: Profile
    threads: Threads
    damaged: dict[int, str] = field(default_factory=dict)
    notes: dict[int, str] = field(default_factory=dict)
    buffer: InFlightBuffer = field(init=False)
    offloader: ModelOffloader = field(init=False)
    at_once: int = field(init=False)
    _files: BoundedQueue[tuple[int, bytes]] = field(init=False)
    _outcomes: BoundedQueue[Failed | Computed] = field(init=False)
    _trouble: list[BaseException] = field(default_factory=list)
    _running: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        sizes = [encoder.size for encoder in self.encoders]
        self.offloader = ModelOffloader.of(self.encoders)
        self.at_once = self.decoder.batch if isinstance(self.decoder, BatchDecoder) else 1
        room = 2 * sum(sizes) + self.threads.readers + 3 * self.threads.decoders * self.at_once
        if len(self.offloader.groups) > 1:
            kept = sum(3 * math.prod(geometry.crop) for geometry in set(self.geometries))
            room = max(room, CACHE // kept)
        self.buffer = InFlightBuffer(self.missing, self.geometries, sizes, room, self.offloader.there)
        self._files = BoundedQueue(2 * self.threads.decoders * self.at_once)
        self._outcomes = BoundedQueue(2)

    def outcomes(self) -> Iterator[Failed | Computed]:
        """Until all is done, or what was in hand when it was stopped. Raises what a stage ran into."""
        while (outcome := self._outcomes.take()) is not None:
            yield outcome
        if self._trouble:
            raise self._trouble[0]

    def stop(self) -> None:
        """Begins nothing more; what the device has in hand still comes."""
        self.buffer.stop()

    def start(self) -> None:
        self._run(self._read, "reader", self.threads.readers, self._files.close)
        if self.threads.lanes:
            self._run(self._decode, "decoder", self.threads.decoders, lambda: None)
            self._run(self._compute, "device", self.threads.lanes, self._outcomes.close)
        else:
            self._run(self._decode_and_compute, "processor", self.threads.decoders, self._outcomes.close)

    def end(self, patience: float | None = None) -> None:
        """Ends all threads, whatever they are at, and waits for them that many seconds. What they hold is lost."""
        self.buffer.stop()
        self._files.close()
        self._outcomes.close()
        until = None if patience is None else time.monotonic() + patience
        for thread in self._running:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))

    def _run(self, stage: Callable[[Clock], None], name: str, threads: int, at_end: Callable[[], None]) -> None:
        """Starts the threads of a stage; `at_end` is called when the last of them ends, in whatever way."""
        left = itertools.count(threads - 1, -1)

        def work(clock: Clock) -> None:
            torch.set_num_threads(1 if name == "decoder" else self.threads.within)
            try:
                stage(clock)
            except BaseException as error:
                self._trouble.append(error)
                self.buffer.stop()
            finally:
                if next(left) == 0:
                    at_end()

        for _ in range(threads):
            thread = threading.Thread(target=work, args=(self.profile.clock(name),), name=name, daemon=True)
            self._running.append(thread)
            thread.start()

    def _read(self, clock: Clock) -> None:
        while True:
            with clock("waiting"):
                place = self.buffer.next()
            if place is None:
                return
            entry = self.missing.entries[place]
            try:
                with clock("read"):
                    data = read_image(entry, self.sources[entry.image_id])
            except UnreadableImage as error:
                self._fail(place, str(error))
                continue
            with clock("waiting"):
                self._files.put((place, data))

    def _decode_and_compute(self, clock: Clock) -> None:
        for _ in self._decoded(clock):
            while batch := self.buffer.take(wait=False):
                self._compute_batch(batch, clock)
        self._compute(clock)  # what others put in last

    def _decode(self, clock: Clock) -> None:
        for _ in self._decoded(clock):
            pass

    def _decoded(self, clock: Clock) -> Iterator[None]:
        """Decodes until there are no more files; yields after each one, or handful of a decoder that takes several."""
        while True:
            with clock("waiting"):
                files = self._files.take_some(self.at_once)
            if not files:
                return
            wanted = {place: {self.geometries[job] for job in self.missing.networks(place)} for place, _ in files}
            for place in [place for place, _ in files if self.buffer.stopped or not wanted[place]]:
                self.buffer.put(place, {})
                del wanted[place]
            files = [(place, data) for place, data in files if place in wanted]
            made = make_all_pixels(
                self.decoder, [data for _, data in files], [wanted[place] for place, _ in files], clock
            )
            for (place, _), pixels in zip(files, made, strict=True):
                if isinstance(pixels, UnreadableImage):
                    self._fail(place, str(pixels))
                    continue
                if pixels.damage:
                    self.damaged[place] = pixels.damage
                if pixels.note:
                    self.notes[place] = pixels.note
                self.buffer.put(place, pixels.cuts)
            yield

    def _compute(self, clock: Clock) -> None:
        while True:
            with clock("waiting"):
                batch = self.buffer.take()
            if batch is None:
                return
            self._compute_batch(batch, clock)

    def _compute_batch(self, batch: Batch, clock: Clock) -> None:
        if batch.job not in self.offloader.there:  # only on a GPU, which one thread serves
            with clock("copy"):
                self.offloader.take(batch.job)
            self.buffer.resident = self.offloader.there
        encoder = self.encoders[batch.job]
        with clock("copy"):
            pixels = encoder.stack(batch.pixels)
        before = clock.wall["forward"]
        with clock("forward"):
            features = encoder.start(pixels)
        launch = clock.wall["forward"] - before
        self.buffer.sizes[batch.job] = encoder.size
        with clock("waiting"):
            self._outcomes.put(Computed(batch.job, batch.places, features, launch))

    def _fail(self, place: int, reason: str) -> None:
        self._outcomes.put(Failed(place, reason))
        self.buffer.put(place, {})


@contextmanager
def running(pipeline: Pipeline) -> Iterator[Pipeline]:
    """Starts it, and leaves no thread of it behind."""
    patience = None
    try:
        pipeline.start()
        yield pipeline
    except KeyboardInterrupt:
        patience = PARTING
        raise
    finally:
        pipeline.end(patience)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """How many threads an operation takes; afterwards as many as before. torch.compile makes code for a number."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
