"""Boards as LaTeX: a booktabs table each, the best in bold, what is not called different from it underlined."""

from collections.abc import Sequence

from bb.probe.report.formats.escape import latex
from bb.probe.report.leaderboard import Leaderboard, LeaderboardCell


def latex_tables(boards: Sequence[Leaderboard]) -> str:
    """To be \\input; needs \\usepackage{booktabs} and nothing else."""
    return "\n".join(_table(board) for board in boards)


def _table(board: Leaderboard) -> str:
    chance = f" To compare: {board.guessing}." if board.guessing else ""
    heads = [f"\\texttt{{n\\_train}} {latex(n)} ({latex(board.classifier(n))})" for n in board.columns]
    lines = [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{latex(board.title)}, protocol {latex(board.protocol)}: {latex(board.claim)}.{chance} "
        r"Bold: best; underlined: not called different from it.}",
        f"  \\begin{{tabular}}{{l{'l' * len(board.columns)}}}",
        r"    \toprule",
        f"    {' & '.join(['backbone', *heads])} \\\\",
        r"    \midrule",
        *(
            f"    {' & '.join([latex(row.label), *(_cell(row.cells.get(n)) for n in board.columns)])} \\\\"
            for row in board.rows
        ),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _cell(cell: LeaderboardCell | None) -> str:
    if cell is None:
        return "--"
    mean = f"{cell.mean:.3f}"
    mean = f"\\textbf{{{mean}}}" if cell.best else f"\\underline{{{mean}}}" if cell.tied else mean
    if cell.estimate.no_interval:
        return mean
    return f"{mean} {{\\footnotesize [{cell.estimate.low:.3f}, {cell.estimate.high:.3f}]}}"
