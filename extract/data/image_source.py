"""Where the bytes of one image are. Whoever decodes asks for them, and knows of no folders, shards or servers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Source(Protocol):
    """Instances may be read from several threads at once."""

    def read(self) -> bytes:
        """The image file's bytes, whole. Raises OSError where they can't be had, BBError where nothing more can be had
        there (no network, no permission)."""
        ...

    def words(self) -> str:
        """Where it is, as messages say it."""
        ...


@dataclass(frozen=True, slots=True)
class File:
    """A file of its own."""

    path: Path

    def read(self) -> bytes:
        return self.path.read_bytes()

    def words(self) -> str:
        return str(self.path)
