"""Trained heads of a store: found by name, and which images they have seen."""

import numpy as np
from jaxtyping import UInt8

from bb.store.errors import UsageError
from bb.store.format.derived import NAME, head_name, is_derived
from bb.store.format.space import FeatureSpace
from bb.store.store import Store


def find_head(store: Store, name: str) -> str:
    """The digest of the head of a name, "head:DIGITS". Errors: UsageError, listing those there are, for another."""
    there = store.heads()
    found = NAME.fullmatch(name)
    meant = [digest for digest in there if found and digest.startswith(found[1])]
    if len(meant) != 1:
        listed = ", ".join(map(head_name, there)) or "none"
        what = "is several heads" if meant else "is not a head"
        raise UsageError(f"{name!r} {what} of {store.name} (there: {listed}).")
    return meant[0]


def has_seen(store: Store, space: FeatureSpace, digests: UInt8[np.ndarray, "n 32"]) -> bool:
    """Whether the head of a derived space was trained on, or chosen by, any of these images, as their rows say.

    Such rows are in segments of their own, whose provenance has "seen": true. After compaction, rows next to them
    count.
    """
    if not is_derived(space):
        return False
    return any(origin.get("seen") is True for part in store.origins(space, digests) for origin in part.origins)
