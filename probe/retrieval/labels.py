"""Which individual, species or place each image shows, and which images ask and which answer: a checked table."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64, Shaped

from bb.probe.tables.table_file import TableFile, of_value, read_table_file
from bb.probe.tasks.few_shot import check_seed
from bb.probe.tasks.task_table import TaskTable
from bb.store.errors import BBError, UsageError
from bb.store.text import lookalike
from bb.store.text.image_ids import IdMatch

REQUIRED = ("image_id", "label")
ROLES = ("is_query", "is_gallery")
SPLITS = ("train", "val", "test")
BOX = ("x1", "y1", "x2", "y2")
OPTIONAL = (*ROLES, "category", "sequence", "unit", "split", *BOX)
TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
OVERALL = "overall"  # in results, among the names of categories
NO_CODE = -1  # of a row without a sequence


@dataclass(frozen=True, eq=False)
class RetrievalLabels:
    """Labelled images, sorted by image ID; "row" means a place in this order.

    frame   image_id, label (strings, none empty), is_query, is_gallery (booleans), and where the file has them
            category, sequence, unit, split (strings, null where empty), x1, y1, x2, y2 (float64 pixels, or null)
    source  what the table is called in messages
    notes   what a reader of the scores should know of the table
    missing images that were left out since they have no features: image ID → reason
    max_missing the share of them that was allowed, where it is not the usual one
    same_images_as  keys of the feature spaces that do not have them
    """

    frame: pl.DataFrame
    source: str = "the table"
    notes: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    max_missing: float | None = None
    same_images_as: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def image_ids(self) -> Shaped[np.ndarray, " n"]:
        """(n,) strings, sorted."""
        return np.array(self.frame["image_id"].to_list(), np.str_)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The distinct labels, sorted; a label's code is its place here."""
        return tuple(self.frame["label"].unique().sort().to_list())

    @cached_property
    def label_codes(self) -> Int64[np.ndarray, " n"]:
        """(n,) the label of each row, as its place among `labels`."""
        return _codes(self.frame["label"])

    @cached_property
    def category(self) -> Shaped[np.ndarray, " n"] | None:
        """(n,) strings, "" where a row has none; None where the table has no such column."""
        if "category" not in self.frame.columns:
            return None
        return np.array(self.frame["category"].fill_null("").to_list(), np.str_)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """The distinct categories, sorted; a category's code is its place here."""
        return tuple(self.frame["category"].drop_nulls().unique().sort().to_list()) if self.category is not None else ()

    @cached_property
    def category_codes(self) -> Int64[np.ndarray, " n"] | None:
        """(n,) codes, -1 where a row has no category; None where the table has no such column."""
        return _codes(self.frame["category"]) if "category" in self.frame.columns else None

    @cached_property
    def sequence(self) -> Int64[np.ndarray, " n"] | None:
        """(n,) codes; images of one code never answer each other, -1 is in no sequence. None without the column."""
        return _codes(self.frame["sequence"]) if "sequence" in self.frame.columns else None

    @cached_property
    def queries(self) -> Int64[np.ndarray, " q"]:
        """Rows that ask, ascending."""
        return np.flatnonzero(self.frame["is_query"].to_numpy()).astype(np.int64)

    @cached_property
    def gallery(self) -> Int64[np.ndarray, " g"]:
        """Rows that may be an answer, ascending."""
        return np.flatnonzero(self.frame["is_gallery"].to_numpy()).astype(np.int64)

    @property
    def boxed(self) -> bool:
        """Whether the table has bounding boxes."""
        return "x1" in self.frame.columns

    def boxes(self) -> dict[str, tuple[float, float, float, float]]:
        """x1, y1, x2, y2 by image ID, in pixels of the image the right way up; of images that have a box."""
        if not self.boxed:
            return {}
        found = self.frame.drop_nulls("x1").select("image_id", *BOX)
        return {image_id: (x1, y1, x2, y2) for image_id, x1, y1, x2, y2 in found.iter_rows()}

    def renamed(self, match: IdMatch) -> "RetrievalLabels":
        """The same with the collection's image IDs. Errors: BBError where two rows are of one image then."""
        if match.note is None:
            return self
        frame = self.frame.with_columns(pl.col("image_id").replace(match.names)).sort("image_id")
        if twice := frame.filter(pl.col("image_id").is_duplicated())["image_id"].to_list():
            raise BBError(f"{self.source}: two rows are of image {twice[0]!r}, which they write differently; keep one.")
        return RetrievalLabels(frame, self.source, (*self.notes, match.note))

    def without(
        self, missing: Mapping[str, str], max_missing: float | None = None, same_images_as: Sequence[str] = ()
    ) -> "RetrievalLabels":
        """The rows of all but some images. Errors: BBError where none ask or answer any more."""
        if not missing:
            return self
        kept = ~self.frame["image_id"].is_in(list(missing)).to_numpy()
        named = f"{self.source}, without the images that have no features,"
        left = replace(self.rows(kept), missing=missing, max_missing=max_missing, same_images_as=tuple(same_images_as))
        return check_roles(left, named)

    def rows(self, mask: Bool[np.ndarray, " n"]) -> "RetrievalLabels":
        """Some of the rows, in the same order; codes count anew."""
        return replace(self, frame=self.frame.filter(pl.Series(mask)))

    def split(self, name: str) -> "RetrievalLabels":
        """The rows of one split. Errors: UsageError where there are none, BBError where none ask or answer."""
        return check_roles(self.rows(self._of_split(name)), f"{self.source}, split {name!r}")

    def against(self, queries: str, gallery: str) -> "RetrievalLabels":
        """Two splits: every row of the one asks, every row of the other answers. Errors: UsageError as of `split`."""
        ask, answer = self._of_split(queries), self._of_split(gallery)
        roles = self.frame.with_columns(is_query=pl.Series(ask), is_gallery=pl.Series(answer))
        return replace(self, frame=roles.filter(pl.col("is_query") | pl.col("is_gallery")))

    def _of_split(self, name: str) -> Bool[np.ndarray, " n"]:
        if "split" not in self.frame.columns:
            raise UsageError(f"{self.source} has no column split, so split {name!r} can't be taken.")
        there = self.frame["split"].drop_nulls().unique().sort().to_list()
        if name not in there:
            raise UsageError(f"{self.source} has no rows of split {name!r}; it has {', '.join(there) or 'none'}.")
        return (self.frame["split"] == name).fill_null(False).to_numpy()

    def folded(self, folds: int, seed: int) -> "RetrievalLabels":
        """Cross-validation: the rows are dealt to folds, and no row answers another of its fold.

        A fold takes the sequence's place, so images of one sequence share a fold. Sequences (images, without one) are
        dealt in turn in order of SHA-256 of "fold/SEED/NAME". Errors: UsageError unless 2 <= folds <= their number.
        """
        alone = pl.concat_str(pl.lit("image/"), "image_id")
        named = pl.concat_str(pl.lit("sequence/"), "sequence") if "sequence" in self.frame.columns else alone
        units = self.frame.select(pl.coalesce(named, alone).alias("unit"))["unit"]
        dealt = sorted(set(units), key=lambda unit: hashlib.sha256(f"fold/{seed}/{unit}".encode()).digest())
        if not 2 <= folds <= len(dealt):
            what = "sequences and images outside of any" if "sequence" in self.frame.columns else "images"
            raise UsageError(f"{folds} folds of {len(dealt)} {what}: choose between 2 and {len(dealt)}.")
        fold = {unit: str(place % folds) for place, unit in enumerate(dealt)}
        return replace(self, frame=self.frame.with_columns(pl.Series("sequence", [fold[unit] for unit in units])))

    def shared_labels(self) -> list[str]:
        """Labels that stand in more than one split, sorted."""
        if "split" not in self.frame.columns:
            return []
        several = self.frame.group_by("label").agg(pl.col("split").drop_nulls().n_unique().alias("n"))
        return several.filter(pl.col("n") > 1)["label"].sort().to_list()

    def single_labels(self) -> list[str]:
        """Labels that stand on one image only, sorted."""
        return self.frame.filter(~pl.col("label").is_duplicated())["label"].sort().to_list()


