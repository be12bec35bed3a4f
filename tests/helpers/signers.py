"""Keys of two labs and of a stranger, and their statements."""

from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bb.store.files.canonical_json import sha256_hex
from bb.store.signing.key import Key

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def key(seed, name=None):
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return Key(private, private.public_key().public_bytes_raw().hex(), name)


A, B, STRANGER = key(1, "Lab A"), key(2, "Lab B"), key(3, "Lab A")  # a stranger may take any name


def lay(store, raw):
    path = store.root / "signatures" / f"{sha256_hex(raw)}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(raw)
    return path
