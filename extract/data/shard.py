"""The contract of a shard, a file that holds many images, one implementation per file.

`extract/data/webdataset.py` is a tar archive, `extract/data/image_parquet.py` a table of Hugging Face's.
"""

import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol, cast, runtime_checkable

from bb.extract.data.byte_range import ByteRangeFile
from bb.extract.data.file_kind import Kind, PassedOver
from bb.extract.data.image_source import ImageSource
from bb.extract.embedding import images
from bb.store.format.collection import normalise_id

_PASSED_OVER = -1  # in the place of a byte or row group


class Found(NamedTuple):
    """An image in a shard. It is remembered, so that a shard is read once.

    name   the path it has there, in NFC; "" where it has none that can be an image ID
    at     a tar's: byte where it begins; a table's: row group
    of     a tar's: number of bytes; a table's: row
    fault  why it can't be used; then `digest` is empty

    Files that are not images stand at the end, one such record for all of a kind and ending; see `passed_over`.
    """

    name: str
    at: int
    of: int
    digest: bytes
    n_bytes: int
    width: int | None
    height: int | None
    fault: str = ""

    @classmethod
    def of_bytes(cls, name: str, at: int, of: int, data: bytes) -> "Found":
        width, height = images.size(data) or (None, None)
        return cls(name, at, of, hashlib.sha256(data).digest(), len(data), width, height)

    @classmethod
    def unusable(cls, name: str, at: int, of: int, n_bytes: int, fault: str) -> "Found":
        return cls(name, at, of, b"", n_bytes, None, None, fault)

    @classmethod
    def passed_over(cls, passed: PassedOver) -> "Iterator[Found]":
        """What `passed` counts, as records that are remembered with the images."""
        for (kind, suffix), n in sorted(passed.counts.items()):
            yield cls(f"{kind}:{suffix}", _PASSED_OVER, n, b"", 0, None, None)

    def count_into(self, passed: PassedOver) -> bool:
        """Whether it is such a record; then it is counted."""
        if self.at != _PASSED_OVER:
            return False
        kind, _, suffix = self.name.partition(":")
        passed.counts[cast(Kind, kind), suffix] += self.of
        return True


@runtime_checkable
class Shard(Protocol):
    """Whatever the bytes are, `find` raises ValueError with a fact about the shard (a predicate, without its name),
    OSError or BBError, and nothing else."""

    @property
    def blob(self) -> ByteRangeFile: ...

    def find(self) -> Iterator[Found]:
        """The images in order, each read as it comes: one pass over the shard."""
        ...

    def source(self, found: Found) -> ImageSource:
        """Where the bytes of one of its images are. Reads nothing."""
        ...

    def own_name(self, found: Found) -> str:
        """A name that no other image of the shard has, unless two have one path."""
        ...


def usable_name(path: str) -> str:
    """The image ID that a path makes: relative, in NFC; "" where it leads out of the shard, or to nothing."""
    steps = PurePosixPath(path).parts
    if not steps or path.startswith("/") or ".." in steps or "\0" in path or len(path) > 4096:
        return ""
    return normalise_id("/".join(steps))
