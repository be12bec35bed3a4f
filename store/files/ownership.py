"""What tells apart what this machine left in a store from what came with it: a token that only this user can make."""

import hashlib
import hmac
import os
import secrets
from functools import lru_cache
from pathlib import Path

from bb.store.errors import BBError
from bb.store.files.cache_folder import cache_folder
from bb.store.files.directory import Directory

KEY = "ownership.key"
KEY_BYTES = 32


def token(root: Path, name: str) -> str:
    """A token for a name in the store at `root`, 64 hex digits: the same each time on this machine, for this user."""
    try:
        folder = cache_folder()
    except BBError:  # a user without a home folder
        folder = None
    message = f"{os.path.realpath(root)}\0{name}".encode(errors="surrogateescape")
    return hmac.new(_secret(folder), message, hashlib.sha256).hexdigest()


@lru_cache
def _secret(folder: Path | None) -> bytes:
    """The secret in the cache folder, made where there is none. Where that can't be written, one for this process."""
    if folder is None:
        return secrets.token_bytes(KEY_BYTES)
    cache, temporary = Directory(folder), f"{KEY}.{secrets.token_hex(8)}"
    try:
        if not cache.is_file(KEY):
            cache.make_folder("")
            with cache.create(temporary) as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(secrets.token_bytes(KEY_BYTES))
            cache.rename(temporary, KEY)
        secret = cache.read(KEY, KEY_BYTES)
    except (OSError, BBError):
        secret = None
    return secret if secret and len(secret) == KEY_BYTES else secrets.token_bytes(KEY_BYTES)
