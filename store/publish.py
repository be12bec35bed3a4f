"""The only way anything enters a store: written aside, synced to disk, then renamed.

A reader sees a whole thing or none. Whoever is killed half-way leaves only a remnant under `tmp/`, which no reader
looks at.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

Bytes = bytes | bytearray | memoryview


def publish_file(root: Path, data: Bytes, target: Path) -> None:
    """Puts one file in place. What is already there under the same name has the same content, and stays."""
    if target.exists():
        return
    aside = _aside(root)
    try:
        _write(aside, data)
        make_folder(target.parent, root)
        os.replace(aside, target)
        sync_folder(target.parent)
    finally:
        aside.unlink(missing_ok=True)


def publish_folder(root: Path, files: Mapping[str, Bytes], target: Path) -> None:
    """Puts a folder of files (relative POSIX path: content) in place by one rename.

    A folder already there under the same name, which is made of its content's digest, stays as it is.
    """
    aside = _aside(root)
    try:
        aside.mkdir()
        for path, data in files.items():
            file = aside / path
            file.parent.mkdir(parents=True, exist_ok=True)
            _write(file, data)
        folders = {aside, *(aside / above for path in files for above in PurePosixPath(path).parents)}
        for folder in folders:
            sync_folder(folder)
        make_folder(target.parent, root)
        try:
            os.rename(aside, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        sync_folder(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _aside(root: Path) -> Path:
    folder = root / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / secrets.token_hex(16)


def _write(path: Path, data: Bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def make_folder(folder: Path, root: Path) -> None:
    """Makes the folders from `root` down to `folder`, each synced, so that a crash can't lose the way to a file."""
    missing = []
    while not folder.exists() and folder != root:
        missing.append(folder)
        folder = folder.parent
    for step in reversed(missing):
        step.mkdir(exist_ok=True)
        sync_folder(step.parent)


def sync_folder(folder: Path) -> None:
    """Makes what was renamed into or out of a folder outlive a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
