"""Runs to one table of models × items, in which every model is judged on the very same items."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float, Int, Shaped
from joblib import cpu_count

from bb.probe.tables.missing_value import column_name
from bb.probe.tables.table_file import TableFile, read_table_file
from bb.store.errors import BBError, UsageError
from bb.store.local.runs import Run, by_precedence
from bb.store.text import lookalike
from bb.store.text.image_ids import match_ids

# What of the predictions a metric may need in addition to the true labels.
FIELDS = ("score", "y_pred", "decision")
Field = Float[np.ndarray, "columns n"] | Int[np.ndarray, "columns n"]


@dataclass(frozen=True, eq=False)
class Table:
    """Models × items. An item is a test image in a task; items are sorted by task, then by image ID.

    A model is whatever is compared under one name: a backbone at one n_train, for example. It has a column for each
    few-shot draw, columns in order of model and seed.

    models     names, in the order given
    model      (columns,) the model that each column is of
    seeds      (columns,) its draw; None where all training images were taken
    tasks      names, sorted
    starts     (tasks + 1,) task t has the items starts[t] to starts[t + 1]
    image_ids  (n,)
    units      what was sampled from the world, sorted: the distinct images, or groups of them
    unit       (n,) the unit that each item is of
    y_true     (n,)
    fields     (columns, n) each: those of score, y_pred and decision that were asked for
    drawn      what units are, in words
    """

    models: tuple[str, ...]
    model: Int[np.ndarray, " columns"]
    seeds: tuple[int | None, ...]
    tasks: tuple[str, ...]
    starts: Int[np.ndarray, " tasks_1"]
    image_ids: Shaped[np.ndarray, " n"]
    units: tuple[str, ...]
    unit: Int[np.ndarray, " n"]
    y_true: Int[np.ndarray, " n"]
    fields: Mapping[str, Field]
    drawn: str = "images"

    def __len__(self) -> int:
        """The number of items."""
        return len(self.unit)

    @property
    def sizes(self) -> Int[np.ndarray, " tasks"]:
        """Items of each task."""
        return np.diff(self.starts)

    @property
    def class_of_task(self) -> Int[np.ndarray, " n"]:
        """A number for each true class of each task, in order of both."""
        task = np.repeat(np.arange(len(self.tasks)), self.sizes)
        return np.ravel(np.unique(np.stack([task, self.y_true]), axis=1, return_inverse=True)[1])

    @property
    def shares_given(self) -> bool:
        """Whether all tasks have their classes in the same shares, to an image: then these were chosen, not drawn.

        Of a single task, whether it has as many of each class.
        """
        counts = np.zeros((len(self.tasks), len(np.unique(self.y_true))))
        task = np.repeat(np.arange(len(self.tasks)), self.sizes)
        np.add.at(counts, (task, np.unique(self.y_true, return_inverse=True)[1]), 1)
        share = 1 / counts.shape[1] if len(counts) == 1 else counts.sum(axis=0) / counts.sum()
        return bool((np.abs(counts - self.sizes[:, None] * share) <= 1).all())

    def of_task(self, task: int) -> slice:
        """Where a task's items are."""
        return slice(int(self.starts[task]), int(self.starts[task + 1]))

    def columns_of(self, model: int) -> Int[np.ndarray, " draws"]:
        """A model's columns, one for each draw."""
        return np.flatnonzero(self.model == model)

    def some(self, models: Sequence[int]) -> "Table":
        """Some of the models, by their places, in the order given; the items stay."""
        columns = np.concatenate([self.columns_of(m) for m in models])
        return replace(
            self,
            models=tuple(self.models[m] for m in models),
            model=np.repeat(np.arange(len(models)), [len(self.columns_of(m)) for m in models]),
            seeds=tuple(self.seeds[c] for c in columns),
            fields={name: field[columns] for name, field in self.fields.items()},
        )

    def averaged(self) -> "Table":
        """One column a model: its scores, averaged over its draws. For what is linear in them."""
        score = np.stack([self.fields["score"][self.columns_of(m)].mean(axis=0) for m in range(len(self.models))])
        model = np.arange(len(self.models))
        return replace(self, model=model, seeds=(None,) * len(model), fields={"score": score})

    def grouped(self, groups: Mapping[str, str]) -> "Table":
        """The same items, where what was sampled from the world are groups of images: an individual, a site, a date.

        groups  the group of each image ID; see `groups_of`
        Errors: BBError where a test image has none.
        """
        wanted = sorted(set(self.image_ids.tolist()))
        match = match_ids(wanted, groups, of="the labels file")
        if match.unmatched:
            raise BBError(
                f"{len(match.unmatched)} test images belong to no group, the first is {match.unmatched[0]!r}: "
                "the labels file must name a group for each."
            )
        of_image = {image_id: groups[name] for image_id, name in zip(wanted, match.ids, strict=True)}
        units, unit = np.unique([of_image[image_id] for image_id in self.image_ids.tolist()], return_inverse=True)
        return replace(self, units=tuple(units.tolist()), unit=unit, drawn="groups")

    def only(self, tasks: Iterable[str]) -> "Table":
        """Some of the tasks. Errors: KeyError for one that is not there."""
        places = sorted({self.tasks.index(task) if task in self.tasks else _absent(task) for task in tasks})
        rows = np.concatenate([np.arange(len(self))[self.of_task(t)] for t in places])
        kept, unit = np.unique(self.unit[rows], return_inverse=True)
        return replace(
            self,
            tasks=tuple(self.tasks[t] for t in places),
            starts=np.concatenate([[0], np.cumsum(self.sizes[places])]),
            image_ids=self.image_ids[rows],
            units=tuple(self.units[u] for u in kept),
            unit=unit,
            y_true=self.y_true[rows],
            fields={name: field[:, rows] for name, field in self.fields.items()},
        )


