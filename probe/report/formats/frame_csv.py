"""A data frame as CSV, with names that no spreadsheet computes."""

import polars as pl

from bb.probe.report.formats import escape


def to_csv(frame: pl.DataFrame) -> str:
    """Text in every column of strings goes through `escape.csv`; numbers stay."""
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    return frame.with_columns(
        pl.col(name).map_elements(escape.csv, return_dtype=pl.String, skip_nulls=True) for name in texts
    ).write_csv()
