"""The only way anything enters a store: written under `tmp/`, synced to disk, then renamed.

A reader sees a whole thing or none. A process that is killed half-way leaves only remains under `tmp/`, which no reader
looks at.
"""

import errno
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from bb.store.files.canonical_json import sha256_hex
from bb.store.files.descriptors import fitting
from bb.store.files.directory import Bytes, Directory

AT_ONCE = 8  # threads; they wait for the disk, or hash, which lets the interpreter lock go
DESCRIPTORS = 3  # of such a thread: two folders on the way, and the file


def publish_file(root: Path, data: Bytes, target: Path) -> None:
    """Puts one file in place. What is already there under the same name has the same content, and stays."""
    store = Directory(root)
    path = store.relative(target)
    if not store.is_file(path):
        replace_file(root, data, target)


def replace_file(root: Path, data: Bytes, target: Path) -> None:
    """Puts one file in place of what is there, by one rename."""
    store = Directory(root)
    path = store.relative(target)
    temporary = make_temporary(store)
    try:
        store.write(temporary, data)
        put_file_in_place(store, temporary, path)
    finally:
        with suppress(OSError):
            store.remove(temporary)


def put_file_in_place(store: Directory, temporary: str, path: str) -> None:
    """Renames a written and synced file to where it belongs."""
    folder = path.rpartition("/")[0]
    store.make_folder(folder, sync=True)
    store.rename(temporary, path)
    store.sync(folder)


def publish_folder(root: Path, files: Mapping[str, Bytes], target: Path, marker: str = "zarr.json") -> None:
    """Puts a folder of files (relative POSIX path: content), `marker` among them, in place by one rename."""
    store = Directory(root)
    with temporary_folder(store) as temporary, _threads() as pool:
        _finish(_write_all(store.below(temporary), files, pool))
        put_in_place(store, temporary, store.relative(target), marker)


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
    store = Directory(root)
    with temporary_folder(store) as temporary, _threads() as pool:
        folder = store.below(temporary)
        hashed = {path: pool.submit(sha256_hex, data) for path, data in files.items()}
        written = _write_all(folder, files, pool)
        target, manifest = seal({path: digest.result() for path, digest in hashed.items()})
        _finish([*written, pool.submit(before, target), *_write_all(folder, {"zarr.json": manifest}, pool)])
        put_in_place(store, temporary, store.relative(target), "zarr.json")
    return target


@contextmanager
def temporary_folder(store: Directory) -> Iterator[str]:
    """A new folder under `tmp/`, removed at the end unless it was renamed."""
    temporary = make_temporary(store)
    store.make_folder(temporary)
    try:
        yield temporary
    finally:
        with suppress(OSError):
            store.remove(temporary)


def make_temporary(store: Directory) -> str:
    """A path under `tmp/` at which nothing is."""
    store.make_folder("tmp")
    return f"tmp/{secrets.token_hex(16)}"


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(fitting(AT_ONCE, DESCRIPTORS))


def _write_all(folder: Directory, files: Mapping[str, Bytes], pool: Executor) -> list["Future[None]"]:
    """Writes and syncs files and all folders on the way to them, at once: one wait for the disk instead of many."""
    folders = sorted({str(above) for path in files for above in PurePosixPath(path).parents} - {"."})
    for path in folders:
        folder.make_folder(path)
    for path in files:
        folder.create(path).close()  # before its folder is synced
    written = [pool.submit(folder.fill, path, data) for path, data in files.items()]
    return written + [pool.submit(folder.sync, path) for path in ("", *folders)]


def _finish(tasks: Sequence["Future[None]"]) -> None:
    for task in tasks:
        task.result()


def put_in_place(store: Directory, temporary: str, target: str, marker: str) -> None:
    """Renames a written and synced folder to where it belongs; one that is whole there already stays, since its name
    is made of its content's digest. One without its marker, as an interrupted rsync leaves it, makes room."""
    above = target.rpartition("/")[0]
    store.make_folder(above, sync=True)
    while True:
        try:
            store.rename(temporary, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):  # a link is not a directory
                raise
            if store.is_folder(target) and store.is_file(f"{target}/{marker}"):
                return
            trash = make_temporary(store)
            with suppress(FileNotFoundError):  # another process was quicker
                store.rename(target, trash)
                store.remove(trash)
        else:
            store.sync(above)
            return


def sync_tree(folder: Directory) -> None:
    """Makes a folder with all that is in it outlive a crash; all at once, so that the disk is waited for once."""
    paths = ["", *(path for path, _ in folder.walk())]
    with _threads() as pool:
        list(pool.map(folder.sync, paths))


def sync(path: Path) -> None:
    """The same for a file or folder outside a store."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
