"""What workers of a cluster do: some decode images, others hold networks, and publish what these make of them."""

import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from bb.extract.backbones.decoders import find_decoder
from bb.extract.backbones.device import Numerics
from bb.extract.backbones.name import BackboneName
from bb.extract.backbones.pool_grid import Patches
from bb.extract.data.image_source import ImageSource
from bb.extract.data.read_image import read_image
from bb.extract.embedding.decoder import DecodeOptions, Decoder
from bb.extract.embedding.geometry import Geometry
from bb.extract.embedding.images import UnreadableImage
from bb.extract.pipeline.extractor import Extractor
from bb.extract.pipeline.feature_writer import FeatureWriter
from bb.extract.pipeline.missing import keys_of
from bb.extract.pipeline.reading import make_pixels
from bb.store import BBError, Entry, Store
from bb.store.format.space import short


@dataclass(frozen=True)
class WorkItem:
    """Some images that at least one feature space does not have. Their IDs begin with their collection's name.

    absent  of each space, by key, which of them it does not have
    """

    entries: list[Entry]
    sources: list[ImageSource]
    absent: dict[str, Bool[np.ndarray, " n"]]


@dataclass(frozen=True)
class DecodedBatch:
    """A work item, decoded.

    good    those images that could be, by their place in the item
    pixels  of these, cut by each geometry
    failed  image digest → why another could not
    damaged, notes  of good ones, what their decoder says, by their place in the item
    """

    item: WorkItem
    good: list[int]
    pixels: list[UInt8[np.ndarray, "n 3 h w"]]
    failed: dict[bytes, str]
    damaged: dict[int, str] = field(default_factory=dict)
    notes: dict[int, str] = field(default_factory=dict)


@dataclass
class WorkerResult:
    """What has come of it: how many features were made, and of each backbone, image digest → why there is none; notes
    on images, by digest."""

    computed: int = 0
    failed: dict[str, dict[bytes, str]] = field(default_factory=dict)
    notes: dict[bytes, str] = field(default_factory=dict)


def decode_item(item: WorkItem, decoder: Decoder, geometries: Sequence[Geometry]) -> DecodedBatch:
    """Reads and decodes each image once, and cuts it once for each geometry."""
    good: list[int] = []
    rows: list[list[np.ndarray]] = [[] for _ in geometries]
    failed: dict[bytes, str] = {}
    damaged: dict[int, str] = {}
    notes: dict[int, str] = {}
    for i, (entry, source) in enumerate(zip(item.entries, item.sources, strict=True)):
        try:
            made = make_pixels(decoder, read_image(entry, source), geometries)
        except UnreadableImage as error:
            failed[entry.image_sha256] = str(error)
        else:
            good.append(i)
            damaged[i], notes[i] = made.damage, made.note
            for kept, geometry in zip(rows, geometries, strict=True):
                kept.append(made.cuts[geometry].numpy())
    return DecodedBatch(item, good, [np.stack(kept) for kept in rows] if good else [], failed, damaged, notes)


@dataclass(frozen=True)
class Network:
    """One backbone as a worker is to build it: by which geometry, and the keys of the spaces that it must fill."""

    name: BackboneName
    geometry: int
    spaces: list[str]


