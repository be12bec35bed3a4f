"""Tables as people make them, read as text and checked: labels, groups, published scores; CSV of any dialect, Parquet.

Every verb that takes such a file reads it here. What can be read in one way only is read, and what was assumed is
said; what could be read in two ways is refused with its line, since a misread label is a wrong number.
"""

import csv
import io
import math
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import polars as pl

from bb.probe.tables.csv_text import decode, not_a_table
from bb.probe.tables.missing_value import are_missing, column_name
from bb.store.errors import BBError, UsageError
from bb.store.files.limits import MAX_TABLE_BYTES
from bb.store.text.image_ids import AROUND
from bb.store.text.lookalike import shown

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
LINE = "line in the file"
BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
Chooser: TypeAlias = Callable[[Sequence[str]], Collection[str]]
_LINE_BREAK = r"[\x00\n\r\x0B\x0C\x1C-\x1E\x{85}\x{2028}\x{2029}]"
_BATCH = 50_000  # rows that are Python objects at once
_LISTED = 5  # lines named in a message


@dataclass(frozen=True, eq=False)
class TableFile:
    """Some columns of a table, as text.

    source   what it is called in messages
    columns  all that the table has
    frame    the columns that are used, as far as they are there, and LINE: where each row begins (line 1 is the header)
    notes    what was assumed in reading it
    decimal_comma  whether 1,5 may be a number: not where commas separate columns
    """

    source: str
    columns: tuple[str, ...]
    frame: pl.DataFrame
    notes: tuple[str, ...] = ()
    decimal_comma: bool = False

    @classmethod
    def from_frame(cls, table: pl.DataFrame, source: str, used: Sequence[str]) -> "TableFile":
        """A table in memory. Whole numbers stay whole where a missing value made a column floats."""
        names, kept_names = _checked_names(table.columns, source), set(map(column_name, used))
        kept = [_as_text(column.alias(name)) for name, column in zip(names, table, strict=True) if name in kept_names]
        lines = pl.Series(LINE, range(2, table.height + 2), dtype=pl.Int64)
        return cls(source, names, pl.DataFrame([lines, *kept]))

    def share(self, text: str | None) -> float | None:
        """A cell as a number from 0 to 1, with the table's decimal sign; None where it is none."""
        try:
            value = float((text or "").replace(",", "." if self.decimal_comma else ","))
        except ValueError:
            return None
        return value if 0 <= value <= 1 else None

    def require(self, columns: Sequence[str], remedy: str) -> None:
        """Errors: UsageError where a column is absent."""
        if absent := [column for column in columns if column not in self.columns]:
            raise UsageError(
                f"{self.source} does not have the column{'s' * (len(absent) > 1)} {', '.join(absent)}; it has "
                f"{', '.join(self.columns) or 'none'}. {remedy}"
            )
        if self.frame.is_empty():
            raise BBError(f"{self.source} has a header but no rows; fetch or export it again.")

    def select(
        self,
        *,
        ids: Sequence[str] = (),
        required: Sequence[str] = (),
        optional: Sequence[str] = (),
        not_missing: Collection[str] | None = None,
    ) -> "TableFile":
        """These columns alone, with null where a value is missing: an empty cell, NaN, or a text such as NA or None.

        ids          columns in which only an empty cell is missing, and none may be
        required     columns in which no value may be missing
        optional     columns in which one may be; notes say which texts were taken for missing
        not_missing  texts that are names after all; None where the verb has no option --not-missing
        Errors: BBError naming the lines in which a value is missing, or holds a list or bytes.
        """
        frame, notes = self.frame.select(LINE, *ids, *required, *optional), list(self.notes)
        for column in (*ids, *required, *optional):
            if (kind := frame[column].dtype) != pl.String:
                raise BBError(f"{self.source} has {kind} in the column {column}; it needs one text or number a row.")
        for column in (*required, *optional):
            plain = pl.col(column).str.strip_chars(AROUND)
            missing = are_missing(pl.col(column)) & ~plain.is_in(list(not_missing or ()))
            named = frame.filter(missing & (plain != ""))
            if column in required:
                self.refuse(named, _missing(column, keep=not_missing is not None))
            elif len(named):
                words = ", ".join(map(repr, named[column].unique().sort().to_list()[:3]))
                notes.append(f"column {column}: {len(named)} cells of {words} are taken as empty")
            frame = frame.with_columns(pl.when(missing).then(None).otherwise(column).alias(column))
            broken = pl.col(column).str.contains(_LINE_BREAK)
            self.refuse(frame.filter(broken), of_value(column, "it holds a line break or NUL; write it in one line"))
            if lost := frame[column].str.contains("\N{REPLACEMENT CHARACTER}").sum():
                notes.append(f"column {column}: {lost} cells hold U+FFFD, letters that an earlier conversion lost")
        for column in (*ids, *required):
            empty = pl.col(column).is_null() | (pl.col(column).str.strip_chars(AROUND) == "")
            self.refuse(frame.filter(empty), f"{column} is empty; every row needs one")
        return replace(self, frame=frame, notes=tuple(notes))

    def numbers(self, column: str) -> pl.Series:
        """A column as float64, null where a cell is. Errors: BBError naming the line of what is not a number."""
        text = pl.col(column).str.strip_chars(AROUND).str.replace("^\u2212", "-")  # the sign that some countries write
        comma = text.str.contains(r"^[+-]?\d+,\d+([eE][+-]?\d+)?$")
        if self.decimal_comma:
            mixed = comma & pl.lit(self.frame.select(text.str.contains(r"\.").any()).item())
            remedy = "other rows have a decimal point; write all of them with a point"
            self.refuse(self.frame.filter(mixed), of_value(column, remedy))
            text = text.str.replace(r"^([+-]?\d+),(\d+)", "$1.$2")
        number = self.frame.select(text.cast(pl.Float64, strict=False).alias(column))[column]
        strange = self.frame.filter(number.is_null() & self.frame[column].is_not_null())
        self.refuse(strange, of_value(column, "it must be a number"))
        return number

    def refuse(self, bad: pl.DataFrame, problem: "str | Callable[[dict[str, Any]], str]") -> None:
        """Raises BBError with the problem of the first of the bad rows, naming the lines of the others."""
        if bad.is_empty():
            return
        first, *others = bad[LINE].to_list()
        more = ""
        if others:
            dots = ", …" if len(others) > _LISTED else ""
            lines = f"line{'s' * (len(others) > 1)} {', '.join(map(str, others[:_LISTED]))}{dots}"
            more = f" ({len(others)} more like it): {lines}"
        words = problem if isinstance(problem, str) else problem(bad.row(0, named=True))
        raise BBError(f"{self.source}, line {first}: {words}{more}.")


