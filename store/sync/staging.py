"""Where what is pulled stays until it is whole: tmp/pull/<digest>/, from where a pull that was killed goes on.

Only what a pull on this machine began is gone on with. So the file `lock` holds a token, made of a secret in the user's
cache folder; a folder without it came with the store, and is removed.
"""

import errno
import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bb.store.errors import Malformed
from bb.store.files.atomic_write import make_temporary, temporary_folder
from bb.store.files.directory import Directory, Refused
from bb.store.files.ownership import token
from bb.store.storage.base import Storage

PIECE = 2**20
LOCK = "lock"


@contextmanager
def landing(root: Path, digest: str) -> Iterator[Path]:
    """A folder named by the digest, for this process alone; what an earlier process left in it is still there.

    Where a living process holds it, a private one. It goes when the work is done or in vain, or when it is private;
    left with another error it stays, for the next pull.
    """
    store = Directory(root)
    folder = f"tmp/pull/{digest}"
    lock = _lock(store, folder, digest)
    private = lock is None
    if private:
        folder = f"{folder}.{secrets.token_hex(8)}"
    done = False
    try:
        store.make_folder(f"{folder}/{digest}")
        yield store.path / folder / digest
        done = True
    except (Malformed, FileNotFoundError):  # it will be no other next time, or not be there
        done = True
        raise
    finally:
        if done or private:
            with suppress(OSError):
                store.remove(folder)
        if lock is not None:
            os.close(lock)


def fetch(
    source: Storage,
    path: str,
    folder: Directory,
    file: str,
    size: int | None,
    digest: str,
    hear: Callable[[int], None],
    most: int,
) -> None:
    """Brings an object of `size` bytes (None: at most `most`) to a file, going on where an earlier attempt ended.

    `hear` gets of every piece how many bytes it has, fewer than none where they came to nothing. Raises Malformed
    where the object is not the one that has this size and digest; no more than its size is ever written.
    """
    while True:
        folder.make_folder(file.rpartition("/")[0])
        limit = most if size is None else size
        with folder.append(file) as out:
            hasher, begun = hashlib.sha256(), 0
            while piece := out.read(PIECE):
                hasher.update(piece)
                begun += len(piece)
            done = counted = begun
            hear(begun)
            if begun < limit:
                for piece in source.stream(path, begun):
                    done += len(piece)
                    if done > limit:
                        break
                    out.write(piece)
                    hasher.update(piece)
                    counted += len(piece)
                    hear(len(piece))
        if hasher.hexdigest() == digest and (size is None or done == size):
            return
        hear(-counted)
        folder.remove(file)
        if not begun:
            name = path.rpartition("/")[2] if size is None else path
            if size is not None and done != size:
                many = f"more than the {size}" if done > size else f"{done} of the {size}"
                raise Malformed(f"{name} holds {many} bytes that it should")
            raise Malformed(f"{name} does not have the digest by which it is named")


def write_file(folder: Directory, file: str, data: bytes) -> None:
    """Writes a file in place of what an earlier attempt left."""
    with suppress(FileNotFoundError):
        folder.remove(file)
    folder.make_folder(file.rpartition("/")[0])
    folder.write(file, data)


def _lock(store: Directory, folder: str, digest: str) -> int | None:
    """A lock on a folder that this machine made, or makes now; None where a living process has it.

    The lock lasts as long as its handle and its process.
    """
    mine = token(store.root, digest).encode()
    while True:
        if not store.exists(folder):
            _make(store, folder, mine)
        try:
            handle = store.descriptor(f"{folder}/{LOCK}")
        except PermissionError:  # another user's
            return None
        except (FileNotFoundError, NotADirectoryError, Refused):  # no pull left it so
            _discard(store, folder)
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held, or a file system that has no locks
            os.close(handle)
            return None
        there = store.stat(f"{folder}/{LOCK}")
        if there is not None and there.st_ino == os.fstat(handle).st_ino:
            if there.st_nlink == 1 and hmac.compare_digest(os.read(handle, len(mine) + 1), mine):
                os.utime(handle)  # in use: no remains for gc
                return handle
            _discard(store, folder)
        os.close(handle)


def _make(store: Directory, folder: str, mine: bytes) -> None:
    """Makes a folder with its lock by one rename, unless another process does meanwhile."""
    with temporary_folder(store) as temporary:
        with store.create(f"{temporary}/{LOCK}") as file:
            file.write(mine)
        store.make_folder(folder.rpartition("/")[0])
        try:
            store.rename(temporary, folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise


def _discard(store: Directory, folder: str) -> None:
    trash = make_temporary(store)
    with suppress(FileNotFoundError):  # its holder has just removed it
        store.rename(folder, trash)
        store.remove(trash)
