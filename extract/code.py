"""The git tree hash of extract/, computed from the files themselves.

So it also works in an installed package and sees uncommitted edits. It equals `git rev-parse HEAD:extract` on a clean
checkout because extract/ holds nothing but `*.py` files with LF line ends and mode 100644. Format: the "Git Objects"
chapter of Pro Git (blob and tree objects, SHA-1).
"""

import hashlib
from pathlib import Path


def tree_hash(folder: Path = Path(__file__).parent) -> str:
    """SHA-1 of the git tree object of a flat folder of `*.py` files, 40 hex digits."""
    entries = b"".join(
        b"100644 " + file.name.encode() + b"\0" + _object_hash(b"blob", file.read_bytes())
        for file in sorted(folder.glob("*.py"), key=lambda file: file.name.encode())
    )
    return _object_hash(b"tree", entries).hex()


def _object_hash(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(kind + b" %d\0" % len(content) + content, usedforsecurity=False).digest()


# Of the files as they were when the first module of this package was imported: what runs is what they said then.
AT_START = tree_hash()
