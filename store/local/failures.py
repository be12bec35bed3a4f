"""Images that could not be embedded, and why: kept in `local/failures/`, so that later verbs can name the reason.

A file there is named by its digest and says what one extraction could not do:

    {"format": 1, "spaces": [space key, …], "failed": {image digest: reason},
     "collection": name, "unread": {image ID: reason}}

`unread` are files that have no digest since they can't be read. Nothing depends on these files: an image that has a row
is not missing, whatever they say.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from bb.store.errors import Malformed
from bb.store.files.atomic_write import publish_file
from bb.store.files.canonical_json import canonical_json, sha256_hex
from bb.store.files.directory import Directory
from bb.store.format.layout import FORMAT, is_digest, read_json, read_plain

FOLDER = "local/failures"
AT_ONCE = 2000  # failures in a file, which stays below the limit of a JSON file
MOST_REASON = 200  # characters


@dataclass(frozen=True)
class Failures:
    """Reasons by image digest (hex digits), and by image ID where the file could not be read."""

    failed: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)

    def reason(self, image_id: str, digest: str | None) -> str | None:
        """Why this image has no row, if that is known; `digest` is None where no collection has it."""
        return self.unread.get(image_id) if digest is None else self.failed.get(digest)


def write_failures(root: Path, collection: str, spaces: Iterable[str], failures: Failures) -> None:
    """Remembers why images of a collection have no row in these spaces (by key)."""
    keys = sorted(spaces)
    for kind, listed in (("failed", failures.failed), ("unread", failures.unread)):
        for part in _parts(listed):
            record = {
                "format": FORMAT,
                "collection": collection,
                "spaces": keys,
                "failed": {},
                "unread": {},
                kind: part,
            }
            data = canonical_json(record) + b"\n"
            publish_file(root, data, root / FOLDER / f"{sha256_hex(data)}.json")


def read_failures(root: Path, collection: str, spaces: Iterable[str]) -> Failures:
    """What is remembered of a collection and some spaces. Files that are damaged are passed over."""
    found, keys = Failures(), set(spaces)
    store = Directory(root)
    for path in store.match(f"{FOLDER}/*.json"):
        try:
            record = read_json(read_plain(store, path))
        except Malformed:
            continue
        if record.get("format") != FORMAT:
            continue
        if isinstance(listed := record.get("spaces"), list) and any(key in keys for key in listed):
            found.failed.update((key, reason) for key, reason in _reasons(record.get("failed")) if is_digest(key))
        if record.get("collection") == collection:  # a file that can't be read has no row in any space
            found.unread.update(_reasons(record.get("unread")))
    return found


def _parts(listed: Mapping[str, str]) -> Iterator[dict[str, str]]:
    items = ((key, reason[:MOST_REASON]) for key, reason in sorted(listed.items()))
    while part := dict(islice(items, AT_ONCE)):
        yield part


def _reasons(listed: Any) -> Iterator[tuple[str, str]]:
    for key, reason in listed.items() if isinstance(listed, dict) else ():
        if isinstance(reason, str):
            yield key, reason[:MOST_REASON]
