"""A segment: an immutable block of rows of one feature space, named by the digest of its own metadata.

Its `zarr.json` lists size and SHA-256 of every other object and names the space, so that its own SHA-256, the
segment's name, vouches for all of it (as an OCI manifest or a git commit does).
"""

import hashlib
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num, UInt8

from bb.store.errors import BBError, Malformed
from bb.store.files.canonical_json import canonical_json, sha256_hex
from bb.store.files.directory import Bytes, Directory
from bb.store.files.memory_map import map_numbers
from bb.store.format.collection import some
from bb.store.format.damaged import read_damage
from bb.store.format.encode import encode_numbers, encode_strings
from bb.store.format.layout import FORMAT, ArrayLayout, check_objects, layouts, open_plain, parse_manifest, read_plain
from bb.store.format.space import FeatureSpace, short

STEPS = 4  # from a store's root to a segment: spaces/<space key>/segments/<digest>, or tmp/pull/<digest>/<digest>
BLOCK_BYTES = 32 * 2**20  # of features that are looked at at once


def encode_segment(
    space: FeatureSpace,
    image_sha256: UInt8[np.ndarray, "n 32"],
    image_ids: Sequence[str],
    features: Num[np.ndarray, "n ..."],
    provenance: Mapping[str, Any],
    *,
    zstd: bool = False,
) -> tuple[str, dict[str, Bytes]]:
    """Arranges a segment of N rows: its name, and its objects with its `zarr.json`, relative path: bytes.

    See `encode_rows` for the arguments and errors.
    """
    objects = encode_rows(space, image_sha256, image_ids, features, zstd=zstd)
    digests = {path: sha256_hex(data) for path, data in objects.items()}
    digest, manifest = seal_segment(space, len(image_ids), objects, digests, provenance)
    return digest, {**objects, "zarr.json": manifest}


def encode_rows(
    space: FeatureSpace,
    image_sha256: UInt8[np.ndarray, "n 32"],
    image_ids: Sequence[str],
    features: Num[np.ndarray, "n ..."],
    *,
    zstd: bool = False,
) -> dict[str, Bytes]:
    """The objects of a segment of N rows, relative path: bytes; all but its own `zarr.json`.

    image_sha256  (N, 32) uint8, the rows' keys
    image_ids     N strings, collection/ID, for people and plain readers
    features      (N, *space.row_shape), cast to the space's stored dtype by the caller
    zstd          compress the features with zstd; otherwise chunks are raw, and a local read is a memory map

    Raises ValueError where shapes or dtype do not fit the space.
    """
    n = len(image_ids)
    if n == 0 or image_sha256.shape != (n, 32) or features.shape != (n, *space.row_shape):
        raise ValueError(
            f"{n} IDs, keys {image_sha256.shape} and features {features.shape} do not fit {space.row_shape}"
        )
    if features.dtype != space.dtype:
        raise ValueError(f"features are {features.dtype}, the space stores {space.dtype}")
    arrays = layouts(space, n)
    return {
        **encode_numbers(arrays["image_sha256"], image_sha256),
        **encode_strings(arrays["image_id"], image_ids),
        **encode_numbers(arrays[space.array], features, zstd=zstd),
    }


