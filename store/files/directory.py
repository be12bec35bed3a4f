"""Guarded access to the files below one directory: no link is followed, nothing but a regular file is opened.

A store that came by rsync, tar or cp may hold symbolic links, fifos and devices under any name. So a path is walked
step by step, each opened relative to the descriptor of the one above with O_NOFOLLOW; a link that is swapped in
meanwhile is noticed, too (compare Go's os.Root). Nothing is written in place: files are created exclusively and
renamed, so that a hard link to a file elsewhere is replaced, not written through.

The root itself may be reached through links, since its path is the user's choice.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import BufferedRandom, BufferedReader, BufferedWriter
from pathlib import Path
from typing import Literal, NamedTuple

from bb.store.errors import BBError
from bb.store.files.descriptors import retry
from bb.store.files.paths import OWN_NAMES
from bb.store.files.regular_file import irregular

# O_PATH needs no right to list a folder, and on NFS no question to the server; macOS has none.
STEP = os.O_DIRECTORY | os.O_NOFOLLOW | getattr(os, "O_PATH", os.O_RDONLY)
LISTED = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_RDONLY
REGULAR = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY  # a fifo that takes a file's place is not waited for
MAX_DEPTH = 40  # folders within folders, four times what a store has

Bytes = bytes | bytearray | memoryview
EntryKind = Literal["file", "folder", "link", "other"]
Make = Literal["", "made", "synced"]


class Refused(BBError):
    """What bb does not open: a link on the way (`Linked`), or no regular file. `fact` is the message's first part."""

    def __init__(self, fact: str, remedy: str = "Move it out of the store.") -> None:
        super().__init__(f"{fact}. {remedy}")
        self.fact = fact


class Linked(Refused):
    """A symbolic link."""


class DirectoryEntry(NamedTuple):
    """A name in a folder, and what it is: "file", "folder", "link", or "other" (fifo, socket, device)."""

    name: str
    kind: EntryKind


