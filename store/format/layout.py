"""What a segment may look like: the short list of shapes, types, codecs and paths that are read, all others refused.

Bytes from elsewhere are untrusted, so everything here is checked against the space, the manifest's rows and the
objects' sizes before memory is taken. Zarr v3: https://zarr-specs.readthedocs.io/en/latest/v3/core/v3.0.html
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from bb.store.errors import BBError, Malformed
from bb.store.files.directory import Directory, Linked, Refused
from bb.store.files.limits import MAX_JSON_BYTES, parse_json
from bb.store.format.space import FeatureSpace

# Eight times what bb writes, so that a store of larger segments still reads.
MAX_ROWS = 65_536
MAX_ARRAY_BYTES = 512 * 2**20
MAX_ID_BYTES = 4096

FORMAT = 1
HEX = frozenset("0123456789abcdef")

SPACE_REMEDY = "Copy its zarr.json from another copy of the store, or move its folder out of the store."
REGULAR = {"name": "default", "configuration": {"separator": "/"}}
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class ArrayLayout:
    """What an array of a segment has to be. Strings are `vlen-utf8`, numbers little-endian `bytes`; one chunk each."""

    name: str
    shape: tuple[int, ...]
    data_type: str

    @property
    def chunk(self) -> str:
        """Path of its only chunk within the segment."""
        return f"{self.name}/c/" + "/".join("0" * len(self.shape))

    @property
    def paths(self) -> tuple[str, str]:
        return f"{self.name}/zarr.json", self.chunk

    @property
    def most_bytes(self) -> int:
        """Size of the decoded chunk: exactly so for numbers, at most so for strings."""
        if self.data_type == "string":
            return 4 + self.shape[0] * (4 + MAX_ID_BYTES)
        return math.prod(self.shape) * np.dtype(self.data_type).itemsize

    @lru_cache(maxsize=256)  # noqa: B019 a layout is a small value; full segments all have the same bytes here
    def parse(self, raw: bytes) -> bool:
        """Whether the array is compressed with zstd, of its `zarr.json`. Raises Malformed where it is another array."""
        meta = read_json(raw)
        grid = {"name": "regular", "configuration": {"chunk_shape": list(self.shape)}}
        expected = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.data_type,
            "chunk_grid": grid,
            "chunk_key_encoding": REGULAR,
            "storage_transformers": [],
        }
        for field, value in expected.items():
            found = meta.get(field, [] if field == "storage_transformers" else None)
            if not _same(found, value):
                raise Malformed(f"its {self.name} has {field} {clip(found)}, format 1 has {clip(value)}")
        codecs = meta.get("codecs")
        if not isinstance(codecs, list) or not 1 <= len(codecs) <= 2:
            raise Malformed(f"its {self.name} has codecs {clip(codecs)}")
        first, *rest = [codec if isinstance(codec, dict) else {} for codec in codecs]
        if self.data_type == "string":
            known = first.get("name") == "vlen-utf8"
        else:
            narrow = np.dtype(self.data_type).itemsize == 1
            little = _same(first.get("configuration"), {"endian": "little"})
            known = first.get("name") == "bytes" and (narrow or little)
        if not known or any(codec.get("name") != "zstd" for codec in rest):
            raise Malformed(f"its {self.name} has codecs {clip(codecs)}")
        return bool(rest)

    def decode(self, data: bytes, *, zstd: bool) -> np.ndarray:
        """The array of its chunk's bytes, read-only numbers or numpy strings. Raises Malformed before overflowing."""
        if zstd:
            data = _decompress(data, self.most_bytes)
        if self.data_type == "string":
            return np.array(decode_strings(data, self.shape[0]), dtype=np.dtypes.StringDType())
        if len(data) != self.most_bytes:
            raise Malformed(f"its {self.name} has {len(data)} bytes of values, {self.shape} needs {self.most_bytes}")
        return np.frombuffer(data, dtype=np.dtype(self.data_type).newbyteorder("<")).reshape(self.shape)


def layouts(space: FeatureSpace, rows: int) -> dict[str, ArrayLayout]:
    """The arrays of a segment with that many rows, by name."""
    arrays = (
        ArrayLayout("image_sha256", (rows, 32), "uint8"),
        ArrayLayout("image_id", (rows,), "string"),
        ArrayLayout(space.array, (rows, *space.row_shape), space.numerics["stored"]),
    )
    return {array.name: array for array in arrays}


