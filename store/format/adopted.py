"""Adopting: the record that the rows of an older feature space serve in a newer one, which differs in the code alone.

Somebody embedded a sample of the older space's images again with the newer code and found every one equal within the
tolerance of their numerics. The record names both spaces, the sample and the greatest difference; see docs/store.md.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bb.store.errors import BBError, Malformed
from bb.store.files.canonical_json import canonical_json, sha256_hex
from bb.store.files.directory import Directory
from bb.store.format.layout import clip, is_digest, read_json, read_plain
from bb.store.format.space import FeatureSpace, short
from bb.store.format.tolerance import tolerance_of

FORMAT = 1


@dataclass(frozen=True)
class Adopted:
    """One record.

    older, newer         keys of the two feature spaces; rows of the older serve in the newer
    codes                their code hashes, in this order
    sample               image digests (SHA-256, hex) that were embedded again
    greatest_difference  the largest relative distance of a sampled row to the older one
    tolerance            what was allowed
    provenance           versions, device, and when it was made
    """

    older: str
    newer: str
    codes: tuple[str, str]
    sample: tuple[str, ...]
    greatest_difference: float
    tolerance: float
    provenance: dict[str, Any]

    @property
    def raw(self) -> bytes:
        """The file's bytes: canonical JSON."""
        return canonical_json(
            {
                "format": FORMAT,
                "space": self.older,
                "for": self.newer,
                "codes": {"older": self.codes[0], "newer": self.codes[1]},
                "sample": self.sample,
                "greatest_difference": float(self.greatest_difference),
                "tolerance": float(self.tolerance),
                "provenance": self.provenance,
            }
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, which names the file."""
        return sha256_hex(self.raw)

    def describe(self) -> str:
        """For people: what was found equal, and how nearly."""
        return (
            f"space {short(self.newer)} adopted space {short(self.older)}, of other code: {len(self.sample)} images "
            f"embedded again differ by {self.greatest_difference:.2g} at most, {self.tolerance:g} is allowed"
        )


def read_adopted(path: Path) -> Adopted:
    """A record. Raises BBError where the file is not what its name says, or no record of format 1."""
    try:
        raw = read_plain(Directory.within(path.parent, 3), path.name)
        if sha256_hex(raw) != path.stem:
            raise Malformed("it does not have the digest in its name")
        found = _parse(raw)
    except (Malformed, ValueError) as fact:
        raise BBError(f"adopted record {path} is damaged: {fact}. Move it out of the store.") from None
    if found.newer != path.parent.parent.name:
        raise BBError(f"adopted record {path} is for space {short(found.newer)}. Move it out of the store.")
    return found


def check_adopted(adopted: Adopted, newer: FeatureSpace, older: FeatureSpace) -> None:
    """Raises BBError unless two spaces differ in the code alone, and a sample came out equal, as the record says."""
    differing = differing_fields(newer, older)
    if differing != ["code"]:
        raise _not_believed(adopted, f"the spaces differ in {', '.join(differing) or 'nothing'}")
    if adopted.codes != (older.code, newer.code):
        raise _not_believed(adopted, "it names other code hashes than the spaces have")
    if not adopted.greatest_difference <= tolerance_of(newer):
        found = f"a difference of {adopted.greatest_difference:.2g}"
        raise _not_believed(adopted, f"it says {found}, {tolerance_of(newer):g} is allowed")


def differing_fields(a: FeatureSpace, b: FeatureSpace) -> list[str]:
    """Names of the fields in which two spaces differ."""
    theirs = b.record()
    return [name for name, ours in a.record().items() if canonical_json(ours) != canonical_json(theirs[name])]


def _parse(raw: bytes) -> Adopted:
    record = read_json(raw)
    codes, sample = record.get("codes"), record.get("sample")
    if record.get("format") != FORMAT:
        raise Malformed(f"it has format {clip(record.get('format'))}, this bb reads {FORMAT}")
    if not is_digest(record.get("space")) or not is_digest(record.get("for")):
        raise Malformed("it names no two feature spaces")
    if not isinstance(codes, dict) or not all(isinstance(codes.get(name), str) for name in ("older", "newer")):
        raise Malformed("it names no two code hashes")
    if not isinstance(sample, list) or not sample or not all(map(is_digest, sample)):
        raise Malformed("its sample is not a list of image digests")
    greatest, tolerance = (_number(record.get(name)) for name in ("greatest_difference", "tolerance"))
    if not isinstance(record.get("provenance"), dict):
        raise Malformed("it has no provenance")
    names = codes["older"], codes["newer"]
    return Adopted(record["space"], record["for"], names, tuple(sample), greatest, tolerance, record["provenance"])


def _number(value: object) -> float:
    """A number as canonical JSON writes it: text, where it is not whole."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise Malformed(f"it has {clip(value)} where a number must be")
    return number


def _not_believed(adopted: Adopted, fact: str) -> BBError:
    return BBError(
        f"adopted record {short(adopted.digest)} of space {short(adopted.newer)} is not believed: {fact}. By it, no "
        f"rows of space {short(adopted.older)} are read there. Move it out of the store."
    )
