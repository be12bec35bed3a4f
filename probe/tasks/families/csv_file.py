"""CSV tables of publishers, with the columns that a family needs."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from bb.probe.tables.table_file import TableFile, of_value, read_table_file
from bb.probe.tasks.task_table import SIDES

AGAIN = "Fetch it again."


def read_csv(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> TableFile:
    """Errors: UsageError where a needed column is absent, BBError where it is not a table or has no rows."""
    what = f"no table at {path}. {AGAIN}"
    table = read_table_file(path, what=what, columns=[*needed, *optional], remedy=AGAIN)
    table.require(needed, AGAIN)
    return table


def refuse_repeats(table: TableFile, column: str) -> None:
    """Errors: BBError naming the line of a value that stands on an earlier line."""
    again = table.frame.filter(~pl.col(column).is_first_distinct())
    table.refuse(again, lambda row: f"{column} {row[column]!r} stands on an earlier line already; keep one")


def refuse_other_sides(table: TableFile, column: str) -> None:
    """Errors: BBError naming the line of what is not a side of a split."""
    table.refuse(
        table.frame.filter(~pl.col(column).is_in(list(SIDES))),
        of_value(column, "it must be train, val, test, id_val or id_test"),
    )


def refuse_numbers_but(table: TableFile, column: str, least: int) -> None:
    """Errors: BBError naming the line of what is not a whole number from `least` up."""
    number = table.numbers(column)
    wrong = table.frame.filter((number < least) | (number != number.floor()))
    table.refuse(wrong, of_value(column, f"it must be a whole number from {least} up"))


def whole(column: str) -> pl.Expr:
    """A column of whole numbers, as text, written in one way: 3 for 3.0."""
    return pl.col(column).str.strip_chars().cast(pl.Float64).cast(pl.Int64).cast(pl.String)


def plain_date(column: str) -> pl.Expr:
    """The dates of a column that are written as 2026-05-31, with or without a time; null for others."""
    return pl.col(column).str.strip_chars().str.extract(r"^((?:1[5-9]|20)\d{2}-(?:0[1-9]|1[0-2])-(?:[0-2]\d|3[01]))")
