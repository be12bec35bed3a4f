"""Signing a store, taking back what is in it, and who has signed what."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bb.store.errors import BBError, UsageError
from bb.store.files.atomic_write import publish_file
from bb.store.files.canonical_json import sha256_hex
from bb.store.files.paths import StorePart, published
from bb.store.format.derived import head_part
from bb.store.format.layout import HEX, is_digest
from bb.store.format.space import FeatureSpace
from bb.store.local.runs import read_run
from bb.store.maintenance.verify import verify
from bb.store.signing.key import Key
from bb.store.signing.statement import FIELDS, MOST, Revocation, SignedItem, sign_items, sign_revocation
from bb.store.storage.local import Folder
from bb.store.store import Store

MIN_BEGINNING = 8  # digits; a revocation can't be taken back, so a slip of the finger must not name something


@dataclass(frozen=True)
class Coverage:
    """How many objects lie here, how many each key has signed, and the paths of those that nobody has."""

    objects: int
    by_key: dict[str, int]
    unsigned: tuple[str, ...]


def signable(store: Store) -> list[StorePart]:
    """What is in a store and can be signed: segments, adopted records, collections, labels, runs, heads, models.

    Without what is under no published space, which nobody reads and `verify` does not either.
    """
    parts = published(file.path for file in Folder(store.root).list())
    spaces = {part.owner for part in parts if part.kind == "space"}
    lost = {part for part in parts if part.kind in ("segment", "adopted") and part.owner not in spaces}
    return [part for part in parts if part.kind in FIELDS and part not in lost]


def lying_here(store: Store, revoked: Mapping[str, Revocation]) -> dict[StorePart, Revocation]:
    """Of withdrawn digests, those of objects in this store."""
    return {part: revoked[part.digest] for part in signable(store) if part.digest in revoked} if revoked else {}


def sign(
    store: Store,
    key: Key,
    spaces: Sequence[FeatureSpace] | None = None,
    *,
    progress: Callable[[int], None] = lambda segments: None,
) -> tuple[list[Path], list[StorePart]]:
    """Vouches for what is in the store, is not revoked, and is not signed by this key yet.

    spaces  limits segments, adopted records, runs and models to those of these spaces, and heads to those that they
            were derived by

    Returns the files written (none where there is nothing new) and what they list. All of the store is verified
    before, and BBError says so where it has a fault: nothing is signed then.
    """
    done = {item for s in store.statements().signatures if s.public_key == key.public for item in s.items}
    revoked = store.revoked()
    parts = [part for part in signable(store) if part.digest not in revoked and SignedItem.of(part) not in done]
    if spaces is not None:
        keys, heads = {space.key for space in spaces}, {head_part(space) for space in spaces}
        parts = [part for part in parts if (part in heads if part.kind == "head" else _is_of(store, part, keys))]
    if not parts:
        return [], []
    if faults := verify(store, progress=progress).faults:
        raise BBError(
            f"{store.root} has {len(faults)} faults, the first: {faults[0].what} A damaged store is not signed: "
            f"`bb store verify --repair` moves aside what is bad."
        )
    pieces = [parts[start : start + MOST] for start in range(0, len(parts), MOST)]
    files = [_publish(store, sign_items(key, [SignedItem.of(part) for part in piece])) for piece in pieces]
    return files, parts


def resolve(store: Store, texts: Iterable[str]) -> list[str]:
    """The digests that texts name: full ones, beginnings of one object's here, or of a run's ID (all its siblings).

    Raises UsageError for what names nothing or several, and for a feature space, which anybody may fill.
    """
    names: dict[str, set[str]] = {}
    for part in signable(store):
        names.setdefault(part.digest, set()).add(part.digest)
        if part.kind == "run":
            names.setdefault(part.owner, set()).add(part.digest)
    spaces = [space.key for space in store.spaces()]
    digests: list[str] = []
    for text in texts:
        if len(text) < MIN_BEGINNING or not set(text) <= HEX:
            raise UsageError(
                f"{text!r} is not a digest: give 64 hex digits, or the first {MIN_BEGINNING} or more of them."
            )
        if any(key.startswith(text) for key in spaces):
            raise UsageError(
                f"{text} names a feature space, which others may fill as well: revoke its segments, "
                f"which `bb store info {text[:12]}` lists."
            )
        found = [named for name, named in names.items() if name.startswith(text)]
        if not found and is_digest(text):
            found = [{text}]
        if len(found) != 1:
            what = f"begins the names of {len(found)} objects" if found else "names no object"
            raise UsageError(f"{text} {what} of {store.root}: give the digest in full.")
        digests += sorted(found[0])
    return list(dict.fromkeys(digests))


def revoke(store: Store, key: Key, digests: Sequence[str], reason: str | None = None) -> tuple[Path | None, list[str]]:
    """Takes objects back, whether they lie here or not. Returns the file, and the digests that this key had not yet
    taken back; no file where there are none."""
    done = {digest for r in store.statements().revocations if r.public_key == key.public for digest in r.digests}
    fresh = [digest for digest in digests if digest not in done]
    if not fresh:
        return None, []
    if len(fresh) > MOST:
        raise UsageError(f"{len(fresh)} digests are too many for one statement: revoke up to {MOST} at a time.")
    return _publish(store, sign_revocation(key, fresh, reason)), fresh


def coverage(store: Store) -> Coverage:
    """Who has signed what is here. What is signed and not here is nobody's fault: a pull may have taken a part."""
    parts = signable(store)
    there = {SignedItem.of(part) for part in parts}
    by_key: dict[str, set[SignedItem]] = {}
    for signature in store.statements().signatures:
        by_key.setdefault(signature.public_key, set()).update(signature.items & there)
    signed = {item for items in by_key.values() for item in items}
    unsigned = tuple(part.path for part in parts if SignedItem.of(part) not in signed)
    return Coverage(len(parts), {key: len(items) for key, items in sorted(by_key.items())}, unsigned)


def _is_of(store: Store, part: StorePart, keys: set[str]) -> bool:
    if part.kind in ("segment", "adopted", "model"):
        return part.owner in keys
    if part.kind == "run":
        return read_run(store.root / part.folder).record["space"] in keys
    return True


def _publish(store: Store, raw: bytes) -> Path:
    path = store.root / "signatures" / f"{sha256_hex(raw)}.json"
    publish_file(store.root, raw, path)
    return path
