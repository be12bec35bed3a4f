"""The task table: which image has which label, on which side of a split, in which group; one contract for all probes.

Columns of the contract (docs/labels.md): image_id; task; label, or several `label:<trait>`; split; and optional group,
site, date, weight, crop. Whatever the file calls them, here they have these names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import polars as pl

from bb.probe.tables.dates import read_dates
from bb.probe.tables.missing_value import column_name
from bb.probe.tables.table_file import LINE, TableFile, of_value, read_table_file
from bb.probe.tasks.task_columns import CORNERS, TRAIT, Roles, assign, candidates
from bb.store.errors import BBError, UsageError
from bb.store.text import lookalike
from bb.store.text.lookalike import shown

Target: TypeAlias = Literal["classes", "traits", "values"]

UNLABELLED = "have no label: neither trained on nor scored"
LARGEST = 1e30  # of numbers to predict, whose squares are summed
ONE_TASK = "classify"  # the task of a table without such a column; draws depend on the name
# What a table writes for a side → the contract's word.
SIDES = {
    **dict.fromkeys(("train", "training", "trn", "tr", "learn", "train_mini"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "hold_out", "held_out", "heldout"), "test"),
    **{word: word for word in ("id_val", "id_test", "query", "gallery", "unlabeled")},
    "unlabelled": "unlabeled",
}
# As spreadsheets write true and false in English, German, French, Spanish, Portuguese and Italian.
_TRUE = ("1", "true", "yes", "wahr", "vrai", "verdadero", "verdadeiro", "vero")
_FALSE = ("0", "false", "no", "falsch", "faux", "falso")
_TRUTHS = {**dict.fromkeys(_TRUE, 1), **dict.fromkeys(_FALSE, 0)}
_FORMULA = r"^\s*=\s*[\"A-Za-z$(]"


@dataclass(frozen=True, eq=False)
class TaskTable:
    """A checked table, sorted by task and image ID; each image stands once in a task.

    frame    image_id, task (text); label (text, or float64 for values; null: unlabelled), or `label:<trait>` (int8 0 or
             1, or null) for each trait; where the file has them split (a value of SIDES), group, site, date (ISO 8601),
             suggested_by, all text or null; weight (float64 ≥ 0); crop (four float64: x, y, width, height in pixels, or
             null)
    target   "classes": one label an image; "traits": several yes-or-no labels; "values": a number
    source   what the table is called in messages
    columns  the contract's name → the file's column
    notes    what a reader of the scores should know of the table
    """

    frame: pl.DataFrame
    target: Target
    source: str = "the table"
    columns: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.frame.height

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Sorted."""
        return tuple(self.frame["task"].unique().sort().to_list())

    @cached_property
    def image_ids(self) -> list[str]:
        """Every image once, sorted."""
        return self.frame["image_id"].unique().sort().to_list()

    @cached_property
    def label_columns(self) -> tuple[str, ...]:
        """`label`, or those of the traits."""
        return ("label",) if self.target != "traits" else tuple(c for c in self.frame.columns if c.startswith(TRAIT))

    @property
    def traits(self) -> tuple[str, ...]:
        """The names of the traits, in the file's order; empty for other targets."""
        return tuple(c.removeprefix(TRAIT) for c in self.label_columns if c != "label")

    def classes(self, task: str) -> tuple[str, ...]:
        """The names of a task's classes, of its labelled rows, by `sorted_classes`; () for other targets."""
        if self.target != "classes":
            return ()
        return sorted_classes(self.frame.filter(pl.col("task") == task)["label"].drop_nulls().unique().to_list())

    @property
    def taken(self) -> str:
        """What was taken from which column, for a person."""
        named = [role if role == name else f"{role} from {shown(name)}" for role, name in self.columns.items()]
        return f"{self.source}: {', '.join(named)}"

    def with_frame(self, frame: pl.DataFrame, *notes: str) -> "TaskTable":
        """The same with other rows, in whatever order."""
        return replace(self, frame=frame.sort("task", "image_id"), notes=(*self.notes, *notes))


