"""What has been taken back, and whose word counts.

A revocation is heeded where its key is one that the reader trusts. Where it is not, it is heeded only of what its key
alone has signed, and what was not made here: so an author whom the reader does not know takes back what is his, and a
stranger can neither withdraw what somebody else vouches for, nor what this store made itself.
"""

import os
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from store.layout import Malformed, is_digest, read_plain
from store.signature import MAX_SIGNATURE_BYTES, Revocation, Signature, Statement, read_statement


@dataclass(frozen=True)
class Revoked:
    """Withdrawn digests, each with the statement that withdrew it; and those withdrawn by keys that are not heeded."""

    heeded: Mapping[str, Revocation] = field(default_factory=dict)
    unheeded: Mapping[str, Revocation] = field(default_factory=dict)


@dataclass(frozen=True)
class Statements:
    """The files in a store's `signatures/`: those that hold, by name, and what is wrong with the others."""

    valid: Mapping[str, Statement] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)

    @property
    def signatures(self) -> list[Signature]:
        return [statement for statement in self.valid.values() if isinstance(statement, Signature)]

    @property
    def revocations(self) -> list[Revocation]:
        return [statement for statement in self.valid.values() if isinstance(statement, Revocation)]

    def revoked(self, trusted: Container[str], made_here: Callable[[str], bool]) -> Revoked:
        """Whose revocations count, given the keys that are trusted and which digests were made here."""
        heeded: dict[str, Revocation] = {}
        doubtful: dict[str, list[Revocation]] = {}
        for revocation in self.revocations:
            for digest in revocation.digests:
                if revocation.public_key in trusted:
                    heeded.setdefault(digest, revocation)
                else:
                    doubtful.setdefault(digest, []).append(revocation)
        signers: dict[str, set[str]] = {}
        for signature in self.signatures if doubtful else ():
            for _, _, digest in signature.items:
                if digest in doubtful:
                    signers.setdefault(digest, set()).add(signature.public_key)
        unheeded: dict[str, Revocation] = {}
        for digest, revocations in doubtful.items():
            own = [r for r in revocations if signers.get(digest) == {r.public_key}]
            if own and digest not in heeded and not made_here(digest):
                heeded[digest] = own[0]
        for digest in doubtful.keys() - heeded.keys():
            unheeded[digest] = doubtful[digest][0]
        return Revoked(heeded, unheeded)


def read_statements(files: Iterable[tuple[str, bytes]]) -> Statements:
    """The statements in files, each given by its path or name (`<digest>.json`) and its bytes."""
    valid: dict[str, Statement] = {}
    faults: dict[str, str] = {}
    for path, raw in files:
        name = path.rpartition("/")[2].removesuffix(".json")
        try:
            valid[name] = read_statement(name, raw)
        except Malformed as fact:
            faults[name] = str(fact)
    return Statements(valid, faults)


def read_folder(root: Path, known: dict[str, Statement | str]) -> Statements:
    """The statements of a store. `known` remembers them by name, so that each file is read once in a process."""
    try:
        found = sorted(entry.name for entry in os.scandir(root / "signatures"))
    except (FileNotFoundError, NotADirectoryError):
        return Statements()
    names = [name.removesuffix(".json") for name in found if name.endswith(".json") and is_digest(name[:-5])]
    for name in names:
        if name not in known:
            known[name] = _read(root / "signatures", name)
    valid, faults = {}, {}
    for name in names:
        match known[name]:
            case str() as fact:
                faults[name] = fact
            case statement:
                valid[name] = statement
    return Statements(valid, faults)


def _read(folder: Path, name: str) -> Statement | str:
    try:
        return read_statement(name, read_plain(folder, f"{name}.json", MAX_SIGNATURE_BYTES))
    except Malformed as fact:
        return str(fact)
    except OSError as error:
        return f"it can't be read ({error.strerror})"
