"""`bb.probe.use_model`: predictions for a collection by a classifier that was fitted before and kept in a store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bb.probe.features.missing import missing_from, named
from bb.probe.labelling.finder import Finder, finder_of
from bb.probe.labelling.predictor import Predictor
from bb.probe.labelling.result import SHOWN
from bb.probe.labelling.stored_model import number, predictor_of
from bb.probe.tables.html_table import html_table
from bb.store import Collection, Store
from bb.store.errors import BBError, UsageError
from bb.store.format.collection import only_collection
from bb.store.format.model import Model
from bb.store.format.space import FeatureSpace, short
from bb.store.local.choose_version import newest
from bb.store.maintenance.diff import nearest
from bb.store.text.image_ids import match_ids
from bb.store.text.size import counted
from bb.store.trained_models import find_model


@dataclass(frozen=True, eq=False, repr=False)
class Applied:
    """What a kept model says of a collection.

    frame       a row for each image, as `Labelled.frame` has them
    model       with `stated`, what cross-validation said when it was fitted, of images like those labelled
    collection  the collection that is predicted
    missing     images without features in the model's spaces, with reasons; they have no row
    known_groups  of how many rows the thresholds of the model's own groups decide what is accepted
    """

    frame: pl.DataFrame
    model: Model
    collection: Collection
    missing: Mapping[str, str]
    notes: tuple[str, ...]
    known_groups: int = 0

    def __repr__(self) -> str:
        return f"Applied({len(self.frame)} images of {self.collection.name} by model {short(self.model.digest)})"

    def _repr_html_(self) -> str:
        return html_table(self.frame.head(SHOWN), repr(self))

    @property
    def elsewhere(self) -> bool:
        """Whether the stated figures are of another collection than is predicted."""
        return self.model.collection[0] != self.collection.name

    def record(self) -> dict[str, Any]:
        """The figures next to the table, JSON-ready; `stated` is as the model's file has it."""
        return {
            "model": self.model.digest,
            "task": self.model.task,
            "spaces": [space.key for space in self.model.spaces],
            "collection": self.collection.name,
            "predicted": len(self.frame),
            "accepted": int(self.frame["accepted"].sum()),
            "missing": len(self.missing),
            "measured_on": self.model.collection[0],
            "stated": dict(self.model.stated),
            "notes": list(self.notes),
        }


def use_model(
    store: Store | str | Path,
    model: str,
    data: str | None = None,
    *,
    groups: Mapping[str, str] | None = None,
) -> Applied:
    """Predicts every image of a collection that has features in exactly the model's spaces; nothing is extracted.

    model   the digest of a model in the store, or its beginning
    data    the collection, NAME or NAME@DIGEST; the store's only one by default
    groups  image ID → group: images of groups that the model was fitted on are accepted by thresholds of these

    An image's row is the same to the bit as that of the run that fitted the model, on the same processor.
    Raises UsageError and BBError, which name what to change: for a collection without features in these spaces,
    whatever else it has.
    """
    opened = store if isinstance(store, Store) else Store.open(store)
    found = find_model(opened, model)
    predictor = finder_of(found, opened.name) if found.task == "individuals" else predictor_of(found, opened.name)
    collection, notes = collection_to_predict(opened, data)
    image_ids = sorted(collection.table["image_id"].to_list())
    with_features, without = predictor.with_features(opened, collection, image_ids)
    missing = missing_images(opened, found, collection, image_ids, with_features, without)
    if missing:
        notes.append(missing_note(opened, found, collection, missing, len(image_ids)))
    frame = pl.concat(predictor.predictions(opened, collection, with_features))
    thresholds = predictor.of_groups if isinstance(predictor, Predictor) else None
    if groups is not None and thresholds is None:
        raise UsageError(
            f"model {short(found.digest)} has no thresholds of groups: leave out --groups, or fit again with --group."
        )
    rows = 0
    if groups is not None and thresholds:
        match = match_ids(list(groups), image_ids, collection.name)
        known = {match.names.get(image_id, image_id): group for image_id, group in groups.items()}
        frame, rows = thresholds.applied(frame, known)
        notes.append(
            f"of groups that the model was fitted on, and accepted by theirs: {rows} of {counted(len(frame), 'image')}"
        )
    elif thresholds:
        notes.append(
            "the model has thresholds for the groups it was fitted on: --groups FILE says which image is of which"
        )
    if fitted_on := _fitted_on(opened, predictor, collection, with_features):
        notes.append(
            f"with the features of images that the model was fitted on: {fitted_on} of "
            f"{counted(len(with_features), 'image')}; predictions of these look better than they are"
        )
    if collection.name != found.collection[0]:
        notes.append(
            f"the stated figures are of images like those labelled in {found.collection[0]}; on {collection.name} the "
            "accuracy and the error of what is accepted may differ: label some of its images to know"
        )
    return Applied(frame, found, collection, missing, tuple(notes), rows)


