"""What has been taken back, and whose word counts.

A revocation takes effect where its key is one that the reader trusts. Where it is not, it takes effect only on what
came with that key's signature and no other's (store/local/authors.py): so an author whom the reader does not trust
withdraws what they made, and nobody can withdraw what others vouch for, what was made here, or what was here before
they signed it.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bb.store.errors import Malformed
from bb.store.files.directory import Directory
from bb.store.files.limits import MAX_SIGNATURE_BYTES
from bb.store.format.layout import is_digest, read_plain
from bb.store.signing.statement import Revocation, Signature, SignedItem, Statement, read_statement


@dataclass(frozen=True)
class Revoked:
    """Withdrawn digests, each with the statement that withdrew it; and those withdrawn by keys that are ignored."""

    effective: Mapping[str, Revocation] = field(default_factory=dict)
    ignored: Mapping[str, Revocation] = field(default_factory=dict)


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

    def sole_signers(self) -> dict[str, str]:
        """The public key that alone has signed an object, by digest."""
        keys: dict[str, set[str]] = {}
        for item, signers in self.signers().items():
            keys.setdefault(item.digest, set()).update(signers)
        return {digest: next(iter(signers)) for digest, signers in keys.items() if len(signers) == 1}

    def signers(self) -> dict[SignedItem, set[str]]:
        """The public keys that have signed each object."""
        found: dict[SignedItem, set[str]] = {}
        for signature in self.signatures:
            for item in signature.items:
                found.setdefault(item, set()).add(signature.public_key)
        return found

    def signed_by(self, keys: Container[str]) -> frozenset[SignedItem]:
        """What any of some keys has signed."""
        return frozenset().union(*(s.items for s in self.signatures if s.public_key in keys))

    def only_of(self, trusted: Container[str]) -> "Statements":
        """Those of trusted keys."""
        valid = {name: statement for name, statement in self.valid.items() if statement.public_key in trusted}
        return Statements(valid, self.faults)

    def revoked(
        self,
        trusted: Container[str],
        authors: Mapping[str, str],
        made_here: Callable[[str], bool] = lambda digest: False,
    ) -> Revoked:
        """Whose revocations count.

        trusted    public keys whose revocations always do
        authors    of what came with one key's signature alone: that key, by digest
        made_here  which digests were made here, of which only trusted keys take something back
        """
        effective: dict[str, Revocation] = {}
        doubtful: dict[str, list[Revocation]] = {}
        for revocation in self.revocations:
            for digest in revocation.digests:
                if revocation.public_key in trusted:
                    effective.setdefault(digest, revocation)
                else:
                    doubtful.setdefault(digest, []).append(revocation)
        ignored: dict[str, Revocation] = {}
        for digest, revocations in doubtful.items():
            own = [r for r in revocations if authors.get(digest) == r.public_key]
            if own and digest not in effective and not made_here(digest):
                effective[digest] = own[0]
        for digest in doubtful.keys() - effective.keys():
            ignored[digest] = doubtful[digest][0]
        return Revoked(effective, ignored)


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
    folder = Directory(root, "signatures")
    found = [entry.name for entry in folder.entries()]
    names = [name.removesuffix(".json") for name in found if name.endswith(".json") and is_digest(name[:-5])]
    for name in names:
        if name not in known:
            known[name] = _read(folder, name)
    valid, faults = {}, {}
    for name in names:
        match known[name]:
            case str() as fact:
                faults[name] = fact
            case statement:
                valid[name] = statement
    return Statements(valid, faults)


def _read(folder: Directory, name: str) -> Statement | str:
    try:
        return read_statement(name, read_plain(folder, f"{name}.json", MAX_SIGNATURE_BYTES))
    except Malformed as fact:
        return str(fact)
    except OSError as error:
        return f"it can't be read ({error.strerror})"
