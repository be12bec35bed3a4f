"""Derived feature spaces: rows of another space, sent through a trained head. Nothing here runs the head.

A derived space has org "head", the architecture {"parent": <space key>, "layers": [...]}, as weights the SHA-256 of the
head's file, which is in `heads/`, and view and code of its parent. Its rows have their parent's image digests. So
every probe reads it as any other space, with or without the parent available.
"""

import re
from pathlib import Path
from typing import Any

from bb.store.errors import BBError, Malformed, UsageError
from bb.store.files.canonical_json import sha256_hex
from bb.store.files.directory import Directory
from bb.store.files.limits import MAX_HEAD_BYTES
from bb.store.files.paths import StorePart
from bb.store.format.layout import is_digest, read_plain
from bb.store.format.space import FeatureSpace, short

ORG = "head"
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


def head_part(space: FeatureSpace) -> StorePart | None:
    """Where in a store the head of a derived space is; None of other spaces, and where it names no digest."""
    if not is_derived(space) or not is_digest(space.weights):
        return None
    return StorePart("head", "heads", f"{space.weights}.safetensors")


def head_name(digest: str) -> str:
    """The name under which a head's rows are known, as --ckpt takes it."""
    return f"head:{short(digest)}"


def is_head_name(text: str) -> bool:
    return text.startswith("head:")


def check_head_name(text: str) -> str:
    """The name with as many digits as provenance has. Errors: UsageError for what is not such a name."""
    found = NAME.fullmatch(text)
    if not found or len(found[1]) < 12:
        raise UsageError(
            f"{text!r} is not a head: write head: and the first 12 digits of its digest; see `bb store ls`."
        )
    return head_name(found[1])


def read_head(root: Path, digest: str) -> bytes:
    """The bytes of a head's file. Errors: BBError where it is not there, or is not what its name says."""
    try:
        data = read_plain(Directory(root, "heads"), f"{digest}.safetensors", MAX_HEAD_BYTES)
        if sha256_hex(data) != digest:
            raise Malformed("it does not have the digest in its name")
    except Malformed as fact:
        raise BBError(f"head {short(digest)} in {root} is damaged: {fact}. Copy it from another store.") from None
    return data
