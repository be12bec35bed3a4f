"""Pool the images of a group (the frames of a clip, the photographs of an observation) to one unit with one vector."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Float32

from bb.probe.tasks.splits import groups_of
from bb.probe.tasks.task_table import TaskTable
from bb.store.errors import BBError, UsageError
from bb.store.text.lookalike import shown

POOLINGS = ("mean", "max", "test-mean", "test-max")
TRAINING = "train"
_AT_ONCE = 65_536  # images whose features are read together


@dataclass(frozen=True, eq=False)
class Pooling:
    """Which images each unit is made of.

    how      one of POOLINGS; "test-" leaves the images of side train as they are
    members  a unit is called as its first image: that ID → all its image IDs, sorted
    """

    how: str
    members: Mapping[str, tuple[str, ...]]

    def images(self, units: Sequence[str]) -> list[str]:
        """All images of units, unit by unit."""
        return [image_id for unit in units for image_id in self.members[unit]]

    def features(
        self, units: Sequence[str], read: Callable[[Sequence[str]], Float[np.ndarray, "m d"]]
    ) -> Float32[np.ndarray, "n d"]:
        """A row for each unit, from `read`, which gives the features of images; some units at once."""
        parts = []
        for block in self._blocks(units):
            x = read(self.images(block))
            sizes = [len(self.members[unit]) for unit in block]
            starts = np.cumsum([0, *sizes[:-1]])
            if self.how.endswith("max"):
                parts.append(np.maximum.reduceat(x, starts, axis=0).astype(np.float32))
            else:
                total = np.add.reduceat(x.astype(np.float64), starts, axis=0)
                parts.append((total / np.array(sizes)[:, None]).astype(np.float32))
        return np.concatenate(parts)

    def _blocks(self, units: Sequence[str]) -> Iterator[list[str]]:
        block, images = list[str](), 0
        for unit in units:
            block.append(unit)
            images += len(self.members[unit])
            if images >= _AT_ONCE:
                yield block
                block, images = [], 0
        if block:
            yield block


def check_pooling(how: str | None, group: str | None) -> str | None:
    """Errors: UsageError for an unknown word, or where the option that names the group is empty."""
    if how is not None and how not in POOLINGS:
        raise UsageError(f"--pool-group {how!r} is unknown: choose {', '.join(POOLINGS)}.")
    if how is not None and group == "":
        raise UsageError("--pool-group pools the images of a group, and --group '' leaves the column out: name it.")
    return how


def pool_table(table: TaskTable, how: str) -> tuple[TaskTable, Pooling]:
    """The table with a row for each unit of a task: the images of one group on one side; an image without a group is
    one.

    A unit has its images' commonest label (of equal counts the first class; of traits the lower value), of numbers
    the mean, and in other columns what its first image has. Images without a label are left out.
    Errors: UsageError where the table has no groups, or how needs a split that it does not have; BBError where tasks
    group one image in two ways.
    """
    frame = table.frame.filter(~pl.all_horizontal(pl.col(table.label_columns).is_null()))
    if "group" not in frame.columns:
        raise UsageError(f"{table.source} has no column for the group, so nothing can be pooled by --pool-group; name "
                         "one with --group COLUMN.")  # fmt: skip
    if how.startswith("test-") and "split" not in frame.columns:
        raise UsageError(f"--pool-group {how} pools what isn't trained on, and {table.source} has no column for the "
                         "split; name one with --split COLUMN.")  # fmt: skip
    side = frame["split"].fill_null("") if "split" in frame.columns else pl.repeat("", frame.height, eager=True)
    unit = pl.Series("_group", groups_of(frame))
    if how.startswith("test-"):
        unit = pl.select(pl.when(side == TRAINING).then("image/" + frame["image_id"]).otherwise(unit)).to_series()
    keyed = frame.with_columns(unit.alias("_group"), side.alias("_side"))
    key = ["task", "_side", "_group"]
    grouped = keyed.group_by(key, maintain_order=True)
    units = grouped.agg(pl.all().first(), pl.col("image_id").alias("_members"))
    units, mixed = _labelled(table, keyed, key, units)
    members: dict[str, tuple[str, ...]] = {}
    for first, ids in units.select("image_id", "_members").iter_rows():
        if members.setdefault(first, tuple(ids)) != tuple(ids):
            raise BBError(f"{table.source}: tasks put image {shown(first)} into groups of other images; give each task "
                          "a table, and score them one by one.")  # fmt: skip
    notes = [f"{frame.height} images are pooled to {units.height} units ({how}), as their groups say"]
    if mixed:
        notes.append(f"{mixed} units have images of several labels: the commonest counts")
    if dropped := table.frame.height - frame.height:
        notes.append(f"{dropped} images without a label are in no unit")
    return table.with_frame(units.select(frame.columns), *notes), Pooling(how, members)


def _labelled(table: TaskTable, keyed: pl.DataFrame, key: list[str], units: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The units with the label of their images, and how many have images of several."""
    mixed = pl.repeat(False, units.height, eager=True)
    for column in table.label_columns:
        if table.target == "values":
            agreed = keyed.group_by(key).agg(pl.col(column).mean())
            units = units.drop(column).join(agreed, on=key, how="left", maintain_order="left")
            continue
        known = keyed.drop_nulls(column)
        place: Any = pl.col(column)
        if table.target == "classes":
            rank = {(task, name): i for task in table.tasks for i, name in enumerate(table.classes(task))}
            order = pl.DataFrame(
                [(task, name, i) for (task, name), i in rank.items()],
                schema={"task": pl.String, column: pl.String, "_place": pl.Int64},
                orient="row",
            )
            known, place = known.join(order, on=["task", column], maintain_order="left"), pl.col("_place")
        counts = known.group_by([*key, column]).agg(pl.len().alias("_n"), place.first().alias("_order"))
        counts = counts.sort("_n", "_order", descending=[True, False])
        agreed = counts.group_by(key, maintain_order=True).agg(pl.col(column).first(), pl.len().alias("_kinds"))
        units = units.drop(column).join(agreed, on=key, how="left", maintain_order="left")
        mixed = mixed | (units["_kinds"].fill_null(0) > 1)
        units = units.drop("_kinds")
    return units, int(mixed.sum())
