"""Signed statements: who vouches for what is in a store, and what is taken back. The format is in docs/store.md.

A statement's file is named by the SHA-256 of its bytes. The signature (Ed25519, RFC 8032) is over the statement's
domain, a zero byte and its canonical JSON. Files come from anybody: types, lengths and form are checked before use.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from bb.store.errors import Malformed, UsageError
from bb.store.files.canonical_json import canonical_json, sha256_hex
from bb.store.files.limits import MAX_SIGNATURE_BYTES, parse_json
from bb.store.files.paths import Kind, StorePart
from bb.store.format.collection import check_name
from bb.store.format.layout import clip, is_digest
from bb.store.signing.key import MAX_NAME, Key, holds, is_line, is_point

SIGNATURE, REVOCATION = "bb store signature 1", "bb store revocation 1"
MOST = 32_768  # objects in one statement, so that its file stays below the 8 MiB
MAX_REASON = 1000
DATE = "%Y-%m-%dT%H:%M:%SZ"
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)

# Where in a statement each kind of object stands: by owner and digest, save heads, which have no owner.
FIELDS: dict[Kind, str] = {
    "segment": "segments",
    "adopted": "adopted",
    "collection": "collections",
    "labels": "labels",
    "run": "runs",
    "head": "heads",
    "model": "models",
}
LATER = {"models"}  # fields that statements do not have where they list nothing, as those of earlier versions do not
_NAMED = ("collections", "labels")
_COMMON = {"domain", "date", "signer", "public_key"}


class SignedItem(NamedTuple):
    """An object that can be signed: its kind, what it is under (see `StorePart.owner`), and its digest."""

    kind: Kind
    owner: str
    digest: str

    @classmethod
    def of(cls, part: StorePart) -> "SignedItem":
        return cls(part.kind, part.owner, part.digest)


@dataclass(frozen=True)
class Signature:
    """One key vouches for objects. The signer's name is what the signer says of himself."""

    public_key: str
    signer: str | None
    date: str
    items: frozenset[SignedItem]


@dataclass(frozen=True)
class Revocation:
    """One key takes objects back, for a reason."""

    public_key: str
    signer: str | None
    date: str
    digests: frozenset[str]
    reason: str | None


Statement = Signature | Revocation


def sign_items(key: Key, items: Collection[SignedItem], now: datetime | None = None) -> bytes:
    """The file in which a key vouches for up to `MOST` objects."""
    lists: dict[str, Any] = {field: [] if field == "heads" else {} for field in FIELDS.values()}
    for kind, owner, digest in sorted(items):
        field = lists[FIELDS[kind]]
        (field if kind == "head" else field.setdefault(owner, [])).append(digest)
    lists = {field: listed for field, listed in lists.items() if listed or field not in LATER}
    return _seal(key, SIGNATURE, lists, now)


def sign_revocation(key: Key, digests: Iterable[str], reason: str | None, now: datetime | None = None) -> bytes:
    """The file in which a key takes up to `MOST` objects back. Raises UsageError for a reason that can't be printed."""
    if reason is not None and not is_line(reason, MAX_REASON):
        raise UsageError(f"--reason takes a line of 1 to {MAX_REASON} characters that can be printed.")
    return _seal(key, REVOCATION, {"digests": sorted(digests), "reason": reason}, now)


