"""Ed25519 keys in files: made once, never overwritten, and refused where others could read the private one."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bb.store.errors import BBError, UsageError
from bb.store.files.atomic_write import sync
from bb.store.files.canonical_json import canonical_json
from bb.store.files.regular_file import open_regular, refuse_in_store
from bb.store.format.layout import is_digest
from bb.store.text.command import quoted

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_KEY_BYTES = 64 * 1024
MAX_NAME = 100

# The field and the curve of RFC 8032, 5.1, and the y of its eight points of low order. For such a public key, or one
# that is not a point, signatures say nothing: anybody can make one that holds for some message, or for any.
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
LOW_ORDER_Y = {0, 1, P - 1, Y8, P - Y8}


@dataclass(frozen=True)
class Key:
    """A private key, its public half (64 hex digits), and the name that its owner chose to sign with, if any."""

    private: "Ed25519PrivateKey"
    public: str
    name: str | None

    def sign(self, domain: str, statement: object) -> str:
        """The signature over domain, a zero byte and the statement's canonical JSON; 128 hex digits."""
        return self.private.sign(message(domain, statement)).hex()


def message(domain: str, statement: object) -> bytes:
    """What is signed. The domain stands before it, so that no signature can be taken for one of anything else."""
    return domain.encode() + b"\0" + canonical_json(statement)


def holds(public_key: str, signature: str, domain: str, statement: object) -> bool:
    """Whether a signature (128 hex digits) of a statement is that of a public key which `is_point`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        known = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        known.verify(bytes.fromhex(signature), message(domain, statement))
    except (InvalidSignature, ValueError):
        return False
    return True


def is_point(public_key: str) -> bool:
    """Whether 64 hex digits are a point of the curve in its one encoding, and none of low order."""
    encoded = int.from_bytes(bytes.fromhex(public_key), "little")
    y = encoded & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    return y < P and y not in LOW_ORDER_Y and pow(square, (P - 1) // 2, P) == 1


def check_signer(name: str) -> str:
    """Raises UsageError unless a signer's name can be printed in one line of up to 100 characters."""
    if not is_line(name, MAX_NAME):
        raise UsageError(f"{name!r} can't name a signer: use 1 to {MAX_NAME} characters that can be printed.")
    return name


def is_line(text: object, most: int) -> bool:
    """Whether a JSON value is a string of 1 to `most` printable characters."""
    return isinstance(text, str) and 0 < len(text) <= most and text.isprintable()


def make_key(path: Path, name: str | None = None) -> Key:
    """Writes a new private key (PKCS 8, PEM, mode 600) to `path`, and the public one with the name to `path`.pub.

    Raises BBError where either is there already: a key is never overwritten. Raises UsageError in a store, with which a
    private key would be copied.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    if name is not None:
        check_signer(name)
    refuse_in_store(path, f"the private key {path}")
    private = Ed25519PrivateKey.generate()
    key = Key(private, private.public_key().public_bytes_raw().hex(), name)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_new(path, pem, 0o600)
    try:
        _write_new(public_file(path), f"{key.public} {name or ''}".rstrip().encode() + b"\n", 0o644)
    except BaseException:
        path.unlink()
        raise
    sync(path.parent)
    return key


def public_file(path: Path) -> Path:
    """Where the public half of the private key at `path` is."""
    return path.with_name(f"{path.name}.pub")


def read_key(path: Path) -> Key:
    """Reads a private key, with the name in the .pub file next to it. Raises BBError where others can read it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with open_regular(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_KEY_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"found no key at {path}: `bb store keygen` makes one, --key names another.") from None
    if b"PRIVATE KEY" not in data:
        raise BBError(f"{path} holds no private key in PEM: --key takes a file that `bb store keygen` made.")
    if mode & 0o077:
        raise BBError(
            f"the private key {path} has mode {mode:o}, so others can read or change it: chmod 600 {quoted(path)}. "
            f"If somebody may have read it, make another one with `bb store keygen --to FILE`."
        )
    try:
        private = load_pem_private_key(data, password=None)
    except Exception as error:  # whatever the many formats of PEM files can bring; TypeError is a passphrase
        fact = "is locked by a passphrase" if isinstance(error, TypeError) else "holds no private key in PEM"
        raise BBError(f"{path} {fact}: --key takes a file that `bb store keygen` made.") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise BBError(f"{path} holds no Ed25519 key: --key takes a file that `bb store keygen` made.")
    public = private.public_key().public_bytes_raw().hex()
    try:
        beside, name = read_public(public_file(path))
    except BBError:
        beside, name = public, None
    return Key(private, public, name if beside == public else None)


def read_public(path: Path) -> tuple[str, str | None]:
    """The public key in a .pub file, and its owner's name for it. Raises BBError where the file holds none."""
    try:
        with open_regular(path) as file:
            text = file.read(MAX_KEY_BYTES).decode()
    except FileNotFoundError:
        raise UsageError(
            f"the file {path} does not exist: give the 64 hex digits of a public key, or a .pub file."
        ) from None
    except UnicodeDecodeError:
        text = ""
    if "PRIVATE KEY" in text:
        raise BBError(f"{path} is a private key, which nobody else should see: give {public_file(path)}.")
    public_key, _, name = text.strip().partition(" ")
    if name and not is_line(name, MAX_NAME):
        raise BBError(f"{path} names its signer in more than a line of {MAX_NAME} characters: fix it.")
    return check_public(public_key, str(path)), name or None


def check_public(text: str, where: str = "") -> str:
    """A public key in lower case. Raises BBError where the text is none, or one under which signatures mean nothing."""
    shown = f"{text[:80]!r}" + (f" in {where}" if where else "")
    key = text.lower()
    if not is_digest(key):
        raise UsageError(f"{shown} is not a public key: that is 64 hex digits, as `bb store keygen` prints them.")
    if not is_point(key):
        raise UsageError(f"{shown} is not a public key that can be trusted: anyone could sign in its name, or no one.")
    return key


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise BBError(f"{path} is there already and is never overwritten: --to names another file.") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()
        raise