def of_value(column: str, remedy: str) -> Callable[[dict[str, Any]], str]:
    """What is wrong with a row's value of a column, for `TableFile.refuse`."""
    return lambda row: f"{column} is {row[column]!r}; {remedy}"


def _missing(column: str, *, keep: bool) -> Callable[[dict[str, Any]], str]:
    def problem(row: dict[str, Any]) -> str:
        value = row[column].strip(AROUND)
        quoted = repr(value) if value.endswith(".") else shlex.quote(value)  # a full stop follows
        return (
            f"{column} is {value!r}, which stands for a missing value; every row needs one. Fill it in or leave "
            "the row out" + (f"; if it is a name, keep it with --not-missing {quoted}" if keep else "")
        )

    return problem


def read_table_file(path: Path, *, what: str, columns: Sequence[str] | Chooser, remedy: str) -> TableFile:
    """Reads a file that a person names.

    what     the message where it is not there: "no labels at {path}: …"
    columns  those that will be used if they are there, or what picks them out of a header: by them the separator is
             chosen, and in them a cell may hold neither a line break nor a stray quotation mark
    remedy   what to do with a file that can't be read
    Errors: UsageError where there is no such file, or two columns of one name; BBError where it is not a table.
    """
    if not path.is_file():
        url = re.match(r"(\w+):/[^/]", str(path))
        raise UsageError(what + (f" Tables are read from local files: download it from {url[1]} first." if url else ""))

    def fail(why: str, line: int | None = None) -> NoReturn:
        at = f"{path}, line {line}" if line else f"{path} can't be read as a table"
        raise BBError(f"{at}: {why.rstrip('.')}. {remedy}")

    def used(names: Sequence[str]) -> set[str]:
        return set(columns(names) if callable(columns) else columns) & set(names)

    try:
        if (size := path.stat().st_size) > MAX_TABLE_BYTES:
            fail(f"it has {size:,} bytes, and at most {MAX_TABLE_BYTES:,} are read")
        data = path.read_bytes()  # never the path: libraries take [, * and ? in it for patterns
    except OSError as error:
        fail(error.strerror or str(error))
    if path.suffix.lower() in (".parquet", ".pq") or data[:4] == b"PAR1":
        try:
            written = list(pl.read_parquet_schema(io.BytesIO(data)))
            names = _checked_names(written, str(path))
            kept = used(names)
            wanted = [one for one, name in zip(written, names, strict=True) if name in kept]
            table = pl.read_parquet(io.BytesIO(data), columns=wanted)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            fail((str(error) or "?").splitlines()[0])
        return replace(TableFile.from_frame(table, str(path), list(kept)), columns=names)
    if why := not_a_table(data):
        fail(why)
    try:
        text, assumed = decode(data)
    except ValueError as error:
        fail(str(error))
    return _read_csv(text, str(path), used, fail, [f"{path.name}: {assumed}"] if assumed else [])


