"""The key by which a user's machine knows what it made itself: 32 random bytes in the user's configuration folder.

A mark is the HMAC-SHA256 (RFC 2104) of a text under that key. Nobody else can make one, so a store that comes from
elsewhere, with a folder `local/` of its own, can't claim that its rows were made here.
"""

import hashlib
import hmac
import os
import secrets
import stat
import sys
from contextlib import suppress
from pathlib import Path

from bb.store.errors import BBError
from bb.store.text.command import quoted

NAME = "machine.key"
SIZE = 32  # bytes
_keys: dict[Path, bytes] = {}


def user_folder() -> Path:
    """Where this user's settings, keys and trusted keys are."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "bb"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "bb"


def mark(text: str) -> str | None:
    """The mark of a text, 64 hex digits, the key being made where there is none. None where it can't be written."""
    key = _key(make=True)
    return _sign(key, text) if key else None


def is_mark(text: str, found: object) -> bool:
    """Whether `found` is the mark that this user's machine gives a text."""
    key = _key(make=False) if isinstance(found, str) and found.isascii() else None
    return key is not None and hmac.compare_digest(_sign(key, text), str(found))


def _sign(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _key(*, make: bool) -> bytes | None:
    """The key; None where there is none. Raises BBError where others can read it, or it is not one that bb made."""
    try:
        path = user_folder() / NAME
    except RuntimeError:  # a user without a home
        return None
    if path not in _keys:
        try:
            if make and not path.exists():
                _make(path)
            with open(path, "rb") as file:
                status, data = os.fstat(file.fileno()), file.read(SIZE + 1)
        except OSError:
            return None
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise BBError(
                f"others can read or change {path}, by which bb knows what you made: chmod 600 {quoted(path)}"
            )
        if status.st_uid not in (os.getuid(), 0):
            raise BBError(f"{path}, by which bb knows what you made, belongs to another user: move it away.")
        if len(data) != SIZE:
            raise BBError(f"{path} has {len(data)} bytes instead of {SIZE}: move it away, and bb makes another.")
        _keys[path] = data
    return _keys[path]


def _make(path: Path) -> None:
    """Writes a new key, whole or not at all; one that another process has just made stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{NAME}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(SIZE))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
