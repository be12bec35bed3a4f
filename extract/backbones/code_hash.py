"""Git tree hashes of extract/embedding/ and of all of extract/, computed from the files themselves.

So it also works in an installed package and sees uncommitted edits. They equal `git rev-parse HEAD:extract/embedding`
and `git rev-parse HEAD:extract` on a clean checkout because extract/ holds nothing but `*.py` files with LF line ends
and mode 100644. Format: the "Git Objects" chapter of Pro Git (blob and tree objects, SHA-1).
"""

import hashlib
from pathlib import Path

EXTRACT = Path(__file__).parents[1]
EMBEDDING = EXTRACT / "embedding"


def tree_hash(folder: Path = EMBEDDING) -> str:
    """SHA-1 of the git tree object of a folder's `*.py` files, those in subfolders included; 40 hex digits."""
    return _object_hash(b"tree", _tree(folder)).hex()


def _tree(folder: Path) -> bytes:
    """The content of a tree object; empty for a folder without such files, which git does not record."""
    entries = {}
    for path in folder.iterdir():
        name = path.name.encode()
        if path.is_dir():
            if content := _tree(path):
                entries[name + b"/"] = b"40000 " + name + b"\0" + _object_hash(b"tree", content)
        elif path.suffix == ".py":
            entries[name] = b"100644 " + name + b"\0" + _object_hash(b"blob", path.read_bytes())
    return b"".join(entries[name] for name in sorted(entries))  # git sorts a folder as if its name ended in /


def _object_hash(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(kind + b" %d\0" % len(content) + content, usedforsecurity=False).digest()


# Of the files as they were when the first module of this package was imported: what runs is what they said then.
AT_START = tree_hash()
TEXT_AT_START = tree_hash(EXTRACT / "text")
EXTRACT_AT_START = tree_hash(EXTRACT)
