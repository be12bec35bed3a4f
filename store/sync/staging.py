"""Where what is pulled lies until it is whole: tmp/pull/<digest>/, from where a pull that was killed goes on."""

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from store.layout import Malformed
from store.place import Place
from store.publish import make_folder, sync

PIECE = 2**20


@contextmanager
def landing(root: Path, digest: str) -> Iterator[Path]:
    """A folder named by the digest, for this process alone; what another one left in it is still there.

    Where a living process holds it, a private one. It goes when the work is done or in vain, or when it is
    nobody else's; left with another error it stays, for the next pull.
    """
    folder = root / "tmp" / "pull" / digest
    lock = _lock(folder)
    private = lock is None
    if private:
        folder = folder.with_name(f"{digest}.{secrets.token_hex(8)}")
    content = folder / digest
    done = False
    try:
        content.mkdir(parents=True, exist_ok=True)
        yield content
        done = True
    except (Malformed, FileNotFoundError):  # it will be no other next time, or not be there
        done = True
        raise
    finally:
        if done or private:
            shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def fetch(
    source: Place, path: str, file: Path, size: int | None, digest: str, told: Callable[[int], None], most: int
) -> None:
    """Brings an object of `size` bytes (None: at most `most`) to a file, going on where an earlier attempt ended.

    `told` hears of every piece how many bytes it has, fewer than none where they came to nothing. Raises Malformed
    where the object is not the one that has this size and digest; no more than its size is ever written.
    """
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        limit = most if size is None else size
        with open(file, "a+b") as out:
            out.seek(0)
            hasher, begun = hashlib.sha256(), 0
            while piece := out.read(PIECE):
                hasher.update(piece)
                begun += len(piece)
            done = counted = begun
            told(begun)
            if begun < limit:
                for piece in source.stream(path, begun):
                    done += len(piece)
                    if done > limit:
                        break
                    out.write(piece)
                    hasher.update(piece)
                    counted += len(piece)
                    told(len(piece))
        if hasher.hexdigest() == digest and (size is None or done == size):
            return
        told(-counted)
        file.unlink()
        if not begun:
            name = path.rpartition("/")[2] if size is None else path
            if size is not None and done != size:
                many = f"more than the {size}" if done > size else f"{done} of the {size}"
                raise Malformed(f"{name} holds {many} bytes that it should")
            raise Malformed(f"{name} does not have the digest by which it is named")


def write_file(file: Path, data: bytes) -> None:
    """Writes a file, whatever an earlier attempt left of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def put_file_in_place(root: Path, file: Path, target: Path) -> None:
    """Renames a written file to where it belongs, synced; one that is there has the same content, and stays."""
    if not target.exists():
        sync(file)
        make_folder(target.parent, root)
        os.replace(file, target)
        sync(target.parent)


def _lock(folder: Path) -> int | None:
    """A lock that lasts as long as its handle and its process; None where a living process has it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:  # its holder has just removed the folder
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held, or a file system that has no locks
            os.close(handle)
            return None
        try:
            if os.fstat(handle).st_ino == os.stat(folder / "lock").st_ino:
                os.utime(handle)  # in use: no remains for gc
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)