def _read_csv(
    text: str, source: str, choose: Callable[[Sequence[str]], set[str]], fail: Callable[..., NoReturn], notes: list[str]
) -> TableFile:
    if "\0" in text:
        fail("it holds NUL characters", text[: text.index("\0")].count("\n") + 1)
    lines = _Lines(text)
    separator = lines.declared_separator or _separator(text, choose, fail)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    names: tuple[str, ...] | None = None
    used: set[str] = set()
    batch: list[list[str]] = []
    starts: list[int] = []
    parts: list[pl.DataFrame] = []
    while True:
        lines.begin_record()
        try:
            row = next(reader, None)
        except csv.Error as error:
            if "field limit" in str(error):
                most = f"{csv.field_size_limit():,}"
                fail(f"it has a cell of more than {most} characters; does a quotation mark stay open?", lines.start)
            fail(f"its quotation marks do not pair up ({error}); a mark inside a cell is written twice", lines.start)
        if row is None or len(batch) == _BATCH:
            parts.append(_columns(names or (), batch, starts, used))
            batch, starts = [], []
        if row is None:
            break
        if not any(map(str.strip, row)):
            continue
        if names is None:
            names = _checked_names(row, f"{source}, line {lines.start}")
            used = choose(names)
            continue
        if row[0].startswith(BYTE_ORDER_MARK) or (len(names) > 1 and _is_header(row, names)):
            fail("a second table begins here, so files were joined; join their rows under one header", lines.start)
        if len(row) != len(names):
            count = f"{len(row)} cell{'s' * (len(row) > 1)}, where the header has {len(names)}"
            if len(row) < len(names):
                remedy = (
                    "add separators at its end, which Excel leaves out where the last columns are empty for many rows"
                )
            elif len(names) == 1 and not used:
                remedy = f"if {shown(names[0][:60])} is a title above the header, take it out"
            else:
                remedy = "put text that holds the separator into quotation marks"
            fail(f"it has {count} (separated by {SEPARATORS.get(separator, repr(separator))}s); {remedy}", lines.start)
        if lines.has_quotes:
            _check_quotes(lines, dict(zip(names, row, strict=True)), used, separator, fail)
        batch.append(row)
        starts.append(lines.start)
    if names is None:
        fail("it is empty")
    return TableFile(source, tuple(filter(None, names)), pl.concat(parts), tuple(notes), separator != ",")


