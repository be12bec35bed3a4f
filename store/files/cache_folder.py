"""Where bb keeps what can be fetched or computed again."""

import os
from pathlib import Path

from bb.store.errors import UsageError


def cache_folder() -> Path:
    """Where bb keeps what can be fetched or computed again: BB_CACHE, or `bb` in the user's cache folder."""
    if own := os.environ.get("BB_CACHE"):
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bb"
    except RuntimeError:  # a container whose user has no passwd entry
        raise UsageError("this user has no home folder to cache in: set BB_CACHE to a folder.") from None
