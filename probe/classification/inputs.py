"""From a table of labels and a store to what is fitted on: rows with images, their collection, feature spaces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from bb.probe.classification.pool_groups import Pooling, pool_table
from bb.probe.features.damaged_images import damage_note, damage_record, damaged_images
from bb.probe.features.find_features import find_spaces
from bb.probe.features.missing import MissingPolicy
from bb.probe.features.select_spaces import space_name
from bb.probe.tasks.folders import table_from_folders
from bb.probe.tasks.match_ids import TableMatch, match_table
from bb.probe.tasks.task_columns import OPTIONS
from bb.probe.tasks.task_table import TaskTable, parse_task_table, read_task_table
from bb.store import Collection, FeatureSpace, Store
from bb.store.errors import UsageError
from bb.store.format.collection import only_collection
from bb.store.reporter import Reporter

# Columns of a table that change no score.
UNUSED = {
    "weight": "not used, each image counts once",
    "crop": "not used, features are of whole images; for those of the boxes, cut them out and extract them",
}


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """A table of labels on a collection.

    name     what the table is called
    table    its rows that have an image with features in every space
    match    which rows and images are left over
    missing  images that were left out since they have no features, with reasons
    policy   what to do about these
    pooling  of which images each row of the table is made; None where each is one image
    """

    name: str
    table: TaskTable
    match: TableMatch
    collection: Collection
    spaces: list[FeatureSpace]
    missing: dict[str, str]
    policy: MissingPolicy
    pooling: Pooling | None = None

    def pooled(self, how: str) -> "LabelledImages":
        """The same with a row for each group. Errors: as `pool_table`."""
        table, pooling = pool_table(self.table, how)
        return replace(self, table=table, pooling=pooling)


def labelled_images(
    store: Store,
    labels: str | Path | pl.DataFrame | TaskTable | None,
    data: str | None,
    columns: Mapping[str, Any],
    *,
    ckpt: Sequence[str],
    space: Sequence[str],
    policy: MissingPolicy,
    reporter: Reporter,
    title: str | None = None,
    kind: str = "img",
) -> LabelledImages:
    """Reads a table, or the folders of the collection where there is none, and finds its images and their features.

    columns  further arguments of `read_task_table`, which name columns of a table that is read here
    title    what the table is called; by default as its file, or as the collection
    kind     of the features: "img" or "patch"
    Everything that a reader of the scores should know goes to the reporter. Errors: UsageError, BBError.
    """
    name = data or only_collection(store.collection_names())
    plain = name.partition("@")[0]
    versions = list(store.collections(plain))
    if not versions:
        store.collection(name, [])  # raises, with what there is
    known = sorted({image_id for version in versions for image_id in version.table["image_id"]})
    if labels is None or isinstance(labels, TaskTable):
        check_columns(columns)
        table = _without(table_from_folders(known, source=plain) if labels is None else labels, columns)
    elif isinstance(labels, pl.DataFrame):
        table = parse_task_table(labels, **columns)
    else:
        table = read_task_table(labels, **columns)
    reporter.info(table.taken)
    if unused := [f"column {role}: {why}" for role, why in UNUSED.items() if role in table.frame.columns]:
        table = replace(table, notes=(*table.notes, *unused))
    match = match_table(table, known, plain)
    for note in match.notes:
        reporter.info(note)
    image_ids = match.table.image_ids
    collection = store.collection(name, image_ids)
    spaces, missing = find_spaces(
        store, collection, image_ids, ckpt=ckpt, space=space, policy=policy, reporter=reporter, kind=kind
    )
    frame = match.table.frame
    used = match.table.with_frame(frame.filter(~pl.col("image_id").is_in(list(missing))))
    for each in spaces:
        record = damage_record(damaged_images(store, each, collection, used.image_ids))
        if damaged := damage_note(record):
            reporter.info(f"{space_name(store, each)}: {damaged}")
    title = title or (Path(labels).stem if isinstance(labels, str | Path) else plain)
    return LabelledImages(title, used, match, collection, spaces, dict(missing), policy)


def check_columns(columns: Mapping[str, Any]) -> None:
    """Errors: UsageError for what can only be asked of a table that is read here."""
    options = (*OPTIONS.values(), "--regression", "--not-missing")
    if asked := [option for option in options if columns.get(option[2:].replace("-", "_"))]:
        raise UsageError(f"{', '.join(asked)}: these say how a table of labels is read; give it with --labels FILE.")


def _without(table: TaskTable, columns: Mapping[str, Any]) -> TaskTable:
    """The table without the roles that `columns` leaves out ("")."""
    left_out = [role for role in ("split", "group") if columns.get(role) == "" and role in table.frame.columns]
    taken = {role: name for role, name in table.columns.items() if role not in left_out}
    return replace(table, frame=table.frame.drop(left_out), columns=taken)