def seal_segment(
    space: FeatureSpace,
    rows: int,
    objects: Mapping[str, Bytes],
    digests: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> tuple[str, bytes]:
    """The name of a segment and its `zarr.json`, which lists its objects' sizes and SHA-256."""
    attributes = {
        "format": FORMAT,
        "space": space.key,
        "rows": rows,
        "objects": {path: [len(data), digests[path]] for path, data in objects.items()},
        "provenance": dict(provenance),
    }
    manifest = group_json({"bb": attributes})
    return sha256_hex(manifest), manifest


def group_json(attributes: Mapping[str, Any]) -> bytes:
    """The `zarr.json` of a Zarr v3 group with these attributes."""
    return canonical_json({"zarr_format": 3, "node_type": "group", "attributes": attributes}) + b"\n"


@dataclass(frozen=True)
class Segment:
    """A published segment in a local folder, with the arrays that its manifest and space allow it."""

    folder: Path
    manifest: dict[str, Any]
    arrays: dict[str, ArrayLayout]
    fetch: "Callable[[Segment, str], None] | None" = field(default=None, repr=False, compare=False)

    @classmethod
    def open(
        cls,
        folder: Path,
        space: FeatureSpace,
        fetch: "Callable[[Segment, str], None] | None" = None,
        digest: str | None = None,
    ) -> "Segment":
        """Reads a segment's metadata and checks it against its name and the space it is in.

        `digest` is its name where that of its folder differs, in `aside/`. `fetch` brings an array's objects to the
        folder where they lie elsewhere, before each reading. Raises BBError where the name is not the digest of
        `zarr.json`, the segment is another space's, or its manifest is not one of format 1.
        """
        try:
            raw = read_plain(Directory.within(folder, STEPS), "zarr.json")
            if sha256_hex(raw) != (digest or folder.name):
                raise Malformed("its zarr.json does not have the digest in its name")
            manifest = parse_manifest(raw)
            if manifest["space"] != space.key:
                raise BBError(
                    f"segment {short(folder.name)} belongs to feature space {short(manifest['space'])}, "
                    f"but is stored under {short(space.key)}. Move {folder} out of the store."
                )
            return cls(folder, manifest, check_objects(manifest, space), fetch)
        except Malformed as fact:
            raise _damaged(folder, fact) from None

    @cached_property
    def directory(self) -> Directory:
        """Its folder, below the store's root."""
        return Directory.within(self.folder, STEPS)

    @property
    def digest(self) -> str:
        return self.folder.name

    @property
    def rows(self) -> int:
        return int(self.manifest["rows"])

    @property
    def provenance(self) -> dict[str, Any]:
        return dict(self.manifest["provenance"])

    @property
    def origins(self) -> list[dict[str, Any]]:
        """The provenance of its rows: its own, or those of the segments that compaction merged into it."""
        undamaged = {key: value for key, value in self.provenance.items() if key != "damaged"}
        return [dict(origin) for origin in undamaged.get("merged", [undamaged])]

    @property
    def damaged(self) -> dict[int, str]:
        """Of rows made of damaged images, by row, what is wrong with the image."""
        return read_damage(self.provenance, self.rows)

    @property
    def n_bytes(self) -> int:
        """Size of all objects on disk, in bytes."""
        own = self.directory.stat_file("zarr.json").st_size
        return own + sum(size for size, _ in self.manifest["objects"].values())

    @cached_property
    def keys(self) -> UInt8[np.ndarray, "n 32"]:
        """The rows' keys: SHA-256 of the image files' bytes. Copied, since a memory map holds a file descriptor."""
        return np.array(self.array("image_sha256"))

    def array(self, name: str) -> np.ndarray:
        """An array of the segment, read-only: a memory map where its numbers are raw, decoded otherwise.

        Raises BBError where its objects do not have the sizes that the manifest gives, or hold another array.
        """
        if not self.fetch:
            return self._array(name)
        self.fetch(self, name)
        try:
            return self._array(name)
        except (BBError, FileNotFoundError):
            self.fetch(self, name)  # another process may have dropped it from the cache meanwhile
            return self._array(name)

    def _array(self, name: str) -> np.ndarray:
        layout = self.arrays[name]
        try:
            meta, chunk = layout.paths
            zstd = layout.parse(self._read(meta))
            if zstd or layout.data_type == "string":
                array = layout.decode(self._read(chunk), zstd=zstd)
                array.flags.writeable = False
                return array
            if self._size(chunk) != layout.most_bytes:
                raise Malformed(f"its {name} does not hold {layout.shape} values of {layout.data_type}")
            with open_plain(self.directory, chunk) as file:
                self._check_size(chunk, os.fstat(file.fileno()).st_size)
                return map_numbers(file, np.dtype(layout.data_type).newbyteorder("<"), layout.shape)
        except Malformed as fact:
            raise _damaged(self.folder, fact) from None

    def check_digests(self) -> None:
        """Raises BBError where an object is not the one that the manifest lists, or another file is next to them."""
        listed = self.manifest["objects"]
        try:
            for path, (_, digest) in listed.items():
                if self.fetch:
                    self.fetch(self, path.partition("/")[0])
                with open_plain(self.directory, path) as file:
                    self._check_size(path, os.fstat(file.fileno()).st_size)
                    if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                        raise Malformed(f"its {path} does not have the digest in its manifest")
            there = {path for path, status in self.directory.walk() if not stat.S_ISDIR(status.st_mode)}
            if unexpected_files := sorted(there - listed.keys() - {"zarr.json"}):
                raise Malformed(f"it holds {some(unexpected_files)}, which its manifest does not list")
        except Malformed as fact:
            raise _damaged(self.folder, fact) from None

    def check_rows(self, space: FeatureSpace) -> None:
        """Raises BBError where a key stands twice, or a feature is NaN or infinite."""
        remedy = f"Move {self.folder} out of the store and extract again."
        keys = np.ascontiguousarray(self.keys).view("S32").reshape(-1)
        if len(np.unique(keys)) != len(keys):
            raise BBError(f"segment {self.folder} has two rows of one image. {remedy}")
        features = self.array(space.array)
        step = max(1, BLOCK_BYTES // features[0].nbytes)
        for start in range(0, len(features), step):
            finite = np.isfinite(features[start : start + step]).all(axis=tuple(range(1, features.ndim)))
            if not finite.all():
                row = start + int(np.flatnonzero(~finite)[0])
                raise BBError(f"segment {self.folder} has NaN or infinite features in row {row}. {remedy}")

    def _size(self, path: str) -> int:
        """As the manifest has it."""
        return int(self.manifest["objects"][path][0])

    def _read(self, path: str) -> bytes:
        with open_plain(self.directory, path) as file:
            self._check_size(path, os.fstat(file.fileno()).st_size)
            return file.read(self._size(path))

    def _check_size(self, path: str, actual: int) -> None:
        if actual != self._size(path):
            raise Malformed(f"its {path} has {actual} bytes, its segment says {self._size(path)}")


def _damaged(folder: Path, fact: Malformed) -> BBError:
    return BBError(f"segment {folder} is damaged: {fact}. Move the folder out of the store and extract again.")
