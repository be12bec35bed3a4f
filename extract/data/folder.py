"""The files below a folder, links among them: which are followed, which are not."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bb.store import BBError
from bb.store.format.collection import some


@dataclass
class Walk:
    """The files below `base`, hidden ones left out. Nothing is opened but folders.

    A link is followed where its target is in one of the folders `inside`, or anywhere with `follow_links`. Each folder
    is read once, under its real path if that is below `base`, so that loops end.

    wanted   whether a file matters; it hears whether it may look into the file
    outside  links that were not followed, as paths below `base`: to folders, and to files that matter
    again    links to folders that were read under another path
    """

    base: Path
    inside: Sequence[Path]
    wanted: Callable[[str, bool], bool]
    follow_links: bool = False
    outside: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    _linked: list[str] = field(default_factory=list)
    _read: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._roots = tuple(os.path.join(os.path.realpath(folder), "") for folder in self.inside)

    def files(self) -> Iterator[str]:
        """Paths relative to `base` of the files that matter, in no order.

        Raises BBError where a folder can't be read.
        """
        yield from self._below("")
        while self._linked:
            self._linked.sort(reverse=True)
            link = self._linked.pop()
            if self._identity(link) in self._read:
                self.again.append(link)
            else:
                yield from self._below(link)

    def notes(self) -> Iterator[str]:
        """What a person should know of the links that added nothing."""
        if n := len(self.outside):
            yield (
                f"{n} link{'s' * (n > 1)} not followed, as the target is outside {self.base}: "
                f"{some(sorted(self.outside))}. --follow-links follows {'them' if n > 1 else 'it'}"
            )
        if n := len(self.again):
            yield (f"{n} link{'s' * (n > 1)} to a folder that is read under another path: {some(sorted(self.again))}")

    def _below(self, top: str) -> Iterator[str]:
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            self._read.add(self._identity(folder))
            for entry in self._listed(folder):
                path = os.path.join(folder, entry.name)
                if entry.name.startswith("."):
                    continue
                if entry.is_symlink():
                    yield from self._link(path)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif self.wanted(path, True):
                    yield path

    def _link(self, path: str) -> Iterator[str]:
        full = os.path.join(self.base, path)
        is_folder, followed = os.path.isdir(full), self._followed(full)
        if not is_folder and not self.wanted(path, followed):
            return
        if not followed:
            self.outside.append(path)
        elif is_folder:
            self._linked.append(path)
        else:
            yield path

    def _followed(self, link: str) -> bool:
        """A link to nothing counts as followed: reading it says what is wrong."""
        target = os.path.join(os.path.realpath(link), "")
        return self.follow_links or target.startswith(self._roots) or not os.path.exists(link)

    def _listed(self, folder: str) -> list["os.DirEntry[str]"]:
        try:
            with os.scandir(os.path.join(self.base, folder)) as entries:
                return list(entries)
        except OSError as error:
            raise _unreadable(error) from None

    def _identity(self, folder: str) -> tuple[int, int]:
        try:
            status = os.stat(os.path.join(self.base, folder))
        except OSError as error:
            raise _unreadable(error) from None
        return status.st_dev, status.st_ino


def _unreadable(error: OSError) -> BBError:
    """Leaving the folder out would silently make the collection smaller."""
    return BBError(
        f"can't read the folder {error.filename}: {error.strerror}. Change its permissions, or move it away."
    )
