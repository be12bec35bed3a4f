"""The contract of a place where a store may lie: bytes by path, nothing more. One implementation per file.

`store/storage/local.py` is a directory, `store/storage/object_store.py` an object store (s3://, gs://, az://),
`store/storage/http.py` a static web server, `store/storage/huggingface.py` a data set on the Hugging Face Hub. Each
passes the suite in tests/contracts/storage.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from bb.store.errors import BBError
from bb.store.files.directory import Directory
from bb.store.files.paths import StorePart


class TooLarge(BBError):
    """A file has more bytes than what it should be can have."""


class Object(NamedTuple):
    """A file of a place: its path in the store, and its size in bytes."""

    path: str
    size: int


class FileInfo(NamedTuple):
    """A file's size in bytes, and what changes when the file does (an ETag, times); "" where that can't be known."""

    size: int
    version: str


@dataclass(frozen=True)
class LocalFile:
    """A file of a local store, opened as a Path is."""

    folder: Directory
    name: str

    @property
    def path(self) -> Path:
        return self.folder.path / self.name

    def open(self, mode: Literal["rb"] = "rb") -> BufferedReader:
        return self.folder.open(self.name)


@dataclass(frozen=True)
class Upload:
    """A part with all its files (path in its folder: local file, or bytes), ready to be published."""

    part: StorePart
    files: Mapping[str, LocalFile | Path | bytes]


@runtime_checkable
class Storage(Protocol):
    """Every method raises BBError, naming the place and the remedy, for what a person can fix (no such bucket, no
    permission, no network). Passing faults (a cut connection, 429, 500, 503, a time-out) are tried again with back-off
    first. Instances may be used from several threads at once.

    url        as messages show it, without credentials
    writable   whether `publish` works here at all
    at_once    how many parcels one call of `publish` had best get
    """

    @property
    def url(self) -> str: ...

    @property
    def writable(self) -> bool: ...

    @property
    def at_once(self) -> int: ...

    def list(self, prefix: str = "") -> Iterator[Object]:
        """All files below a folder of the store ("" for all of it, "runs", "spaces/KEY"), in no particular order.

        Links are passed over. Names are as found: `bb.store.files.paths.locate` says which are a store's.
        """
        ...

    def read(self, path: str, most: int) -> bytes:
        """A file whole. Raises FileNotFoundError where there is none, TooLarge where it has more than `most` bytes;
        no more than that is ever taken into memory."""
        ...

    def stream(self, path: str, start: int = 0) -> Iterator[bytes]:
        """The bytes of a file from `start` on, in pieces. A connection cut on the way is taken up where it broke."""
        ...

    def publish(self, parcels: Sequence[Upload]) -> None:
        """Writes parcels; of each, no reader sees the marker before all the rest. What is there already stays."""
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Writes one small file that may change: an index, which is a cache. Readers see the old or the new one."""
        ...


@runtime_checkable
class Ranged(Protocol):
    """A place that may be asked for a part of a file. All those of `Storage` are; errors are those of its methods."""

    def look(self, paths: Sequence[str]) -> dict[str, FileInfo]:
        """Size and version of each file; those that are not there are left out."""
        ...

    def read_range(self, path: str, start: int, size: int) -> bytes:
        """`size` bytes from `start` on, fewer only where the file ends. Raises BBError where the server knows no
        ranges, FileNotFoundError if the file does not exist."""
        ...
