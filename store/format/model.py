"""Fitted classifiers in a store: `models/<space key>/<digest>.safetensors`. The format is in docs/store.md.

A file is named by the SHA-256 of its bytes. Its header holds, as JSON under "bb", what the model is for and what was
stated of it; its arrays are what prediction needs. Files come from anybody: everything here is checked before use. What
the arrays and the calibration mean is the concern of those who fit (probe/labelling/).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bb.store.errors import BBError, Malformed, UsageError
from bb.store.files.canonical_json import digest_of, sha256_hex
from bb.store.files.directory import Directory
from bb.store.files.limits import MAX_MODEL_BYTES, parse_json
from bb.store.files.paths import StorePart
from bb.store.format.collection import check_name
from bb.store.format.layout import clip, is_digest, read_plain
from bb.store.format.safetensors import MAX_HEADER_BYTES, decode_arrays, encode_arrays, header_text, read_header
from bb.store.format.space import FeatureSpace, short
from bb.store.text.printable import printable

FORMAT = "model 1"
TASKS = ("classes", "individuals")
MAX_SPACES = 64
MAX_NAME = 4096  # characters of a class's or backbone's name
SHOWN = 200  # of those in a line of text
FIELDS = {
    "format", "task", "spaces", "backbones", "classes", "labels", "collection", "images", "protocol", "calibration",
    "stated", "provenance",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Model:
    """A fitted classifier as its file has it.

    digest       names it; "" before it is published
    task         "classes", or "individuals" where it finds the nearest known ones
    spaces       the feature spaces whose rows it takes; one, or those of an ensemble in order
    backbones    for each space what its rows were extracted under
    classes      names of classes or individuals, in the order of the numbers that stand for them
    labels       digest of the labels that it was fitted on
    collection   name and digest of the collection that these were of
    images       how many were labelled
    protocol     preprocessing, classifier and parameters, how folds were made
    calibration  what makes probabilities of decisions, and which are accepted
    stated       what cross-validation said of it, JSON-ready
    provenance   code and versions; no part of the key
    arrays       (n,) or (n, m) float16, float32, float64 or int64, finite
    """

    digest: str
    task: str
    spaces: tuple[FeatureSpace, ...]
    backbones: tuple[str, ...]
    classes: tuple[str, ...]
    labels: str
    collection: tuple[str, str]
    images: int
    protocol: Mapping[str, Any]
    calibration: Mapping[str, Any]
    stated: Mapping[str, Any]
    provenance: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    @cached_property
    def key(self) -> str:
        """Of everything that decides it: feature spaces, labels and protocol."""
        return digest_of(
            {"spaces": [space.key for space in self.spaces], "labels": self.labels, "protocol": self.protocol}
        )

    @property
    def owner(self) -> str:
        """The key of the space in whose folder it is: its first."""
        return self.spaces[0].key

    @property
    def described(self) -> str:
        """What it is, in a line."""
        what = "individuals" if self.task == "individuals" else "classes"
        names = [printable(text)[:SHOWN] for text in (self.protocol.get("classifier", "nearest"), *self.backbones)]
        return (
            f"{names[0]} for {len(self.classes)} {what} from {self.images} images of {self.collection[0]}, "
            f"{' and '.join(names[1:])}"
        )

    def encode(self) -> bytes:
        """Its file. Errors: UsageError where it would be larger than a store takes."""
        record = {
            "format": FORMAT, "task": self.task, "spaces": [space.record() for space in self.spaces],
            "backbones": list(self.backbones), "classes": list(self.classes), "labels": self.labels,
            "collection": {"name": self.collection[0], "digest": self.collection[1]}, "images": self.images,
            "protocol": self.protocol, "calibration": self.calibration, "stated": self.stated,
            "provenance": self.provenance,
        }  # fmt: skip
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        try:
            raw = encode_arrays(self.arrays, text)
        except Malformed as fact:
            raise UsageError(f"the model can't be kept in a store: {fact}.") from None
        if len(raw) > MAX_MODEL_BYTES:
            raise UsageError(
                f"the model can't be kept in a store: it has {len(raw)} bytes, {MAX_MODEL_BYTES} can be. "
                "Label fewer images of each class."
            )
        return raw


def model_part(owner: str, digest: str) -> StorePart:
    """Where in a store a model is."""
    return StorePart("model", f"models/{owner}", f"{digest}.safetensors")


def parse_model(owner: str, digest: str, raw: bytes) -> Model:
    """The model of a file's bytes. Errors: Malformed where they are not that of its name, or not a model."""
    if sha256_hex(raw) != digest:
        raise Malformed("it does not have the digest in its name")
    text, arrays = decode_arrays(raw)
    model = _parse_record(digest, text, arrays)
    if model.owner != owner:
        raise Malformed(f"it is for feature space {short(model.owner)}")
    return model


