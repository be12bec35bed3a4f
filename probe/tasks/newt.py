"""NeWT's labels: which images each task trains and tests on, read from `newt2021_labels.csv` and checked.

NeWT (Van Horn et al., "Benchmarking Representation Learning for Natural World Image Collections", CVPR 2021)
is 164 two-class tasks; any table in the same columns is a task family too, whatever the number of its tasks.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Shaped, UInt8

from bb.probe.tables.table_file import TableFile, of_value, read_table_file
from bb.probe.tasks.family import About
from bb.store.errors import BBError
from bb.store.storage.download import Archive
from bb.store.text import lookalike
from bb.store.text.image_ids import IdMatch

N_TASKS = 164
LABELS_FILE = "newt2021_labels.csv"

_BUCKET = "https://ml-inat-competition-datasets.s3.amazonaws.com/newt/"
# The publishers' own archives; images about 4 GB (github.com/visipedia/newt).
ARCHIVES = (
    Archive(_BUCKET + "newt2021_labels.csv.tar.gz", md5="4cb26d0ee085904887b1ca14dcb893e7"),
    Archive(_BUCKET + "newt2021_images.tar.gz", md5="b04a56a5b1ffda87f16e6d4f81f9d38e"),
)


class NewtFamily:
    """NeWT, as the registry of task families has it. Fulfils bb.probe.tasks.family.TaskFamily."""

    title: str = "NeWT: 164 two-class tasks of natural-world photographs"
    archives: tuple[Archive, ...] = ARCHIVES
    about: About = About(
        needs=f"{LABELS_FILE} and newt2021_images/*.jpg",
        size="about 36,000 images, 164 tasks, 4 GB",
        home="https://github.com/visipedia/newt",
        citation="""@inproceedings{vanhorn2021benchmarking,
  title = {Benchmarking Representation Learning for Natural World Image Collections},
  author = {Van Horn, Grant and Cole, Elijah and Beery, Sara and Wilber, Kimberly and Belongie, Serge and Mac Aodha,
    Oisin},
  booktitle = {CVPR},
  year = {2021}
}""",
        published="NeWT and biobench: linear SVMs, mean accuracy over tasks",
    )

    def labels(self, root: Path) -> Path:
        """The file in a folder of NeWT's images."""
        return root / LABELS_FILE


NEWT = NewtFamily()
REQUIRED = ("id", "task_cluster", "task_subcluster", "task", "label", "split")
READ = (*REQUIRED, "text_label")


@dataclass(frozen=True, eq=False)
class BinaryTask:
    """One two-class problem over image IDs. Both splits are sorted by image ID; labels are 0 or 1."""

    name: str
    cluster: str
    subcluster: str | None
    train_ids: Shaped[np.ndarray, " train"]
    train_y: UInt8[np.ndarray, " train"]
    test_ids: Shaped[np.ndarray, " test"]
    test_y: UInt8[np.ndarray, " test"]


@dataclass(frozen=True, eq=False)
class Labels:
    """A checked task family.

    `tasks` are sorted by name. `table` holds the required columns sorted by task and image ID (label uint8,
    the rest strings), so that two files that differ in row order or in further columns give the same Labels.
    `notes` say what a reader of the scores should know of the table. `class_names` are those of classes 0 and 1 of each
    task for which the column text_label gives one name each. `missing` are images that were left out since they have no
    features: image ID → reason, and `max_missing` the share of them that was allowed, where it is not the usual one.
    `same_images_as` are keys of the feature spaces that do not have them.
    """

    tasks: tuple[BinaryTask, ...]
    table: pl.DataFrame
    notes: tuple[str, ...] = ()
    class_names: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    max_missing: float | None = None
    same_images_as: tuple[str, ...] = ()

    @property
    def image_ids(self) -> list[str]:
        """Every image that some task needs, once, sorted."""
        return self.table["id"].unique().sort().to_list()

    @property
    def note(self) -> str | None:
        """What a reader of the scores should know about the number of tasks; None for the whole of NeWT."""
        n = len(self.tasks)
        return None if n == N_TASKS else f"{n} task{'s' * (n != 1)}, where the whole of NeWT has {N_TASKS}"

    def renamed(self, match: IdMatch) -> "Labels":
        """The same with the collection's image IDs."""
        if match.note is None:
            return self
        return self.with_rows(self.table.with_columns(pl.col("id").replace(match.names)), match.note)

    def with_rows(self, rows: pl.DataFrame, note: str) -> "Labels":
        """The same with other rows, in whatever order, with a note. Errors: BBError for a task without a class."""
        table = rows.sort("task", "id")
        return replace(self, tasks=_tasks(table, "the table"), table=table, notes=(*self.notes, note))

    def without(
        self, missing: Mapping[str, str], max_missing: float | None = None, same_images_as: Sequence[str] = ()
    ) -> "Labels":
        """The same less some images. Errors: BBError where a task has no image of a class any more."""
        if not missing:
            return self
        table = self.table.filter(~pl.col("id").is_in(list(missing)))
        if lost := sorted(set(self.table["task"]) - set(table["task"])):
            raise BBError(f"without the images that have no features, task {lost[0]!r} has none at all: leave it out.")
        tasks = _tasks(table, "the labels without missing images")
        left_out = replace(self, missing=missing, max_missing=max_missing, same_images_as=tuple(same_images_as))
        return replace(left_out, tasks=tasks, table=table)


