"""`index.json`: the paths and sizes of what a place holds, so that a reader who can't list it finds the parts.

A cache: it may be stale, anyone may have written it, and the objects themselves decide. It is not part of a store.
"""

import re
from collections.abc import Iterator

from bb.store.errors import BBError
from bb.store.files.canonical_json import canonical_json
from bb.store.files.paths import locate, published
from bb.store.storage.base import Object, Storage

INDEX = "index.json"
# Of 10^9 rows, 850,000 objects, it has 170 MB.
MAX_INDEX_BYTES = 512 * 2**20
MAX_ATTEMPTS = 5
HEAD, TAIL = b'{"bb":{"index":1},"objects":{', b"}}\n"
ENTRY = re.compile(rb'"([ !#-\[\]-~]{1,1000})":(\d{1,18})(?:,(?=")|\Z)')


def build(place: Storage) -> bytes:
    """The index of what a place lists: every file of every part that is published. The same bytes each time."""
    sizes = {item.path: item.size for item in place.list() if locate(item.path)}
    objects = {part.at(file): sizes[part.at(file)] for part, files in published(sizes).items() for file in files}
    return canonical_json({"bb": {"index": 1}, "objects": objects}) + b"\n"


def write_index(place: Storage) -> None:
    """Writes the index of what is there, and again until nothing has changed meanwhile, since two pushes may race.

    Raises BBError where a place can't be listed or written.
    """
    data = build(place)
    for _ in range(MAX_ATTEMPTS):
        place.replace(INDEX, data)
        data, previous = build(place), data
        if data == previous:
            return


def read_index(place: Storage) -> Iterator[Object]:
    """What a place's index lists, of paths that `locate` knows. Raises BBError where it is missing or unsound."""
    try:
        raw = place.read(INDEX, MAX_INDEX_BYTES)
    except FileNotFoundError:
        raise BBError(
            f"{place.url} has no {INDEX}, by which a store is read where nothing can be listed. Its owner makes it "
            f"with `bb store index`, next to the store's zarr.json."
        ) from None
    return parse(raw, f"{place.url}/{INDEX}")


def parse(raw: bytes, shown: str) -> Iterator[Object]:
    """The objects of an index's bytes, `shown` being what messages call it. Raises BBError where it is unsound.

    Read by its canonical form and not by a JSON parser, which could be made to take fifty times the bytes in memory.
    """
    place, end = len(HEAD), len(raw) - len(TAIL)
    while raw.startswith(HEAD) and raw.endswith(TAIL) and place < end:
        entry = ENTRY.match(raw, place, end)
        if entry is None:
            break
        place = entry.end()
        if locate(path := entry[1].decode()):
            yield Object(path, int(entry[2]))
    if place != end or not raw.startswith(HEAD):
        raise BBError(
            f"{shown} is not an index that this bb reads. It is only a cache: `bb store index` writes it again."
        )