def assign(
    items: RetrievalLabels,
    *,
    split: str | None = None,
    against: str | None = None,
    folds: int | None = None,
    seed: int = 0,
) -> tuple[RetrievalLabels, dict[str, Any], list[str]]:
    """Which rows ask and which answer, as a person says it: the items, what was chosen, and warnings.

    split    the rows to take, "all" of them, or (None) those of "test" where there are such
    against  the split that answers; without it, the rows of `split` answer each other, as their roles say
    folds    cross-validation over what was taken; `seed` deals the folds
    Errors: UsageError for `against` without a split and for a bad seed, and those of `split`, `against` and `folded`.
    """
    check_seed(seed)
    warnings = list(items.notes)
    if shared := items.shared_labels():
        warnings.append(
            f"{_counted(len(shared), 'label')} in more than one split, {_some(shared)}: a head trained on one split "
            "has seen them, so scores on the other say little of new labels"
        )
    if split is None and "split" in items.frame.columns and (items.frame["split"] == "test").any():
        split = "test"
    if against is not None and split in (None, "all"):
        raise UsageError(f"--against {against} answers which split? Name the one that asks, for example --split test.")
    if against is not None:
        items = items.against(str(split), against)
    elif split not in (None, "all"):
        items = items.split(str(split))
    if folds is not None:
        items = items.folded(folds, seed)
    roles = {"split": split, "against": against, "folds": folds, "seed": seed if folds else None}
    if single := items.single_labels():
        one = f"{_counted(len(single), 'label')} on one image only, {_some(single)}: nothing can be found for them"
        warnings.append(one)
    return items, roles, warnings