def read_labels(path: str | Path) -> Labels:
    """Read labels from a CSV file in NeWT's columns, or from the same table as Parquet.

    Errors: UsageError where there is no such file or it does not have a column, BBError where it can't be read or
    `parse_labels` finds a problem.
    """
    path = Path(path)
    what = f"no labels at {path}: NeWT's are newt2021_labels.csv; `bb data download newt` fetches them"
    return _parse(read_table_file(path, what=what, columns=READ, remedy="Fetch or export it again."))


def parse_labels(table: pl.DataFrame, *, source: str = "the table") -> Labels:
    """Check a table in NeWT's columns and arrange it by task; `source` names it in messages.

    Required columns are id, task_cluster, task_subcluster, task, label and split; others are ignored. Each
    (task, id) stands once, labels are 0 or 1, splits are train or test, only task_subcluster may be empty, a
    task is in one cluster, and both its splits hold both classes. Errors: UsageError where a column is
    absent, BBError naming the line (line 1 is the header) or the task.
    """
    return _parse(TableFile.from_frame(table, source, READ))


def _parse(table: TableFile) -> Labels:
    table.require(REQUIRED, "NeWT's own newt2021_labels.csv has all of them.")
    optional = ["task_subcluster", *(["text_label"] if "text_label" in table.columns else [])]
    checked = table.select(ids=["id"], required=["task_cluster", "task", "label", "split"], optional=optional)
    _check_rows(checked)
    rows = checked.frame.select(REQUIRED).with_columns(pl.col("label").cast(pl.UInt8)).sort("task", "id")
    alike = [note for column in ("task", "task_cluster") for note in lookalike.notes(column, rows[column].unique())]
    return Labels(_tasks(rows, table.source), rows, (*checked.notes, *alike), _class_names(checked.frame))


def _check_rows(table: TableFile) -> None:
    rows = table.frame
    no_label = ~pl.col("label").is_in(["0", "1"])
    table.refuse(rows.filter(no_label), of_value("label", "it must be 0 or 1"))
    no_split = ~pl.col("split").is_in(["train", "test"])
    table.refuse(rows.filter(no_split), of_value("split", "it must be train or test"))
    again = ~pl.struct("task", "id").is_first_distinct()
    table.refuse(
        rows.filter(again),
        lambda row: f"image {row['id']!r} stands in task {row['task']!r} already; keep one of the rows",
    )


def _class_names(rows: pl.DataFrame) -> dict[str, tuple[str, str]]:
    if "text_label" not in rows.columns:
        return {}
    named = rows.group_by("task", "label").agg(pl.col("text_label").unique()).sort("task", "label")
    names: dict[str, list[str | None]] = defaultdict(list)
    for task, _, texts in named.iter_rows():
        names[task].append(texts[0] if len(texts) == 1 else None)
    return {task: (zero, one) for task, (zero, one) in names.items() if zero and one and zero != one}


def _tasks(rows: pl.DataFrame, source: str) -> tuple[BinaryTask, ...]:
    return tuple(_task(of_task, source) for of_task in rows.partition_by("task", maintain_order=True))


def _task(rows: pl.DataFrame, source: str) -> BinaryTask:
    """One task from its rows, sorted by image ID."""
    name = rows["task"][0]
    where = f"{source}, task {name!r}"
    cluster, subcluster = (_only(rows[column], where) for column in ("task_cluster", "task_subcluster"))
    splits = {}
    for split in ("train", "test"):
        part = rows.filter(pl.col("split") == split)
        absent = {0, 1} - set(part["label"].to_list())
        if absent:
            raise BBError(
                f"{where}: no {split} image of class {' or '.join(map(str, sorted(absent)))}; "
                "each split needs both classes. Add such rows or leave the task out."
            )
        splits[split] = np.array(part["id"].to_list(), dtype=np.str_), part["label"].to_numpy()
    return BinaryTask(name, cluster, subcluster, *splits["train"], *splits["test"])


def _only(column: pl.Series, where: str) -> Any:
    values = column.unique().sort().to_list()
    if len(values) > 1:
        listed = " and ".join(repr(value or "") for value in values)
        raise BBError(f"{where}: {column.name} is {listed}; a task has one. Make its rows agree.")
    return values[0]
