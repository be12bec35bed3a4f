"""Boards as Markdown, for issues and READMEs: the best in bold, what is not called different from it marked with =."""

from collections.abc import Sequence

from bb.probe.report.formats.escape import markdown
from bb.probe.report.leaderboard import Leaderboard, LeaderboardCell


def markdown_tables(boards: Sequence[Leaderboard]) -> str:
    """A heading, a line on what the figures are, and a table for each board."""
    return "\n".join(_table(board) for board in boards)


def _table(board: Leaderboard) -> str:
    chance = f" To compare: {board.guessing}." if board.guessing else ""
    lines = [
        f"### {markdown(board.title)}, protocol {markdown(board.protocol)}",
        "",
        f"{markdown(board.claim)}.{chance} Bold: best; =: not called different from it.",
        "",
        _line(["backbone", *map(markdown, board.heads.values())]),
        _line(["---", *("---:" for _ in board.columns)]),
        *(_line([markdown(row.label), *(_cell(row.cells.get(n)) for n in board.columns)]) for row in board.rows),
    ]
    return "\n".join(lines) + "\n"


def _line(words: list[str]) -> str:
    return f"| {' | '.join(words)} |"


def _cell(cell: LeaderboardCell | None) -> str:
    if cell is None:
        return ""
    mean = f"**{cell.mean:.3f}**" if cell.best else f"{cell.mean:.3f}{'=' if cell.tied else ''}"
    return mean if cell.estimate.no_interval else f"{mean} [{cell.estimate.low:.3f}, {cell.estimate.high:.3f}]"
