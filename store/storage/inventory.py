"""What a place holds, read with distrust: nothing is believed but what digests, sizes and format 1 bear out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from jaxtyping import UInt8

from bb.store.errors import BBError, Malformed
from bb.store.files.canonical_json import sha256_hex
from bb.store.files.limits import MAX_JSON_BYTES, MAX_RUN_BYTES, MAX_TABLE_BYTES, max_bytes
from bb.store.files.paths import HARMLESS, NAMES, StorePart, published
from bb.store.format.collection import Collection
from bb.store.format.labels import LabelTable
from bb.store.format.layout import (
    FORMAT,
    check_objects,
    clip,
    format_of,
    is_digest,
    layouts,
    parse_manifest,
    parse_space,
    read_json,
)
from bb.store.format.model import collection_of_model
from bb.store.format.safetensors import MAX_HEADER_BYTES
from bb.store.format.space import FeatureSpace, short
from bb.store.local.runs import MAY_BE, TABLES, parse_run, tables_of
from bb.store.local.segment import group_json
from bb.store.storage.base import Storage

MAX_FILES = 50_000_000


@dataclass(frozen=True)
class Item:
    """A part to be copied.

    n_bytes    of all its files
    rows       of a segment
    backbones  under whose names a segment was extracted
    raw        the marker's bytes where they are needed again: of a segment, and of a space as bb writes it
    """

    part: StorePart
    n_bytes: int
    rows: int = 0
    backbones: tuple[str, ...] = ()
    raw: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Inventory:
    """A place's listing: the published parts, and the size of every file that a store can have."""

    place: Storage
    parts: Mapping[StorePart, list[str]]
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, place: Storage) -> "Inventory":
        """Lists a place. Raises BBError where it has more files than any store."""
        sizes = {}
        for path, size in place.list():
            if path == "zarr.json" or path.partition("/")[0] in NAMES:
                sizes[path] = size
            if len(sizes) > MAX_FILES:
                raise BBError(f"{place.url} lists more than {MAX_FILES} files, which no store has.")
        return cls(place, published(sizes), sizes)

    def of_kind(self, kind: str) -> Iterator[StorePart]:
        return (part for part in self.parts if part.kind == kind)

    def marker(self, part: StorePart, most: int = MAX_JSON_BYTES) -> bytes:
        """The bytes of a marker that is named by their digest. Raises Malformed where they are others, or too many."""
        raw = self._read(part.path, most)
        if sha256_hex(raw) != part.digest:
            raise Malformed(f"its {part.marker} does not have the digest in its name")
        return raw

    def space(self, part: StorePart) -> FeatureSpace:
        return parse_space(part.digest, self._read(part.path, MAX_JSON_BYTES))

    def segment(self, part: StorePart, space: FeatureSpace) -> Item:
        """A segment by its manifest alone, whose objects may have no other sizes in the listing."""
        raw = self.marker(part)
        manifest = parse_manifest(raw)
        if manifest["space"] != part.owner:
            raise Malformed(f"it belongs to feature space {short(manifest['space'])}")
        check_objects(manifest, space)
        for path, (size, _) in manifest["objects"].items():
            listed = self.sizes.get(part.at(path), size)
            if listed != size:
                raise Malformed(f"its {path} has {listed} bytes, its manifest says {size}")
        origins = manifest["provenance"].get("merged", [manifest["provenance"]])
        names = sorted({str(origin["backbone"])[:200] for origin in origins if "backbone" in origin})
        n_bytes = len(raw) + sum(size for size, _ in manifest["objects"].values())
        return Item(part, n_bytes, manifest["rows"], tuple(names), raw)

    def keys(self, item: Item, space: FeatureSpace) -> UInt8[np.ndarray, "n 32"]:
        """The image digests of a segment's rows."""
        objects = parse_manifest(item.raw)["objects"]
        layout = layouts(space, item.rows)["image_sha256"]
        meta, chunk = (self._object(item.part, path, *objects[path]) for path in layout.paths)
        return layout.decode(chunk, zstd=layout.parse(meta))

    def adopted(self, part: StorePart) -> str:
        """The key of the older space that serves for the space that the record is in."""
        older = read_json(self.marker(part)).get("space")
        if not is_digest(older):
            raise Malformed(f"it adopts the space {clip(older)}")
        return cast(str, older)

    def run(self, part: StorePart) -> dict[str, Any]:
        raw = self._read(part.path, MAX_RUN_BYTES)
        return parse_run(raw, part.owner, part.digest)

    def collection(self, part: StorePart) -> Collection:
        raw = self.marker(part, MAX_TABLE_BYTES)
        return parse_collection(part, raw)

    def labelled(self, part: StorePart) -> list[str]:
        """The image IDs that a labels table names, each once."""
        return parse_labels(part, self.marker(part, MAX_TABLE_BYTES))

    def fitted_on(self, part: StorePart) -> tuple[str, str]:
        """Name and digest of the collection that a model was fitted on, by its header; `item` is what is checked."""
        first = b""
        for piece in self.place.stream(part.path):
            first += piece
            if len(first) >= 8 + min(MAX_HEADER_BYTES, int.from_bytes(first[:8].ljust(8, b"\xff"), "little")):
                break
        return collection_of_model(first)

    def item(self, part: StorePart) -> Item:
        """A part by the listing, save for segments."""
        if part.kind == "space":
            raw = group_json({"bb": {"format": FORMAT, "space": self.space(part).record()}})
            return Item(part, len(raw) + len(group_json({})), raw=raw)
        files = [part.marker, *(TABLES if part.kind == "run" else ())]
        sizes = self.sizes
        if part.kind == "run" and not all(part.at(file) in sizes for file in files):
            # A listing that began before the run was published may have its marker, which is last, and not the rest.
            sizes = dict(self.place.list(part.folder))
        absent = [file for file in files if part.at(file) not in sizes]
        if absent:
            raise Malformed(f"its {absent[0]} is missing")
        files += [file for file in MAY_BE if part.kind == "run" and part.at(file) in sizes]
        for file in files:
            if (size := sizes[part.at(file)]) > (most := max_bytes(part, file)):
                raise Malformed(f"its {file} has {size} bytes, {most} can be")
        return Item(part, sum(sizes[part.at(file)] for file in files))

    def objects(self, item: Item) -> tuple[dict[str, bytes], dict[str, tuple[int | None, str]]]:
        """What completes a part: the files whose bytes are available, and size (if known) and SHA-256 of the others."""
        part = item.part
        if part.kind == "segment":
            listed = parse_manifest(item.raw)["objects"]
            return {part.marker: item.raw}, {path: (size, digest) for path, (size, digest) in listed.items()}
        if part.kind == "space":
            return {part.marker: item.raw, "segments/zarr.json": group_json({})}, {}
        if part.kind == "run":
            raw = self._read(part.path, MAX_RUN_BYTES)
            digests = parse_run(raw, part.owner, part.digest)["digests"]
            tables = tables_of(digests)
            for table in tables:
                if not is_digest(digests[table]):
                    raise Malformed(f"its run.json gives {table} the digest {clip(digests[table])}")
            return {part.marker: raw}, {table: (self.sizes.get(part.at(table)), digests[table]) for table in tables}
        return {}, {part.marker: (self.sizes[part.path], part.digest)}

    def _object(self, part: StorePart, path: str, size: int, digest: str) -> bytes:
        data = self._read(part.at(path), size)
        if len(data) != size or sha256_hex(data) != digest:
            raise Malformed(f"its {path} does not have the digest in its manifest")
        return data

    def _read(self, path: str, most: int) -> bytes:
        if (size := self.sizes.get(path, 0)) > most:
            raise Malformed(f"its {path.rpartition('/')[2]} has {size} bytes, {most} can be")
        return self.place.read(path, most)