@dataclass(frozen=True)
class WorkerConfig:
    """How a worker sets itself up.

    device   as torch writes it, on the worker's own machine
    threads  for torch, where that is the CPU
    images   about as many as each worker will get
    """

    store: Path
    networks: list[Network]
    decode: DecodeOptions
    device: str
    compute: str
    stored: str
    patch: Patches
    batch_size: int | None
    compile: bool
    threads: int
    images: int

    def open(self) -> "ExtractWorker":
        """Raises BBError, with the machine's name, where store, weights or device are not there, or where what would be
        made belongs to another feature space than was asked for."""
        try:
            if self.device == "cpu":
                torch.set_num_threads(self.threads)
            store = Store.open(self.store)
            numerics = Numerics.resolve(self.device, self.compute, self.stored)
            return ExtractWorker([self._queue(store, network, numerics) for network in self.networks])
        except BBError as error:
            raise BBError(f"a worker on {socket.gethostname()} can't begin: {error}") from None

    def _queue(self, store: Store, network: Network, numerics: Numerics) -> "BackboneQueue":
        decoder = find_decoder(self.decode, torch.device("cpu"))  # its options are part of the space; others decode
        extractor = Extractor.load(
            network.name, decoder, numerics, patch=self.patch, batch_size=self.batch_size, compile=self.compile
        )
        for space, key in zip(extractor.spaces, network.spaces, strict=True):
            if space.key != key:
                raise BBError(
                    f"{network.name} fills space {short(space.key)} there and {short(key)} here. Every machine needs "
                    f"the same bb and the same weights; `bb store why` says in what two spaces differ."
                )
        if self.compile:
            extractor.compile_if_it_repays(self.images)
        return BackboneQueue(FeatureWriter.open(store, extractor), network.geometry)


@dataclass
class BackboneQueue:
    """One network: pixels wait until they are a batch, and features until they are a segment."""

    writer: FeatureWriter
    geometry: int
    waiting: list[tuple[DecodedBatch, int, UInt8[Tensor, "3 h w"]]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.writer.extractor.name)

    def add(self, decoded: DecodedBatch, result: WorkerResult) -> None:
        """Takes those images of a batch that a space of this network misses; notes which of them failed."""
        entries = decoded.item.entries
        wanted = np.logical_or.reduce([decoded.item.absent[space.key] for space in self.writer.extractor.spaces])
        for i, pixels in zip(decoded.good, decoded.pixels[self.geometry] if decoded.good else (), strict=True):
            if wanted[i]:
                self.waiting.append((decoded, i, torch.from_numpy(pixels)))
        result.notes |= {entries[i].image_sha256: note for i, note in decoded.notes.items() if note}
        missing = {entries[i].image_sha256 for i in np.flatnonzero(wanted)}
        if failed := {digest: reason for digest, reason in decoded.failed.items() if digest in missing}:
            result.failed.setdefault(self.name, {}).update(failed)

    def encode(self, result: WorkerResult, *, rest: bool) -> None:
        """Whole batches; with `rest` what is left over too."""
        encoder = self.writer.extractor.encoder()
        while len(self.waiting) >= (1 if rest else encoder.size):
            batch, self.waiting = self.waiting[: encoder.size], self.waiting[encoder.size :]
            pixels = encoder.stack([pixels for _, _, pixels in batch])
            began = time.perf_counter()
            pending = encoder.start(pixels)
            features = pending.wait()
            self.writer.timed(len(batch), pending.seconds() or time.perf_counter() - began)
            entries = [decoded.item.entries[i] for decoded, i, _ in batch]
            missing = {
                space.key: np.array([decoded.item.absent[space.key][i] for decoded, i, _ in batch], dtype=bool)
                for space in self.writer.extractor.spaces
            }
            damaged = {row: decoded.damaged[i] for row, (decoded, i, _) in enumerate(batch) if decoded.damaged.get(i)}
            ids = [entry.image_id for entry in entries]
            failed = self.writer.write(keys_of(entries), ids, features, missing, damaged)
            if failed:
                reasons = {entries[row].image_sha256: reason for row, reason in failed.items()}
                result.failed.setdefault(self.name, {}).update(reasons)
            result.computed += len(batch) - len(failed)


@dataclass
class ExtractWorker:
    """All networks of one worker; each batch goes through those that miss some of it."""

    queues: list[BackboneQueue]

    def take(self, decoded: DecodedBatch) -> WorkerResult:
        """Whole batches become features; segments that are full are published next to it."""
        result = WorkerResult()
        for queue in self.queues:
            queue.add(decoded, result)
            queue.encode(result, rest=False)
        return result

    def close(self) -> WorkerResult:
        """Encodes and publishes what is left."""
        result = WorkerResult()
        for queue in self.queues:
            queue.encode(result, rest=True)
        with ExitStack() as stack:
            for queue in self.queues:
                stack.callback(queue.writer.close)
        return result
