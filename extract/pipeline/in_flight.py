"""Bounded buffer between decoders and the device; decides which batch runs next.

All stages but writing meet here. A reader may read an image only while there is room, so memory is bounded whatever the
collection's size; a decoder adds its pixels; the device takes a batch for the network that has most waiting. An image
makes room when the last network that misses it has taken it, so that it is decoded once for all.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from bb.extract.embedding.geometry import Geometry
from bb.extract.pipeline.missing import MissingImages


@dataclass(slots=True)
class Decoded:
    """An image's pixels, by geometry, and how many networks still want them."""

    place: int
    pixels: dict[Geometry, Tensor]
    left: int


@dataclass(frozen=True)
class Batch:
    """Images for one network.

    job     the network's number
    places  of the images in MissingImages.entries
    """

    job: int
    places: list[int]
    pixels: list[Tensor]


@dataclass
class InFlightBuffer:
    """Thread-safe. `sizes` are the networks' batch sizes, `geometries` their views'; `capacity` is in images."""

    missing: MissingImages
    geometries: Sequence[Geometry]
    sizes: list[int]
    capacity: int
    resident: set[int]
    _waiting: list[deque[Decoded]] = field(init=False)
    _within: int = 0  # images that may be read, are being decoded, or wait for a network
    _undecoded: int = 0  # of these, those that are not decoded yet
    _exhausted: bool = False
    _stopped: bool = False

    def __post_init__(self) -> None:
        self._waiting = [deque() for _ in self.sizes]
        self._order = iter(self.missing)
        lock = threading.Lock()
        self._freed, self._filled = threading.Condition(lock), threading.Condition(lock)

    def next(self) -> int | None:
        """The place of one image more that may be read; None when there is none, or the buffer was stopped."""
        with self._freed:
            while not (self._exhausted or self._stopped):
                if self._within >= self.capacity:
                    self._freed.wait()
                    continue
                place = next(self._order, None)
                if place is None:
                    self._exhausted = True
                    self._filled.notify_all()
                    self._freed.notify_all()
                elif self.missing.networks(place):
                    self._within += 1
                    self._undecoded += 1
                    return place
            return None

    def put(self, place: int, pixels: dict[Geometry, Tensor]) -> None:
        """Adds the pixels of an image that might be read; none where it failed."""
        with self._filled:
            self._undecoded -= 1
            jobs = [job for job in self.missing.networks(place) if self.geometries[job] in pixels]
            if jobs and not self._stopped:
                image = Decoded(place, pixels, len(jobs))
                for job in jobs:
                    self._waiting[job].append(image)
            else:
                self._leave(1)
            if self._ended:
                self._filled.notify_all()
            elif any(self._ready(job) for job in range(len(self.sizes))):
                self._filled.notify()

    def take(self, *, wait: bool = True) -> Batch | None:
        """The next batch; short only at the end, and None after it, or where none is ready and it is not waited for."""
        with self._filled:
            while not self._stopped:
                job = self._choose()
                if job is not None:
                    batch = self._collect(job)
                    if batch.places:
                        return batch
                elif self._ended or not wait:
                    return None
                else:
                    self._filled.wait()
            return None

    @property
    def stopped(self) -> bool:
        return self._stopped

    def stop(self) -> None:
        """No more images, no more batches."""
        with self._filled:
            self._stopped = True
            self._filled.notify_all()
            self._freed.notify_all()

    @property
    def _ended(self) -> bool:
        """Whether every image is decoded."""
        return self._exhausted and not self._undecoded

    def _ready(self, job: int) -> bool:
        return len(self._waiting[job]) >= (1 if self._ended else self.sizes[job])

    def _choose(self) -> int | None:
        """The network that has most batches waiting, those on the device first.

        One that is not there is worth the way only when the others have nothing left to do: when the buffer is full,
        or nothing more comes.
        """
        ready = [job for job in range(len(self.sizes)) if self._ready(job)]
        there = [job for job in ready if job in self.resident]
        if not there and self._within < self.capacity and not self._ended:
            return None
        return max(there or ready, key=lambda job: len(self._waiting[job]) / self.sizes[job], default=None)

    def _collect(self, job: int) -> Batch:
        """Takes a batch out, less what others published meanwhile."""
        batch = Batch(job, [], [])
        while self._waiting[job] and len(batch.places) < self.sizes[job]:
            image = self._waiting[job].popleft()
            if self.missing.of(job, image.place):
                batch.places.append(image.place)
                batch.pixels.append(image.pixels[self.geometries[job]])
            image.left -= 1
            if not image.left:
                self._leave(1)
        return batch

    def _leave(self, images: int) -> None:
        self._within -= images
        self._freed.notify(images)