def read_items(file: str | Path, *, not_missing: Sequence[str] = ()) -> RetrievalLabels:
    """Read a labelled table from CSV or Parquet; columns and `not_missing` as `parse_items` says.

    Errors: UsageError where there is no such file or it does not have a column, BBError where it is not a table or
    `parse_items` finds a problem.
    """
    file = Path(file)
    what = f"no labels at {file}: a CSV or Parquet file with the columns image_id and label."
    columns, remedy = (*REQUIRED, *OPTIONAL), "Export it again as CSV or Parquet."
    return _parse(read_table_file(file, what=what, columns=columns, remedy=remedy), not_missing)


def parse_items(table: pl.DataFrame, *, source: str = "the table", not_missing: Sequence[str] = ()) -> RetrievalLabels:
    """Check a labelled table; `source` names it in messages.

    Required are image_id (each once) and label, neither missing. Optional are is_query and is_gallery (both or none:
    then each row asks and answers, leave-one-out), category, sequence, unit, split (train, val or test), and the
    bounding box x1, y1, x2, y2 in pixels (all four or none, x1 < x2 and y1 < y2). Other columns are ignored.

    not_missing  texts such as "NA" that are names, where they would stand for a missing value
    Errors: UsageError where a column is absent, BBError naming the line (line 1 is the header), the value, the remedy.
    """
    return _parse(TableFile.from_frame(table, source, (*REQUIRED, *OPTIONAL)), not_missing)


def family_items(found: Path | pl.DataFrame | TaskTable, family: str) -> RetrievalLabels:
    """The labels of a task family, of which each image asks and answers; columns that retrieval has no use for are left
    out. Errors: as of `read_items` and `parse_items`.
    """
    if isinstance(found, Path):
        return read_items(found)
    frame = found.frame.drop_nulls("label") if isinstance(found, TaskTable) else found
    used = [column for column in (*REQUIRED, *OPTIONAL) if column in frame.columns]
    return parse_items(frame.select(used), source=family)


