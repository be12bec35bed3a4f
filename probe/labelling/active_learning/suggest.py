"""`bb.probe.suggest`: which images of a collection to label next."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import polars as pl
from jaxtyping import Float, Int64, UInt8

from bb.probe.classification.inputs import check_columns
from bb.probe.classifiers.multiclass.ridge import L2, RidgePath
from bb.probe.classifiers.preprocess import preprocess
from bb.probe.features.missing import MissingPolicy
from bb.probe.features.select_spaces import choose_spaces, space_name
from bb.probe.labelling.active_learning.choose_images import (
    RANDOM,
    RANDOM_SHARE,
    Strategy,
    check_random_share,
    choose,
    fitted_on,
    random_order,
)
from bb.probe.tables.html_table import html_table
from bb.probe.tasks.few_shot import check_seed
from bb.probe.tasks.task_table import TaskTable, parse_task_table, read_task_table, sorted_classes
from bb.store import Collection, FeatureSpace, Store
from bb.store.errors import BBError, UsageError
from bb.store.format.collection import only_collection
from bb.store.reporter import Reporter, Silent
from bb.store.text.image_ids import match_ids
from bb.store.text.lookalike import shown
from bb.store.text.size import counted

COLUMNS = ("image_id", "label", "suggested_by", "guess", "margin")
ENOUGH = 2000  # labels on which backbones are compared


@dataclass(frozen=True, eq=False, repr=False)
class Suggestions:
    """What `suggest` gives.

    frame       a row for each image in the order to label them: image_id; label, null, to be filled in; suggested_by,
                the strategy, or `random` for those that were drawn at random; guess, the likeliest class (null where no
                classifier can be fitted yet); margin, float64: the score of the likeliest class less that of the next
    strategy    what was done; `cluster` where `margin` was asked for and there are not two classes yet
    backbone    whose features were compared
    labelled    labels that were used
    columns     what the labels call image_id and label
    notes       what a person should know
    """

    frame: pl.DataFrame
    strategy: Strategy
    backbone: str
    labelled: int
    collection: Collection
    columns: dict[str, str]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Suggestions({len(self.frame)} images by {self.strategy} from {self.labelled} labels, {self.backbone})"

    def _repr_html_(self) -> str:
        return html_table(self.frame, repr(self))

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "strategy": str(self.strategy),
            "backbone": self.backbone,
            "labelled": self.labelled,
            "collection": self.collection.name,
            "suggested": self.frame.rows(named=True),
            "notes": list(self.notes),
        }


def suggest(
    store: Store | str | Path,
    labels: str | Path | pl.DataFrame | None = None,
    data: str | None = None,
    *,
    n: int = 50,
    strategy: str = "margin",
    random_share: float = RANDOM_SHARE,
    id: str | None = None,
    label: str | None = None,
    not_missing: Sequence[str] = (),
    ckpt: str | Sequence[str] = (),
    space: str | Sequence[str] = (),
    max_missing: float | None = None,
    seed: SupportsIndex = 0,
    reporter: Reporter | None = None,
) -> Suggestions:
    """Chooses the images to label next, from stored features, as `bb suggest` does. The same seed gives the same ones.

    labels      a table as docs/labels.md describes it, or its file, which may have no labels yet; None: nothing is
                labelled
    strategy    "margin", "cluster", "random" or "rare:CLASS" (probe/labelling/active_learning/choose_images.py)
    random_share  of the images, which are drawn at random whatever the strategy: `predict` measures accuracy on them
    ckpt, space the candidates, of which the one is used whose classes are best distinguished on the labels

    Raises UsageError and BBError, which name what to change.
    """
    reporter = reporter or Silent()
    how = Strategy.parse(strategy)
    seed = check_seed(seed)
    check_random_share(random_share)
    if how.name == RANDOM and random_share != RANDOM_SHARE:
        raise UsageError(
            f"--random-share {random_share:g} has no use with --strategy random, which draws every image at random: "
            "leave it out."
        )
    if n < 1:
        raise UsageError(f"-n {n} asks for nothing: choose 1 or more.")
    opened = store if isinstance(store, Store) else Store.open(store)
    name = data or only_collection(opened.collection_names())
    table = _table(labels, id, label, not_missing)
    notes = [] if table is None else list(table.notes)
    places, given, ways = _labelled(opened, name, table, notes) if table is not None else ([], [], [])
    collection = opened.collection(name, places)
    spaces = choose_spaces(
        opened,
        collection,
        places or collection.table["image_id"].to_list(),
        backbones=[ckpt] if isinstance(ckpt, str) else ckpt,
        keys=[space] if isinstance(space, str) else space,
        missing=MissingPolicy.parse("skip", max_missing, None),
    )
    classes = sorted_classes(sorted({each for each in given if each is not None}))
    codes = {each: code for code, each in enumerate(classes)}
    y = np.array([-1 if each is None else codes[each] for each in given], np.int64)
    if how.rare is not None and (how.rare not in codes or len(classes) < 2):
        listed = ", ".join(map(shown, classes[:10])) or "none"
        raise UsageError(
            f"--strategy rare:{how.rare} needs labelled images of {shown(how.rare)} and of another class; "
            f"labelled are: {listed}."
        )
    drawn = np.array([way == RANDOM for way in ways], bool)
    digests = collection.all_digests()
    rows = collection.find(places)
    chosen = best_space(opened, collection, spaces, places, y, digests, notes)
    has = opened.has(chosen, digests)
    files = collection.table["image_sha256"]
    free = np.flatnonzero(has & ~files.is_in(files.gather(rows).to_list()).to_numpy())
    if not len(free):
        raise BBError(f"every image of {name} that has features is labelled: nothing is left to suggest.")
    if absent := int((~has).sum()):
        notes.append(f"{counted(absent, 'image')} without features, and so not suggested")
    ids = collection.table["image_id"]

    def read(wanted: Int64[np.ndarray, " m"]) -> Float[np.ndarray, "m d"]:
        return opened.read(chosen, collection, ids.gather(wanted).to_list())

    rare = codes[how.rare] if how.rare is not None else -1
    used = np.flatnonzero(has[rows]) if len(rows) else np.empty(0, np.int64)
    labelled = int((y[used] >= 0).sum())
    used = used[fitted_on(y[used], drawn[used], rare)]
    known = read(rows[used]) if len(used) else np.zeros((0, *chosen.row_shape), chosen.dtype)
    order = random_order(digests[free], seed)
    made = choose(
        read, free, known, y[used], n, how, rare=rare, seed=seed, random_share=random_share, order=order,
        before=(sum(map(bool, ways)), int(drawn.sum())),
    )  # fmt: skip
    if made.strategy != how:
        notes.append("there are not yet labels of two classes, so a cover of the collection is suggested")
    for note in notes:
        reporter.info(note)
    frame = pl.DataFrame(
        {
            "image_id": ids.gather(made.rows),
            "label": pl.Series([None] * len(made.rows), dtype=pl.String),
            "suggested_by": pl.Series(made.suggested_by, dtype=pl.String),
            "guess": pl.Series([classes[g] if g >= 0 else None for g in made.guess.tolist()], dtype=pl.String),
            "margin": pl.Series(made.margin).fill_nan(None),
        }
    )
    columns = {role: (table.columns.get(role, role) if table is not None else role) for role in ("image_id", "label")}
    return Suggestions(frame, made.strategy, space_name(opened, chosen), labelled, collection, columns, tuple(notes))


def _table(
    labels: str | Path | pl.DataFrame | None, id: str | None, label: str | None, not_missing: Sequence[str]
) -> TaskTable | None:
    """Errors: UsageError for a table of several tasks, or of traits."""
    if labels is None:
        check_columns({"id": id, "label": label, "not_missing": not_missing})
        return None
    if isinstance(labels, pl.DataFrame):
        table = parse_task_table(labels, id=id, label=label, not_missing=not_missing, unfinished=True)
    else:
        table = read_task_table(labels, id=id, label=label, not_missing=not_missing, unfinished=True)
    if table.target != "classes" or len(table.tasks) > 1:
        what = f"{len(table.tasks)} tasks" if len(table.tasks) > 1 else table.target
        raise UsageError(
            f"{table.source} has {what}; bb suggest takes one task of classes. Name its column with --label."
        )
    return table


def _labelled(
    store: Store, name: str, table: TaskTable, notes: list[str]
) -> tuple[list[str], list[str | None], list[str | None]]:
    """The collection's IDs of the labelled rows, with the labels and how they were chosen.

    Errors: BBError where none is in the collection.
    """
    frame = table.frame.drop_nulls("label")
    if frame.is_empty():
        return [], [], []
    if "suggested_by" not in frame.columns:
        frame = frame.with_columns(suggested_by=pl.lit(None, pl.String))
    versions = store.collections(name.partition("@")[0])
    known = sorted({image_id for version in versions for image_id in version.table["image_id"]})
    match = match_ids(frame["image_id"].to_list(), known, name)
    frame = frame.filter(~pl.col("image_id").is_in(list(match.unmatched)))
    if frame.is_empty():
        raise BBError(
            f"{table.source}: none of {len(match.ids)} image IDs is in {name}. Choose the column with --id, or the "
            "collection with --data."
        )
    if match.unmatched:
        notes.append(f"{len(match.unmatched)} labelled rows with no image, such as {shown(match.unmatched[0])}")
    if match.names:
        frame = frame.with_columns(pl.col("image_id").replace(match.names))
    return frame["image_id"].to_list(), frame["label"].to_list(), frame["suggested_by"].to_list()


def best_space(
    store: Store,
    collection: Collection,
    spaces: Sequence[FeatureSpace],
    image_ids: Sequence[str],
    y: Int64[np.ndarray, " n"],
    digests: UInt8[np.ndarray, "m 32"],
    notes: list[str],
) -> FeatureSpace:
    """The space in which ridge regression gets most labels right that it was not fitted on; the first without labels.

    Left out one at a time, which one factorisation gives for all (probe/classifiers/multiclass/ridge.py).
    """
    if len(spaces) == 1:
        return spaces[0]
    rows = np.flatnonzero(np.all([store.has(each, digests) for each in spaces], axis=0)[collection.find(image_ids)])[
        :ENOUGH
    ]
    if len(np.unique(y[rows])) < 2:
        notes.append(f"of {len(spaces)} backbones {space_name(store, spaces[0])} is used: --ckpt chooses another")
        return spaces[0]
    kept = [image_ids[i] for i in rows.tolist()]
    target = np.where(y[rows][:, None] == np.unique(y[rows]), 1.0, -1.0)
    scores = []
    for each in spaces:
        ready, _ = preprocess("center-l2", x := store.read(each, collection, kept), x[:1])
        errors = min(RidgePath(ready).errors(target, L2), key=lambda error: float((error**2).mean()))
        scores.append(float(((target - errors).argmax(axis=1) == target.argmax(axis=1)).mean()))
    best = int(np.argmax(scores))
    notes.append(
        f"of {len(spaces)} backbones {space_name(store, spaces[best])} is used, which gets {scores[best]:.3f} of the "
        "labelled images right when they are left out; --ckpt chooses another"
    )
    return spaces[best]
