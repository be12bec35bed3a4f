"""Who signed what a pull brought, as far as it was known when it came: `local/authors/<digest>.json`.

A key that the reader does not trust may take back only what came with its signature and no other's. A signature that
comes later proves nothing, since anybody can sign anything. So this is recorded when an object arrives, with this
machine's mark (store/files/machine_key.py): a record that came with a store counts for nothing.
"""

from collections.abc import Mapping
from pathlib import Path

from bb.store.errors import Malformed
from bb.store.files.atomic_write import publish_file
from bb.store.files.canonical_json import canonical_json, sha256_hex
from bb.store.files.directory import Directory
from bb.store.files.limits import MAX_SIGNATURE_BYTES, parse_json
from bb.store.files.machine_key import is_mark, mark
from bb.store.format.layout import is_digest, read_plain

FOLDER = "authors"
MOST = 32_768  # objects in a record, as in a statement


def write_authors(root: Path, authors: Mapping[str, str]) -> None:
    """Records the only signer (public key) of objects that have just come, by digest."""
    digests = sorted(authors)
    for start in range(0, len(digests), MOST):
        by_key: dict[str, list[str]] = {}
        for digest in digests[start : start + MOST]:
            by_key.setdefault(authors[digest], []).append(digest)
        found = mark(_text(by_key))
        if found is None:  # then no key that is not trusted can take anything back
            return
        raw = canonical_json({"authors": by_key, "mark": found}) + b"\n"
        publish_file(root, raw, root / "local" / FOLDER / f"{sha256_hex(raw)}.json")


def read_authors(root: Path) -> dict[str, str]:
    """The only signer of each object, by digest, as the records of this machine say; of two records, neither counts."""
    found: dict[str, str] = {}
    doubtful: set[str] = set()
    for path in Directory(root).match(f"local/{FOLDER}/*.json"):
        for key, digests in _read(root, path).items():
            doubtful |= {digest for digest in digests if found.get(digest, key) != key}
            found |= dict.fromkeys(digests, key)
    return {digest: key for digest, key in found.items() if digest not in doubtful}


def _read(root: Path, path: str) -> dict[str, list[str]]:
    try:
        record = parse_json(read_plain(Directory(root), path, MAX_SIGNATURE_BYTES), MAX_SIGNATURE_BYTES)
        by_key = record["authors"]
        plain = isinstance(by_key, dict) and all(
            is_digest(key) and isinstance(digests, list) and all(map(is_digest, digests))
            for key, digests in by_key.items()
        )
    except (Malformed, OSError, ValueError, TypeError, KeyError):
        return {}
    return by_key if plain and is_mark(_text(by_key), record.get("mark")) else {}


def _text(by_key: Mapping[str, list[str]]) -> str:
    return f"authors {canonical_json(by_key).decode()}"
