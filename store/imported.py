"""Features that were made elsewhere, taken into a store: a feature space of their own, which says that it is imported.

bb can't tell what decided such features, so an imported space is identified by the name given and by the rows
themselves: two imports share a space only if they are equal to the bit.
"""

import re
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from tokenize import TokenError

import numpy as np
from jaxtyping import Num, UInt8

from bb.store.errors import BBError, UsageError
from bb.store.format.collection import some
from bb.store.format.space import STORED_DTYPES, FeatureSpace
from bb.store.segment_writer import SegmentWriter
from bb.store.store import Store

ORG = "imported"
NAME = re.compile(r"[A-Za-z0-9][\w.-]*:[A-Za-z0-9][\w./+-]*")
RESERVED = ("open_clip", "timm", "timm-vit", "head", "hf-hub", "text")
BLOCK = 8192  # rows
MAGIC = b"\x93NUMPY"


def is_imported(space: FeatureSpace) -> bool:
    return space.org == ORG


def check_import_name(name: str) -> str:
    """Raises UsageError where a name is not LAB:NETWORK, or would pass for features that bb made."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't name imported features: write LAB:NETWORK, such as ourlab:whalenet-2.")
    if name.partition(":")[0] in RESERVED:
        raise UsageError(f"{name!r} would pass for features that bb made: begin it with your lab's name.")
    return name


def read_array(path: Path) -> Num[np.ndarray, "n ..."]:
    """The array of a .npy file, memory-mapped. Errors: UsageError where there is none, BBError for anything else."""
    if not path.is_file():
        raise UsageError(f"the file {path} does not exist: give a .npy file of features, a row for each image.")
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ValueError("it does not begin as one")
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, TypeError, SyntaxError, TokenError, EOFError, OSError) as error:  # what numpy's parser raises
        fact = str(error).strip(".")[:200]
        raise BBError(f"{path} can't be read as a .npy file: {fact}. Write it with numpy.save.") from None
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise BBError(f"{path} has shape {array.shape}; features are (images, numbers) or (images, patches, numbers).")
    if array.dtype.name not in (*STORED_DTYPES, "float64"):
        raise BBError(f"{path} holds {array.dtype}; features are float16, float32 or float64.")
    return array


def check_rows(features: Num[np.ndarray, "n ..."], image_ids: Sequence[str]) -> None:
    """Raises BBError where there is not one image for each row."""
    if len(features) != len(image_ids):
        raise BBError(f"the array has {len(features)} rows and the table {len(image_ids)} images: give a row for each.")


def import_features(
    store: Store,
    features: Num[np.ndarray, "n ..."],
    image_sha256: UInt8[np.ndarray, "n 32"],
    image_ids: Sequence[str],
    *,
    name: str,
    collection: str,
) -> FeatureSpace:
    """Publishes rows that were computed elsewhere; (n, D) or (n, P, D), float64 is stored as float32.

    Raises BBError where a row is not finite or an image has two rows.
    """
    dtype = STORED_DTYPES["float16" if features.dtype == np.float16 else "float32"]
    check_rows(features, image_ids)
    keys = [key.tobytes() for key in image_sha256]
    if len(set(keys)) < len(keys):
        count = Counter(keys)
        twice = [image_id for image_id, key in zip(image_ids, keys, strict=True) if count[key] > 1]
        raise BBError(f"{some(twice)} are the same image, byte for byte: give one row for it.")
    digest = sha256(b"".join(keys))
    for start in range(0, len(features), BLOCK):
        with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinite, which is refused below
            block = np.ascontiguousarray(features[start : start + BLOCK], dtype=dtype)
        if bad := np.flatnonzero(~np.isfinite(block.reshape(len(block), -1)).all(axis=1)).tolist():
            raise BBError(
                f"{some([image_ids[start + row] for row in bad])} have NaN or infinite features as {dtype.name}."
            )
        digest.update(block.tobytes())
    kind = "img" if features.ndim == 2 else "patch"
    lengths = {"dim": features.shape[-1], **({"patches": features.shape[1]} if kind == "patch" else {})}
    space = FeatureSpace(
        org=ORG,
        architecture={"name": name},
        weights=digest.hexdigest(),
        view={},
        output={"kind": kind, **lengths},
        numerics={"compute": "unknown", "stored": "float16" if dtype.itemsize == 2 else "float32"},
        code="",
    )
    writer = SegmentWriter(store, space, {"backbone": name, "imported": True})
    new = np.flatnonzero(~store.has(space, image_sha256))
    for rows in np.array_split(new, max(1, -(-len(new) // BLOCK))):
        block = np.ascontiguousarray(features[rows], dtype=dtype)
        writer.add(image_sha256[rows], [f"{collection}/{image_ids[row]}" for row in rows.tolist()], block)
    writer.close()
    return space