def parse_manifest(raw: bytes) -> dict[str, Any]:
    """The attributes `bb` of a segment's `zarr.json`, with their types checked; see `check_objects` for the paths."""
    meta = read_json(raw)
    attributes = meta.get("attributes")
    manifest = attributes.get("bb") if isinstance(attributes, dict) else None
    if not isinstance(manifest, dict) or meta.get("node_type") != "group":
        raise Malformed("its zarr.json says nothing of bb")
    if not _same(manifest.get("format"), FORMAT):
        raise Malformed(f"it has format {clip(manifest.get('format'))}, this bb reads {FORMAT}")
    rows = manifest.get("rows")
    if not isinstance(rows, int) or isinstance(rows, bool) or not 0 < rows <= MAX_ROWS:
        raise Malformed(f"it claims {clip(rows)} rows, between 1 and {MAX_ROWS} can be")
    if not is_digest(manifest.get("space")):
        raise Malformed(f"its manifest has space {clip(manifest.get('space'))}")
    for field, kind in (("objects", dict), ("provenance", dict)):
        if not isinstance(manifest.get(field), kind):
            raise Malformed(f"its manifest has {field} {clip(manifest.get(field))}")
    merged = manifest["provenance"].get("merged", [])
    if not isinstance(merged, list) or not all(isinstance(origin, dict) for origin in merged):
        raise Malformed(f"its provenance has merged {clip(merged)}")
    for origin in (manifest["provenance"], *merged):
        check_provenance(origin)
    return manifest


def check_provenance(origin: dict[str, Any]) -> None:
    """Raises Malformed where what every reader shows of a provenance is not of the type that bb writes."""
    for field in ("backbone", "device", "made"):
        if not isinstance(origin.get(field, ""), str):
            raise Malformed(f"its provenance has the {field} {clip(origin[field])}, which is not text")
    versions = origin.get("versions", {})
    if not isinstance(versions, dict) or not all(isinstance(v, str | None) for v in versions.values()):
        raise Malformed(f"its provenance has the versions {clip(versions)}, which are not text by name")


def format_of(raw: bytes) -> object:
    """The store format that the bytes of a store's own `zarr.json` give; None where they are not a bb store's."""
    try:
        return read_json(raw)["attributes"]["bb"]["format"]
    except (Malformed, KeyError, TypeError):
        return None


def check_objects(manifest: dict[str, Any], space: FeatureSpace) -> dict[str, ArrayLayout]:
    """The arrays of a parsed manifest. Raises Malformed unless its objects are just theirs, in sizes that can be."""
    arrays = layouts(space, manifest["rows"])
    if (claimed := arrays[space.array].most_bytes) > MAX_ARRAY_BYTES:
        raise Malformed(f"it claims {claimed} bytes of features, {MAX_ARRAY_BYTES} can be")
    expected = {path for array in arrays.values() for path in array.paths}
    objects = manifest["objects"]
    if objects.keys() != expected:
        raise Malformed(f"its manifest lists too many or too few objects: {clip(sorted(objects.keys() ^ expected))}")
    for path, entry in objects.items():
        plain = isinstance(entry, list) and len(entry) == 2 and is_count(entry[0]) and is_digest(entry[1])
        if not plain:
            raise Malformed(f"its manifest has {clip(entry)} for {path}")
        most = MAX_JSON_BYTES if path.endswith("zarr.json") else 2 * arrays[path.partition("/")[0]].most_bytes + 1024
        if entry[0] > most:
            raise Malformed(f"its {path} has {entry[0]} bytes, {most} can be")
    return arrays


def read_json(raw: bytes) -> dict[str, Any]:
    """A JSON object. Raises Malformed for anything else, and for what `parse_json` refuses."""
    try:
        value = parse_json(raw)
    except ValueError as fact:
        raise Malformed(f"its zarr.json is not a JSON object: {fact}") from None
    if not isinstance(value, dict):
        raise Malformed("its zarr.json is not a JSON object")
    return value


def read_plain(folder: Directory, path: str, most: int = MAX_JSON_BYTES) -> bytes:
    """The bytes of a file of up to `most` bytes. Raises Malformed where it is missing, larger, a link or no file."""
    with _facts(folder, path):
        data = folder.read(path, most)
    if data is None:
        raise Malformed(f"its {path} has {plain_size(folder, path)} bytes")
    return data


