"""Dates as cameras, spreadsheets and people write them, to ISO 8601; what has two readings is refused."""

import re
from datetime import UTC, datetime, timedelta, timezone

import polars as pl

from bb.probe.tables.table_file import TableFile, of_value

# 13:45:00.25, in some countries 13.45.00
_CLOCK = r"(\d{1,2})(?::(\d{2})(?::(\d{2})(?:[.,]\d+)?)?|\.(\d{2})\.(\d{2}))"
_TIME = rf"(?:[T ,]+{_CLOCK}(?: ?([ap])\.?m\.?)? ?(Z|UTC|[+-]\d{{2}}:?\d{{2}})?)?"
# Cameras write 2026:05:01, and some countries blanks or a last dot: 2026. 05. 01., 1. 5. 2026
_YEAR_FIRST = re.compile(r"(\d{4})([-/:]|\. ?)(\d{1,2})\2(\d{1,2})\.?" + _TIME, re.I)
_YEAR_LAST = re.compile(r"(\d{1,2})([-/]|\. ?)(\d{1,2})\2(\d{4})\.?" + _TIME, re.I)
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})")
_SHORT = re.compile(r"(1[5-9]|20)\d{2}(-(0[1-9]|1[0-2]))?")  # a year, or a year and month
_REMEDY = "write it as 2026-05-31"


def read_dates(table: TableFile, column: str) -> pl.Series:
    """A column of dates as ISO text: 2026, 2026-05, 2026-05-31 or 2026-05-31T13:45:00; null where a cell is.

    Of 1/5/2026 the whole column decides whether the day or the month is first; with dots, the day is. A time with an
    offset is converted to UTC. Errors: BBError naming the line of a text that is not a date, of a number, which is how
    spreadsheets store dates, and of a day and month in an order that no row shows.
    """
    texts = table.frame[column].drop_nulls().unique()
    parsed: dict[str, str | None] = {}
    numbers, last = [], []
    for text in texts:
        plain = text.strip()
        if _SHORT.fullmatch(plain):
            parsed[text] = plain
        elif found := _YEAR_FIRST.fullmatch(plain):
            parsed[text] = _iso(found[1], found[3], found[4], _time(found))
        elif found := _COMPACT.fullmatch(plain):
            parsed[text] = _iso(found[1], found[2], found[3], ())
        elif found := _YEAR_LAST.fullmatch(plain):
            last.append((text, found))
        elif re.fullmatch(r"[+-]?\d+([.,]\d+)?", plain):
            numbers.append(text)
        else:
            parsed[text] = None
    _refuse(table, column, numbers, "it is a number, as spreadsheets store dates; format the column as 2026-05-31")
    slashed = [found for _, found in last if found[2][0] != "."]
    month_first = any(int(found[3]) > 12 for found in slashed)
    if month_first and any(int(found[1]) > 12 for found in slashed):
        strange = [text for text, found in last if found[2][0] != "." and int(found[3]) > 12]
        _refuse(table, column, strange, f"other rows have the day first, this one the month; {_REMEDY}")
    if slashed and not month_first and not any(int(found[1]) > 12 for found in slashed):
        unclear = [text for text, found in last if found[2][0] != "." and int(found[1]) != int(found[3])]
        _refuse(table, column, unclear, f"no row shows whether the day or the month is first; {_REMEDY}")
    for text, found in last:
        day, month = (found[3], found[1]) if month_first and found[2][0] != "." else (found[1], found[3])
        parsed[text] = _iso(found[4], month, day, _time(found))
    _refuse(table, column, [text for text, iso in parsed.items() if iso is None], f"it is not a date; {_REMEDY}")
    return table.frame[column].replace_strict(parsed, return_dtype=pl.String) if parsed else table.frame[column]


def _refuse(table: TableFile, column: str, texts: list[str], remedy: str) -> None:
    table.refuse(table.frame.filter(pl.col(column).is_in(texts)), of_value(column, remedy))


def _time(found: re.Match[str]) -> tuple[str | None, ...]:
    """Hour, minute, second, half of the day and offset."""
    hour, minute, second, dotted_minute, dotted_second, *others = found.groups()[4:]
    return hour, minute or dotted_minute, second or dotted_second, *others


def _iso(year: str, month: str, day: str, time: tuple[str | None, ...]) -> str | None:
    hour, minute, second, half, offset = time or (None,) * 5
    try:
        if hour is None:
            return datetime(int(year), int(month), int(day)).date().isoformat()
        hours = int(hour) % 12 + 12 * (half.lower() == "p") if half else int(hour)
        when = datetime(int(year), int(month), int(day), hours, int(minute or 0), int(second or 0))
        if offset and offset[0] in "+-":
            shift = timedelta(hours=int(offset[1:3]), minutes=int(offset[-2:]))
            zone = timezone(shift if offset[0] == "+" else -shift)
            when = when.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None)
        return when.isoformat()
    except (ValueError, OverflowError):
        return None
