"""What workers of a cluster do: some decode images, others hold networks, and publish what these make of them."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from extract.decoder import Decoder, find_decoder
from extract.device import Numerics
from extract.embed import faults, to_stored
from extract.extractor import Extractor
from extract.geometry import Geometry
from extract.images import UnreadableImage
from extract.lacking import keys_of
from extract.name import BackboneName
from extract.reading import cut, read_image
from extract.source import Source
from store import BBError, Entry, SegmentWriter, Store
from store.space import short


@dataclass(frozen=True)
class Piece:
    """Some images that at least one feature space lacks. Their IDs begin with their collection's name.

    absent  of each space, by key, which of them it lacks
    """

    entries: list[Entry]
    sources: list[Source]
    absent: dict[str, Bool[np.ndarray, " n"]]


@dataclass(frozen=True)
class Chunk:
    """A piece, decoded.

    good    those images that could be, by their place in the piece
    pixels  of these, cut by each geometry
    failed  image digest → why another could not
    """

    piece: Piece
    good: list[int]
    pixels: list[UInt8[np.ndarray, "n 3 h w"]]
    failed: dict[bytes, str]


@dataclass
class Told:
    """What has come of it: how many features were made, and of each backbone, image digest → why there is none."""

    computed: int = 0
    failed: dict[str, dict[bytes, str]] = field(default_factory=dict)


def load_piece(piece: Piece, decoder: Decoder, geometries: Sequence[Geometry]) -> Chunk:
    """Reads and decodes each image once, and cuts it once for each geometry."""
    good: list[int] = []
    rows: list[list[np.ndarray]] = [[] for _ in geometries]
    failed: dict[bytes, str] = {}
    for i, (entry, source) in enumerate(zip(piece.entries, piece.sources, strict=True)):
        try:
            pixels = cut(decoder, decoder.decode(read_image(entry, source)), geometries)
        except UnreadableImage as error:
            failed[entry.image_sha256] = str(error)
        else:
            good.append(i)
            for kept, geometry in zip(rows, geometries, strict=True):
                kept.append(pixels[geometry].numpy())
    return Chunk(piece, good, [np.stack(kept) for kept in rows] if good else [], failed)


@dataclass(frozen=True)
class Network:
    """One backbone as a worker is to build it: by which geometry, and the keys of the spaces that it must fill."""

    name: BackboneName
    geometry: int
    spaces: list[str]


@dataclass(frozen=True)
class Plant:
    """How a worker sets itself up.

    device   as torch writes it, on the worker's own machine
    threads  for torch, where that is the CPU
    images   about as many as each worker will get
    """

    store: Path
    networks: list[Network]
    decode: str
    device: str
    compute: str
    stored: str
    patch: bool
    batch_size: int | None
    compile: bool
    threads: int
    images: int

    def open(self) -> "Sink":
        """Raises BBError, with the machine's name, where store, weights or device are not there, or where what would be
        made belongs to another feature space than was asked for."""
        try:
            if self.device == "cpu":
                torch.set_num_threads(self.threads)
            store = Store.open(self.store)
            numerics = Numerics.resolve(self.device, self.compute, self.stored)
            return Sink([self._line(store, network, numerics) for network in self.networks])
        except BBError as error:
            raise BBError(f"a worker on {socket.gethostname()} can't begin: {error}") from None

    def _line(self, store: Store, network: Network, numerics: Numerics) -> "Line":
        decoder = find_decoder(self.decode, torch.device("cpu"))  # its name is part of the space; others decode
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
        return Line(
            extractor, network.geometry, [SegmentWriter(store, s, extractor.provenance) for s in extractor.spaces]
        )


@dataclass
class Line:
    """One network: pixels wait until they are a batch, and features until they are a segment."""

    extractor: Extractor
    geometry: int
    writers: list[SegmentWriter]
    waiting: list[tuple[Piece, int, UInt8[Tensor, "3 h w"]]] = field(default_factory=list)

    def add(self, chunk: Chunk, told: Told) -> None:
        """Of a chunk those images that a space of this network lacks."""
        wanted = np.logical_or.reduce([chunk.piece.absent[writer.space.key] for writer in self.writers])
        for i, pixels in zip(chunk.good, chunk.pixels[self.geometry] if chunk.good else (), strict=True):
            if wanted[i]:
                self.waiting.append((chunk.piece, i, torch.from_numpy(pixels)))
        if chunk.failed:
            told.failed.setdefault(str(self.extractor.name), {}).update(chunk.failed)

    def encode(self, told: Told, *, rest: bool) -> None:
        """Whole batches; with `rest` what is left over too."""
        encoder = self.extractor.encoder()
        while len(self.waiting) >= (1 if rest else encoder.size):
            batch, self.waiting = self.waiting[: encoder.size], self.waiting[encoder.size :]
            features = encoder(encoder.stack([pixels for _, _, pixels in batch]))
            entries = [piece.entries[i] for piece, i, _ in batch]
            usable = np.ones(len(batch), dtype=bool)
            stored = []
            for writer, rows in zip(self.writers, features, strict=False):
                if rows is None:
                    raise BBError(f"{self.extractor.name} gave no {writer.space.kind} features for a batch.")
                stored.append(to_stored(rows, writer.space))
                for row, reason in faults(rows, stored[-1], writer.space.numerics["compute"]).items():
                    usable[row] = False
                    told.failed.setdefault(str(self.extractor.name), {})[entries[row].image_sha256] = reason
            for writer, rows in zip(self.writers, stored, strict=True):
                absent = np.array([piece.absent[writer.space.key][i] for piece, i, _ in batch])
                take = np.flatnonzero(usable & absent)
                ids = [entries[row].image_id for row in take]
                writer.add(keys_of([entries[row] for row in take]), ids, rows[take])
            told.computed += int(usable.sum())


@dataclass
class Sink:
    """All networks of one worker; each chunk goes through those that lack something of it."""

    lines: list[Line]

    def take(self, chunk: Chunk) -> Told:
        """Whole batches become features; segments that are full are published beside it."""
        told = Told()
        for line in self.lines:
            line.add(chunk, told)
            line.encode(told, rest=False)
        return told

    def close(self) -> Told:
        """Encodes and publishes what is left."""
        told = Told()
        for line in self.lines:
            line.encode(told, rest=True)
        for line in self.lines:
            for writer in line.writers:
                writer.close()
        return told
