"""What a store could do without: remains of killed processes, what was set aside, feature spaces that no run names."""

import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bb.store.files.atomic_write import make_temporary
from bb.store.files.directory import Directory
from bb.store.files.quarantine import PLACES
from bb.store.format.derived import is_derived
from bb.store.format.space import short
from bb.store.store import Store

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
    """What may go. With `unreferenced` also feature spaces that no run in the store was made of, that no model is for,
    and that no such space adopted. Models stay.

    `note` gets what is kept though its age can't be known. Raises BBError where a run or model can't be read: what
    it names would then be taken for unreferenced.
    """
    folder = Directory(store.root)
    found = list(_remains(folder, note))
    for pattern in PLACES:
        found += [_garbage(folder, path, "set aside") for path in folder.match(f"aside/{pattern}")]
    for path in folder.match("index/rows/*"):
        if not folder.exists(f"spaces/{path.rpartition('/')[2]}"):
            found.append(_garbage(folder, path, "index of a space that is gone"))
    if unreferenced:
        named = {str(run.record.get(field)) for run in store.runs() for field in ("space", "text_space")}
        named |= {each.key for digest in store.models() for each in store.model(digest).spaces}
        named |= {older.key for space in store.spaces() if space.key in named for older in store.predecessors(space)}
        for space in store.spaces():
            if space.key not in named:
                names = ", ".join(store.backbones(space)) or "no rows"
                why = f"space {short(space.key)} ({names}) is named by no run"
                found.append(_garbage(folder, f"spaces/{space.key}", why))
        kept = {space.weights for space in store.spaces() if is_derived(space) and space.key in named}
        for path in folder.match("heads/*.safetensors"):
            digest = Path(path).stem
            if digest not in kept:
                found.append(_garbage(folder, path, f"head {short(digest)} is of no space that a run names"))
    return found


def remove_garbage(store: Store, garbage: Garbage) -> None:
    """Removes what `find_garbage` found, out of sight first by one rename, so that no reader sees half of it."""
    folder = Directory(store.root)
    path = folder.relative(garbage.path)
    trash = make_temporary(folder)
    folder.rename(path, trash)
    folder.remove(trash)
    above = path.rpartition("/")[0]
    with suppress(OSError):  # one that is not empty
        while above.partition("/")[0] == "aside":
            folder.remove_empty(above)
            above = above.rpartition("/")[0]


def _garbage(folder: Directory, path: str, why: str) -> Garbage:
    return Garbage(folder.path / path, folder.n_bytes(path), why)


def _remains(folder: Directory, note: Callable[[str], None]) -> Iterator[Garbage]:
    """What killed processes left in `tmp/`. As old as its newest file, since a long write touches only some.

    What a pull left of a part is in `tmp/pull/`, each by itself, since the next pull may go on with one of them.
    """
    left = sorted([*(path for path in folder.match("tmp/*") if path != "tmp/pull"), *folder.match("tmp/pull/*")])
    now = _disk_time(folder) if left else 0.0
    for path in left:
        found = folder.stat(path)
        if found is None:  # it has just been published
            continue
        parts = folder.walk(path) if stat.S_ISDIR(found.st_mode) else ()  # a link is not followed
        age = now - max([found.st_mtime, *(part.st_mtime for _, part in parts)])
        if age > MIN_AGE:
            yield _garbage(folder, path, f"left {age / 86400:.0f} days ago by a process that died")
        elif age < -MIN_AGE:
            note(f"{path} is dated {-age / 86400:.0f} days ahead of the disk's clock and is kept: remove it by hand.")


def _disk_time(folder: Directory) -> float:
    """The time that the file system gives a file made now: a server's clock may not be this machine's."""
    probe = f"tmp/{secrets.token_hex(16)}"
    try:
        with folder.create(probe) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # a store that can't be written; then nothing can be removed either
        return time.time()
    finally:
        with suppress(OSError):
            folder.remove(probe)
