"""From the rows of one feature space to those of a derived one: what is trained, on what, and what is written."""

import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Num

from bb.probe.heads.examples import Examples
from bb.probe.heads.model import Head
from bb.probe.heads.recipe import HeadRecipe
from bb.probe.heads.train import Progress, train
from bb.probe.heads.training_record import Training, training_of
from bb.probe.heads.validation import Validation, is_better, labels_asked, parts
from bb.probe.retrieval.labels import RetrievalLabels
from bb.probe.retrieval.statistics.clustered import MIN_UNITS
from bb.store import BBError, Collection, FeatureSpace, Store, UsageError
from bb.store.files.canonical_json import digest_of, sha256_hex
from bb.store.format.derived import derive, head_name, is_derived, parent_key
from bb.store.format.space import short
from bb.store.segment_writer import SegmentWriter
from bb.store.versions import versions

ALGORITHM = "2"  # a change that could change a head raises it
VERSIONS = ("backbone-bench", "numpy", "pytorch-metric-learning", "torch")
ACCEPT = ("better", "any")
ROWS = 8192  # projected and written at a time


@dataclass(frozen=True, eq=False)
class PreparedTraining:
    """A training that can be looked up or done: its ID covers all that decides the outcome.

    tasks      the labels' name
    held_out   how the images that validate were chosen, in words
    features   (n, d) of the images that train, in their order
    accept     "better": only a head that is shown to be better than its parent is written; "any": whatever comes
    """

    store: Store
    parent: FeatureSpace
    collection: Collection
    tasks: str
    train: RetrievalLabels
    validation: Validation
    held_out: str
    features: Num[np.ndarray, "n d"]
    recipe: HeadRecipe
    training_id: str
    accept: str = "better"

    @property
    def checkpoint(self) -> Path:
        """Where its state is while it is trained."""
        return self.store.root / "tmp" / "heads" / f"{self.training_id}.safetensors"

    @property
    def seen(self) -> list[str]:
        """IDs of the images that train or validate."""
        return [*self.train.image_ids.tolist(), *self.validation.items.image_ids.tolist()]


@dataclass(frozen=True)
class Derived:
    """What came of a training.

    space     None where training was stopped, or the parent was kept
    rows      how many were written now
    training  what its rows say of it
    kept      why the parent was kept and no head written; empty where one was, or training was stopped
    """

    space: FeatureSpace | None
    rows: int
    training: Training | None
    kept: str = ""


def prepare(
    store: Store,
    parent: FeatureSpace,
    collection: Collection,
    items: RetrievalLabels,
    *,
    tasks: str,
    recipe: HeadRecipe,
    accept: str = "better",
) -> PreparedTraining:
    """Decides who trains and who validates, reads their features, and names the training; nothing is trained.

    The ID is SHA-256 of the canonical JSON of: recipe, parent, both tables, and SHA-256 of both sides' feature rows.
    Errors: those of `parts`; BBError where too few labels validate to accept a head, unless `accept` is "any";
    MissingRows where the parent does not have images that the labels name; UsageError where the store is read in place,
    the parent holds no image features, or `accept` is neither "better" nor "any".
    """
    if accept not in ACCEPT:
        raise UsageError(f"--accept {accept!r} is unknown: choose {' or '.join(ACCEPT)}.")
    store.require_writable()
    if parent.kind != "img":
        raise UsageError(f"space {short(parent.key)} holds {parent.kind} features; a head takes image features.")
    training, held, words = parts(items, recipe.seed)
    if accept == "better" and (validating := labels_asked(held)) < MIN_UNITS:
        raise BBError(
            f"{items.source}: {validating} labels validate ({words}), too few to tell whether a head is better than "
            f"its parent (at least {MIN_UNITS} labels with two images or more). Add labels, or take whatever comes "
            "with --accept any and test it on other labels."
        )
    sides = [np.ascontiguousarray(store.read(parent, collection, side.image_ids.tolist())) for side in (training, held)]
    identity = {
        "algorithm": ALGORITHM,
        "recipe": recipe.record(),
        "parent": parent.key,
        "tables": [[side.frame.columns, *map(list, side.frame.iter_rows())] for side in (training, held)],
        "features": [sha256_hex(rows.view(np.uint8).data) for rows in sides],
    }
    return PreparedTraining(
        store, parent, collection, tasks, training, Validation(held, sides[1]), words, sides[0], recipe,
        digest_of(identity), accept,
    )  # fmt: skip


def existing(prepared: PreparedTraining) -> Derived | None:
    """What this very training made before; rows that it does not have (it was killed, or images came since) are written
    now."""
    store = prepared.store
    for space in store.spaces():
        if is_derived(space) and parent_key(space) == prepared.parent.key:
            training_record = training_of(store, space)
            if training_record is not None and training_record.id == prepared.training_id:
                head = Head.decode(store.head(space.weights), head_name(space.weights))
                return write(store, head, prepared.parent, prepared.collection, training_record, prepared.seen)
    return None