def collection_to_predict(store: Store, data: str | None) -> tuple[Collection, list[str]]:
    """The newest version of a collection, or the one named, with a note where there are several. Errors: UsageError."""
    name, _, digest = (data or only_collection(store.collection_names())).partition("@")
    versions = [version for version in store.collections(name) if version.digest.startswith(digest)]
    chosen = newest(versions, store.recorded)
    if chosen is None:
        return store.collection(f"{name}@{digest}" if digest else name, []), []  # raises, with what there is
    if len(versions) == 1:
        return chosen, []
    return chosen, [
        f"collection {name} has {len(versions)} versions; the newest, {name}@{short(chosen.digest)}, is predicted"
    ]


def missing_images(
    store: Store,
    model: Model,
    collection: Collection,
    image_ids: Sequence[str],
    with_features: Sequence[str],
    without: Sequence[str],
) -> dict[str, str]:
    """The images that some space of the model has no features of, with reasons.

    Errors: BBError where these are all of them; it says which other spaces have features, and why they are not used.
    """
    missing: dict[str, str] = {}
    for space in model.spaces:
        missing |= missing_from(store, space, collection, without)
    if with_features:
        return missing
    lines = []
    for space, backbone in zip(model.spaces, model.backbones, strict=True):
        if store.has(space, collection.digests(image_ids)).any() if image_ids else True:
            continue
        lines.append(
            f"To make them: {store.to_fill(space, collection.name, backbone)}{_others(store, space, collection)}"
        )
    spaces = " and ".join(
        f"{short(space.key)} ({backbone})" for space, backbone in zip(model.spaces, model.backbones, strict=True)
    )
    which = "space" if len(model.spaces) == 1 else "all of spaces"
    raise BBError(
        "\n".join([
            f"no image of {collection.name} has features in {which} {spaces}, which model {short(model.digest)} is "
            "for.",
            *lines,
        ])
    )  # fmt: skip


def missing_note(store: Store, model: Model, collection: Collection, missing: Mapping[str, str], images: int) -> str:
    """What is not predicted, and the commands that fill it."""
    commands = [
        store.to_fill(space, collection.name, backbone)
        for space, backbone in zip(model.spaces, model.backbones, strict=True)
        if not store.has(space, collection.all_digests()).all()
    ]
    return (
        f"without features in the model's space, and so without a prediction: {len(missing)} of "
        f"{counted(images, 'image')} of {collection.name}, {named(missing)}. To fill them: {' and '.join(commands)}"
    )


def stated_score(stated: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """A stated value with its bounds, of a model's file, which anybody may have written; None where there is none."""
    found = stated.get(name)
    if not isinstance(found, dict) or not number(found.get("value")):
        return None
    low, high = found.get("low"), found.get("high")
    if not (number(low) and number(high)):
        low = high = None
    return {"value": found["value"], "low": low, "high": high}


def _others(store: Store, space: FeatureSpace, collection: Collection) -> str:
    """Which space of the collection is nearest, and in what it differs."""
    there = [each for each in store.spaces() if store.has(each, collection.all_digests()).any()]
    found = nearest(space, there)
    if found is None:
        return ""
    differing = "; ".join(f"{name}: {text}" for name, text in found.differing.items())
    names = ", ".join(store.backbones(found.b)) or "no backbone named"
    return (
        f"\nIts features in space {short(found.b.key)} ({names}) are of another space, on which this model never runs: "
        f"{differing[:400]}"
    )


def _fitted_on(store: Store, predictor: Predictor | Finder, collection: Collection, image_ids: Sequence[str]) -> int:
    """How many images have a row of the labelled images."""
    known = {row.tobytes() for row in predictor.labelled}
    space = predictor.spaces[0]
    n = 0
    for start in range(0, len(image_ids), 4096):
        rows = np.ascontiguousarray(store.read(space, collection, image_ids[start : start + 4096]))
        n += sum(row.tobytes() in known for row in rows)
    return n
