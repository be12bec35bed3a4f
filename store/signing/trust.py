"""The public keys that a person trusts, kept in a file of his own, and what of another's store they let in."""

import json
import os
import secrets
import stat
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bb.store.errors import BBError, UsageError
from bb.store.files.atomic_write import sync
from bb.store.files.paths import StorePart
from bb.store.files.regular_file import open_regular
from bb.store.format.collection import some
from bb.store.format.layout import is_digest
from bb.store.format.space import short
from bb.store.signing.key import MAX_NAME, is_line, is_point
from bb.store.signing.revocation import Statements, read_statements
from bb.store.signing.statement import FIELDS, Revocation, SignedItem
from bb.store.text.command import quoted

MAX_TRUST_BYTES = 2**20


@dataclass(frozen=True)
class Trust:
    """Public keys (64 hex digits), each with the name that the person gave it; "" for none."""

    keys: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Trust":
        """Reads what `save` wrote; nothing is trusted where there is no file.

        Raises BBError where others can write the file, or it is not bb's: whose keys would these be?
        """
        try:
            with open_regular(path) as file:  # every verb reads it, so none may wait for a pipe
                status, data = os.fstat(file.fileno()), file.read(MAX_TRUST_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return cls()
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o022:
            raise BBError(f"the trusted keys in {path} have mode {mode:o}, so others can change them: "
                          f"chmod 600 {quoted(path)}")  # fmt: skip
        if hasattr(os, "getuid") and status.st_uid not in (os.getuid(), 0):
            raise BBError(f"the trusted keys in {path} are another user's file: move it away.")
        try:
            keys = json.loads(data)["trusted"] if len(data) <= MAX_TRUST_BYTES else None
        except (ValueError, KeyError, TypeError, RecursionError):
            keys = None
        plain = isinstance(keys, dict) and all(
            is_digest(key) and is_point(key) and (name == "" or is_line(name, MAX_NAME)) for key, name in keys.items()
        )
        if not isinstance(keys, dict) or not plain:
            raise BBError(f"{path} is not a list of trusted keys: move it away, and `bb store trust` them again.")
        return cls(keys)

    def save(self, path: Path) -> None:
        """Writes the keys, mode 600, by one rename."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"trusted": dict(self.keys)}, file, indent=1, sort_keys=True, ensure_ascii=False)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
            sync(path.parent)
        finally:
            aside.unlink(missing_ok=True)

    def with_key(self, public_key: str, name: str) -> "Trust":
        return Trust({**self.keys, public_key: name})

    def without(self, text: str) -> "Trust":
        """Trusts the key no longer that begins with `text` or has it for a name. Raises UsageError unless one does."""
        found = [key for key, name in self.keys.items() if text and (key.startswith(text.lower()) or name == text)]
        if len(found) != 1:
            what = f"is or begins {len(found)} of" if found else "is none of"
            raise UsageError(f"{text!r} {what} the keys that you trust: see `bb store trust`.")
        return Trust({key: name for key, name in self.keys.items() if key != found[0]})


@dataclass(frozen=True)
class Here:
    """What a local store knows of objects that it has.

    digests    of all objects in it
    authors    of what came with one key's signature alone: that key, by digest (store/local/authors.py)
    made_here  which digests were made here
    """

    digests: Container[str] = ()
    authors: Mapping[str, str] = field(default_factory=dict)
    made_here: Callable[[str], bool] = lambda digest: False


def acceptance(
    signatures: Statements | Iterable[tuple[str, bytes]],
    trusted: Container[str],
    *,
    require_signed: bool,
    ours: Statements | None = None,
    here: Here | None = None,
) -> Callable[[StorePart], str | None]:
    """What may be taken over from another store: says of a part why not, None where it may.

    signatures      what stands in the other store's `signatures/`, or path and bytes of each file there
    require_signed  takes only what a trusted key has signed, and ignores all other keys; otherwise all that is not
                    revoked
    ours            what stands in our own `signatures/`
    here            what our store has
    """
    found = signatures if isinstance(signatures, Statements) else read_statements(signatures)
    ours, here = ours or Statements(), here or Here()
    theirs = found.only_of(trusted) if require_signed else found
    both = Statements({**ours.valid, **theirs.valid})
    authors = theirs.sole_signers()
    revoked = both.revoked(trusted, authors, here.made_here).effective
    vouched = both.signed_by(trusted)
    signers = found.signers() if require_signed else {}
    spaces = {item.owner for item in vouched if item.kind in ("segment", "adopted")}

    def accept_statement(digest: str) -> str | None:
        if fault := found.faults.get(digest):
            return f"damaged or forged: {fault}"
        statement = found.valid.get(digest)
        if statement is None or statement.public_key in trusted:
            return None
        key = statement.public_key
        if require_signed:
            return f"a statement of {key}, a key that you don't trust; `bb store trust {key}` lets it in"
        if isinstance(statement, Revocation):
            # Others might follow it if this store handed it on: only of what came with this key's signature alone.
            others = [d for d in statement.digests if d in here.digests and here.authors.get(d) != key]
            own = any(authors.get(d) == key for d in statement.digests)
            if others or not own:
                what = f"{len(others)} objects that were here before it signed them" if others else "nothing of its own"
                return f"a key that you don't trust, {key}, takes back {what}; `bb store trust {key}` applies it"
        return None

    def accept(part: StorePart) -> str | None:
        if part.kind == "signature":
            return accept_statement(part.digest)
        if part.kind in FIELDS and part.digest in revoked:
            return revoked_text(revoked[part.digest], trusted if isinstance(trusted, Mapping) else None)
        if not require_signed or part.kind == "root":
            return None
        item = SignedItem.of(part)
        if item in vouched or (part.kind == "space" and part.owner in spaces):
            return None
        if part.kind == "space":
            return "nothing in this space is signed by a key that you trust"
        if by := sorted(signers.get(item, ())):
            return f"not signed by a key that you trust: signed by {some(by)}; `bb store trust {by[0]}` lets it in"
        return "not signed by a key that you trust: signed by nobody; ask its makers to run `bb store sign`"

    return accept


def revoked_text(revocation: Revocation, trusted: Mapping[str, str] | None = None) -> str:
    """Who took something back, when and why, in words."""
    who = signer_text(revocation.public_key, revocation.signer, trusted or {})
    return f"revoked by {who} on {revocation.date}: {revocation.reason or 'no reason given'}"


def signer_text(public_key: str, signer: str | None, trusted: Mapping[str, str]) -> str:
    """A key with the name that the reader gave it; a stranger's own name for himself is shown as a claim."""
    if public_key in trusted:
        return f"{short(public_key)}" + (f" ({trusted[public_key]})" if trusted[public_key] else "")
    return f"{short(public_key)}" + (f" (who claims to be {signer!r})" if signer else "")
