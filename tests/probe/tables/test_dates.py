"""Dates to ISO 8601: one reading, or a refusal with the line."""

import polars as pl
import pytest

from bb.probe.tables.dates import read_dates
from bb.probe.tables.table_file import TableFile
from bb.store.errors import BBError


def dates(*texts):
    return read_dates(TableFile.from_frame(pl.DataFrame({"date": texts}), "t", ["date"]), "date").to_list()


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2026-05-31", "2026-05-31"),
        ("2026/5/1", "2026-05-01"),
        ("20260531", "2026-05-31"),
        ("2026", "2026"),
        ("2026-05", "2026-05"),
        ("2026:05:31 13:45:01", "2026-05-31T13:45:01"),
        ("2026-05-31T13:45:01.250", "2026-05-31T13:45:01"),
        ("2026-05-31 23:30:00+02:00", "2026-05-31T21:30:00"),
        ("2026-05-31T23:30-0100", "2026-06-01T00:30:00"),
        ("2026-05-31 13:45:00 UTC", "2026-05-31T13:45:00"),
        ("1.5.2026", "2026-05-01"),
        ("01.05.2026 7:05", "2026-05-01T07:05:00"),
        ("1. 5. 2026", "2026-05-01"),
        ("31.05.2026.", "2026-05-31"),
        ("2026. 05. 31.", "2026-05-31"),
        ("2026. 5. 31. 7:05:09", "2026-05-31T07:05:09"),
        ("31.5.2026 13.45.09", "2026-05-31T13:45:09"),
        ("31/5/2026", "2026-05-31"),
        ("5/31/2026 12:05 AM", "2026-05-31T00:05:00"),
        ("5-31-2026 1:05 p.m.", "2026-05-31T13:05:00"),
        ("5/5/2026", "2026-05-05"),
        (None, None),
    ],
)
def test_dates_of_many_makers(text, iso):
    assert dates(text, "2020-01-01") == [iso, "2020-01-01"]


def test_the_whole_column_decides_which_comes_first():
    assert dates("1/5/2026", "31/5/2026") == ["2026-05-01", "2026-05-31"]
    assert dates("1/5/2026", "5/31/2026", "1.5.2026") == ["2026-01-05", "2026-05-31", "2026-05-01"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["5/5/2026", "1/5/2026"], "line 3: date is '1/5/2026'; no row shows whether the day or the month is first"),
        (["31/5/2026", "5/31/2026"], "line 3: date is '5/31/2026'; other rows have the day first, this one the month"),
        (["2026-05-01", "46143"], "line 3: date is '46143'; it is a number, as spreadsheets store dates"),
        (["46143,5"], "line 2: date is '46143,5'; it is a number"),
        (["31.02.2026"], "line 2: date is '31.02.2026'; it is not a date; write it as 2026-05-31"),
        (["1.5.26"], "it is not a date"),
        (["1. 5.2026"], "it is not a date"),
        (["31.5.2026 13.45"], "it is not a date"),
        (["May 2026"], "it is not a date"),
        (["2026-05-01 25:00"], "it is not a date"),
        (["0000-05-01"], "it is not a date"),
        (["13/13/2026"], "the day first, this one the month|it is not a date"),
        (["0001-01-01T00:00+23:00"], "it is not a date"),
        (["2026-05-01 10:00+99:99"], "it is not a date"),
    ],
)  # fmt: skip
def test_a_date_of_two_readings_or_none_is_refused(texts, message):
    with pytest.raises(BBError, match=message.replace("+", r"\+")):
        dates(*texts)
