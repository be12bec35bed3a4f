"""An array's objects, byte for byte as zarr-python 3.1 writes them, but without its copies of the numbers."""

import json
from collections.abc import Sequence

import numpy as np

from bb.store.format.layout import ArrayLayout

ZSTD_LEVEL = 3


def encode_numbers(layout: ArrayLayout, array: np.ndarray, *, zstd: bool = False) -> dict[str, bytes | memoryview]:
    """The two objects of an array of numbers, relative path: bytes. Raw ones are a view of the array, if contiguous."""
    meta, chunk = layout.paths
    little = np.ascontiguousarray(array, dtype=np.dtype(layout.data_type).newbyteorder("<"))
    raw = little.reshape(-1).view(np.uint8).data
    return {meta: array_json(layout, zstd=zstd), chunk: _compress(raw) if zstd else raw}


def encode_strings(layout: ArrayLayout, strings: Sequence[str]) -> dict[str, bytes | memoryview]:
    """The two objects of an array of strings: a chunk is a count, then length and UTF-8 of each, in little uint32."""
    from numcodecs.vlen import VLenUTF8

    meta, chunk = layout.paths
    return {meta: array_json(layout), chunk: bytes(VLenUTF8().encode(np.array(strings, dtype=object)))}


def array_json(layout: ArrayLayout, *, zstd: bool = False) -> bytes:
    """The array's `zarr.json`, with its fields in zarr's order."""
    shape = list(layout.shape)
    codecs: list[dict[str, object]]
    if layout.data_type == "string":
        fill: object = ""
        codecs = [{"name": "vlen-utf8", "configuration": {}}]
    else:
        dtype = np.dtype(layout.data_type)
        fill = 0 if dtype.kind == "u" else 0.0
        codecs = [{"name": "bytes", **({"configuration": {"endian": "little"}} if dtype.itemsize > 1 else {})}]
    if zstd:
        codecs.append({"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}})
    meta = {
        "shape": shape,
        "data_type": layout.data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": {},
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }
    return json.dumps(meta, indent=2).encode()


def _compress(raw: memoryview) -> bytes:
    from numcodecs.zstd import compress

    return bytes(compress(raw, ZSTD_LEVEL))