@dataclass(frozen=True)
class Directory:
    """Paths are POSIX paths below `root / at`. Missing files raise FileNotFoundError, links and devices Refused."""

    root: Path
    at: str = ""

    @classmethod
    def within(cls, folder: Path, steps: int) -> "Directory":
        """A folder of a store that is `steps` below the store's root."""
        parts = folder.parts
        return cls(Path(*parts[:-steps]), "/".join(parts[-steps:]))

    def below(self, path: str) -> "Directory":
        """One of its folders."""
        return Directory(self.root, _join(self.at, path))

    @property
    def path(self) -> Path:
        """Its path, for messages."""
        return self.root / self.at

    def relative(self, path: Path) -> str:
        """The path below it of an absolute one. Raises BBError for a path outside."""
        if not path.is_relative_to(self.path):
            raise BBError(f"{str(path)!r} is not in {self.path}: name a path below it.")
        return path.relative_to(self.path).as_posix()

    def refuse_links(self) -> None:
        """Raises Refused where one of the files and folders that a store has at its top is a link."""
        for entry in self.entries():
            if entry.kind == "link" and entry.name in OWN_NAMES:
                raise self._linked(entry.name)

    # Looking

    def stat(self, path: str) -> os.stat_result | None:
        """What is there, a link itself and not what it points to; None where nothing is."""
        folder, _, name = path.rpartition("/")
        try:
            above = self._folder(folder)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return os.stat(name, dir_fd=above, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        finally:
            os.close(above)

    def is_file(self, path: str) -> bool:
        found = self.stat(path)
        return found is not None and stat.S_ISREG(found.st_mode)

    def is_folder(self, path: str) -> bool:
        found = self.stat(path)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def exists(self, path: str) -> bool:
        return self.stat(path) is not None

    def stat_file(self, path: str) -> os.stat_result:
        """Size, times and so on of a regular file."""
        found = self.stat(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path / path))
        self._require_regular(found, path)
        return found

    def entries(self, folder: str = "") -> list[DirectoryEntry]:
        """What is in a folder, sorted by name; nothing where there is no such folder."""
        try:
            handle = self._folder(folder, LISTED)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            with os.scandir(handle) as found:
                return sorted(DirectoryEntry(entry.name, _kind(entry)) for entry in found)
        finally:
            os.close(handle)

    def marked(self, folder: str, marker: str) -> list[str]:
        """Names of the folders in a folder that hold a marker, sorted; a link counts, and who opens it refuses it."""
        try:
            handle = self._folder(folder, LISTED)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            with os.scandir(handle) as found:
                names = sorted((entry.name, entry.is_symlink()) for entry in found)
            return [name for name, link in names if link or os.access(f"{name}/{marker}", os.F_OK, dir_fd=handle)]
        finally:
            os.close(handle)

    def match(self, pattern: str) -> list[str]:
        """Paths that a pattern names, sorted; `*` stands for any part of one name.

        A link is listed as a last step, or as the folder of a marker, where who opens it refuses it; as a folder
        before it, it raises Refused.
        """
        return sorted(self._match("", pattern.split("/")))

    def _match(self, folder: str, steps: list[str]) -> Iterator[str]:
        step, rest = steps[0], steps[1:]
        if "*" not in step:
            path = _join(folder, step)
            if rest:
                yield from self._match(path, rest)
            elif self.exists(path):
                yield path
            return
        for name, kind in self.entries(folder):
            path = _join(folder, name)
            if not fnmatchcase(name, step):
                continue
            if not rest:
                yield path
            elif kind == "link":
                if len(rest) > 1 or "*" in rest[0]:
                    raise self._linked(path)
                yield f"{path}/{rest[0]}"
            elif kind == "folder":
                yield from self._match(path, rest)

    def walk(self, folder: str = "") -> Iterator[tuple[str, os.stat_result]]:
        """All files, folders, links and others below a folder, each before what is in it; no link is entered."""
        try:
            handle = self._folder(folder, LISTED)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            yield from self._walk(handle, folder, 0)
        finally:
            os.close(handle)

    def _walk(self, handle: int, folder: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
        if depth > MAX_DEPTH:
            raise BBError(f"{self.path / folder} is more than {MAX_DEPTH} folders deep, as no store is: remove it.")
        found = []
        with os.scandir(handle) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # moved or removed since
                    found.append((entry.name, entry.stat(follow_symlinks=False)))
        for name, status in sorted(found, key=lambda item: item[0]):
            path = _join(folder, name)
            yield path, status
            if stat.S_ISDIR(status.st_mode):
                try:
                    inner = retry(lambda name=name: os.open(name, LISTED, dir_fd=handle))  # type: ignore[misc]
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as error:
                    raise self._named(error, path) from None
                try:
                    yield from self._walk(inner, path, depth + 1)
                finally:
                    os.close(inner)

    def files(self, folder: str = "") -> Iterator[tuple[str, os.stat_result]]:
        """The regular files below a folder."""
        return ((path, status) for path, status in self.walk(folder) if stat.S_ISREG(status.st_mode))

    def n_bytes(self, path: str) -> int:
        """Bytes of a file, or of all files in a folder; links count as nothing."""
        found = self.stat(path)
        if found is None or not stat.S_ISDIR(found.st_mode):
            return found.st_size if found and stat.S_ISREG(found.st_mode) else 0
        return sum(status.st_size for _, status in self.files(path))

    # Reading

    def open(self, path: str) -> BufferedReader:
        """A regular file, for reading."""
        return os.fdopen(self._file(path, os.O_RDONLY), "rb")

    def read(self, path: str, most: int) -> bytes | None:
        """A regular file whole; None where it has more than `most` bytes, of which no more is taken into memory."""
        handle = self._file(path, os.O_RDONLY)
        try:
            left = most + 1
            pieces = []
            # One byte more than it has, so that one call finds the end.
            while left and (piece := os.read(handle, min(left, max(os.fstat(handle).st_size, 0) + 1))):
                pieces.append(piece)
                left -= len(piece)
        finally:
            os.close(handle)
        return b"".join(pieces) if left else None

    # Writing

    def make_folder(self, path: str, *, sync: bool = False) -> None:
        """Makes a folder and those on the way, the root too; with `sync` no crash can lose the way to it."""
        os.close(self._folder(path, make="synced" if sync else "made"))

    def create(self, path: str) -> BufferedWriter:
        """A new file, for writing, in a folder that is there. Raises FileExistsError where anything has its name."""
        return os.fdopen(self._file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")

    def write(self, path: str, data: Bytes) -> None:
        """Creates a file with this content, synced to disk."""
        with self.create(path) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def fill(self, path: str, data: Bytes) -> None:
        """Writes a file that was just created, and syncs it."""
        with os.fdopen(self._file(path, os.O_WRONLY), "wb") as file:
            self._require_one_name(file.fileno(), path)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def append(self, path: str) -> BufferedRandom:
        """A file that has no other name, for reading from its start and writing at its end; made if it is missing."""
        file = os.fdopen(self._file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), "r+b")
        try:
            self._require_one_name(file.fileno(), path)
        except Refused:
            file.close()
            raise
        return file

    def descriptor(self, path: str) -> int:
        """Of a regular file, for reading and writing; the caller closes it."""
        return self._file(path, os.O_RDWR)

    def touch(self, path: str) -> None:
        """Sets a regular file's time to now."""
        handle = self._file(path, os.O_RDONLY)
        try:
            os.utime(handle)
        finally:
            os.close(handle)

    def rename(self, path: str, target: str) -> None:
        """Renames a file, a link or a folder, in place of a file, a link or an empty folder of that name."""
        (folder, _, name), (to, _, new) = path.rpartition("/"), target.rpartition("/")
        above = self._folder(folder)
        try:
            beside = self._folder(to)
            try:
                os.rename(name, new, src_dir_fd=above, dst_dir_fd=beside)
            finally:
                os.close(beside)
        except OSError as error:
            raise self._named(error, path) from None
        finally:
            os.close(above)

    def remove(self, path: str) -> None:
        """Removes a file, a link itself, or a folder with all that is in it. Raises FileNotFoundError."""
        folder, _, name = path.rpartition("/")
        above = self._folder(folder)
        try:
            if stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
                shutil.rmtree(name, dir_fd=above)
            else:
                os.unlink(name, dir_fd=above)
        except RecursionError:
            raise BBError(f"{self.path / path} nests too many folders to be removed: use `rm -r`.") from None
        except OSError as error:
            raise self._named(error, path) from None
        finally:
            os.close(above)

    def remove_empty(self, folder: str) -> None:
        """Removes a folder. Raises OSError where it is not empty."""
        above_it, _, name = folder.rpartition("/")
        above = self._folder(above_it)
        try:
            os.rmdir(name, dir_fd=above)
        finally:
            os.close(above)

    def sync(self, path: str = "") -> None:
        """Makes the content of a file, or what was renamed into or out of a folder, outlive a crash."""
        handle = self._folder(path, LISTED) if self.is_folder(path) or not path else self._file(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    # Descriptors, which the caller closes

    def _folder(self, path: str, flags: int = STEP, *, make: Make = "") -> int:
        """A folder's descriptor. With `make` it is made, with those on the way."""
        return retry(lambda: self._descend(_join(self.at, path), flags, make))

    def _descend(self, path: str, flags: int, make: Make) -> int:
        steps = path.split("/") if path else []
        if not all(steps) or "." in steps or ".." in steps:
            raise ValueError(f"{path!r} is not a path below {self.root}")
        try:
            handle = os.open(self.root, (STEP if steps else flags) & ~os.O_NOFOLLOW)
        except FileNotFoundError:
            if not make:
                raise
            self.root.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.root, (STEP if steps else flags) & ~os.O_NOFOLLOW)
        for number, step in enumerate(steps, 1):
            above = handle
            wanted = flags if number == len(steps) else STEP
            try:
                try:
                    handle = os.open(step, wanted, dir_fd=above)
                except FileNotFoundError:
                    if not make:
                        raise
                    _make(step, above, sync=make == "synced")
                    handle = os.open(step, wanted, dir_fd=above)
            except OSError as error:
                whole = "/".join(steps[:number])
                if _is_link(step, above):
                    raise Directory(self.root)._linked(whole) from None
                raise Directory(self.root)._named(error, whole) from None
            finally:
                os.close(above)
        return handle

    def _file(self, path: str, flags: int) -> int:
        """A regular file's descriptor."""
        return retry(lambda: self._open(path, flags))

    def _open(self, path: str, flags: int) -> int:
        folder, _, name = path.rpartition("/")
        above = self._descend(_join(self.at, folder), STEP, "")
        try:
            if not flags & os.O_EXCL:  # a device may act when it is opened
                with suppress(FileNotFoundError):
                    self._require_regular(os.stat(name, dir_fd=above, follow_symlinks=False), path)
            handle = os.open(name, flags | REGULAR, 0o666, dir_fd=above)
        except OSError as error:
            if error.errno != errno.EEXIST and _is_link(name, above):
                raise self._linked(path) from None
            raise self._named(error, path) from None
        finally:
            os.close(above)
        try:
            self._require_regular(os.fstat(handle), path)
        except Refused:
            os.close(handle)
            raise
        return handle

    # Errors

    def _require_one_name(self, handle: int, path: str) -> None:
        if os.fstat(handle).st_nlink != 1:
            raise Refused(f"{self.path / path} has a second name (a hard link)")

    def _require_regular(self, found: os.stat_result, path: str) -> None:
        if stat.S_ISLNK(found.st_mode):
            raise self._linked(path)
        if why := irregular(found.st_mode):
            raise Refused(f"{self.path / path} {why}")

    def _linked(self, path: str) -> Linked:
        return Linked(
            f"{self.path / path} is a link, which bb does not follow inside a store",
            f"It could lead to any of your files: remove it, or replace it by what it points to. `rsync -a --no-links` "
            f"copies a store without links; to keep a store on another disk, link its root {self.root}, nothing in it.",
        )

    def _named(self, error: OSError, path: str) -> OSError:
        """The error with the whole path, where the system knew the last step alone."""
        return type(error)(error.errno, error.strerror, str(self.path / path))


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name


def _kind(entry: "os.DirEntry[str]") -> EntryKind:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def _make(name: str, above: int, *, sync: bool) -> None:
    with suppress(FileExistsError):  # another process was quicker
        os.mkdir(name, dir_fd=above)
    if not sync:
        return
    handle = os.open(".", LISTED, dir_fd=above)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_link(name: str, above: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
    except OSError:
        return False
