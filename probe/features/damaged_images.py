"""Which images that a run uses were damaged when they were embedded, as its record, its notes and reports say it."""

from collections.abc import Iterable, Sequence
from typing import Any

from bb.store import Collection, FeatureSpace, Store
from bb.store.format.collection import some

LISTED = 100  # images by name in a run's record


def damaged_images(
    store: Store, space: FeatureSpace, collection: Collection, image_ids: Sequence[str]
) -> dict[str, str]:
    """Image ID → what the decoder said, of those that are damaged."""
    digests = collection.digests(image_ids)
    reasons = store.damaged(space, digests)
    pairs = zip(image_ids, map(bytes, digests), strict=True) if reasons else ()
    return {image_id: reasons[digest] for image_id, digest in pairs if digest in reasons}


def damage_record(damaged: dict[str, str]) -> dict[str, Any]:
    """As run.json has it under `damaged`: how many there are, and the first of them by name."""
    return {"count": len(damaged), "images": dict(list(damaged.items())[:LISTED])}


def damage_note(record: object) -> str:
    """In a sentence what a run's record says under `damaged`; empty where it says nothing, or not in that form."""
    listed = record if isinstance(record, dict) else {}
    count, images = listed.get("count"), listed.get("images")
    if type(count) is not int or count <= 0 or not isinstance(images, dict):
        return ""
    named = some([f"{image_id!s:.200} ({reason!s:.80})" for image_id, reason in list(images.items())[:LISTED]], 3)
    return f"{count} of its images {'are' if count > 1 else 'is'} damaged and embedded as decoded: {named}"


def damage_notes(records: Iterable[tuple[str, object]]) -> list[str]:
    """A note for each name whose run used damaged images; of several runs of a name, that of the last."""
    notes = {name: note for name, record in records if (note := damage_note(record))}
    return [f"{name}: {note}" for name, note in sorted(notes.items())]
