"""Which predictions to accept of images whose group has labelled images: the error is kept down group by group.

An image of a labelled site is easier than one of a further site. So its threshold is found on labelled images that were
predicted with others of their site to train on: those of its own site where these are enough, else those of all sites
(group-conditional, or Mondrian, conformal prediction: Vovk, Lindsay, Nouretdinov and Gammerman 2003).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int64

from bb.probe.labelling.abstention import Acceptance, accept
from bb.probe.tables.missing_value import column_name
from bb.probe.tables.table_file import LINE, read_table_file
from bb.probe.tasks.splits import groups_of
from bb.probe.tasks.task_columns import assign, candidates
from bb.probe.tasks.task_table import TaskTable
from bb.store.text.lookalike import shown

FEWEST_IMAGES = 20  # labelled in a group: with fewer, one error decides its threshold


@dataclass(frozen=True, eq=False)
class GroupThresholds:
    """Acceptances at one target error.

    pooled  of all labelled groups together
    own     by group, of those with FEWEST_IMAGES labelled images
    images  by group, how many are labelled
    """

    pooled: Acceptance
    own: Mapping[str, Acceptance]
    images: Mapping[str, int]

    @classmethod
    def of(
        cls,
        confidence: Float64[np.ndarray, " n"],
        right: Bool[np.ndarray, " n"],
        group: Int64[np.ndarray, " n"],
        names: Sequence[str],
        target_error: float,
    ) -> "GroupThresholds":
        """Of labelled images by classifiers that were fitted on others, of the same groups among them."""
        size = np.bincount(group, minlength=len(names))
        own = {
            names[g]: accept(confidence[group == g], right[group == g], target_error)
            for g in np.flatnonzero(size >= FEWEST_IMAGES).tolist()
        }
        pooled = accept(confidence, right, target_error, group=group)
        return cls(pooled, own, dict(zip(names, size.tolist(), strict=True)))

    @property
    def thresholds(self) -> "Thresholds":
        """What a model keeps of it."""
        named = {name: name.removeprefix("group/") for name in self.images if name.startswith("group/")}
        own = {named[name]: each.threshold for name, each in self.own.items() if name in named}
        return Thresholds(self.pooled.threshold, own, frozenset(named.values()).difference(own))

    def notes(self, rows: int) -> list[str]:
        """Where thresholds are not those of an image's own group, and why."""
        if not rows:
            return [
                "no unlabelled image is in the table with a labelled group: all are accepted as images of further ones"
            ]
        few = [name for name in self.images if name not in self.own and not name.startswith("image/")]
        if not few:
            return []
        return [
            f"{len(few)} of {len(self.own) + len(few)} groups have fewer than {FEWEST_IMAGES} labelled images, too few "
            "for a threshold of their own; their images are accepted by that of all labelled groups"
        ]

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "threshold": self.pooled.threshold,
            "error_of_accepted": self.pooled.error,
            "groups": [
                {
                    "group": name.removeprefix("group/"),
                    "images": self.images[name],
                    "threshold": each.threshold,
                    "accepted_of_labelled": each.accepted,
                    "error_of_accepted": each.error,
                    "error_of_accepted_interval": list(each.interval) if each.interval else None,
                }
                for name, each in self.own.items()
            ],
        }


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Of the probability of what is accepted, of images of groups that have labelled images; None accepts nothing.

    own     of groups by themselves
    others  the groups that have the pooled one
    """

    pooled: float | None
    own: Mapping[str, float | None]
    others: frozenset[str]

    def applied(self, frame: pl.DataFrame, groups: Mapping[str, str]) -> tuple[pl.DataFrame, int]:
        """A table of predictions with `accepted` by these; how many rows they decide.

        groups  image ID → group, of images whose group is known
        """
        found = []
        rows = frame.select("image_id", "probability", "accepted").iter_rows()
        n = 0
        for image_id, probability, accepted in rows:
            group = groups.get(image_id)
            if group is None or (group not in self.own and group not in self.others):
                found.append(accepted)
                continue
            n += 1
            threshold = self.own.get(group, self.pooled)
            found.append(threshold is not None and probability >= threshold)
        return frame.with_columns(accepted=pl.Series(found, dtype=pl.Boolean)), n

    def record(self) -> dict[str, Any]:
        return {"pooled": self.pooled, "own": dict(self.own), "others": sorted(self.others)}


def read_groups(path: str | Path, id: str | None = None, group: str | None = None) -> dict[str, str]:
    """Image ID → group of a table's rows that have one. id, group: its columns, where usual names do not tell.

    Errors: UsageError and BBError, as those of a table of labels.
    """
    named = {"image_id": id and column_name(id), "group": group and column_name(group)}
    found = read_table_file(
        Path(path),
        what=f"no groups at {path}: a CSV or Parquet file with a column of image IDs and one of groups.",
        columns=lambda header: candidates(header, [each for each in named.values() if each]),
        remedy="Export it again as CSV or Parquet.",
    )
    roles = assign(found.columns, named, found.source, tuple(named))
    held = found.frame.select(LINE, *(roles.columns[role] for role in named))
    held = held.rename({roles.columns[role]: role for role in named})
    table = replace(found, frame=held).select(ids=["image_id"], optional=["group"])
    frame = table.frame.drop_nulls().unique(["image_id", "group"], keep="first", maintain_order=True)
    table.refuse(
        frame.filter(~pl.col("image_id").is_first_distinct()),
        lambda row: f"image {shown(row['image_id'])} is of another group in an earlier row; keep one of them",
    )
    return dict(frame.select("image_id", "group").iter_rows())


def groups_of_unlabelled(table: TaskTable) -> dict[str, str]:
    """Image ID → group of the table's rows without a label; not of images that are a group by themselves."""
    rows = table.frame.filter(pl.all_horizontal(pl.col(table.label_columns).is_null()))
    named = zip(rows["image_id"].to_list(), groups_of(rows), strict=True)
    return {image_id: group.removeprefix("group/") for image_id, group in named if group.startswith("group/")}


def group_names(table: TaskTable) -> list[str]:
    """The groups of a table's labelled rows, in the order of their codes."""
    rows = table.frame.filter(~pl.all_horizontal(pl.col(table.label_columns).is_null()))
    return sorted(set(groups_of(rows)))