def execute(
    prepared: PreparedTraining,
    *,
    stop: threading.Event | None = None,
    progress: Progress = lambda epoch, values: None,
    every: float = 2.0,
) -> Derived:
    """Trains, going on where an earlier process was killed, and writes the head and the derived rows.

    Errors: those of `train`; nothing is written then, nor where it is stopped.
    """
    prepared.store.check_writable("spaces", "heads", "local")
    rows = Examples(prepared.features.astype(np.float32), prepared.train.label_codes, prepared.train.category_codes)
    found = train(
        rows, prepared.recipe, prepared.parent.key, prepared.validation, checkpoint=prepared.checkpoint, every=every,
        stop=stop, progress=progress,
    )  # fmt: skip
    held = prepared.validation
    change = held.compare(found.head, len(found.history))
    training_record = Training(
        id=prepared.training_id,
        labels=prepared.tasks,
        images=len(prepared.train),
        classes=len(prepared.train.labels),
        held_out=f"{len(held.items)} images of {len(held.items.labels)} labels, {prepared.held_out}",
        parent=change.before.mean,
        start=found.history[0],
        best=found.history[found.best],
        best_epoch=found.best,
        epochs=len(found.history) - 1,
        recipe=prepared.recipe.record(),
        validated={**asdict(change.difference), "labels": change.units},
    )
    if found.stopped:
        return Derived(None, 0, training_record)
    if prepared.accept == "better" and not is_better(change):
        made = Derived(None, 0, training_record, kept=unproven(training_record))
    else:
        made = write(prepared.store, found.head, prepared.parent, prepared.collection, training_record, prepared.seen)
    with suppress(FileNotFoundError):
        prepared.store.directory.remove(prepared.store.directory.relative(prepared.checkpoint))
    return made


def unproven(training: Training) -> str:
    """Why validation does not show a head to be better than its parent; empty where it does, or it is not known."""
    known = training.validated
    if known is None or (known["low"] is not None and known["low"] > 0):
        return ""
    if known["low"] is None:
        return f"{known['labels']} labels are too few to tell whether it is better than its parent"
    return (
        "it is not better than its parent beyond chance: MAP@R changes by {mean:+.3f} [{low:+.3f}, {high:+.3f}] on "
        "{labels} labels, widened for the choice among epochs".format(**known)
    )


def load(store: Store, name: str) -> Head:
    """The head of a file, or of a name "head:DIGITS" of this store. Errors: those of `Head.from_pretrained`."""
    return Head.from_pretrained(f"{name}@{store.name}" if name.startswith("head:") else name)


def extend(store: Store, head: Head, collection: Collection) -> Derived:
    """Sends the rows of a collection that a head's parent has, and the derived space does not have, through the head.

    Errors: BBError where the parent is not here, or has none of the collection's images.
    """
    store.check_writable("spaces", "heads", "local")
    parent = next((space for space in store.spaces() if space.key == head.parent), None)
    if parent is None:
        raise BBError(
            f"{head.name} is for features of space {short(head.parent)}, which {store.name} does not have: pull or "
            "extract that first."
        )
    if parent.row_shape != (head.in_dim,):
        raise BBError(f"{head.name} takes {head.in_dim} numbers, but space {short(parent.key)} has {parent.row_shape}.")
    derived = derive(parent, head.layers, head.feat_dim, head.digest)
    return write(store, head, parent, collection, training_of(store, derived), None)


def write(
    store: Store,
    head: Head,
    parent: FeatureSpace,
    collection: Collection,
    training: Training | None,
    seen: list[str] | None,
) -> Derived:
    """Publishes a head and, in its derived space, what it makes of each row of the collection that is not there yet.

    seen  IDs of images that it was trained on or validated by, whose rows lie in segments of their own, so that a
          probe can tell; None where that is not known
    Errors: BBError where the parent has no row of the collection.
    """
    ids, digests = collection.table["image_id"].to_list(), collection.all_digests()
    known = store.has(parent, digests)
    if not known.any():
        raise BBError(
            f"space {short(parent.key)} has no row of collection {collection.name}: extract or pull it first."
        )
    space = derive(parent, head.layers, head.feat_dim, store.put_head(head.encode()))
    keys = np.ascontiguousarray(digests).view("S32").ravel()  # an image may stand under two IDs
    wanted = np.zeros(len(ids), bool)
    wanted[np.unique(keys, return_index=True)[1]] = True
    wanted &= known & ~store.has(space, digests)
    damaged = store.damaged(parent, digests)
    looked_at = np.isin(keys, keys[np.isin(ids, seen or [])])
    provenance = {
        "backbone": head_name(space.weights),
        "parent": {"space": parent.key, "backbones": store.backbones(parent)},
        "device": "cpu",
        "versions": versions(VERSIONS),
        "training": None if training is None else training.record(),
    }
    for part, is_seen in ((wanted & looked_at, True), (wanted & ~looked_at, False)):
        writer = SegmentWriter(store, space, {**provenance, "seen": None if seen is None else is_seen})
        rows = np.flatnonzero(part)
        for begin in range(0, len(rows), ROWS):
            block = rows[begin : begin + ROWS]
            names = [ids[row] for row in block]
            made = head.project(store.read(parent, collection, names))
            reasons = {i: damaged[key] for i, row in enumerate(block) if (key := bytes(digests[row])) in damaged}
            writer.add(digests[block], [f"{collection.name}/{name}" for name in names], made, reasons)
        writer.close()
    store.put_space(space)
    return Derived(space, int(wanted.sum()), training)
