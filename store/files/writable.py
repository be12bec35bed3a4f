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
    errno.EROFS: "It is on a read-only file system: copy the store, and name the copy with --store",
    errno.ENOSPC: "The disk is full: make room, or name another place with --store",
    errno.EDQUOT: "Your quota is used up: make room, or name another place with --store",
}


def check_writable(root: Path, folders: Iterable[str] = ()) -> None:
    """Writes a file below `tmp/` and removes it, and looks whether entries can be made in some of a store's folders.

    Raises BBError, with the reason and the remedy, where that can't be done.
    """
    store = Directory(root)
    try:
        trial = make_temporary(store)
        try:
            store.write(trial, bytes(TRIAL))
        finally:
            if store.exists(trial):
                store.remove(trial)
    except OSError as error:
        raise _refusal(root, error) from None
    for path in (root / folder for folder in folders):
        effective = os.access in os.supports_effective_ids
        if path.is_dir() and not os.access(path, os.W_OK | os.X_OK, effective_ids=effective):
            raise _refusal(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _refusal(path: Path, error: OSError) -> BBError:
    remedy = _REMEDIES.get(error.errno or 0, "Change its permissions, or name another place with --store")
    return BBError(f"nothing can be written to {path}: {error.strerror}. {remedy}.")
