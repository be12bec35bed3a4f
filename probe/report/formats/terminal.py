"""Boards in a terminal: as wide as it is, in colour or not; a line for each row, for grep and awk, where nobody looks.

Marks need no colour: * is the best score at an n_train, = one that is not called different from it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bb.probe.report.leaderboard import Estimate, Kind, Leaderboard, LeaderboardCell, PublishedScore
from bb.store.format.space import short
from bb.store.text.printable import printable

LEGEND = "* best at its n_train, = not called different from it (p > 0.05, all comparisons on the board by {})"
GAP = 2
CORRECTIONS = {"holm": "Holm", "bh": "Benjamini-Hochberg"}


class ShownFigure(NamedTuple):
    """A figure as it stands in a table: its value, its bounds, and whether it is the best."""

    value: str
    bounds: str
    bold: bool = False

    def lines(self, tall: bool) -> Text:
        if not self.value:
            return Text()
        text = Text(self.value, style="bold" if self.bold else "")
        return text.append(f"\n{self.bounds}" if tall else f" {self.bounds}", style="dim" if tall else "")


def show_board(board: Leaderboard, console: Console, *, by: Kind | None = None, verbose: bool = False) -> None:
    """The board's heading, its table (or that of its clusters, subclusters or tasks), and what stands next to it."""
    chance = f"; {board.guessing}" if board.guessing else ""
    _say(
        console,
        f"{board.title}, {board.n_tasks} tasks, {board.n_images} test images, protocol {board.protocol}, "
        f"test set {short(board.test_set)}{f', training pool {short(board.train_pool)}' if board.train_pool else ''}",
        f"{board.split_claim if by else board.claim}{chance}",
    )
    columns = list(board.heads.values())
    if by is None:
        rows = [([row.label], [_shown(row.cells.get(n)) for n in board.columns]) for row in board.rows]
        seeds = ["/".join(str(len(row.cells[n].origin.runs)) if n in row.cells else "-" for n in board.columns)
                 for row in board.rows]  # fmt: skip
        _table(console, ["backbone"], columns, rows, ("seeds", seeds))
        _say(console, LEGEND.format(CORRECTIONS[board.correction]))
    else:
        rows = list(_by(board, by))
        if rows:
            _table(console, [by, "backbone"], columns, rows)
        else:
            _say(console, f"no task here is in a {by}")
    if board.baseline is not None and by is None:
        _say(console, "", f"less {board.baseline}, with p-values ({board.test}, {CORRECTIONS[board.correction]})")
        rows = [([row.label], [_delta(row.cells.get(n)) for n in board.columns]) for row in board.rows]
        _table(console, ["backbone"], columns, [row for row in rows if any(cell.value for cell in row[1])])
    if board.reference is not None and by is None:
        _say(console, "", f"ours less {board.reference}, means over the tasks that both have; ~ does not compare")
        _table(console, ["backbone"], columns, list(_beside(board)))
    if verbose:
        for row in board.rows:
            for n, cell in row.cells.items():
                _say(
                    console,
                    f"  {row.label}, n_train {n}: runs {' '.join(short(run.run_id) for run in cell.origin.runs)}",
                )


def _by(board: Leaderboard, by: Kind) -> Iterator[tuple[list[str], list[ShownFigure]]]:
    names = sorted({name for row in board.rows for cell in row.cells.values() for name in cell.splits.get(by, ())})
    for name in names:
        for row in board.rows:
            found = {n: cell.splits[by][name] for n, cell in row.cells.items()}
            yield [name, row.label], [_estimate(found[n]) if n in found else ShownFigure("", "") for n in board.columns]


def _beside(board: Leaderboard) -> Iterator[tuple[list[str], list[ShownFigure]]]:
    for row in board.rows:
        found = [row.cells[n].beside if n in row.cells else None for n in board.columns]
        if any(found):
            yield (
                [row.label],
                [_published(b) if b else ShownFigure("", "") for b in found],
            )


def _published(beside: PublishedScore) -> ShownFigure:
    mark = "~" if beside.obstacles else ""
    figures = f"({beside.mean:.3f} - {beside.score:.3f}, {beside.tasks} tasks)"
    return ShownFigure(f"{beside.difference:+.3f}{mark}", figures)