def collection_of_model(first: bytes) -> tuple[str, str]:
    """Name and digest of the collection that a model was fitted on, of its file's first bytes. Errors: Malformed."""
    return _parse_record("", header_text(read_header(first)), {}).collection


def read_model(root: Path, owner: str, digest: str) -> Model:
    """A model of a store. Errors: BBError where it is not there, or is not what its name says."""
    try:
        raw = read_plain(Directory(root, f"models/{owner}"), f"{digest}.safetensors", MAX_MODEL_BYTES)
        return parse_model(owner, digest, raw)
    except Malformed as fact:
        raise BBError(
            f"model {short(digest)} in {root} is damaged: {str(fact).rstrip('.')}. Copy it from another store, or fit "
            "it again with `bb predict`."
        ) from None


def _parse_record(digest: str, text: str, arrays: Mapping[str, np.ndarray]) -> Model:
    try:
        record = parse_json(text.encode(), MAX_HEADER_BYTES)
    except ValueError as fact:
        raise Malformed(f"its record can't be read: {fact}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else record
        raise Malformed(f"it has format {clip(found)}, this bb reads {FORMAT!r}")
    if record.keys() != FIELDS:
        raise Malformed(f"it has the fields {clip(sorted(record))}")
    if record["task"] not in TASKS:
        raise Malformed(f"it has the task {clip(record['task'])}")
    for name in ("protocol", "calibration", "stated", "provenance", "collection"):
        if not isinstance(record[name], dict):
            raise Malformed(f"it has the {name} {clip(record[name])}")
    if type(record["images"]) is not int or record["images"] < 1:
        raise Malformed(f"it has {clip(record['images'])} images")
    spaces, backbones = record["spaces"], record["backbones"]
    listed = isinstance(spaces, list) and all(isinstance(space, dict) for space in spaces)
    if not listed or not 0 < len(spaces) <= MAX_SPACES:
        raise Malformed(f"it has the spaces {clip(spaces)}")
    if not _names(backbones) or len(backbones) != len(spaces):
        raise Malformed(f"it has the backbones {clip(backbones)} for {len(spaces)} spaces")
    classes = record["classes"]
    if not _names(classes) or len(set(classes)) != len(classes) or not classes:
        raise Malformed(f"it has the classes {clip(classes)}")
    collection = record["collection"]
    named = collection.keys() == {"name", "digest"} and isinstance(collection["name"], str)
    if not named or not is_digest(collection["digest"]):
        raise Malformed(f"it has the collection {clip(collection)}")
    if not is_digest(record["labels"]):
        raise Malformed(f"it has the labels {clip(record['labels'])}")
    try:
        check_name(collection["name"])
        parsed = tuple(FeatureSpace.from_record(space) for space in spaces)
        keys = [space.key for space in parsed]
    except (BBError, ValueError, TypeError, RecursionError) as fact:
        raise Malformed(str(fact)[:300]) from None
    if len(set(keys)) != len(keys) or any(space.kind != "img" for space in parsed):
        raise Malformed("its spaces repeat or are not of image features")
    return Model(
        digest, record["task"], parsed, tuple(backbones), tuple(classes), record["labels"],
        (collection["name"], collection["digest"]), record["images"], record["protocol"], record["calibration"],
        record["stated"], record["provenance"], arrays,
    )  # fmt: skip


def _names(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(name, str) and 0 < len(name) <= MAX_NAME for name in values)
