"""The rows of a space with many segments, remembered in a file: `index/rows/<space key>/<digest>.rows`.

Such a file is a cache. Its name is the SHA-256 of the segments' digests that it covers, so one that does not fit what
the space holds now is simply not the one looked for; what is read through it is held against the segments themselves
(`RowIndex.gather`). `Store.has` alone believes it: a wrong one costs a command done again, never a wrong row.

Little-endian: the magic, the numbers n of segments and m of rows (uint64), n digests of 32 bytes in ascending order,
then the columns of `RowIndex`: four of m uint64 words, the segment and the row, m int32 each.
"""

import mmap
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from store.canonical import sha256_hex
from store.layout import Malformed, plain_size
from store.publish import make_folder, sync
from store.rows import RowIndex, Segments, StaleIndex
from store.segment import Segment

MAGIC = b"bb rows format 1"
HEADER = len(MAGIC) + 16
# What is quicker read from segments than kept in an index.
FEW = 64
FEW_ROWS = 2**16


def index_of(
    root: Path,
    key: str,
    digests: Sequence[str],
    open_segment: Callable[[str], Segment],
    known: RowIndex | None = None,
    *,
    afresh: bool = False,
) -> RowIndex:
    """The rows of all segments of a space, `digests` in ascending order, the first of equals.

    known   an index of some of them made before; only the others are read then
    afresh  trust no index: throw away the files, read all segments
    """
    folder = root / "index" / "rows" / key
    if afresh:
        _remove(folder, keep=None)
        known = None
    elif known is None or not _covers(digests, known):
        known = _nearest(folder, digests, open_segment)
    if known is not None and len(known.segments) == len(digests):
        return known
    done = set(known.segments.digests) if known else set()
    fresh = RowIndex.build([open_segment(digest) for digest in digests if digest not in done])
    try:
        index = RowIndex.join([known, fresh], order=digests) if known else fresh
    except StaleIndex:
        return index_of(root, key, digests, open_segment, afresh=True)
    if len(fresh.segments) > max(FEW, len(done) // 8) or len(fresh) > max(FEW_ROWS, len(known or ()) // 8):
        # An eighth at least is new, so that laying one again and again costs little in all.
        with suppress(OSError):  # a store that can't be written is read all the same
            _lay(root, folder, index)
    return index


def is_remembered(root: Path, key: str, digests: Sequence[str]) -> bool:
    """Whether a file is there that claims to be the index of just these segments."""
    return bool(digests) and (root / "index" / "rows" / key / name_of(digests)).is_file()


def name_of(digests: Sequence[str]) -> str:
    return sha256_hex(b"".join(map(bytes.fromhex, digests))) + ".rows"


def _covers(digests: Sequence[str], index: RowIndex) -> bool:
    return set(index.segments.digests) <= set(digests)


def _nearest(folder: Path, digests: Sequence[str], open_segment: Callable[[str], Segment]) -> RowIndex | None:
    """The index of just these segments, else the largest of some of them, else None."""
    try:
        there = os.listdir(folder)
    except OSError:
        return None
    exact = name_of(digests)
    found = [_load(folder, name, open_segment) for name in ([exact] if exact in there else there)]
    fitting = [index for index in found if index is not None and _covers(digests, index)]
    return max(fitting, key=lambda index: len(index.segments), default=None)


def _load(folder: Path, name: str, open_segment: Callable[[str], Segment]) -> RowIndex | None:
    """An index as a memory map; None where the file is not one. Nothing is taken into memory but the digests."""
    try:
        size = plain_size(folder, name)
        with open(folder / name, "rb") as file:
            head = file.read(HEADER)
            n, m = (int.from_bytes(head[at : at + 8], "little") for at in (len(MAGIC), len(MAGIC) + 8))
            if not head.startswith(MAGIC) or m == 0 or size != HEADER + 32 * n + 40 * m:
                return None
            raw = file.read(32 * n)
            if len(raw) != 32 * n or name != f"{sha256_hex(raw)}.rows":
                return None
            data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except (OSError, ValueError, Malformed):
        return None
    start = HEADER + 32 * n
    words = np.frombuffer(data, "<u8", 4 * m, start).reshape(4, m)
    segment, row = (np.frombuffer(data, "<i4", m, start + at * m) for at in (32, 36))
    digests = tuple(raw[i : i + 32].hex() for i in range(0, len(raw), 32))
    return RowIndex(Segments(digests, open_segment), words, segment, row, checked=False)


def _lay(root: Path, folder: Path, index: RowIndex) -> None:
    """Writes an index aside, puts it in place by a rename, and removes those before it."""
    digests = index.segments.digests
    aside = root / "tmp" / secrets.token_hex(16)
    aside.parent.mkdir(exist_ok=True)
    try:
        with open(aside, "xb") as file:
            sizes = (len(n).to_bytes(8, "little") for n in (digests, index))
            file.write(MAGIC + b"".join(sizes) + b"".join(map(bytes.fromhex, digests)))
            for column in (*index.words.astype("<u8", copy=False), index.segment, index.row):
                file.write(np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("<")).view(np.uint8).data)
            file.flush()
            os.fsync(file.fileno())
        make_folder(folder, root)
        os.replace(aside, folder / name_of(digests))
        sync(folder)
    finally:
        aside.unlink(missing_ok=True)
    _remove(folder, keep=name_of(digests))


def _remove(folder: Path, keep: str | None) -> None:
    with suppress(OSError):
        for name in os.listdir(folder):
            if name != keep:
                os.unlink(folder / name)
