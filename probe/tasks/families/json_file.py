"""JSON of publishers, which may have hundreds of megabytes: read within bounds, with records checked by kind."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bb.store.errors import BBError
from bb.store.files.limits import parse_json
from bb.store.files.regular_file import open_regular

MOST = 2 * 2**30  # bytes
_AGAIN = "Fetch it again."


def read_json(path: Path) -> Any:
    """The value of a file. Errors: BBError where it can't be read, is too large, or is not JSON, with the line."""
    try:
        size = path.stat().st_size
        if size > MOST:
            raise BBError(f"{path} has {size:,} bytes, and at most {MOST:,} are read.")
        with open_regular(path) as file:
            raw = file.read(MOST + 1)
    except OSError as error:
        raise BBError(f"{path} can't be read: {error.strerror or error}. {_AGAIN}") from None
    try:
        return parse_json(raw, MOST)
    except ValueError as error:
        raise BBError(f"{path} can't be read as JSON: {error}. {_AGAIN}") from None


def records(path: Path, value: Any, key: str, fields: Mapping[str, tuple[type, ...]]) -> list[dict[str, Any]]:
    """The list of objects below a key, each with fields of these kinds.

    Errors: BBError naming the file, the list, the place in it (from 0) and the field.
    """
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise BBError(f"{path} has no list {key!r}. {_AGAIN}")
    for place, record in enumerate(found):
        if not isinstance(record, dict):
            raise BBError(f"{path}: {key}[{place}] is not an object but {str(record)[:40]!r}. {_AGAIN}")
        for name, kinds in fields.items():
            if not isinstance(record.get(name), kinds) or isinstance(record.get(name), bool):
                wanted = " or ".join({str: "a text", int: "a whole number"}.get(k, k.__name__) for k in kinds)
                shown = repr(record.get(name))[:60] if name in record else "nothing"
                raise BBError(f"{path}: {key}[{place}] has {shown} for {name}, where it needs {wanted}. {_AGAIN}")
    return found
