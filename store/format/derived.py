"""Derived feature spaces: rows of another space, sent through a trained head. Nothing here runs the head.

A derived space has org "head", the architecture {"parent": <space key>, "layers": [...]}, as weights the SHA-256 of the
head's file, which lies in `heads/`, and view and code of its parent. Its rows have their parent's image digests. So
every probe reads it as any other space, with or without the parent at hand.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from store.canonical import sha256_hex
from store.errors import BBError, UsageError
from store.layout import Malformed, is_digest, read_plain
from store.paths import Part
from store.space import FeatureSpace, short

if TYPE_CHECKING:
    from store.store import Store

ORG = "head"
MAX_HEAD_BYTES = 2**30
# Said of a head, where a probe tests on images that it has seen.
SEEN = "was trained on, or chosen by, images that it is tested on here, so its scores say little of new images"
NAME = re.compile(r"head:([0-9a-f]{1,64})")


def derive(parent: FeatureSpace, layers: list[dict[str, Any]], dim: int, weights: str) -> FeatureSpace:
    """The space that a head makes of another one.

    layers   what the head does, as it stands in its file
    dim      length of its features
    weights  SHA-256 of its file
    """
    return FeatureSpace(
        org=ORG,
        architecture={"parent": parent.key, "layers": layers},
        weights=weights,
        view=parent.view,
        output={**parent.output, "dim": dim},
        numerics={"compute": "fp32", "stored": "float32"},
        code=parent.code,
    )


def is_derived(space: FeatureSpace) -> bool:
    return space.org == ORG


def parent_key(space: FeatureSpace) -> str:
    """Key of the space that a derived one was made of."""
    return str(space.architecture.get("parent"))


def has_seen(store: "Store", space: FeatureSpace, digests: UInt8[np.ndarray, "n 32"]) -> bool:
    """Whether the head of a derived space was trained on, or chosen by, any of these images, as their rows say.

    Such rows lie in segments of their own, whose provenance has "seen": true. After compaction, rows beside them count.
    """
    if not is_derived(space):
        return False
    return any(origin.get("seen") is True for part in store.origins(space, digests) for origin in part.origins)


def head_part(space: FeatureSpace) -> Part | None:
    """Where in a store the head of a derived space lies; None of other spaces, and where it names no digest."""
    if not is_derived(space) or not is_digest(space.weights):
        return None
    return Part("head", "heads", f"{space.weights}.safetensors")


def head_name(digest: str) -> str:
    """The name under which a head's rows are known, as --ckpt takes it."""
    return f"head:{short(digest)}"


def is_head_name(text: str) -> bool:
    return text.startswith("head:")


def check_head_name(text: str) -> str:
    """The name with as many digits as provenance has. Errors: UsageError for what is no such name."""
    found = NAME.fullmatch(text)
    if not found or len(found[1]) < 12:
        raise UsageError(f"{text!r} is no head: write head: and the first 12 digits of its digest; see `bb store ls`.")
    return head_name(found[1])


def find_head(store: "Store", name: str) -> str:
    """The digest of the head of a name, "head:DIGITS". Errors: UsageError, listing those there are, for another."""
    there = store.heads()
    found = NAME.fullmatch(name)
    meant = [digest for digest in there if found and digest.startswith(found[1])]
    if len(meant) != 1:
        listed = ", ".join(map(head_name, there)) or "none"
        what = "is several heads" if meant else "is no head"
        raise UsageError(f"{name!r} {what} of {store.name} (there: {listed}).")
    return meant[0]


def read_head(root: Path, digest: str) -> bytes:
    """The bytes of a head's file. Errors: BBError where it is not there, or is not what its name says."""
    try:
        data = read_plain(root / "heads", f"{digest}.safetensors", MAX_HEAD_BYTES)
        if sha256_hex(data) != digest:
            raise Malformed("it does not have the digest in its name")
    except Malformed as fact:
        raise BBError(f"head {short(digest)} in {root} is damaged: {fact}. Copy it from another store.") from None
    return data