def _parse(table: TableFile, not_missing: Sequence[str]) -> RetrievalLabels:
    source, there = table.source, table.columns
    missing = [column for column in REQUIRED if column not in there]
    table.require(REQUIRED, f"Rename or add {'them' if len(missing) > 1 else 'it'}.")
    for needed in (ROLES, BOX):
        if 0 < len(given := [column for column in needed if column in there]) < len(needed):
            lacking = [column for column in needed if column not in there]
            raise UsageError(
                f"{source} has {', '.join(given)} but not {', '.join(lacking)}; give all of "
                f"{', '.join(needed)}, or none of them."
            )
    optional = [column for column in OPTIONAL if column in there]
    table = table.select(ids=["image_id"], required=["label"], optional=optional, not_missing=not_missing)
    plain = [pl.col(column).str.strip_chars() for column in (*ROLES, "split") if column in there]
    table = replace(table, frame=table.frame.with_columns(plain))
    _check_rows(table)
    frame = table.frame.with_columns(
        *(pl.col(role).str.to_lowercase().replace_strict(TRUTHS) for role in ROLES if role in there),
        *(table.numbers(edge) for edge in BOX if edge in there),
    )
    if "x1" in there:
        _check_boxes(table, frame)
    if "is_query" not in there:
        frame = frame.with_columns(is_query=pl.lit(True), is_gallery=pl.lit(True))
    order = [column for column in (*REQUIRED, *OPTIONAL) if column in frame.columns]
    named = [column for column in ("label", "category", "sequence") if column in there]
    alike = [note for column in named for note in lookalike.notes(column, frame[column].drop_nulls().unique())]
    items = RetrievalLabels(frame.select(order).sort("image_id"), source, (*table.notes, *alike))
    return check_roles(items, source)


def check_roles(items: RetrievalLabels, source: str) -> RetrievalLabels:
    """The items, if some ask and some answer. Errors: BBError."""
    if not len(items.queries):
        raise BBError(f"{source} has no queries: is_query is false in all of its {len(items)} rows.")
    if not len(items.gallery):
        raise BBError(f"{source} has no gallery: is_gallery is false in all of its {len(items)} rows.")
    return items


def _check_rows(table: TableFile) -> None:
    rows = table.frame
    again = rows.filter(~pl.col("image_id").is_first_distinct())
    table.refuse(again, lambda row: f"image {row['image_id']!r} stands in an earlier row already; keep one of them")
    for role in (column for column in ROLES if column in rows.columns):
        strange = ~pl.col(role).str.to_lowercase().is_in(list(TRUTHS)).fill_null(False)
        table.refuse(rows.filter(strange), of_value(role, "it must be true or false"))
    if "category" in rows.columns:
        taken = rows.filter(pl.col("category") == OVERALL)
        table.refuse(taken, lambda row: f"category is {row['category']!r}, as the means over all queries are called")
    if "split" in rows.columns:
        strange = ~pl.col("split").is_in(SPLITS)
        table.refuse(rows.filter(strange), of_value("split", "it must be train, val or test, or empty"))


def _check_boxes(table: TableFile, frame: pl.DataFrame) -> None:
    def box(row: dict[str, Any]) -> list[Any]:
        return [row[edge] for edge in BOX]

    empty = pl.any_horizontal(pl.col(BOX).is_null()) & ~pl.all_horizontal(pl.col(BOX).is_null())
    table.refuse(frame.filter(empty), lambda row: "the box has some of x1, y1, x2, y2 only; give all four or none")
    infinite = frame.filter(~pl.all_horizontal(pl.col(BOX).is_finite()))
    table.refuse(infinite, lambda row: f"the box {box(row)} is not finite")
    flat = frame.filter((pl.col("x1") >= pl.col("x2")) | (pl.col("y1") >= pl.col("y2")))
    table.refuse(flat, lambda row: f"the box {box(row)} is empty; x1 < x2 and y1 < y2 in pixels")


def _codes(column: pl.Series) -> Int64[np.ndarray, " n"]:
    """Each value's place among the distinct ones, sorted; NO_CODE for null."""
    ranked = column.rank("dense").cast(pl.Int64) - 1
    return ranked.fill_null(NO_CODE).to_numpy().astype(np.int64)


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)} {'stands' if n == 1 else 'stand'}"


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", …" if len(names) > 3 else "")
