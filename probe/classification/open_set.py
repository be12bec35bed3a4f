"""Open sets: test images of classes that nothing was trained on are of one class, unknown, which may be answered.

Which are poisonous stands in a file like FungiCLEF's poison_status_list.csv: class_id, poisonous (0 or 1).
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int64

from bb.probe.classification.scores import Answers
from bb.probe.classifiers.registry import CLASSIFIERS
from bb.probe.statistics.multiclass.user_loss import user_loss
from bb.probe.tables.table_file import read_table_file
from bb.probe.tasks.fold import Split
from bb.probe.tasks.task_table import UNLABELLED, TaskTable
from bb.store.errors import BBError, UsageError
from bb.store.format.collection import some
from bb.store.text.lookalike import shown

UNKNOWN = "(unknown)"
TESTED = ("test", "id_test", "val", "id_val")
NO_INTERVAL = "few images decide this score"


def rejects(classifier: str) -> bool:
    """Whether a classifier says of images that they are of none of its classes."""
    return classifier in CLASSIFIERS and hasattr(CLASSIFIERS.load(classifier), "rejects")


def fill_unknown(table: TaskTable) -> TaskTable:
    """The table with unknown for the empty labels of the sides that are not trained on."""
    if table.target != "classes" or "split" not in table.frame.columns:
        return table
    tested = pl.col("split").is_in(TESTED) & pl.col("label").is_null()
    n = table.frame.filter(tested).height
    if not n:
        return table
    frame = table.frame.with_columns(label=pl.when(tested).then(pl.lit(UNKNOWN)).otherwise("label"))
    others = frame["label"].null_count()
    notes = [note for note in table.notes if not note.endswith(UNLABELLED)]  # it is not so for these
    notes += [f"{others} of {frame.height} rows {UNLABELLED}"] if others else []
    return replace(table, notes=tuple(notes)).with_frame(
        frame, f"open set: {n} images without a label count as {UNKNOWN}"
    )


def merge_unknown(split: Split) -> Split:
    """The split with one class, the last, for all that nothing is trained on.

    Errors: UsageError for traits and numbers, and where folds are trained on other images each; BBError where a class
    has the name of this one.
    """
    task = split.task
    if task.target != "classes" or split.by != "column":
        raise UsageError(f"an open set needs classes and a table whose split column says what is trained on; task "
                         f"{task.name!r} is of {task.target}, split by {split.by}.")  # fmt: skip
    trained = np.unique(split.folds[0].train_y)
    if UNKNOWN in (task.classes[k] for k in trained):
        raise BBError(f"task {task.name!r} trains on a class {UNKNOWN!r}, which stands for unknown ones: rename it.")
    place = np.full(len(task.classes), len(trained), np.int64)
    place[trained] = np.arange(len(trained))
    names = [task.classes[k] for k in trained]
    merged = replace(task, y=place[task.y], classes=(*names, UNKNOWN))
    tested = np.concatenate([fold.test for fold in split.folds])
    n = int((merged.y[tested] == len(trained)).sum())
    note = f"open set: {n} of {len(tested)} test images are of no class that is trained on, and count as {UNKNOWN}"
    return replace(
        split, task=merged, folds=tuple(replace(fold, task=merged) for fold in split.folds), notes=(*split.notes, note)
    )


def with_unknown(
    predicted: Int64[np.ndarray, " m"],
    decision: Float64[np.ndarray, "m k"],
    rejected: Bool[np.ndarray, " m"],
    unknown: int,
) -> tuple[Int64[np.ndarray, " m"], Float64[np.ndarray, "m k"]]:
    """Answers with unknown for what was rejected; its decision is above all others, or below."""
    decision = decision.copy()
    known = np.delete(decision, unknown, axis=1)
    decision[:, unknown] = np.where(rejected, known.max(axis=1) + 1, known[np.isfinite(known)].min() - 1)
    return np.where(rejected, unknown, predicted), decision


def read_poisonous(path: str | Path) -> dict[str, bool]:
    """Whether each class of a file is poisonous. Errors: UsageError and BBError naming what is wrong with it."""
    table = read_table_file(
        Path(path),
        what=f"no list of poisonous classes at {path}: a CSV or Parquet file with the columns class_id and poisonous.",
        columns=lambda header: [name for name in header if name in ("class_id", "poisonous")],
        remedy="Export it again as CSV or Parquet.",
    )
    table.require(["class_id", "poisonous"], "Rename its columns to class_id and poisonous.")
    frame = table.frame.select(pl.col("class_id", "poisonous").cast(pl.String).str.strip_chars())
    strange = frame.filter(~pl.col("poisonous").is_in(["0", "1"]) | pl.col("class_id").fill_null("").eq(""))
    if strange.height:
        row = strange.row(0)
        raise BBError(f"{path}: poisonous is {shown(str(row[1]))} for class {shown(str(row[0]))}; it must be 0 or 1.")
    found: dict[str, bool] = {}
    for name, word in frame.iter_rows():
        if found.setdefault(name, word == "1") != (word == "1"):
            raise BBError(f"{path}: class {shown(name)} is both poisonous and not; keep one of its rows.")
    return found


def poisonous_classes(listed: Mapping[str, bool], table: TaskTable, source: str) -> tuple[tuple[str, ...], TaskTable]:
    """The poisonous classes, sorted, and the table with a note where its classes are not all listed.

    source  the list's name. Errors: BBError where none is, since the loss would then be that of a harmless set.
    """
    frame = table.frame
    trained = frame.filter(pl.col("split") == "train") if "split" in frame.columns else frame
    names = trained["label"].drop_nulls().unique().sort().to_list() if table.target == "classes" else []
    absent = [name for name in names if name not in listed]
    if names and len(absent) == len(names):
        raise BBError(f"{source} has none of the {len(names)} classes that are trained on, such as {shown(names[0])}; "
                      f"it has {shown(next(iter(listed)))}. Write class_id as the labels are.")  # fmt: skip
    note = f"{len(absent)} of {len(names)} classes are not in {source} and count as not poisonous: {some(absent)}"
    table = table.with_frame(frame, note) if absent else table
    return tuple(sorted(name for name, is_poisonous in listed.items() if is_poisonous)), table


def loss_of(answer: Answers, poisonous: Collection[str]) -> dict[str, Any]:
    """FungiCLEF's score of one side, as a metric, and what it is made of."""
    names = answer.task.classes
    is_poisonous = np.isin(np.array(names), list(poisonous))
    found = user_loss(answer.y, answer.predicted, names.index(UNKNOWN), is_poisonous)
    score = {"value": found.score, "low": None, "high": None, "claim": "", "reason": NO_INTERVAL}
    return {
        "metrics": {"user_loss_score": score},
        "user_loss": {
            "loss": found.loss,
            "classification": found.classification,
            "poison": found.poison,
            "worst": found.worst,
            "poisonous_classes": int(is_poisonous.sum()),
        },
    }