def _checked_names(header: Sequence[str], where: str) -> tuple[str, ...]:
    """A header's names as they are compared. Errors: UsageError where two are one."""
    names = tuple(map(column_name, header))
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise UsageError(f"{where}: {names.count(twice[0])} columns are called {twice[0]!r}. Rename all but one.")
    return names


def _is_header(row: Sequence[str], names: Sequence[str]) -> bool:
    return column_name(row[0]) == names[0] and tuple(map(column_name, row)) == names


class _Lines(Iterator[str]):
    """Lines of a text, ended by LF, CR or CRLF, counted; those of the record that is being read are kept."""

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline="")
        self.has_quotes = '"' in text
        self.count, self.start, self.record = 0, 1, [""]
        self.declared_separator: str | None = None
        first = text[:20].splitlines()[0].strip('"') if text else ""
        if first.lower().startswith("sep=") and len(first) == 5:  # Excel's own first line
            self.declared_separator = first[4]
            next(self)

    def begin_record(self) -> None:
        self.start, self.record = self.count + 1, []

    def __next__(self) -> str:
        line = next(self._lines)
        self.count += 1
        self.record.append(line)
        return line


def _separator(text: str, choose: Callable[[Sequence[str]], set[str]], fail: Callable[..., NoReturn]) -> str:
    """The one that gives the header most of the columns that are wanted, else most columns."""
    best, chosen = (-1, -1), ","
    for separator in SEPARATORS:
        try:
            rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
            header = next((row for row in rows if any(map(str.strip, row))), [])
        except csv.Error:
            continue
        score = len(choose([column_name(name) for name in header])), len(header)
        if score > best:
            best, chosen = score, separator
    return chosen


def _check_quotes(
    lines: _Lines, cells: dict[str, str], used: Collection[str], separator: str, fail: Callable[..., NoReturn]
) -> None:
    """Refuses what a stray quotation mark makes: a cell that holds lines of the table, or a mark as part of a name."""
    for name, cell in cells.items():
        broken = "\n" in cell or "\r" in cell
        if broken and (name in used or any(line.count(separator) >= len(cells) - 1 for line in cell.splitlines()[1:])):
            fail(
                f"a quotation mark opens a cell of {name or 'a column without a name'} that ends on line "
                f"{lines.count}, {shown(cell[:60])}; close it, and take line breaks out of cells",
                lines.start,
            )
        if name in used and '"' in cell and '"' + cell.replace('"', '""') + '"' not in "".join(lines.record):
            fail(f"{name} is {shown(cell[:60])}, with a stray quotation mark; remove it, or quote the "
                 "cell and write marks inside it twice", lines.start)  # fmt: skip


def _columns(
    names: Sequence[str], rows: Sequence[Sequence[str]], starts: Sequence[int], used: Collection[str]
) -> pl.DataFrame:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    kept = [pl.Series(name, cells, pl.String) for name, cells in zip(names, columns, strict=True) if name in used]
    return pl.DataFrame([pl.Series(LINE, starts, pl.Int64), *kept])


def _as_text(column: pl.Series) -> pl.Series:
    """A column as text; as it is where it holds no single values."""
    kind = column.dtype
    if kind.is_float():
        column = column.fill_nan(None)
        whole = column.drop_nulls()
        if (whole == whole.round()).all() and whole.abs().max() is not None and _below(whole.abs().max(), 2**53):
            column = column.cast(pl.Int64)
    elif kind.is_nested() or kind in (pl.Binary, pl.Object, pl.Duration):
        return column
    return column.cast(pl.String)


def _below(value: object, bound: int) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value < bound
