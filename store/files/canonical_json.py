"""One byte string for one meaning: the JSON that digests are taken of.

UTF-8, keys sorted, separators `,` and `:`, no ASCII escaping, no NaN; a number that is not an integer is the string
of its Python `repr` (the shortest that reads back to the same float64), because JSON writers disagree on floats.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

PLAIN = {str, bool, int, type(None)}


def canonical_json(value: Any) -> bytes:
    """The canonical bytes of a value made of mappings, sequences, strings, booleans, None, integers and floats.

    Raises ValueError for NaN and infinities, TypeError for anything else that JSON has no word for.
    """
    plain = _plain(value)
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sha256_hex(data: bytes | bytearray | memoryview) -> str:
    """SHA-256 of bytes, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, 64 lower-case hexadecimal digits."""
    return sha256_hex(canonical_json(value))


def digest_of_parts(parts: Mapping[str, bytes]) -> str:
    """`digest_of` a mapping, of whose values the canonical bytes are given: what several share is written once."""
    whole = hashlib.sha256(b"{")
    for number, (key, value) in enumerate(sorted(parts.items())):
        whole.update(b"," * (number > 0) + canonical_json(key) + b":")
        whole.update(value)
    whole.update(b"}")
    return whole.hexdigest()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no canonical form")
        return repr(float(value))
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys must be strings, got {list(value)}")
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        if set(map(type, value)) <= PLAIN:  # image IDs by the ten thousand
            return value
        return [_plain(inner) for inner in value]
    raise TypeError(f"{type(value).__name__} has no canonical form")
