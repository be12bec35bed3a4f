"""A large file that is read by parts, wherever it is: once from end to end, later here and there."""

import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from bb.extract.data.prefetch_cache import PrefetchCache
from bb.store.files.regular_file import irregular, open_regular
from bb.store.storage.base import FileInfo, Ranged, Storage
from bb.store.storage.url import open_place

PIECE = 2**20
BLOCK = 4 * 2**20  # bytes in one request, where what is read is side by side
KEPT = 256 * 2**20
AHEAD = 4  # blocks


@runtime_checkable
class ByteRangeFile(Protocol):
    """Values, so that another process may have them too. Instances may be read from several threads at once.

    url   as messages show it, a path or a URL without credentials
    size  in bytes
    version   what changes when the file does, "" where that can't be known
    """

    @property
    def url(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def version(self) -> str: ...

    def stream(self) -> Iterator[bytes]:
        """All bytes in order, in pieces. Raises OSError or BBError."""
        ...

    def read(self, start: int, size: int) -> bytes:
        """Just that many bytes from `start` on. Raises OSError where this file does not have them (any more), BBError
        where nothing can be read at its place."""
        ...


@dataclass(frozen=True, slots=True)
class Local:
    """A file on disk."""

    path: Path
    look: FileInfo

    @property
    def url(self) -> str:
        return str(self.path)

    @property
    def size(self) -> int:
        return self.look.size

    @property
    def version(self) -> str:
        return self.look.version

    def stream(self) -> Iterator[bytes]:
        with open_regular(self.path) as file:
            while piece := file.read(PIECE):
                yield piece

    def read(self, start: int, size: int) -> bytes:
        with open_regular(self.path) as file:
            file.seek(start)
            data = file.read(size)
        return _whole(data, size, self.url)


@dataclass(frozen=True, slots=True)
class Remote:
    """A file at a place of `bb.store.storage.url`: `folder` is the place's URL, `file` its path there.

    Neighbours come in one request: where a read begins near the end of the one before, whole blocks are asked for, and
    the next few, too, and kept for a while; else just what is wanted.
    """

    folder: str
    file: str
    look: FileInfo

    @property
    def url(self) -> str:
        return f"{self.folder}/{self.file}"

    @property
    def size(self) -> int:
        return self.look.size

    @property
    def version(self) -> str:
        return self.look.version

    def stream(self) -> Iterator[bytes]:
        return place_at(self.folder).stream(self.file)

    def read(self, start: int, size: int) -> bytes:
        if start < 0 or start + size > self.size:
            raise OSError(None, "is shorter than it was", self.url)
        blocks = range(start // BLOCK, -(-(start + size) // BLOCK))
        near = abs(start - _READ_TO.get(self, -BLOCK)) < BLOCK
        _remember(self, start + size)
        if size >= BLOCK or not (near or all(_BLOCKS.has((self, i)) for i in blocks)):
            return self.read_alone(start, size)
        for i in range(blocks.stop, min(blocks.stop + AHEAD, -(-self.size // BLOCK))):
            _BLOCKS.prepare((self, i), lambda i=i: self._block(i))  # type: ignore[misc]
        data = b"".join(_BLOCKS.get((self, i), lambda i=i: self._block(i)) for i in blocks)  # type: ignore[misc]
        skip = start - blocks.start * BLOCK
        return _whole(data[skip : skip + size], size, self.url)

    def read_alone(self, start: int, size: int) -> bytes:
        """In a request of its own; nothing is kept."""
        place = place_at(self.folder)
        if not isinstance(place, Ranged):
            raise TypeError(f"{place} knows no ranges")
        return _whole(place.read_range(self.file, start, size), size, self.url)

    def _block(self, index: int) -> bytes:
        start = index * BLOCK
        return self.read_alone(start, min(BLOCK, self.size - start))


_BLOCKS: PrefetchCache[tuple[Remote, int], bytes] = PrefetchCache(KEPT, len)
_READ_TO: "OrderedDict[Remote, int]" = OrderedDict()  # where the latest read of each file ended


def _remember(blob: Remote, end: int) -> None:
    _READ_TO[blob] = end
    while len(_READ_TO) > 1000:
        _READ_TO.popitem(last=False)


@lru_cache(maxsize=64)
def place_at(url: str) -> Storage:
    """The place of a URL; one client for all that is read there."""
    return open_place(url)


def local(path: Path) -> Local:
    """Raises OSError where there is no such file, or it is a pipe, a device or a folder."""
    status = os.stat(path)
    if why := irregular(status.st_mode):
        raise OSError(None, why, str(path))
    return Local(path, FileInfo(status.st_size, f"{status.st_mtime_ns}:{status.st_ctime_ns}"))


def _whole(data: bytes, size: int, url: str) -> bytes:
    if len(data) != size:
        raise OSError(None, "is shorter than it was", url)
    return data
