"""Opening a file that a person or a folder names, when it may be a pipe or a device, which could block or never end."""

import os
import stat
from typing import BinaryIO

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


def _check(path: str | os.PathLike[str], mode: int) -> None:
    if why := irregular(mode):
        raise OSError(None, why, os.fspath(path))
