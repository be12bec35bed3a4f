"""A segment: an immutable block of rows of one feature space, named by the digest of its own metadata.

Its `zarr.json` lists size and SHA-256 of every other object and names the space, so that its own SHA-256, the
segment's name, vouches for all of it (as an OCI manifest or a git commit does).
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num, UInt8

from store.canonical import canonical_json, sha256_hex
from store.collection import some
from store.encode import encode_numbers, encode_strings
from store.errors import BBError
from store.layout import FORMAT, ArrayLayout, Malformed, check_objects, layouts, parse_manifest, plain_size, read_plain
from store.publish import Bytes
from store.space import FeatureSpace, short


def encode_segment(
    space: FeatureSpace,
    image_sha256: UInt8[np.ndarray, "n 32"],
    image_ids: Sequence[str],
    features: Num[np.ndarray, "n ..."],
    provenance: Mapping[str, Any],
    *,
    zstd: bool = False,
) -> tuple[str, dict[str, Bytes]]:
    """Lays out a segment of N rows: its name, and its objects with its `zarr.json`, relative path: bytes.

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
        cls, folder: Path, space: FeatureSpace, fetch: "Callable[[Segment, str], None] | None" = None
    ) -> "Segment":
        """Reads a segment's metadata and checks it against its name and the space it lies in.

        `fetch` brings an array's objects to the folder where they lie elsewhere, before each reading. Raises BBError
        where the name is not the digest of `zarr.json`, the segment is another space's, or its
        manifest is not one of format 1.
        """
        try:
            raw = read_plain(folder, "zarr.json")
            if sha256_hex(raw) != folder.name:
                raise Malformed("its zarr.json does not have the digest in its name")
            manifest = parse_manifest(raw)
            if manifest["space"] != space.key:
                raise BBError(
                    f"segment {short(folder.name)} belongs to feature space {short(manifest['space'])}, "
                    f"but lies under {short(space.key)}. Move {folder} out of the store."
                )
            return cls(folder, manifest, check_objects(manifest, space), fetch)
        except Malformed as fact:
            raise _damaged(folder, fact) from None

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
        return [dict(origin) for origin in self.provenance.get("merged", [self.provenance])]

    @property
    def n_bytes(self) -> int:
        """Size of all objects on disk, in bytes."""
        own = os.path.getsize(self.folder / "zarr.json")
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
            meta, chunk = (self.folder / path for path in layout.paths)
            for path in layout.paths:
                self._check_size(path)
            zstd = layout.parse(meta.read_bytes())
            if zstd or layout.data_type == "string":
                array = layout.decode(chunk.read_bytes(), zstd=zstd)
                array.flags.writeable = False
                return array
            if chunk.stat().st_size != layout.most_bytes:
                raise Malformed(f"its {name} does not hold {layout.shape} values of {layout.data_type}")
        except Malformed as fact:
            raise _damaged(self.folder, fact) from None
        return np.memmap(chunk, dtype=np.dtype(layout.data_type).newbyteorder("<"), mode="r", shape=layout.shape)

    def check_digests(self) -> None:
        """Raises BBError where an object is not the one that the manifest lists, or another file lies beside them."""
        listed = self.manifest["objects"]
        try:
            for path, (_, digest) in listed.items():
                if self.fetch:
                    self.fetch(self, path.partition("/")[0])
                self._check_size(path)
                with open(self.folder / path, "rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                        raise Malformed(f"its {path} does not have the digest in its manifest")
            there = {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if not path.is_dir()}
            if strangers := sorted(there - listed.keys() - {"zarr.json"}):
                raise Malformed(f"it holds {some(strangers)}, which its manifest does not list")
        except Malformed as fact:
            raise _damaged(self.folder, fact) from None

    def _check_size(self, path: str) -> None:
        expected, _ = self.manifest["objects"][path]
        actual = plain_size(self.folder, path)
        if actual != expected:
            raise Malformed(f"its {path} has {actual} bytes, its segment says {expected}")


def _damaged(folder: Path, fact: Malformed) -> BBError:
    return BBError(f"segment {folder} is damaged: {fact}. Move the folder out of the store and extract again.")
