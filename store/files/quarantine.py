"""What is moved out of a store's sight: set aside under the same path in `aside/`, to be looked at or put back."""

import secrets
from pathlib import Path

from bb.store.files.directory import Directory

# Where in a store, and hence in `aside/`, each thing is that can be set aside.
PLACES = (
    *("spaces/*/segments/*", "spaces/*/adopted/*", "collections/*/*", "labels/*/*"),
    *("runs/*/*", "heads/*", "models/*/*", "signatures/*"),
)


def set_aside(root: Path, path: Path) -> Path:
    """Moves a file or folder of the store to `aside/`, by one rename, and returns where it is now. Deletes nothing."""
    store = Directory(root)
    source = store.relative(path)
    target = place_aside(store, source)
    store.make_folder(target.rpartition("/")[0], sync=True)
    store.rename(source, target)
    for moved in (target, source):
        store.sync(moved.rpartition("/")[0])
    return root / target


def place_aside(store: Directory, path: str) -> str:
    """Where in `aside/` a path of the store goes: under a longer name where something was set aside before."""
    target = f"aside/{path}"
    return f"{target}.{secrets.token_hex(4)}" if store.exists(target) else target
