"""Boards as CSV: a line for each score, with everything that is a figure, and names that no spreadsheet computes."""

import csv
import io
from collections.abc import Sequence

from bb.probe.report.formats import escape
from bb.probe.report.leaderboard import KINDS, Estimate, Leaderboard, LeaderboardCell

HEAD = (
    *("tasks", "labels", "collection", "protocol", "test_set", "train_pool", "metric", "average", "over"),
    *("chance", "majority"),
    *("backbone", "space", "n_train", "classifier"),
    *("split", "name", "score", "low", "high", "holds", "no_interval", "seeds", "best", "tied_with_best", "group"),
    *("rank", "rank_low", "rank_high", "baseline", "difference", "difference_low", "difference_high", "p"),
    *("reference", "reference_tasks", "difference_to_reference", "reference_does_not_compare", "runs"),
)


def sheet(boards: Sequence[Leaderboard]) -> str:
    """One table of all boards. `split` is "all" or, as far as asked for, cluster, subcluster or task with its name."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEAD)
    for board in boards:
        made_of = (board.tasks, board.labels or "", board.collection, board.protocol, board.test_set, board.train_pool)
        about = (*made_of, board.metric, board.average)
        for row in board.rows:
            for n, cell in row.cells.items():
                guessing = ("" if value is None else value for value in (board.chance, board.majority))
                start = (*about, "+".join(board.over), *guessing, row.label, row.space, n, cell.origin.classifier)
                writer.writerow(map(escape.csv, (*start, *_whole(board, cell))))
                for kind in KINDS:
                    for name, estimate in cell.splits.get(kind, {}).items():
                        leads = _leads(cell, name) if kind == "cluster" else ()
                        writer.writerow(map(escape.csv, (*start, kind, name, *_figures(estimate), *leads)))
    return buffer.getvalue()


def _whole(board: Leaderboard, cell: LeaderboardCell) -> tuple[object, ...]:
    delta, beside = tuple("" if value != value else value for value in cell.delta or ("",) * 4), cell.beside
    return (
        *("all", "", *_figures(cell.estimate), len(cell.origin.runs), cell.best, cell.tied, cell.group),
        *(*("" if part is None else part for part in cell.rank), board.baseline if cell.delta else "", *delta),
        *((beside.score, beside.tasks, beside.difference, "; ".join(beside.obstacles)) if beside else ("",) * 4),
        " ".join(run.run_id for run in cell.origin.runs),
    )


def _leads(cell: LeaderboardCell, cluster: str) -> tuple[object, ...]:
    """From seeds on: whether it is the best in a cluster, or tied with it."""
    lead = cell.leads.get(cluster)
    return len(cell.origin.runs), lead == "best", lead == "tied"


def _figures(estimate: Estimate) -> tuple[object, ...]:
    return tuple("" if value != value else value for value in estimate)
