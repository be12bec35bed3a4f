"""Bounds on what is read: one table of sizes for every reader, and JSON and TOML without surprises."""

import json
import math
import tomllib
from typing import Any

from bb.store.files.paths import StorePart

# Largest sizes in bytes. Local reading, reading in place, push and pull all follow these.
MAX_JSON_BYTES = 2**20  # groups, manifests, adopted records, local records
MAX_TOML_BYTES = 2**20
MAX_SIGNATURE_BYTES = 8 * 2**20
MAX_RUN_BYTES = 64 * 2**20  # of run.json
MAX_HEAD_BYTES = 2**30
MAX_MODEL_BYTES = 2**30
MAX_TABLE_BYTES = 4 * 2**30

MAX_DEPTH = 32  # of nested JSON
MAX_INTEGER = 2**63  # of a number in JSON, which may have thousands of digits


def max_bytes(part: StorePart, file: str) -> int:
    """The largest size that a file of a published part may have; `file` is its path in the part's folder."""
    if file.endswith(".parquet"):
        return MAX_TABLE_BYTES
    if part.kind == "run":
        return MAX_RUN_BYTES
    sizes = {"signature": MAX_SIGNATURE_BYTES, "head": MAX_HEAD_BYTES, "model": MAX_MODEL_BYTES}
    return sizes.get(part.kind, MAX_JSON_BYTES)


def parse_json(raw: bytes, most: int = MAX_JSON_BYTES) -> Any:
    """A JSON value that can be printed, compared and written as canonical JSON.

    Raises ValueError with a short reason for bytes that are too many or are not JSON in UTF-8, and for values that
    canonical JSON does not have or that are of no use: NaN, infinities, integers beyond 64 bits, half surrogate pairs,
    deep nests.
    """
    if len(raw) > most:
        raise ValueError(f"it has {len(raw)} bytes, at most {most} are allowed")
    try:
        value = json.loads(raw.decode(), parse_constant=_refuse_constant, parse_int=_integer, parse_float=_finite)
        if b"\\ud" in raw or b"\\uD" in raw:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair has no UTF-8
    except UnicodeError:
        raise ValueError("it holds text that is not UTF-8") from None
    except RecursionError:
        raise ValueError(f"it nests deeper than {MAX_DEPTH}") from None
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for v in level if isinstance(v, dict) for inner in v.values()] + [
            inner for v in level if isinstance(v, list) for inner in v
        ]
        if not level:
            return value
    raise ValueError(f"it nests deeper than {MAX_DEPTH}")


def parse_toml(raw: bytes) -> dict[str, Any]:
    """What a TOML file says. Raises ValueError with a short reason for bytes that are too many or are not TOML."""
    if len(raw) > MAX_TOML_BYTES:
        raise ValueError(f"it has more than {MAX_TOML_BYTES:,} bytes")
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))  # Windows' editors put a byte order mark first
    except UnicodeError:
        raise ValueError("it holds text that is not UTF-8") from None
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # tomllib lets through what int() says of thousands of digits
        raise ValueError("it holds a number of thousands of digits") from None


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"it holds the number {text}")


def _integer(text: str) -> int:
    if len(text) > 20 or not -MAX_INTEGER <= (number := int(text)) < MAX_INTEGER:
        raise ValueError(f"it holds an integer of {len(text)} digits")
    return number


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"it holds the number {text[:20]}")
    return number
