"""Whether a store can be written: found out before the work whose result is to go there."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from bb.store.errors import BBError
from bb.store.files.atomic_write import make_temporary
from bb.store.files.directory import Directory

TRIAL = 2**16  # bytes
_REMEDIES = {
    errno.EROFS: "It is on a read-only file system: copy the store, and name the copy {}",
    errno.ENOSPC: "The disk is full: make room, or name another place {}",
    errno.EDQUOT: "Your quota is used up: make room, or name another place {}",
}


def check_writable(root: Path, folders: Iterable[str] = (), *, naming: str = "with --store") -> None:
    """Writes a file below `tmp/` and removes it, and looks whether entries can be made in some of a store's folders.

    Where no store is yet, it only looks whether one can be made. `naming` is how a person names another one. Raises
    BBError, with the reason and the remedy, where that can't be done.
    """
    store = Directory(root)
    if not store.exists("zarr.json"):
        _check_access(next(path for path in (root, *root.absolute().parents) if path.exists()), naming)
        return
    try:
        trial = make_temporary(store)
        try:
            store.write(trial, bytes(TRIAL))
        finally:
            if store.exists(trial):
                store.remove(trial)
    except OSError as error:
        raise _refusal(root, error, naming) from None
    for path in (root / folder for folder in folders):
        if path.is_dir():
            _check_access(path, naming)


def _check_access(folder: Path, naming: str) -> None:
    effective = os.access in os.supports_effective_ids
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=effective):
        number = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
        raise _refusal(folder, OSError(number, os.strerror(number)), naming)


def _refusal(path: Path, error: OSError, naming: str) -> BBError:
    remedy = _REMEDIES.get(error.errno or 0, "Change its permissions, or name another place {}")
    return BBError(f"nothing can be written to {path}: {error.strerror}. {remedy.format(naming)}.")
