"""Labels of a collection: from a file, from its folder, or from the store."""

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from bb.console import warn
from bb.settings import NEWT_LABELS, Settings, labels_beside

if TYPE_CHECKING:
    import polars as pl

    from bb.extract.data.source_spec import Root
    from bb.probe.tasks.family import Labels
    from bb.probe.tasks.newt import Labels as ProbeLabels
    from bb.store import Store


def with_paths(frame: "pl.DataFrame", root: "Root | None") -> "pl.DataFrame":
    """A table of image IDs with a column `path`, empty where there is no such file; as it is without a folder.

    Reading a folder needs Pillow; without it the column is left out, and that is said.
    """
    import polars as pl

    if not isinstance(root, Path):
        return frame
    if importlib.util.find_spec("PIL") is None:
        warn("note: without Pillow the table has no column path: pip install 'backbone-bench[images]'")
        return frame
    from bb.extract.scan_collection import find_known_files
    from bb.store import BBError

    try:
        files = find_known_files(root)
    except BBError as error:  # the table is worth having without
        warn(f"note: the table has no column path: {error}")
        return frame
    if not isinstance(files, dict):
        return frame
    return frame.with_columns(path=pl.Series([str(files.get(image_id) or "") for image_id in frame["image_id"]]))


def read_probe_labels(
    store: "Store", name: str, root: "Root | None", given: Path | None, settings: Settings
) -> "ProbeLabels":
    """The labels of a collection: of the file given, of that in its folder, or of the store.

    Those of a file are put into the store, where their licence allows it.
    """
    from bb.probe.tasks.newt import read_labels
    from bb.probe.tasks.stored_labels import find_labels, find_labels_by_digest, labels_of
    from bb.store import UsageError

    plain = name.partition("@")[0]
    if given is not None and str(given).startswith("@"):
        return labels_of(find_labels_by_digest(store, "newt", str(given)[1:]))
    file = given or labels_beside(root)
    if given is None and (file is None or not file.exists()):
        found = find_labels(store, "newt", plain)
        if found:
            warn(f"labels from the store: {found.describe()}")
            return labels_of(found)
    if file is None:
        raise UsageError(
            f"where are the labels of {plain}? Give --data {plain}=DIR that holds {NEWT_LABELS}, or --labels FILE. "
            f"NeWT's come with: bb data download newt --to DIR"
        )
    labels = read_labels(file)
    if not store.source:
        share_labels(store, plain, file, settings)
    return labels


def share_labels(store: "Store", name: str, file: Path, settings: Settings) -> None:
    """Puts a file of labels into the store, where their licence lets them be passed on; bad ones stop nothing else."""
    from bb.probe.tasks.newt import read_labels
    from bb.store import BBError
    from bb.store.find_collection import find_collection
    from bb.store.format.labels import shareable

    licence = settings.licences.get(name)
    if licence is None or not shareable(licence) or not file.exists():
        return
    try:
        labels = read_labels(file)
        if store.collections(name):
            labels = labels.renamed(find_collection(store, name, labels.image_ids)[1])
        store.put_labels("newt", labels.table, collection=name, licence=licence)
    except BBError as error:
        warn(f"the labels of {name} are not put into the store: {error}")


def family_table(store: "Store", family: str, data: str, root: "Root | None") -> "Labels":
    """The labels of a task family: of the folder of its images, or of their names in the store.

    Errors: those of `family_labels`.
    """
    from bb.probe.tasks.registry import family_labels
    from bb.store import UsageError

    if isinstance(root, Path):
        return family_labels(family, root)
    versions = store.collections(data.partition("@")[0])
    ids = sorted({image_id for version in versions for image_id in version.table["image_id"]})
    try:
        return family_labels(family, None, ids)
    except UsageError:
        folder = shards_folder(root)
        return family_labels(family, folder) if folder else family_labels(family, None)


def shards_folder(root: "Root | None") -> Path | None:
    """The folder of shards on this machine; None of others."""
    from bb.extract.data.byte_range import Local
    from bb.extract.data.source_spec import Shards

    blobs = root.blobs() if isinstance(root, Shards) else []
    paths = [blob.path for blob in blobs if isinstance(blob, Local)]
    return Path(os.path.commonpath([path.parent for path in paths])) if paths and len(paths) == len(blobs) else None


def read_groups(name: str, column: str, labels: Path | None, roots: "dict[str, Root | None]") -> dict[str, str]:
    """The group of each image of a collection, from a file of labels that has the column."""
    from bb.probe.statistics import predictions as table
    from bb.probe.tasks.newt import read_labels
    from bb.store import UsageError

    root = roots.get(name)
    file = labels or labels_beside(root)
    if file is None:
        raise UsageError(
            f"--cluster {column} is read from the labels of {name}: give --data {name}=DIR or --labels FILE."
        )
    read_labels(file)  # says what is wrong with it
    groups, notes = table.read_groups(file, column)
    warn(*(f"note: {note}" for note in notes))
    return groups
