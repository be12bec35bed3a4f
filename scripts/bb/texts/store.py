"""What verbs print of a store: feature spaces, who signed and who revoked what."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bb.store import FeatureSpace, Store
    from bb.store.files.paths import StorePart


def adopted_lines(record: dict[str, Any]) -> Iterator[str]:
    """What a space, as `space_record` gives it, adopted, and how many of its rows are such."""
    for number, adopted in enumerate(record["adopted"]):
        yield adopted["words"] + (
            f"; {record['adopted_rows']} rows of {record['rows']} are adopted" if number == 0 else ""
        )


def space_record(opened: "Store", space: "FeatureSpace") -> dict[str, Any]:
    from bb.store.format.text import is_text
    from bb.store.signing.trust import revoked_text

    segments, revoked, rows = opened.segments(space), opened.revoked(), opened.rows(space)
    return {
        "key": space.key,
        "backbones": opened.backbones(space),
        "kind": "text" if is_text(space) else space.kind,
        "row_shape": list(space.row_shape),
        "compute": space.numerics["compute"],
        "stored": space.numerics["stored"],
        "rows": len(rows),
        "adopted": [
            {
                "space": record.older,
                "words": record.describe(),
                "sample": len(record.sample),
                "greatest_difference": record.greatest_difference,
                "tolerance": record.tolerance,
                "provenance": record.provenance,
            }
            for record in opened.adopted(space)
        ],
        "adopted_rows": int((rows.segment >= len(segments)).sum()),  # the index has its own segments first
        "segments": len(segments),
        "bytes": sum(segment.n_bytes for segment in segments),
        "revoked": {
            entry.name: revoked_text(revoked[entry.name], opened.trusted)
            for entry in (opened.directory.entries(f"spaces/{space.key}/segments") if revoked else [])
            if entry.name in revoked
        },
    }


def revoked_texts(opened: "Store") -> "dict[StorePart, str]":
    """What is here and is not read any more: who revoked it, when and why."""
    from bb.store.maintenance.sign import lying_here
    from bb.store.signing.trust import revoked_text

    return {part: revoked_text(r, opened.trusted) for part, r in lying_here(opened, opened.revoked()).items()}


def signed_texts(opened: "Store") -> Iterator[str]:
    """Who vouches for how much of a store, for what nobody does, and what is revoked, by whom, with what effect."""
    from bb.store.format.collection import some
    from bb.store.maintenance.sign import coverage, lying_here
    from bb.store.signing.trust import revoked_text, signer_text

    found = coverage(opened)
    names = {signature.public_key: signature.signer for signature in opened.statements().signatures}
    for key, count in found.by_key.items():
        known = "whom you trust" if key in opened.trusted else f"whom you don't trust (bb store trust {key})"
        who = signer_text(key, names[key], opened.trusted)
        yield f"{count} of {found.objects} objects are signed by {who}, {known}"
    if found.unsigned:
        yield f"{len(found.unsigned)} of {found.objects} objects are signed by nobody: {some(found.unsigned)}"
    yield from (f"{part.kind} {part.digest}: {why}" for part, why in revoked_texts(opened).items())
    for part, revocation in lying_here(opened, opened.judged().ignored).items():
        yield (
            f"{part.kind} {part.digest}: {revoked_text(revocation, opened.trusted)}; ignored, since you don't "
            f"trust the key, and the object did not come with its signature alone: "
            f"`bb store trust {revocation.public_key}` applies it"
        )
