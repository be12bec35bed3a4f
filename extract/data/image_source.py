"""Where the bytes of one image are. Decoders ask for them, and know nothing of folders, shards or servers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from bb.store.files.regular_file import open_regular

MOST_BYTES = 2**30  # of an image file; one is in memory as a whole


def oversized(n_bytes: int) -> str:
    """Why an image file of this size is not read; empty where it is."""
    return f"has {n_bytes:,} bytes, over the limit of {MOST_BYTES:,}" if n_bytes > MOST_BYTES else ""


@runtime_checkable
class ImageSource(Protocol):
    """Instances may be read from several threads at once."""

    def read(self) -> bytes:
        """The image file's bytes, whole. Raises OSError where they can't be had, BBError where nothing more can be had
        there (no network, no permission)."""
        ...

    def describe(self) -> str:
        """Where it is, as messages say it."""
        ...


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file of its own."""

    path: Path

    def read(self) -> bytes:
        with open_regular(self.path) as file:
            data = file.read(MOST_BYTES + 1)
        if why := oversized(len(data)):
            raise OSError(None, why, str(self.path))
        return data

    def describe(self) -> str:
        return str(self.path)