def read_table(models: Mapping[str, Sequence[Run]], fields: Sequence[str] = ("score",)) -> Table:
    """The table of some models, each with its runs, which differ in their seeds alone.

    fields  those of FIELDS that are needed: `bb.probe.statistics.metrics.METRICS` says which a metric needs
    Errors: BBError where there are no runs, the runs were tested on different images, or one is damaged.
    """
    unknown = set(fields) - set(FIELDS)
    if unknown:
        raise ValueError(f"no such fields: {sorted(unknown)}")
    named = [(name, run) for name, runs in models.items() for run in sorted(runs, key=_seed)]
    if not named:
        raise BBError("found no runs to compare: `bb probe` makes them.")
    needed = tuple(dict.fromkeys(("task", "image_id", "y_true", *fields)))
    reference = by_precedence(run for _, run in named)[0]
    first = reference.predictions(needed)
    keys = _keys(first)
    items = keys.sort("task", "image_id")
    twice = items.filter(items.is_duplicated())
    if not twice.is_empty():
        task, image_id = twice.row(0)
        raise BBError(f"task {task!r} has more than one prediction for image {image_id!r}; it needs exactly one.")
    order = _order(keys)
    y_true = first["y_true"].to_numpy()[order].astype(np.int64)
    table = {name: np.empty((len(named), len(items)), np.int64 if name == "y_pred" else float) for name in fields}

    def fill(place: int) -> None:
        run = named[place][1]
        predictions = run.predictions(needed)
        theirs = _keys(predictions)
        rows = order
        if not theirs.equals(keys):  # they may still be the same items in another order
            rows = _order(theirs)
            if not theirs[rows].equals(items):
                raise _apart(reference, run)
        if not np.array_equal(predictions["y_true"].to_numpy()[rows], y_true):
            raise _apart(reference, run)
        for name in fields:
            table[name][place] = predictions[name].to_numpy()[rows]

    # Reading waits for disks, and Parquet is decoded outside of Python's lock.
    with ThreadPoolExecutor(cpu_count()) as pool:
        list(pool.map(fill, range(len(named))))
    sizes = items.group_by("task", maintain_order=True).len()
    units, unit = np.unique(items["image_id"].to_numpy().astype(np.str_), return_inverse=True)
    names = tuple(name for name, runs in models.items() if runs)
    return Table(
        models=names,
        model=np.array([names.index(name) for name, _ in named]),
        seeds=tuple(run.record["seed"] for _, run in named),
        tasks=tuple(sizes["task"]),
        starts=np.concatenate([[0], np.cumsum(sizes["len"].to_numpy())]).astype(np.int64),
        image_ids=items["image_id"].to_numpy().astype(np.str_),
        units=tuple(units.tolist()),
        unit=unit,
        y_true=y_true,
        fields=table,
    )


def groups_of(labels: pl.DataFrame, column: str) -> dict[str, str]:
    """The group of each image, from another column of the labels than `id`.

    Errors: UsageError where the column is absent, BBError where an image has no group or belongs to two.
    """
    return _groups(TableFile.from_frame(labels, "the table", ("id", column)), column)


def read_groups(file: Path, column: str) -> tuple[dict[str, str], list[str]]:
    """The same of a file of labels, and what a reader should know of it. Errors: as `groups_of`, `read_table_file`."""
    what = f"no labels at {file}: --labels names the file that has the column {column!r}."
    remedy = "Fetch or export it again."
    column = column_name(column)
    table = read_table_file(file, what=what, columns=("id", column), remedy=remedy)
    groups = _groups(table, column)
    return groups, [*table.notes, *lookalike.notes(column, groups.values())]


def _groups(labels: TableFile, column: str) -> dict[str, str]:
    if column not in labels.columns:
        raise UsageError(
            f"{labels.source} has no column {column!r} to group images by (there: {', '.join(labels.columns)})."
        )
    labels.require(["id"], "Images are known by it.")
    pairs = labels.select(ids=["id"], optional=[] if column == "id" else [column]).frame
    pairs = pairs.select("id", pl.col(column).alias("group")).unique()
    empty = pairs.filter(pl.col("group").is_null()).sort("id")
    if not empty.is_empty():
        raise BBError(f"image {empty['id'][0]!r} has no {column!r} in the labels: each image must belong to a group.")
    twice = pairs.filter(pl.col("id").is_duplicated()).sort("id", "group")
    if not twice.is_empty():
        both = " and ".join(repr(group) for group in twice["group"][:2])
        raise BBError(
            f"image {twice['id'][0]!r} has two values of {column!r}, {both}: it can belong to one group only."
        )
    return dict(pairs.iter_rows())


def _keys(predictions: pl.DataFrame) -> pl.DataFrame:
    return predictions.select("task", "image_id")


def _order(keys: pl.DataFrame) -> Int[np.ndarray, " n"]:
    return keys.select(pl.arg_sort_by("task", "image_id")).to_series().to_numpy().astype(np.int64)


def _seed(run: Run) -> int:
    return -1 if run.record["seed"] is None else int(run.record["seed"])


def _apart(one: Run, other: Run) -> BBError:
    return BBError(
        f"runs {one.describe()} and {other.describe()} were tested on different images, so they can't be compared: "
        f"move {other.folder} out of the store."
    )


def _absent(task: str) -> int:
    raise KeyError(task)