def sorted_classes(names: Sequence[str]) -> tuple[str, ...]:
    """Class names in the order of their indices: whole numbers by value where all are, else by code point."""
    if all(name.isascii() and name.isdigit() and (name == "0" or name[0] != "0") for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def read_task_table(
    path: str | Path,
    *,
    id: str | None = None,
    label: str | Sequence[str] | None = None,
    split: str | None = None,
    group: str | None = None,
    task: str | None = None,
    regression: bool = False,
    not_missing: Sequence[str] = (),
    unfinished: bool = False,
) -> TaskTable:
    """Reads a task table from CSV of any dialect or from Parquet.

    id, label, split, group, task  the file's columns, where their usual names do not tell; several of `label` are
                                   traits; "" leaves a role out that the file has a column for
    regression   labels are numbers, and the target is "values"
    not_missing  texts such as "NA" that are labels or names, where they would stand for a missing value
    unfinished   labels are still being given: there may be none, or those of one class alone
    Errors: UsageError where there is no such file, no column or two for a role, or the labels do not fit the target;
    BBError naming the line of what can't be read.
    """
    path = Path(path)
    named = _as_read({"image_id": id, "label": label, "split": split, "group": group, "task": task})
    asked = _asked(named)
    what = f"no labels at {path}: a CSV or Parquet file with a column of image IDs or file names, and one of labels."
    table = read_table_file(
        path,
        what=what,
        columns=lambda header: candidates(header, asked),
        remedy="Export it again as CSV or Parquet.",
    )
    return _parse(table, assign(table.columns, named, table.source), regression, not_missing, unfinished)


def parse_task_table(
    table: pl.DataFrame,
    *,
    source: str = "the table",
    id: str | None = None,
    label: str | Sequence[str] | None = None,
    split: str | None = None,
    group: str | None = None,
    task: str | None = None,
    regression: bool = False,
    not_missing: Sequence[str] = (),
    unfinished: bool = False,
) -> TaskTable:
    """The same of a table in memory. Arguments and errors: as of `read_task_table`."""
    named = _as_read({"image_id": id, "label": label, "split": split, "group": group, "task": task})
    whole = TableFile.from_frame(table, source, table.columns)
    return _parse(whole, assign(whole.columns, named, source), regression, not_missing, unfinished)


def _as_read(named: Mapping[str, str | Sequence[str] | None]) -> dict[str, str | list[str] | None]:
    """The columns that a person names for roles, written as those of a table are when it is read."""
    return {
        role: each if each is None else column_name(each) if isinstance(each, str) else list(map(column_name, each))
        for role, each in named.items()
    }


def _asked(named: Mapping[str, str | Sequence[str] | None]) -> list[str]:
    """The columns that a person names."""
    return [name for each in named.values() if each is not None for name in ([each] if isinstance(each, str) else each)]


def _parse(table: TableFile, roles: Roles, regression: bool, not_missing: Sequence[str], unfinished: bool) -> TaskTable:
    source = table.source
    table.require(list(roles.columns.values()), "Export it again.")
    corners = [c for c in CORNERS if c in table.columns] if "crop" not in roles.columns else []
    corners = corners if len(corners) == len(CORNERS) else []
    names = {column: role for role, column in roles.columns.items()}
    if len(names) < len(roles.columns):
        twice = next(role for role, column in roles.columns.items() if names[column] != role)
        raise UsageError(f"{source}: the column {roles.columns[twice]!r} can't be both the {twice} and the "
                         f"{names[roles.columns[twice]]}. Choose another for one of them.")  # fmt: skip
    others = [role for role in roles.columns if role not in ("image_id", "task")]
    held = _crops_as_text(table.frame.select(LINE, *corners, *names).rename(names))
    table = replace(table, frame=held).select(
        ids=["image_id"],
        required=["task"] if "task" in roles.columns else [],
        optional=[*others, *corners],
        not_missing=not_missing,
    )
    target: Target = "traits" if roles.traits else "values" if regression else "classes"
    if regression and target == "traits":
        raise UsageError(
            f"{source} has columns of traits, which are yes or no; a regression needs one column of numbers."
        )
    for role in ("image_id", *(["label"] if target == "classes" else [])):
        formula = of_value(role, "it is a spreadsheet's formula; export the values")
        table.refuse(table.frame.filter(pl.col(role).str.contains(_FORMULA)), formula)
    table = replace(table, frame=table.frame.with_columns(_columns(table, roles, target)))
    frame = table.frame if "task" in roles.columns else table.frame.with_columns(task=pl.lit(ONE_TASK))
    if corners:
        frame = _crop_of_corners(replace(table, frame=frame), corners)
    if not unfinished:
        _check_labels(frame, roles, target, source, _taken_as_empty(table.notes))
    frame, equal = _without_repeats(replace(table, frame=frame))
    order = [role for role in ("image_id", "task", *(others), "crop") if role in frame.columns]
    alike_in = [
        role for role in ("label", "group", "site", "task") if role in frame.columns and frame[role].dtype == pl.String
    ]
    notes = [
        *table.notes,
        *roles.notes,
        *([f"{equal} rows repeat an earlier one and are left out"] if equal else []),
        *(note for role in alike_in for note in lookalike.notes(role, frame[role].drop_nulls().unique())),
        *lookalike.notes("trait", [trait.removeprefix(TRAIT) for trait in roles.traits]),
        *_unlabelled(frame, roles, target),
    ]
    columns = {**roles.columns, **({"crop": ", ".join(corners)} if corners else {})}
    frame = frame.select(list(dict.fromkeys(order))).sort("task", "image_id")
    return TaskTable(frame, target, source, columns, tuple(notes))


def _columns(table: TableFile, roles: Roles, target: Target) -> list[pl.Series]:
    """The columns that are more than text, and the words for sides."""
    made = [_truths(table, trait) for trait in roles.traits]
    if target == "values":
        made.append(_finite(table, "label"))
        too_large = table.frame.filter(made[-1].abs() >= LARGEST)
        table.refuse(too_large, of_value("label", f"numbers to predict must be below {LARGEST:g}; use a larger unit"))
    if "split" in roles.columns:
        made.append(_sides(table))
    if "date" in roles.columns:
        made.append(read_dates(table, "date"))
    if "weight" in roles.columns:
        weight = _finite(table, "weight")
        table.refuse(table.frame.filter(weight < 0), of_value("weight", "it must be 0 or more"))
        made.append(weight)
    if "crop" in roles.columns:
        made.append(_crop(table))
    return made


def _truths(table: TableFile, column: str) -> pl.Series:
    word = pl.col(column).str.strip_chars().str.to_lowercase().str.replace(r"^([01])[.,]0+$", "$1")
    table.refuse(table.frame.filter(~word.is_in(list(_TRUTHS))), of_value(column, "a trait is 0 or 1, or empty"))
    return table.frame.select(word.replace_strict(_TRUTHS, return_dtype=pl.Int8).alias(column))[column]


def _finite(table: TableFile, column: str) -> pl.Series:
    number = table.numbers(column)
    table.refuse(table.frame.filter(~number.is_finite()), of_value(column, "it must be a finite number"))
    return number


def _sides(table: TableFile) -> pl.Series:
    word = pl.col("split").str.strip_chars().str.to_lowercase().str.replace_all(r"[\s-]+", "_")
    strange = table.frame.filter(~word.is_in(list(SIDES)))
    remedy = "it must be train, val or test; choose another column with --split COLUMN, or none with --split ''"
    table.refuse(strange, of_value("split", remedy))
    return table.frame.select(word.replace_strict(SIDES, return_dtype=pl.String).alias("split"))["split"]


def _crops_as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame whose crops are lists of numbers, as Parquet may hold them, with these as text."""
    if "crop" not in frame.columns or not isinstance(frame["crop"].dtype, pl.List | pl.Array):
        return frame
    if not frame["crop"].dtype.inner.is_numeric():
        return frame
    numbers = pl.col("crop").cast(pl.List(pl.Float64)).list.eval(pl.element().cast(pl.String)).list.join(" ")
    return frame.with_columns(numbers)


def _crop(table: TableFile) -> pl.Series:
    numbers = pl.col("crop").str.extract_all(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
    plain = pl.col("crop").str.contains(r"^[\s\[(]*(-?[\d.eE+-]+[\s,;]*){4}[\s\])]*$")
    remedy = "a crop is four numbers: x, y, width, height in pixels"
    table.refuse(table.frame.filter(~plain | (numbers.list.len() != 4)), of_value("crop", remedy))
    sides = numbers.cast(pl.List(pl.Float64))
    flat = (sides.list.get(2, null_on_oob=True) <= 0) | (sides.list.get(3, null_on_oob=True) <= 0)
    table.refuse(table.frame.filter(flat), of_value("crop", f"it is empty; {remedy}"))
    return table.frame.select(sides.list.to_array(4).alias("crop"))["crop"]


def _crop_of_corners(table: TableFile, corners: Sequence[str]) -> pl.DataFrame:
    edges = [table.numbers(corner) for corner in corners]
    frame = table.frame.with_columns(edges)
    given = pl.sum_horizontal(pl.col(corners).is_not_null())
    table.refuse(
        table.frame.filter(frame.select(given.is_in([1, 2, 3])).to_series()), "the box has some of x1, y1, x2, y2 only"
    )
    flat = frame.select((pl.col("x1") >= pl.col("x2")) | (pl.col("y1") >= pl.col("y2"))).to_series()
    table.refuse(table.frame.filter(flat), "the box is empty; x1 < x2 and y1 < y2 in pixels")
    x1, y1, x2, y2 = (pl.col(corner) for corner in corners)
    box = pl.concat_list(x1, y1, x2 - x1, y2 - y1).list.to_array(4)
    return frame.with_columns(crop=pl.when(x1.is_not_null()).then(box)).drop(corners)


def _taken_as_empty(notes: Sequence[str]) -> str:
    """What a message says where labels are missing that may be names after all."""
    found = [note for note in notes if note.startswith("column label: ") and note.endswith("are taken as empty")]
    return f" {found[0][0].upper()}{found[0][1:]}: --not-missing TEXT keeps a name." if found else ""


def _check_labels(frame: pl.DataFrame, roles: Roles, target: Target, source: str, empty: str) -> None:
    """Errors: BBError where no row has a label, UsageError where the labels are measurements or of one class."""
    if target == "traits":
        if frame.select(pl.all_horizontal(pl.col(roles.traits).is_null().all())).item():
            raise BBError(f"{source}: every cell of {', '.join(map(shown, roles.traits[:3]))} is empty. Add labels.")
        return
    labels = frame["label"].drop_nulls().unique()
    column = shown(roles.columns["label"])
    if labels.is_empty():
        raise BBError(f"{source}: every cell of {column} is empty. Add labels, or choose another column with --label."
                      f"{empty}")  # fmt: skip
    if target == "values":
        return
    decimal = labels.str.contains(r"^\s*[+-]?\d*[.,]\d+([eE][+-]?\d+)?\s*$")
    whole = labels.str.contains(r"^\s*[+-]?\d+([.,]0+)?\s*$")
    if (decimal | whole).all() and not whole.all():
        example = labels.filter(~whole).sort()[0]
        raise UsageError(f"{source}: {column} holds measurements such as {example!r}, not classes. Fit them with "
                         "`bb probe classify --regression`, or choose another column with --label.")  # fmt: skip
    kinds = (
        frame.drop_nulls("label").group_by("task").agg(pl.col("label").n_unique().alias("n"), pl.col("label").first())
    )
    if alone := kinds.filter(pl.col("n") < 2).sort("task").rows():
        name, _, only = alone[0]
        raise UsageError(f"{source}: every label of task {name!r} is {shown(only)}; a classifier needs two classes. "
                         f"Add images of another, or choose another column with --label.{empty}")  # fmt: skip


def _without_repeats(table: TableFile) -> tuple[pl.DataFrame, int]:
    """The rows without those that repeat another, and how many these are. Errors: BBError where two rows disagree."""
    frame, key = table.frame, ["task", "image_id"]
    distinct = frame.unique([c for c in frame.columns if c != LINE], keep="first", maintain_order=True)
    bad = distinct.filter(~pl.struct(key).is_first_distinct())

    def problem(row: dict[str, Any]) -> str:
        other = distinct.filter(pl.col("task").eq(row["task"]) & pl.col("image_id").eq(row["image_id"])).row(
            0, named=True
        )
        name = next(c for c in row if c != LINE and row[c] != other[c])
        several = "; for several labels an image, give each a column label:NAME with 0 or 1" if name == "label" else ""
        values = " and ".join(
            "empty" if v is None else shown(v) if isinstance(v, str) else repr(v) for v in (other[name], row[name])
        )
        return f"image {shown(row['image_id'])} has {name} {values} (line {other[LINE]}); keep one of the rows{several}"

    table.refuse(bad, problem)
    return distinct, frame.height - distinct.height


def _unlabelled(frame: pl.DataFrame, roles: Roles, target: Target) -> list[str]:
    columns = roles.traits if target == "traits" else ("label",)
    empty = frame.filter(pl.all_horizontal(pl.col(columns).is_null())).height
    constant = [c for c in columns if target == "traits" and frame[c].drop_nulls().n_unique() < 2]
    return [
        *([f"{empty} of {frame.height} rows {UNLABELLED}"] if empty else []),
        *([f"{', '.join(map(shown, constant[:3]))} is the same for every image"] if constant else []),
    ]
