"""The stages from file to feature, which overlap: readers, decoders, and the device. Who consumes is the last stage.

Each is some threads; all let the interpreter lock go while they work. Images wait for the networks in a Window, which
bounds how many are under way; files that were read wait for decoders, and features for whoever writes them, in
channels with little room.

On a CPU the forward passes are a stage of as many threads as there are cores, each computing alone: decoders and
networks then share the cores without waiting for each other, as threads of one operation have to.
"""

import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from joblib import cpu_count

from extract.channel import Channel
from extract.decoder import Decoder
from extract.encoder import Coming, Encoder, stack
from extract.geometry import Geometry
from extract.images import UnreadableImage
from extract.lacking import Lacking
from extract.profile import Clock, Profile
from extract.source import Source
from extract.turns import Turns
from extract.window import Window

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
    features: Coming
    launch: float

    @property
    def seconds(self) -> float:
        """Of the device, once the features are there: by its own clock where it has one."""
        return self.features.seconds() or self.launch


@dataclass(frozen=True)
class Threads:
    """How many of each stage, and how many threads an operation of torch takes."""

    readers: int
    decoders: int
    lanes: int
    within: int

    @classmethod
    def for_device(cls, device: str, cores: int | None = None) -> "Threads":
        """device: "cpu", "cuda" or "mps"; one thread keeps a GPU busy, since it waits for nothing."""
        cores = cores or cpu_count()
        lanes = min(cores, LANES) if device == "cpu" else 1
        return cls(READERS, cores, lanes, max(1, cores // lanes) if device == "cpu" else 1)


@dataclass
class Pipeline:
    """One pass over what is lacking. `outcomes` come in order of completion."""

    lacking: Lacking
    sources: Mapping[str, Source]
    decoder: Decoder
    encoders: Sequence[Encoder]
    geometries: Sequence[Geometry]
    profile: Profile
    threads: Threads
    window: Window = field(init=False)
    turns: Turns = field(init=False)
    _files: Channel[tuple[int, bytes]] = field(init=False)
    _outcomes: Channel[Failed | Computed] = field(init=False)
    _trouble: list[BaseException] = field(default_factory=list)
    _running: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        sizes = [encoder.size for encoder in self.encoders]
        self.turns = Turns.of(self.encoders)
        room = 2 * sum(sizes) + self.threads.readers + 3 * self.threads.decoders
        if len(self.turns.groups) > 1:
            kept = sum(3 * math.prod(geometry.crop) for geometry in set(self.geometries))
            room = max(room, CACHE // kept)
        self.window = Window(self.lacking, self.geometries, sizes, room, self.turns.there)
        self._files = Channel(2 * self.threads.decoders)
        self._outcomes = Channel(2)

    def outcomes(self) -> Iterator[Failed | Computed]:
        """Until all is done, or what was in hand when it was stopped. Raises what a stage ran into."""
        while (outcome := self._outcomes.take()) is not None:
            yield outcome
        if self._trouble:
            raise self._trouble[0]

    def stop(self) -> None:
        """Begins nothing more; what the device has in hand still comes."""
        self.window.stop()

    def start(self) -> None:
        last_reader, last_lane = _Last(self.threads.readers), _Last(self.threads.lanes)
        for _ in range(self.threads.readers):
            self._run(self._read, "reader", lambda: last_reader() and self._files.close())
        for _ in range(self.threads.decoders):
            self._run(self._decode, "decoder", lambda: None)
        for _ in range(self.threads.lanes):
            self._run(self._compute, "device", lambda: last_lane() and self._outcomes.close())

    def end(self, patience: float | None = None) -> None:
        """Ends all threads, whatever they are at. What they hold is lost."""
        self.window.stop()
        self._files.close()
        self._outcomes.close()
        for thread in self._running:
            thread.join(patience)

    def _run(self, stage: Callable[[Clock], None], name: str, at_end: Callable[[], object]) -> None:
        clock = self.profile.clock(name)

        def work() -> None:
            torch.set_num_threads(self.threads.within if name == "device" else 1)
            try:
                stage(clock)
            except BaseException as error:
                self._trouble.append(error)
                self.window.stop()
            finally:
                at_end()

        thread = threading.Thread(target=work, name=name, daemon=True)
        self._running.append(thread)
        thread.start()

    def _read(self, clock: Clock) -> None:
        while True:
            with clock("waiting"):
                place = self.window.next()
            if place is None:
                return
            entry = self.lacking.entries[place]
            try:
                with clock("read"):
                    data = self.sources[entry.image_id].read()
                    same = hashlib.sha256(data).digest() == entry.image_sha256
            except OSError as error:
                self._fail(place, f"can't be read: {error.strerror or error}")
                continue
            if not same:
                self._fail(place, "changed while bb ran; run again")
                continue
            with clock("waiting"):
                self._files.put((place, data))

    def _decode(self, clock: Clock) -> None:
        while True:
            with clock("waiting"):
                file = self._files.take()
            if file is None:
                return
            place, data = file
            wanted = {self.geometries[job] for job in self.lacking.networks(place)}
            if self.window.stopped or not wanted:
                self.window.put(place, {})
                continue
            try:
                with clock("decode"):
                    picture = self.decoder.decode(data)
                with clock("transform"):
                    pixels = {geometry: self.decoder.cut(picture, geometry) for geometry in wanted}
            except UnreadableImage as error:
                self._fail(place, str(error))
                continue
            except (MemoryError, RuntimeError, ValueError) as error:  # of the cut, on a picture of some odd shape
                self._fail(place, f"can't be transformed: {error or type(error).__name__}")
                continue
            self.window.put(place, pixels)

    def _compute(self, clock: Clock) -> None:
        while True:
            with clock("waiting"):
                batch = self.window.take()
            if batch is None:
                return
            if batch.job not in self.turns.there:  # only on a GPU, which one thread serves
                with clock("copy"):
                    self.turns.take(batch.job)
                self.window.resident = self.turns.there
            encoder = self.encoders[batch.job]
            with clock("copy"):
                pixels = stack(batch.pixels)
            before = clock.wall["forward"]
            with clock("forward"):
                features = encoder.start(pixels)
            launch = clock.wall["forward"] - before
            self.window.sizes[batch.job] = encoder.size
            with clock("waiting"):
                self._outcomes.put(Computed(batch.job, batch.places, features, launch))

    def _fail(self, place: int, reason: str) -> None:
        self._outcomes.put(Failed(place, reason))
        self.window.put(place, {})


@dataclass
class _Last:
    """Tells the last of some threads that it is the last."""

    left: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> bool:
        with self._lock:
            self.left -= 1
            return self.left == 0


@contextmanager
def running(pipeline: Pipeline) -> Iterator[Pipeline]:
    """Starts it, and leaves no thread of it behind; how many threads torch takes is afterwards what it was."""
    before = torch.get_num_threads()
    patience = None
    try:
        pipeline.start()
        yield pipeline
    except KeyboardInterrupt:
        patience = PARTING
        raise
    finally:
        pipeline.end(patience)
        torch.set_num_threads(before)
