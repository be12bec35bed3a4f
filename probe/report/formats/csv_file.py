"""Boards as CSV: a line for each score, with everything that is a figure, and names that no spreadsheet computes."""

import csv
import io
from collections.abc import Sequence

from probe import escape
from probe.board import KINDS, Board, Cell, Estimate

HEAD = (
    *("tasks", "collection", "protocol", "test_set", "metric", "average", "over", "backbone", "space", "n_train"),
    *("split", "name", "score", "low", "high", "holds", "seeds", "best", "tied_with_best", "group"),
    *("rank", "rank_low", "rank_high", "baseline", "difference", "difference_low", "difference_high", "p"),
    *("reference", "reference_tasks", "difference_to_reference", "runs"),
)


def sheet(boards: Sequence[Board]) -> str:
    """One table of all boards. `split` is "all" or, as far as asked for, cluster, subcluster or task with its name."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEAD)
    for board in boards:
        about = (board.tasks, board.collection, board.protocol, board.test_set, board.metric, board.average)
        for row in board.rows:
            for n, cell in row.cells.items():
                start = (*about, "+".join(board.over), row.label, row.space, n)
                writer.writerow(map(escape.csv, (*start, *_whole(board, cell))))
                for kind in KINDS:
                    for name, estimate in cell.splits.get(kind, {}).items():
                        writer.writerow(map(escape.csv, (*start, kind, name, *_figures(estimate))))
    return buffer.getvalue()


def _whole(board: Board, cell: Cell) -> tuple[object, ...]:
    delta, beside = cell.delta or ("",) * 4, cell.beside
    return (
        *("all", "", *_figures(cell.estimate), len(cell.origin.runs), cell.best, cell.tied, cell.group),
        *(*cell.rank, board.baseline if cell.delta else "", *delta),
        *((beside.score, beside.tasks, beside.difference) if beside else ("",) * 3),
        " ".join(run.run_id for run in cell.origin.runs),
    )


def _figures(estimate: Estimate) -> tuple[object, ...]:
    return tuple("" if value != value else value for value in estimate)
