"""Files that a person or a folder names: one to read may be a pipe or a device, which could block or never end; one to
write is replaced, whole or not at all."""

import contextlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from bb.store.errors import BBError, UsageError
from bb.store.files.descriptors import retry

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def irregular(mode: int) -> str:
    """Why a file of this `st_mode` can't be read as one; empty for a regular file."""
    return "" if stat.S_ISREG(mode) else f"is {_KINDS.get(stat.S_IFMT(mode), 'something')}, not a file"


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a regular file for reading; links are followed. Raises OSError for anything else, without waiting for it.

    The first look keeps devices from being opened at all; the second one is for what was exchanged in between.
    """
    _check(path, os.stat(path).st_mode)
    descriptor = retry(lambda: os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    try:
        _check(path, os.fstat(descriptor).st_mode)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, most: int) -> bytes:
    """The first `most` + 1 bytes of a regular file. Raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        return file.read(most + 1)


def replace_file(path: Path, content: bytes) -> None:
    """As `replace_files`, for one."""
    replace_files({path: content})


def why_irreplaceable(path: Path) -> str:
    """Why a file may not take the place of what has this name, a device or a pipe; empty where it may.

    A renaming would take the name from all of the machine: /dev/null for one, or /dev/stdout, which is a link.
    """
    try:
        return irregular(os.stat(path).st_mode)
    except OSError:  # nothing is there, or a link to nothing
        return ""


def refuse_in_store(path: Path, what: str) -> None:
    """Raises UsageError for a path of a store or below one, which holds what bb puts there alone; `what` names it."""
    real = Path(os.path.realpath(path))  # Path.resolve raises where links go round in a circle
    for folder in (real, *real.parents):
        if os.path.lexists(folder / "zarr.json") and os.path.lexists(folder / "spaces" / "zarr.json"):
            raise UsageError(f"{what} is in the store {folder}, which only bb writes to: name a place outside it.")


def check_output(path: Path, what: str, *read: Path | None) -> None:
    """Errors: UsageError where a file can't be written there, or would replace one that is read.

    what  the option or argument with its path, for messages
    """
    if why := why_irreplaceable(path):
        raise UsageError(f"{what} {why.removesuffix(', not a file')}: name a file.")
    refuse_in_store(path, what)
    if not (folder := path.absolute().parent).is_dir():
        raise UsageError(f"{what}: the folder {folder} does not exist. Make it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{what}: the folder {folder} can't be written to. Name a file elsewhere.")
    if path.exists() and any(each is not None and each.exists() and path.samefile(each) for each in read):
        raise UsageError(f"{what} would replace what is read from it: name another file.")


def replace_files(contents: Mapping[Path, bytes]) -> None:
    """Writes files that a person names, on disk when this returns; a link in their place is replaced, not followed.

    Errors: BBError naming one that can't be written; UsageError naming one in a store. Unless it is the very renaming
    that fails, all are as before then.
    """
    asides: dict[Path, Path] = {}
    for path in contents:
        refuse_in_store(path, str(path))
        if why := why_irreplaceable(path):
            raise BBError(f"{path} {why}: name a file.")
    try:
        for path, content in contents.items():
            # A random name, which others who write here can't take beforehand.
            asides[path] = path.with_name(f".bb-{secrets.token_hex(8)}")
            _write_new(asides[path], content, like=path)
        for path, aside in asides.items():
            os.replace(aside, path)
        for folder in {path.absolute().parent for path in contents}:
            handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    except OSError as error:
        raise BBError(
            f"{path} can't be written ({error.strerror or error}): make room or name a file elsewhere, and rerun the "
            "command. What was there is as it was."
        ) from None
    finally:
        for aside in asides.values():
            with contextlib.suppress(OSError):  # renamed, mostly; what else it is must not hide the first error
                aside.unlink()


def _write_new(path: Path, content: bytes, like: Path) -> None:
    """A new file with the permissions of another, if that is there."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with open(handle, "wb") as file:
        if like.is_file() and not like.is_symlink():
            os.fchmod(handle, stat.S_IMODE(like.stat().st_mode))
        file.write(content)
        file.flush()
        os.fsync(handle)


def _check(path: str | os.PathLike[str], mode: int) -> None:
    if why := irregular(mode):
        raise OSError(None, why, os.fspath(path))
