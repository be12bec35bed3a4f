"""Who fills a store: bytes by backbone, feature space and collection."""

from collections import Counter
from dataclasses import dataclass

from bb.store.maintenance.sign import lying_here
from bb.store.store import Store

PARTS = (
    *("collections", "labels", "runs", "heads", "models"),  # which a place in use lists, too
    *("signatures", "local", "index", "aside", "tmp"),
)


@dataclass(frozen=True)
class Usage:
    """Rows of one feature space first seen in one collection, and their share of the segments' bytes on disk."""

    backbone: str
    space: str
    collection: str
    rows: int
    n_bytes: int


def usage(store: Store) -> list[Usage]:
    """Rows and bytes by feature space and collection, the largest first; what a segment holds of each is its share."""
    found = []
    for space in store.spaces():
        rows: Counter[str] = Counter()
        n_bytes: Counter[str] = Counter()
        for segment in store.segments(space):
            held = Counter(str(image_id).partition("/")[0] for image_id in segment.array("image_id"))
            rows.update(held)
            n_bytes.update({name: round(segment.n_bytes * n / segment.rows) for name, n in held.items()})
        names = ", ".join(store.backbones(space))
        found += [Usage(names, space.key, name, rows[name], n_bytes[name]) for name in rows]
    return sorted(found, key=lambda u: (-u.n_bytes, u.space, u.collection))


def other_bytes(store: Store) -> dict[str, int]:
    """Bytes of what is not a feature (collections, labels, runs, local records, …), and of revoked segments."""
    revoked = [part for part in lying_here(store, store.revoked()) if part.kind == "segment"]
    if store.source:
        below, sizes = store.source.bytes_below(), store.source.parts
        withdrawn = sum(size for part in revoked for size in sizes[part].values())
        return {
            **{part: below[part] for part in ("collections", "labels", "runs", "heads", "models")},
            "revoked": withdrawn,
        }
    withdrawn = sum(store.directory.n_bytes(part.folder) for part in revoked)
    return {part: store.directory.n_bytes(part) for part in PARTS} | {"revoked": withdrawn}
