"""What is moved out of a store's sight: set aside under the same path in `aside/`, to be looked at or put back."""

import os
import secrets
from pathlib import Path

from store.publish import make_folder, sync

# Where in a store, and hence in `aside/`, each thing lies that can be set aside.
PLACES = (
    *("spaces/*/segments/*", "spaces/*/adopted/*", "collections/*/*", "labels/*/*"),
    *("runs/*/*", "heads/*", "signatures/*"),
)


def set_aside(root: Path, path: Path) -> Path:
    """Moves a file or folder of the store to `aside/`, by one rename, and returns where it is now. Deletes nothing."""
    target = root / "aside" / path.relative_to(root)
    if os.path.lexists(target):
        target = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    make_folder(target.parent, root)
    os.rename(path, target)
    sync(target.parent)
    sync(path.parent)
    return target
