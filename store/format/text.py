"""Text spaces: vectors of texts, in the space that an image tower and a text tower of one checkpoint project into.

A text space has org "text". Its architecture is {"image": <tower>, "text": <configuration>}; "image" has `org`,
`architecture` and `weights` of the feature spaces whose images its vectors can be compared with. Its weights are the
text tower's, its view is {"tokenizer": …, "templates": […]}, its code the git tree hash of extract/text/.

A row's key is the SHA-256 of a text as UTF-8, in NFC, and its `image_id` "texts/" and the text. Its vector is the mean
over templates of the unit vectors of the filled templates, as a unit vector. So a reader that knows nothing of texts
lists, verifies and copies such a space like one of images, and no image has a row in it. Which class has which text is
a collection whose name begins with "texts.": class names are its image IDs.
"""

import unicodedata
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from jaxtyping import UInt8

from bb.store.files.canonical_json import digest_of
from bb.store.format.space import FeatureSpace

ORG = "text"
COLLECTIONS = "texts."  # what names of collections of texts begin with
TEMPLATES = 1000  # at most
_TOWER = ("org", "architecture", "weights")


def text_space(
    *,
    image: dict[str, Any],
    text: dict[str, Any],
    weights: str,
    tokenizer: dict[str, Any],
    templates: Sequence[str],
    dim: int,
    code: str,
) -> FeatureSpace:
    """The space of a text tower with a set of templates.

    image  the fields _TOWER of the image spaces that it goes with; text: configuration of the text tower
    """
    return FeatureSpace(
        org=ORG,
        architecture={"image": {name: image[name] for name in _TOWER}, "text": text},
        weights=weights,
        view={"tokenizer": tokenizer, "templates": list(templates)},
        output={"kind": "img", "pooling": "mean of unit vectors over templates", "projected": True, "dim": dim},
        numerics={"compute": "fp32", "stored": "float32"},
        code=code,
    )


def is_text(space: FeatureSpace) -> bool:
    return space.org == ORG


def templates_of(space: FeatureSpace) -> tuple[str, ...]:
    """The templates of a text space; none where its record has something else."""
    found = space.view.get("templates")
    return tuple(map(str, found)) if isinstance(found, list) else ()


def is_for(text: FeatureSpace, images: FeatureSpace) -> bool:
    """Whether vectors of a text space can be compared with those of a space of images."""
    tower, found = {name: getattr(images, name) for name in _TOWER}, text.architecture.get("image")
    same = isinstance(found, dict) and digest_of(found) == digest_of(tower)
    return same and is_projected(images) and images.row_shape == text.row_shape


def is_projected(space: FeatureSpace) -> bool:
    """Whether image features went through a projection learnt for comparison with text."""
    return space.kind == "img" and space.output.get("projected") is True and not is_text(space)


def text_name(backbone: str) -> str:
    """The name under which the text tower of a backbone is known, as --ckpt takes it."""
    return f"{ORG}:{backbone}"


def backbone_of(name: str) -> str:
    """The backbone of such a name."""
    return name.removeprefix(f"{ORG}:")


def collection_of(name: str) -> str:
    """The collection of a set of texts."""
    return name if is_text_collection(name) else COLLECTIONS + name


def is_text_collection(name: str) -> bool:
    return name.startswith(COLLECTIONS)


def normalised(text: str) -> str:
    """A text as it is encoded and keyed: NFC, without white space around it."""
    return unicodedata.normalize("NFC", text).strip()


def row_ids(texts: Sequence[str]) -> list[str]:
    """What rows of texts have in the place of an image ID, for people."""
    return [f"texts/{normalised(text)}" for text in texts]


def text_keys(texts: Sequence[str]) -> UInt8[np.ndarray, "n 32"]:
    """The row keys of texts."""
    keys = b"".join(sha256(normalised(text).encode()).digest() for text in texts)
    return np.frombuffer(keys, np.uint8).reshape(-1, 32)
