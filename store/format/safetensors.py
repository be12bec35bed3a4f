"""The safetensors format (https://github.com/huggingface/safetensors), as strict as a store needs it.

A file is the length of its header in 8 bytes, the header in JSON, padded by spaces to a multiple of 8, and the arrays'
bytes. bb writes one form for one content: arrays by falling item size, then by name. It reads this form alone, so that
nothing in a header can mean two things, and reserves no memory for what a header merely claims: arrays are views.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from bb.store.errors import Malformed
from bb.store.files.limits import parse_json
from bb.store.format.layout import clip

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
}
MAX_HEADER_BYTES = 4 * 2**20
MAX_ARRAYS = 1024
MAX_AXES = 2
_NAME = re.compile(r"[a-z0-9_.]{1,80}")


def encode_arrays(arrays: Mapping[str, np.ndarray], text: str) -> bytes:
    """The file of arrays and of a text, which the header's metadata has under "bb".

    arrays  of one or two axes, in a dtype of DTYPES
    Errors: Malformed for other arrays, and for a header of more than MAX_HEADER_BYTES.
    """
    order = _ordered(arrays)
    return b"".join([_header(arrays, text), *(_plain(arrays[name]).tobytes() for name in order)])


def decode_arrays(data: bytes) -> tuple[str, dict[str, np.ndarray]]:
    """The text and the arrays of a file's bytes: read-only views, all of their numbers finite.

    Errors: Malformed where the bytes are not exactly what `encode_arrays` would write.
    """
    head = read_header(data)
    text, found = header_text(head), {}
    entries = {name: entry for name, entry in head.items() if name != "__metadata__"}
    if len(entries) > MAX_ARRAYS:
        raise Malformed(f"it has {len(entries)} arrays, {MAX_ARRAYS} can be")
    size = int.from_bytes(data[:8], "little")
    body = memoryview(data)[8 + size :]
    for name, entry in entries.items():
        found[name] = _view(name, entry, body)
    if _header(found, text) != data[: 8 + size] or sum(x.nbytes for x in found.values()) != len(body):
        raise Malformed("its header is not in the form that bb writes")
    for name, x in found.items():
        if not np.isfinite(x).all():
            raise Malformed(f"its array {name} has NaN or infinite values")
    return text, found


def read_header(data: bytes) -> dict[str, Any]:
    """The header of a file's first bytes. Errors: Malformed where it is cut off, too long or not a JSON object."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 0 < size <= MAX_HEADER_BYTES or 8 + size > len(data):
        raise Malformed("its header is cut off or too long")
    try:
        head = parse_json(data[8 : 8 + size], MAX_HEADER_BYTES)
    except ValueError as fact:
        raise Malformed(f"its header can't be read: {fact}") from None
    if not isinstance(head, dict):
        raise Malformed("its header is not a JSON object")
    return head


def header_text(head: Mapping[str, Any]) -> str:
    """What `encode_arrays` was given as text. Errors: Malformed."""
    metadata = head.get("__metadata__")
    if not isinstance(metadata, dict) or metadata.keys() != {"bb"} or not isinstance(metadata["bb"], str):
        raise Malformed("its header does not have bb's metadata")
    return metadata["bb"]


def _view(name: str, entry: Any, body: memoryview) -> np.ndarray:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise Malformed(f"its array {clip(name)} is described by {clip(entry)}")
    dtype, shape, offsets = DTYPES.get(str(entry["dtype"])), entry["shape"], entry["data_offsets"]
    if dtype is None:
        raise Malformed(f"its array {clip(name)} has the dtype {clip(entry['dtype'])}; {', '.join(DTYPES)} can be")
    if not _whole(shape) or not 1 <= len(shape) <= MAX_AXES:
        raise Malformed(f"its array {clip(name)} has the shape {clip(shape)}")
    if not _whole(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= len(body):
        raise Malformed(f"its array {clip(name)} has the offsets {clip(offsets)} of {len(body)} bytes")
    start, end = offsets
    if math.prod(shape) * dtype.itemsize != end - start:
        raise Malformed(f"its array {clip(name)} has {end - start} bytes, which are not those of {clip(shape)}")
    try:
        return np.frombuffer(body[start:end], dtype).reshape(shape)
    except ValueError:  # of no bytes, with an axis longer than numpy counts
        raise Malformed(f"its array {clip(name)} has the shape {clip(shape)}") from None


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and n >= 0 for n in values)


def _ordered(arrays: Mapping[str, np.ndarray]) -> list[str]:
    return sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))


def _plain(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x, x.dtype.newbyteorder("<"))


def _header(arrays: Mapping[str, np.ndarray], text: str) -> bytes:
    names = {dtype: name for name, dtype in DTYPES.items()}
    head: dict[str, Any] = {"__metadata__": {"bb": text}}
    end = 0
    for name in _ordered(arrays):
        x = arrays[name]
        known = names.get(x.dtype.newbyteorder("<"))
        if not _NAME.fullmatch(name) or known is None or not 1 <= x.ndim <= MAX_AXES:
            raise Malformed(f"its array {clip(name)} is {x.dtype} of shape {x.shape}")
        head[name] = {"dtype": known, "shape": list(x.shape), "data_offsets": [end, end + x.nbytes]}
        end += x.nbytes
    raw = json.dumps(head, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    raw += b" " * (-len(raw) % 8)
    if len(raw) > MAX_HEADER_BYTES:
        raise Malformed(f"its header has {len(raw)} bytes, {MAX_HEADER_BYTES} can be")
    return len(raw).to_bytes(8, "little") + raw