def open_plain(folder: Directory, path: str) -> BufferedReader:
    """A file, for reading. Raises Malformed where it is missing, a link or no file."""
    with _facts(folder, path):
        return folder.open(path)


def plain_size(folder: Directory, path: str) -> int:
    """Size of a file, in bytes. Raises Malformed where it is missing, a link or no file."""
    with _facts(folder, path):
        return folder.stat_file(path).st_size


@contextmanager
def _facts(folder: Directory, path: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise Malformed(f"its {path} is missing") from None
    except Linked as refused:
        raise Malformed(refused.fact) from None
    except Refused:
        raise Malformed(f"its {path} is not a file") from None


def decode_strings(data: bytes, count: int) -> list[str]:
    """The strings of a vlen-utf8 chunk: a count, then length and UTF-8 of each, in little-endian uint32.

    Raises Malformed where the count is not the array's, before anything is allocated by it.
    """
    claimed = int.from_bytes(data[:4], "little") if len(data) >= 4 else None
    if claimed != count:
        raise Malformed(f"its image_id claims {claimed} strings, its segment {count} rows")
    from numcodecs.vlen import VLenUTF8

    cut_or_long = Malformed("its image_id has a string that is cut off or too long")
    codec = VLenUTF8()
    try:
        strings: list[str] = codec.decode(data).tolist()
    except UnicodeDecodeError:
        raise Malformed("its image_id has a string that is not UTF-8") from None
    except ValueError:
        raise cut_or_long from None
    if 4 * max(map(len, strings)) > MAX_ID_BYTES and max(len(string.encode()) for string in strings) > MAX_ID_BYTES:
        raise cut_or_long
    plain = 4 + 4 * count + sum(map(len, strings)) == len(data)  # no byte that is not a character's
    if not plain and codec.encode(np.array(strings, dtype=object)) != data:
        raise Malformed("its image_id has bytes after its last string")
    return strings


def _decompress(data: bytes, most: int) -> bytes:
    from numcodecs.zstd import decompress

    size = _zstd_content_size(data)
    if size is None or size > most:
        raise Malformed(f"a zstd chunk says it holds {size} bytes, {most} can be")
    try:
        plain = bytes(decompress(data))
    except (RuntimeError, ValueError) as error:
        raise Malformed(f"a zstd chunk can't be read: {error}") from None
    if len(plain) != size:
        raise Malformed(f"a zstd chunk holds {len(plain)} bytes, it says {size}")
    return plain


def _zstd_content_size(data: bytes) -> int | None:
    """The size that a frame's header gives (RFC 8878, 3.1.1.1), None where it gives none."""
    if len(data) < 6 or data[:4] != ZSTD_MAGIC:
        return None
    descriptor = data[4]
    single, flag = bool(descriptor & 0x20), descriptor >> 6
    width = (1 if single else 0) if flag == 0 else 1 << flag
    start = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    if width == 0 or len(data) < start + width:
        return None
    return int.from_bytes(data[start : start + width], "little") + (256 if width == 2 else 0)


def is_count(value: object) -> bool:
    """Whether a JSON value is an integer of 0 or more; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_digest(value: object) -> bool:
    """Whether a JSON value is 64 lower-case hexadecimal digits."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= HEX


def clip(value: object) -> str:
    """A value out of someone's file, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def parse_space(key: str, raw: bytes) -> FeatureSpace:
    """The feature space of the bytes of its group's `zarr.json`. Raises Malformed where they are not this key's."""
    attributes = read_json(raw).get("attributes")
    bb = attributes.get("bb") if isinstance(attributes, dict) else None
    if not isinstance(bb, dict) or not isinstance(bb.get("space"), dict):
        raise Malformed("its zarr.json names no space")
    try:
        space = FeatureSpace.from_record(bb["space"])
        found = space.key
    except (BBError, ValueError, RecursionError) as fact:
        raise Malformed(str(fact)) from None
    if found != key:
        raise Malformed(f"its fields have the key {found}")
    return space


def read_space(root: Path, key: str) -> FeatureSpace:
    """The feature space of a key in a store. Raises BBError where its group's `zarr.json` is damaged."""
    try:
        return parse_space(key, read_plain(Directory(root, f"spaces/{key}"), "zarr.json"))
    except Malformed as fact:
        raise BBError(f"feature space {key} is damaged: {fact}. {SPACE_REMEDY}") from None


def _same(found: object, expected: object) -> bool:
    """Equality of JSON values, where true is not 1 and 1.0 is not 1."""
    return json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)