def _shown(cell: LeaderboardCell | None) -> ShownFigure:
    if cell is None:
        return ShownFigure("", "")
    found = _estimate(cell.estimate)
    return ShownFigure(found.value + ("*" if cell.best else "=" if cell.tied else ""), found.bounds, cell.best)


def _estimate(estimate: Estimate) -> ShownFigure:
    if estimate.mean != estimate.mean:
        return ShownFigure("-", "no value")
    if estimate.no_interval:
        return ShownFigure(f"{estimate.mean:.3f}", "no interval")
    mark = "" if estimate.holds else "!"
    return ShownFigure(f"{estimate.mean:.3f}", f"[{estimate.low:.3f}, {estimate.high:.3f}]{mark}")


def _delta(cell: LeaderboardCell | None) -> ShownFigure:
    if cell is None or cell.delta is None:
        return ShownFigure("", "")
    delta = cell.delta
    p = "p<0.001" if delta.p < 0.001 else f"p={delta.p:.3f}"
    bounds = f"[{delta.low:+.3f}, {delta.high:+.3f}]" if delta.low == delta.low else "no interval"
    return ShownFigure(f"{delta.difference:+.3f} {p}", bounds, delta.p <= 0.05)


def _table(
    console: Console,
    heads: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[tuple[list[str], list[ShownFigure]]],
    last: tuple[str, Sequence[str]] | None = None,
) -> None:
    """One table if it fits, with the bounds below the figures if it must be, cut between columns if not even so."""
    labels = [[printable(word) for word in words] for words, _ in rows]
    tall = console.is_terminal and _width(heads, labels, columns, rows, last, tall=False) > console.width
    last = None if tall else last
    for cut, chosen in enumerate(_cuts(console, heads, labels, columns, rows, last, tall)):
        if cut:
            _say(console, "")
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
        for head in heads:
            table.add_column(head, overflow="fold", min_width=len(head))
        for place in chosen:
            table.add_column(columns[place], no_wrap=True)
        if last:
            table.add_column(last[0], no_wrap=True)
        for number, (words, (_, cells)) in enumerate(zip(labels, rows, strict=True)):
            shown = [cells[place].lines(tall) for place in chosen]
            table.add_row(*map(Text, words), *shown, *([Text(last[1][number])] if last else []))
        for line in console.render_lines(table, pad=False):
            text = Text.assemble(*((segment.text, segment.style or "") for segment in line))
            text.rstrip()
            console.print(text, soft_wrap=True)


def _width(
    heads: Sequence[str],
    labels: Sequence[Sequence[str]],
    columns: Sequence[str],
    rows: Sequence[tuple[list[str], list[ShownFigure]]],
    last: tuple[str, Sequence[str]] | None,
    *,
    tall: bool,
) -> int:
    names = [max([len(head), *(len(words[place]) for words in labels)]) for place, head in enumerate(heads)]
    cells = [
        max([len(column), *(_cell_width(cells[place], tall) for _, cells in rows)])
        for place, column in enumerate(columns)
    ]
    ends = [max([len(last[0]), *map(len, last[1])])] if last else []
    return sum(names) + sum(cells) + sum(ends) + GAP * (len(names) + len(cells) + len(ends))


def _cell_width(shown: ShownFigure, tall: bool) -> int:
    return max(len(shown.value), len(shown.bounds)) if tall else len(shown.value) + 1 + len(shown.bounds)


def _cuts(
    console: Console,
    heads: Sequence[str],
    labels: Sequence[Sequence[str]],
    columns: Sequence[str],
    rows: Sequence[tuple[list[str], list[ShownFigure]]],
    last: tuple[str, Sequence[str]] | None,
    tall: bool,
) -> Iterator[list[int]]:
    """Which columns stand in each table: as many as fit next to the names, at least one."""
    chosen: list[int] = []
    for place in range(len(columns)):
        some = [*chosen, place]
        part = [(words, [cells[p] for p in some]) for words, cells in rows]
        # Long names fold before a table is cut: where figures have two lines, that costs no room.
        folded = [[word[: console.width // (3 * len(heads))] for word in words] for words in labels]
        wide = _width(heads, folded, [columns[p] for p in some], part, last, tall=tall)
        if chosen and console.is_terminal and wide - GAP > console.width:
            yield chosen
            some = [place]
        chosen = some
    yield chosen


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(Text(printable(line)), soft_wrap=not console.is_terminal)
