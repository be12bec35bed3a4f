"""The board of `bb bench` as one HTML file: a row for each backbone, a column for each family and way of classifying.

The markup is page.html's; here is what it says of columns.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

from bb.probe.bench.board import CLAIM, BenchBoard
from bb.probe.bench.columns import Column
from bb.probe.bench.findings import findings
from bb.probe.bench.methods import bibtex, methods
from bb.probe.report.formats.templates import render
from bb.store.local.runs import Run


def page(board: BenchBoard, runs: Mapping[str, Sequence[Run]]) -> str:
    """The whole file. runs: those of the board, by family."""
    unsure: dict[str, list[str]] = {why: [] for why in sorted({why for why in board.reasons if why})}
    for column, why in zip(board.columns, board.reasons, strict=True):
        if why and _side(column) not in unsure[why]:
            unsure[why].append(_side(column))
    return render(
        "bench/page.html",
        title=f"bb bench: {board.title}",
        filtered="backbones",
        board=board,
        findings=" ".join(findings(board)),
        methods=methods(board, runs),
        bibtex=bibtex(runs),
        claim=CLAIM,
        most=max(board.ranked, 2),
        families=len({column.family for column in board.columns}),
        unsure=unsure,
        sides=[(side, len(list(group))) for side, group in groupby(board.columns, key=_side)],
        facts=list(dict.fromkeys(map(_facts, board.columns))),
    )


def _side(column: Column) -> str:
    return column.family if column.side == "test" else f"{column.family}, {column.side}"


def _facts(column: Column) -> str:
    tasks = f" of {column.tasks} tasks, whose mean it is" if column.tasks > 1 else ""
    seeds = f"; mean over {column.seeds} seeds" if column.seeds > 1 else ""
    return f"{_side(column)}, {column.title}: {column.n} test images{tasks}{seeds}"
