"""A frame as an HTML table, for notebooks."""

from html import escape

import polars as pl


def html_table(frame: pl.DataFrame, caption: str) -> str:
    """Escaped; floats with four digits, null as an empty cell."""
    head = "".join(f"<th>{escape(name)}</th>" for name in frame.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(value))}</td>" for value in row) + "</tr>" for row in frame.iter_rows()
    )
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{rows}</table>"


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)
