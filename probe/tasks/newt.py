"""NeWT's labels: which images each task trains and tests on, read from `newt2021_labels.csv` and checked.

NeWT (Van Horn et al., "Benchmarking Representation Learning for Natural World Image Collections", CVPR 2021)
is 164 two-class tasks; any table in the same columns is a task family too, whatever the number of its tasks.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Shaped, UInt8

from store.errors import BBError, UsageError
from store.fetch import Archive

N_TASKS = 164
LABELS_FILE = "newt2021_labels.csv"

_BUCKET = "https://ml-inat-competition-datasets.s3.amazonaws.com/newt/"
# The publishers' own archives; images about 4 GB (github.com/visipedia/newt).
ARCHIVES = (
    Archive(_BUCKET + "newt2021_labels.csv.tar.gz", md5="4cb26d0ee085904887b1ca14dcb893e7"),
    Archive(_BUCKET + "newt2021_images.tar.gz", md5="b04a56a5b1ffda87f16e6d4f81f9d38e"),
)
REQUIRED = ("id", "task_cluster", "task_subcluster", "task", "label", "split")
MAY_BE_EMPTY = ("task_subcluster",)


@dataclass(frozen=True, eq=False)
class Task:
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
    """

    tasks: tuple[Task, ...]
    table: pl.DataFrame

    @property
    def image_ids(self) -> list[str]:
        """Every image that some task needs, once, sorted."""
        return self.table["id"].unique().sort().to_list()

    @property
    def note(self) -> str | None:
        """What a reader of the scores should know about the number of tasks; None for the whole of NeWT."""
        n = len(self.tasks)
        return None if n == N_TASKS else f"{n} task{'s' * (n != 1)}, where the whole of NeWT has {N_TASKS}"


def read_labels(path: str | Path) -> Labels:
    """Read labels from a CSV file in NeWT's columns, or from the same table as Parquet.

    Errors: UsageError where there is no such file, BBError where it can't be read or `parse_labels` finds a
    problem.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no labels at {path}: NeWT's are newt2021_labels.csv; `bb data download newt` fetches them")
    try:
        # All as text: an ID such as 007 must stay as it is, and a label of 1.0 must be noticed.
        table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BBError(
            f"{path} can't be read as a table: {str(error).splitlines()[0]}. Fetch or export it again."
        ) from error
    return parse_labels(table, source=str(path))


def parse_labels(table: pl.DataFrame, *, source: str = "the labels") -> Labels:
    """Check a table in NeWT's columns and arrange it by task; `source` names it in messages.

    Required columns are id, task_cluster, task_subcluster, task, label and split; others are ignored. Each
    (task, id) stands once, labels are 0 or 1, splits are train or test, only task_subcluster may be empty, a
    task lies in one cluster, and both its splits hold both classes. Errors: BBError naming the line (line 1
    is the header) or the task.
    """
    missing = [column for column in REQUIRED if column not in table.columns]
    if missing:
        raise BBError(
            f"{source} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has "
            f"{', '.join(table.columns) or 'none'}. NeWT's own newt2021_labels.csv has all of them."
        )
    if table.is_empty():
        raise BBError(f"{source} has a header but no rows; fetch or export it again.")
    rows = table.select(pl.col(REQUIRED).cast(pl.String)).with_row_index("line", offset=2)
    _check_rows(rows, source)

    rows = rows.with_columns(pl.col("label").cast(pl.UInt8), pl.col("task_subcluster").replace("", None))
    rows = rows.drop("line").sort("task", "id")
    tasks = tuple(_task(rows_of_task, source) for rows_of_task in rows.partition_by("task", maintain_order=True))
    return Labels(tasks, rows)


def _check_rows(rows: pl.DataFrame, source: str) -> None:
    for column in REQUIRED:
        if column not in MAY_BE_EMPTY:
            empty = pl.col(column).is_null() | (pl.col(column) == "")
            _refuse(rows.filter(empty), f"{column} is empty; every row needs one", source)
    no_label = ~pl.col("label").is_in(["0", "1"])
    _refuse(rows.filter(no_label), "label is {label!r}; it must be 0 or 1", source)
    no_split = ~pl.col("split").is_in(["train", "test"])
    _refuse(rows.filter(no_split), "split is {split!r}; it must be train or test", source)
    again = ~pl.struct("task", "id").is_first_distinct()
    _refuse(rows.filter(again), "image {id!r} stands in task {task!r} already; keep one of the rows", source)


def _refuse(bad: pl.DataFrame, problem: str, source: str) -> None:
    """Raise for the first of the bad rows, counting the others; `problem` is a format string over columns."""
    if not bad.is_empty():
        row = bad.row(0, named=True)
        more = f" ({len(bad) - 1} more like it)" if len(bad) > 1 else ""
        raise BBError(f"{source}, line {row['line']}: {problem.format(**row)}{more}.")


def _task(rows: pl.DataFrame, source: str) -> Task:
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
    return Task(name, cluster, subcluster, *splits["train"], *splits["test"])


def _only(column: pl.Series, where: str) -> Any:
    values = column.unique().sort().to_list()
    if len(values) > 1:
        listed = " and ".join(repr(value or "") for value in values)
        raise BBError(f"{where}: {column.name} is {listed}; a task has one. Make its rows agree.")
    return values[0]