def read_statement(name: str, raw: bytes) -> Statement:
    """What stands in the file `signatures/<name>.json`.

    Raises Malformed where the bytes are not what `name` says, the form is not the canonical one of a known domain, or
    the signature is not that of the public key within.
    """
    if len(raw) > MAX_SIGNATURE_BYTES:
        raise Malformed(f"it has {len(raw)} bytes, {MAX_SIGNATURE_BYTES} can be")
    if sha256_hex(raw) != name:
        raise Malformed("it does not have the digest in its name")
    try:
        document = parse_json(raw, MAX_SIGNATURE_BYTES)
        canonical = canonical_json(document) + b"\n" == raw
    except (ValueError, TypeError, RecursionError):
        canonical = False
    if not canonical or not isinstance(document, dict) or document.keys() != {"signature", "statement"}:
        raise Malformed("it is not a statement and signature in canonical JSON")
    statement, signature = document["statement"], document["signature"]
    if not isinstance(statement, dict) or statement.get("domain") not in (SIGNATURE, REVOCATION):
        raise Malformed(f"it is of the domain {clip(statement.get('domain') if isinstance(statement, dict) else None)}")
    public_key = statement.get("public_key")
    if not isinstance(public_key, str) or not is_digest(public_key) or not is_point(public_key):
        raise Malformed(f"it has the public key {clip(public_key)}, which is none")
    date, signer = statement.get("date"), statement.get("signer", "")
    if not isinstance(date, str) or not _DATE.fullmatch(date):
        raise Malformed(f"it has the date {clip(date)}")
    if signer is not None and not is_line(signer, MAX_NAME):
        raise Malformed(f"it has the signer {clip(signer)}")
    parsed = (_signature if statement["domain"] == SIGNATURE else _revocation)(statement, public_key, signer, date)
    if not isinstance(signature, str) or not re.fullmatch("[0-9a-f]{128}", signature):
        raise Malformed(f"it has the signature {clip(signature)}")
    if not holds(public_key, signature, statement["domain"], statement):
        raise Malformed(f"its signature is not that of the key {public_key} over this statement")
    return parsed


def _signature(statement: dict[str, Any], public_key: str, signer: str | None, date: str) -> Signature:
    if statement.keys() | LATER != _COMMON | set(FIELDS.values()):
        raise Malformed(f"it has the fields {clip(sorted(statement))}")
    items: list[SignedItem] = []
    for kind, field in FIELDS.items():
        if field not in statement:
            continue
        if field in LATER and not statement[field]:
            raise Malformed(f"it has {field} {clip(statement[field])}, which is left out where nothing is listed")
        owned = {"": statement[field]} if kind == "head" else statement[field]
        if not isinstance(owned, dict):
            raise Malformed(f"it has {field} {clip(owned)}")
        for owner, digests in owned.items():
            if kind != "head":
                _check_owner(field, owner)
            items += [SignedItem(kind, owner, digest) for digest in _digests(field, digests)]
    return Signature(public_key, signer, date, frozenset(items))


def _revocation(statement: dict[str, Any], public_key: str, signer: str | None, date: str) -> Revocation:
    if statement.keys() != _COMMON | {"digests", "reason"}:
        raise Malformed(f"it has the fields {clip(sorted(statement))}")
    reason = statement["reason"]
    if reason is not None and not is_line(reason, MAX_REASON):
        raise Malformed(f"it has the reason {clip(reason)}")
    return Revocation(public_key, signer, date, frozenset(_digests("digests", statement["digests"])), reason)


def _check_owner(field: str, owner: str) -> None:
    if field in _NAMED:
        try:
            check_name(owner)
        except UsageError:
            raise Malformed(f"it has {field} of {clip(owner)}") from None
    elif not is_digest(owner):
        raise Malformed(f"it has {field} of {clip(owner)}")


def _digests(field: str, value: object) -> list[str]:
    """A list of digests, each once and in order."""
    if not isinstance(value, list) or not all(is_digest(digest) for digest in value) or value != sorted(set(value)):
        raise Malformed(f"it has {field} {clip(value)}, which is not an ascending list of digests")
    return value


def _seal(key: Key, domain: str, fields: dict[str, Any], now: datetime | None) -> bytes:
    date = (now or datetime.now(UTC)).astimezone(UTC).strftime(DATE)
    statement = {"domain": domain, "date": date, "signer": key.name, "public_key": key.public, **fields}
    return canonical_json({"signature": key.sign(domain, statement), "statement": statement}) + b"\n"
