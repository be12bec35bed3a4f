"""The rows of a space with many segments, remembered in a file: `index/rows/<space key>/<digest>.rows`.

Such a file is a cache. Its name is the SHA-256 of the segments' digests that it covers, so one that does not fit what
the space holds now is simply not the one looked for; what is read through it is held against the segments themselves
(`RowIndex.gather`).

That alone would let an index choose between replicates, by leaving one out. So only a file that this machine wrote is
used: `<digest>.mark` next to it is this machine's mark (store/files/machine_key.py) of its name, inode, size and
times. The
time of change is the kernel's, so that no file which rsync, tar or cp brought fits a mark that came with it; and
checking costs the same for an index of any size. An index that was copied, or is another user's, is built again.

Little-endian: the magic, the numbers n of segments and m of rows (uint64), n digests of 32 bytes in ascending order,
then the columns of `RowIndex`: four of m uint64 words, the segment and the row, m int32 each; of its replicates the
position (int64), the segment and the row (int32).
"""

import mmap
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from bb.store.errors import Malformed
from bb.store.files.atomic_write import make_temporary, put_file_in_place, replace_file
from bb.store.files.canonical_json import sha256_hex
from bb.store.files.directory import Directory
from bb.store.files.machine_key import is_mark, mark
from bb.store.format.layout import open_plain, read_plain
from bb.store.local.row_index import Replicates, RowIndex, Segments, StaleIndex
from bb.store.local.segment import Segment

MAGIC = b"bb rows format 2"
HEADER = len(MAGIC) + 16
MARK_BYTES = 64
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
    folder = Directory(root, f"index/rows/{key}")
    if afresh:
        _remove(folder)
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
            _write(folder, index)
    return index


def is_remembered(root: Path, key: str, digests: Sequence[str]) -> bool:
    """Whether there is an index of just these segments that this machine wrote."""
    folder, name = Directory(root, f"index/rows/{key}"), name_of(digests)
    found = folder.stat(name) if digests else None
    return found is not None and _is_mine(folder, name, found)


def name_of(digests: Sequence[str]) -> str:
    return sha256_hex(b"".join(map(bytes.fromhex, digests))) + ".rows"


def _covers(digests: Sequence[str], index: RowIndex) -> bool:
    return set(index.segments.digests) <= set(digests)


def _nearest(folder: Directory, digests: Sequence[str], open_segment: Callable[[str], Segment]) -> RowIndex | None:
    """The index of just these segments, else the largest of some of them, else None."""
    exact = name_of(digests)
    there = [entry.name for entry in folder.entries() if entry.name.endswith(".rows")]
    found = [_load(folder, name, open_segment) for name in ([exact] if exact in there else there)]
    fitting = [index for index in found if index is not None and _covers(digests, index)]
    return max(fitting, key=lambda index: len(index.segments), default=None)


def _load(folder: Directory, name: str, open_segment: Callable[[str], Segment]) -> RowIndex | None:
    """An index as a memory map; None where the file is not one. Nothing is taken into memory but the digests."""
    try:
        with open_plain(folder, name) as file:
            status = os.fstat(file.fileno())
            if not _is_mine(folder, name, status):
                return None
            size = status.st_size
            head = file.read(HEADER)
            n, m = (int.from_bytes(head[at : at + 8], "little") for at in (len(MAGIC), len(MAGIC) + 8))
            k, rest = divmod(size - HEADER - 32 * n - 40 * m, 16)
            if not head.startswith(MAGIC) or m == 0 or k < 0 or rest:
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
    start += 40 * m
    again = Replicates(
        np.frombuffer(data, "<i8", k, start),
        np.frombuffer(data, "<i4", k, start + 8 * k),
        np.frombuffer(data, "<i4", k, start + 12 * k),
    )
    digests = tuple(raw[i : i + 32].hex() for i in range(0, len(raw), 32))
    return RowIndex(Segments(digests, open_segment), words, segment, row, again, checked=False)


def _write(folder: Directory, index: RowIndex) -> None:
    """Writes an index, puts it in place by a rename, and removes those before it."""
    store, name = Directory(folder.root), name_of(index.segments.digests)
    temporary = make_temporary(store)
    try:
        with store.create(temporary) as file:
            sizes = (len(n).to_bytes(8, "little") for n in (index.segments.digests, index))
            file.write(MAGIC + b"".join(sizes) + b"".join(map(bytes.fromhex, index.segments.digests)))
            again = (index.again.position.astype(np.int64), index.again.segment, index.again.row)
            for column in (*index.words.astype("<u8", copy=False), index.segment, index.row, *again):
                file.write(np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("<")).view(np.uint8).data)
            file.flush()
            os.fsync(file.fileno())
            put_file_in_place(store, temporary, f"{folder.at}/{name}")
            found = mark(_identity(name, os.fstat(file.fileno())))
        if found is not None:
            replace_file(folder.root, found.encode(), folder.path / _mark_name(name))
    finally:
        with suppress(OSError):
            store.remove(temporary)
    _remove(folder, keep=() if found is None else (name, _mark_name(name)))


def _remove(folder: Directory, keep: tuple[str, ...] = ()) -> None:
    with suppress(OSError):
        for entry in folder.entries():
            if entry.name not in keep and entry.kind != "folder":
                folder.remove(entry.name)


def _is_mine(folder: Directory, name: str, status: os.stat_result) -> bool:
    """Whether this user's machine wrote the file with this status, and nothing has changed it since."""
    try:
        found = read_plain(folder, _mark_name(name), MARK_BYTES)
    except (OSError, Malformed):
        return False
    return is_mark(_identity(name, status), found.decode("ascii", "replace"))


def _mark_name(name: str) -> str:
    return f"{name.removesuffix('.rows')}.mark"


def _identity(name: str, status: os.stat_result) -> str:
    """What tells a file from a copy of it. Not the device, whose number differs between the machines of a cluster."""
    return f"row index {name} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
