"""Parquet tables out of a store, whose bytes anybody may have made."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

MAX_TABLE_ROWS = 100_000_000
FEW_ROWS = 1_000_000  # that a table of any size may have
# Beyond them, at most. Rows with an ID of their own take a byte each at least; those of runs may repeat whole lists.
ROWS_PER_BYTE, ROWS_PER_BYTE_OF_RUNS = 4, 1024


def read_table(
    data: bytes, schema: "Mapping[str, Any] | None" = None, columns: Sequence[str] | None = None
) -> "pl.DataFrame":
    """A table, of just these columns and types where `schema` gives them; only those of its columns that are named.

    Raises ValueError with a short reason for whatever is not such a table, a panic of the reader's included.
    """
    import polars as pl

    try:
        there = dict(pl.read_parquet_schema(io.BytesIO(data)))
        if schema is not None and there != dict(schema):
            listed = ", ".join(f"{name} {kind}" for name, kind in there.items())
            raise ValueError(f"it has the columns {listed[:200]}")
        rows = pl.scan_parquet(io.BytesIO(data)).select(pl.len()).collect().item()
        dense = ROWS_PER_BYTE if schema is not None else ROWS_PER_BYTE_OF_RUNS
        most = min(MAX_TABLE_ROWS, max(FEW_ROWS, dense * len(data)))
        if rows > most:
            raise ValueError(f"it claims {rows} rows in {len(data)} bytes, {most} can be")
        return pl.read_parquet(io.BytesIO(data), columns=None if columns is None else list(columns))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, MemoryError) as error:
        raise ValueError(f"it can't be read ({str(error)[:200]})") from None
