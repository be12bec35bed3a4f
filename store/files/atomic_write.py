"""The only way anything enters a store: written aside, synced to disk, then renamed.

A reader sees a whole thing or none. Whoever is killed half-way leaves only a remnant under `tmp/`, which no reader
looks at.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from store.canonical import sha256_hex

Bytes = bytes | bytearray | memoryview
AT_ONCE = 8  # threads; they wait for the disk, or hash, which lets the interpreter lock go


def publish_file(root: Path, data: Bytes, target: Path) -> None:
    """Puts one file in place. What is already there under the same name has the same content, and stays."""
    if target.exists():
        return
    aside = _aside(root)
    try:
        _write(aside, data)
        make_folder(target.parent, root)
        os.replace(aside, target)
        sync(target.parent)
    finally:
        aside.unlink(missing_ok=True)


def publish_folder(root: Path, files: Mapping[str, Bytes], target: Path, marker: str = "zarr.json") -> None:
    """Puts a folder of files (relative POSIX path: content), `marker` among them, in place by one rename."""
    with _folder_aside(root) as aside, ThreadPoolExecutor(AT_ONCE) as pool:
        _finish(_lay(aside, files, pool))
        put_in_place(root, aside, target, marker)


def publish_sealed(
    root: Path,
    files: Mapping[str, Bytes],
    seal: Callable[[dict[str, str]], tuple[Path, bytes]],
    before: Callable[[Path], None] = lambda target: None,
) -> Path:
    """Puts a folder in place whose `zarr.json` lists the SHA-256 of its other files, which are hashed while written.

    `seal` gets the digests by path, and gives the target and the content of `zarr.json`; `before` has run when the
    target can be seen. Returns the target.
    """
    with _folder_aside(root) as aside, ThreadPoolExecutor(AT_ONCE) as pool:
        hashed = {path: pool.submit(sha256_hex, data) for path, data in files.items()}
        laid = _lay(aside, files, pool)
        target, manifest = seal({path: digest.result() for path, digest in hashed.items()})
        _finish([*laid, pool.submit(before, target), *_lay(aside, {"zarr.json": manifest}, pool)])
        put_in_place(root, aside, target, "zarr.json")
    return target


@contextmanager
def _folder_aside(root: Path) -> Iterator[Path]:
    aside = _aside(root)
    aside.mkdir()
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _lay(folder: Path, files: Mapping[str, Bytes], pool: Executor) -> list["Future[None]"]:
    """Writes and syncs files and all folders on the way to them, at once: one wait for the disk instead of many."""
    folders = {folder / above for path in files for above in PurePosixPath(path).parents}
    for path in sorted(folders):
        path.mkdir(exist_ok=True)
    for name in files:
        (folder / name).touch(exist_ok=False)  # before its folder is synced
    written = [pool.submit(_write, folder / name, data) for name, data in files.items()]
    return written + [pool.submit(sync, path) for path in folders]


def _finish(tasks: Sequence["Future[None]"]) -> None:
    for task in tasks:
        task.result()


def put_in_place(root: Path, aside: Path, target: Path, marker: str) -> None:
    """Renames a written and synced folder to where it belongs; one that is whole there already stays, since its name
    is made of its content's digest. One without its marker, as an interrupted rsync leaves it, makes room."""
    make_folder(target.parent, root)
    while True:
        try:
            os.rename(aside, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if (target / marker).exists():
                return
            doomed = _aside(root)
            with suppress(FileNotFoundError):  # another process was quicker
                os.rename(target, doomed)
            shutil.rmtree(doomed, ignore_errors=True)
        else:
            sync(target.parent)
            return


def _aside(root: Path) -> Path:
    folder = root / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / secrets.token_hex(16)


def _write(path: Path, data: Bytes) -> None:
    with open(path, "wb") as file:
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
        sync(step.parent)


def sync(path: Path) -> None:
    """Makes the content of a file, or what was renamed into or out of a folder, outlive a crash."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Makes a folder with all that is in it outlive a crash; all at once, so that the disk is waited for once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(sync, [folder, *folder.rglob("*")]))
