"""What a store could do without: remains of killed processes, what was set aside, feature spaces that no run names."""

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from store.aside import PLACES
from store.errors import BBError
from store.head import is_derived
from store.space import short
from store.store import Store

MIN_AGE = 24 * 3600.0  # seconds; no writer leaves a file under tmp/ untouched for a day


@dataclass(frozen=True)
class Garbage:
    """A file or folder that may go, its size in bytes, and why."""

    path: Path
    n_bytes: int
    why: str


def find_garbage(
    store: Store, *, unreferenced: bool = False, note: Callable[[str], None] = lambda text: None
) -> list[Garbage]:
    """What may go. With `unreferenced` also feature spaces that no run in the store was made of,
    nor of one that adopted them.

    `note` is told what is kept though its age can't be known. Raises BBError where a run can't be read: what it names
    would then be taken for unreferenced.
    """
    found = list(_remains(store.root, note))
    for pattern in PLACES:
        for path in sorted((store.root / "aside").glob(pattern)):
            found.append(Garbage(path, size_of(path), "set aside"))
    for path in sorted((store.root / "index" / "rows").glob("*")):
        if not (store.root / "spaces" / path.name).exists():
            found.append(Garbage(path, size_of(path), "index of a space that is gone"))
    if unreferenced:
        named = {run.record["space"] for run in store.runs()}
        named |= {older.key for space in store.spaces() if space.key in named for older in store.older(space)}
        for space in store.spaces():
            if space.key not in named:
                path = store.root / "spaces" / space.key
                names = ", ".join(store.backbones(space)) or "no rows"
                found.append(Garbage(path, size_of(path), f"space {short(space.key)} ({names}) is named by no run"))
        kept = {space.weights for space in store.spaces() if is_derived(space) and space.key in named}
        for path in sorted((store.root / "heads").glob("*.safetensors")):
            if path.stem not in kept:
                found.append(Garbage(path, size_of(path), f"head {short(path.stem)} is of no space that a run names"))
    return found


def remove_garbage(store: Store, garbage: Garbage) -> None:
    """Removes what `find_garbage` found, out of sight first by one rename, so that no reader sees half of it."""
    if not garbage.path.is_relative_to(store.root):
        raise BBError(f"{garbage.path} is not in {store.root}.")
    doomed = store.root / "tmp" / secrets.token_hex(16)
    doomed.parent.mkdir(exist_ok=True)
    os.rename(garbage.path, doomed)
    if doomed.is_dir() and not doomed.is_symlink():
        shutil.rmtree(doomed)
    else:
        doomed.unlink()
    _prune(garbage.path.parent, store.root / "aside")


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links count as nothing and are not followed."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())


def _remains(root: Path, note: Callable[[str], None]) -> Iterator[Garbage]:
    """What killed processes left in `tmp/`. As old as its newest file, since a long write touches only some.

    What a pull left of a part lies in `tmp/pull/`, each by itself, since the next pull may go on with one of them.
    """
    pulled = root / "tmp" / "pull"
    left = sorted([*(path for path in (root / "tmp").glob("*") if path != pulled), *pulled.glob("*")])
    now = _disk_time(root) if left else 0.0
    for path in left:
        try:
            age = now - max(part.lstat().st_mtime for part in (path, *path.rglob("*")))
        except FileNotFoundError:  # it has just been published
            continue
        if age > MIN_AGE:
            yield Garbage(path, size_of(path), f"left {age / 86400:.0f} days ago by a process that died")
        elif age < -MIN_AGE:
            name = path.relative_to(root)
            note(f"{name} is dated {-age / 86400:.0f} days ahead of the disk's clock and is kept: remove it by hand.")


def _disk_time(root: Path) -> float:
    """The time that the file system gives a file made now: a server's clock may not be this machine's."""
    probe = root / "tmp" / secrets.token_hex(16)
    try:
        with open(probe, "xb") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # a store that can't be written; then nothing can be removed either
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _prune(folder: Path, top: Path) -> None:
    """Removes folders that became empty, up to and with `top`; none outside of it."""
    while folder.is_relative_to(top):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
