"""Labelled images whose files are equal: one photograph under several names counts once.

Else one copy is predicted by classifiers that were fitted on the other, and the stated accuracy is that of remembering.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from bb.probe.tasks.task_table import TaskTable
from bb.store import Collection
from bb.store.text.lookalike import shown


def once_each(table: TaskTable, collection: Collection) -> tuple[TaskTable, Mapping[str, str]]:
    """The table with the first of the labelled images that have the same bytes and label; the others' ID → its ID.

    Notes say how many are left out, and which equal files have different labels: these stay.
    """
    labelled = table.frame.drop_nulls("label").select("image_id", "label")
    digests = np.ascontiguousarray(collection.digests(labelled["image_id"].to_list())).view("V32").ravel()
    labelled = labelled.with_columns(file=pl.Series(np.unique(digests, return_inverse=True)[1]))
    labelled = labelled.with_columns(
        first=pl.col("image_id").first().over("file", "label"), kinds=pl.col("label").n_unique().over("file")
    )
    copies = dict(labelled.filter(pl.col("first") != pl.col("image_id")).select("image_id", "first").iter_rows())
    notes = []
    if copies:
        one, other = next(iter(copies.items()))
        notes.append(
            f"{len(copies)} labelled images have the same file and label as another and are left out, such as "
            f"{shown(one)}, which is {shown(other)}"
        )
    several = labelled.filter(pl.col("kinds") > 1).sort("file", "image_id")
    if len(several):
        same = several.filter(pl.col("file") == several["file"][0])
        one, other = same["image_id"][0], same.filter(pl.col("label") != same["label"][0])["image_id"][0]
        notes.append(
            f"{several['file'].n_unique()} files have several labels, such as that of {shown(one)} and {shown(other)}: "
            "correct them"
        )
    return table.with_frame(table.frame.filter(~pl.col("image_id").is_in(list(copies))), *notes), copies
