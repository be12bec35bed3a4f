"""Parquet tables out of a store, whose bytes anybody may have made."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

MAX_TABLE_ROWS = 100_000_000
MAX_TABLE_BYTES = 4 * 2**30


def read_table(
    data: bytes, schema: "Mapping[str, Any] | None" = None, columns: Sequence[str] | None = None
) -> "pl.DataFrame":
    """A table, of just these columns and types where `schema` gives them; only those of its columns that are named.

    Raises ValueError with a short reason for whatever is no such table, a panic of the reader's included.
    """
    import polars as pl

    try:
        there = dict(pl.read_parquet_schema(io.BytesIO(data)))
        if schema is not None and there != dict(schema):
            listed = ", ".join(f"{name} {kind}" for name, kind in there.items())
            raise ValueError(f"it has the columns {listed[:200]}")
        rows = pl.scan_parquet(io.BytesIO(data)).select(pl.len()).collect().item()
        if rows > MAX_TABLE_ROWS:
            raise ValueError(f"it claims {rows} rows, {MAX_TABLE_ROWS} can be")
        return pl.read_parquet(io.BytesIO(data), columns=None if columns is None else list(columns))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, MemoryError) as error:
        raise ValueError(f"it can't be read ({str(error)[:200]})") from None