def parse_collection(part: StorePart, raw: bytes) -> Collection:
    """A collection's version. Raises Malformed where its bytes are none."""
    try:
        return Collection.from_parquet(part.owner, part.digest, raw)
    except BBError as error:
        raise Malformed(str(error)) from None


def parse_labels(part: StorePart, raw: bytes) -> list[str]:
    """The distinct image IDs of a labels table, sorted. Raises Malformed where its bytes are none."""
    table = LabelTable.from_parquet(part.owner, part.digest, raw).table
    return table["id"].drop_nulls().unique().sort().to_list()


def has_store(place: Storage) -> bool:
    """Whether there is a store of this format. Raises BBError for one of another format."""
    try:
        raw = place.read("zarr.json", MAX_JSON_BYTES)
    except FileNotFoundError:
        return False
    found = format_of(raw)
    if found is None:
        raise BBError(f"{place.url} is not a bb store (its zarr.json says nothing of bb): name another place.")
    if found != FORMAT:
        raise BBError(
            f"{place.url} has store format {clip(found)}, this bb reads {FORMAT}: install a bb that knows it."
        )
    return True


def check_empty(place: Storage) -> None:
    """Raises BBError where other files lie than a store has while it is being made."""
    for path, _ in place.list():
        if path.partition("/")[0] not in (*NAMES, *HARMLESS, "zarr.json"):
            raise BBError(f"{place.url} holds {clip(path)} and is not a bb store: name a new or empty place.")
