"""What `bb bench` prints."""

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from bb.console import say, show_table
from bb.runs import runs_text

if TYPE_CHECKING:
    from bb.probe.bench.facade import Bench

SHOWN = 6  # columns in the terminal; the page has all


def show_bench(found: "Bench", page: Path | None) -> None:
    """Backbones by mean rank with the first columns, and where the page is."""
    board = found.board
    if board.rows and page is not None:
        shown = board.columns[:SHOWN]
        rows = []
        for row in board.rows:
            rank = "" if row.rank is None else f"{row.rank:.2f} [{row.low:.2f}, {row.high:.2f}]"
            scores = ["" if cell is None else f"{cell.value:.3f}" for cell in row.cells[:SHOWN]]
            rows.append([row.name, rank, *scores])
        heads = [f"{column.family} {column.title}" for column in shown]
        show_table(["backbone", "mean rank", *heads], rows, right=["mean rank", *heads])
        if more := len(board.columns) - len(shown):
            say(f"{more} more columns are on the page")
    say(runs_text(chain(*found.runs.values()), found.fresh))
    if page is not None:
        say(f"page: {page}")
