"""The board of `bb bench` as one HTML file: a row for each backbone, a column for each family and way of classifying.

Every string goes through `text`; pictures are SVG that follows the page's colours, light and dark.
"""

from importlib.resources import files
from itertools import groupby

from bb.probe.bench.board import CLAIM, BenchBoard, Cell, Row
from bb.probe.bench.columns import Column
from bb.probe.report.formats.html_frame import frame, text


def page(board: BenchBoard) -> str:
    """The whole file."""
    sections = {"ranks": _ranks(board), "scores": _scores(board), "failed": _failed(board)}
    titles = {"ranks": "Mean rank", "scores": "Scores", "failed": "What failed"}
    body = "".join(
        f'<section><h2 id="{name}" tabindex="-1">{titles[name]}</h2>{part}</section>'
        for name, part in sections.items()
        if part
    )
    nav = "".join(f'<a href="#{name}">{titles[name]}</a>' for name, part in sections.items() if part)
    style = files("bb.probe.bench").joinpath("page.css").read_text(encoding="utf-8")
    return frame(f"bb bench: {board.title}", nav=nav, body=body, filtered="backbones", style=style)


def _ranks(board: BenchBoard) -> str:
    """The mean rank of each backbone: a mark in a band from 1 to the number of backbones."""
    families = len({column.family for column in board.columns})
    counted = f"{board.ranked} backbones, {families} families, {len(board.columns)} columns. 1 is the best. "
    rows = "".join(
        f'<tr data-label="{text(row.name)}"><th scope="row">{text(row.name)}</th>'
        f'<td data-value="{-row.rank if row.rank is not None else ""}">{_rank(row, board.ranked)}</td></tr>'
        for row in board.rows
    )
    known = sorted({why for why in board.reasons if why})
    notes = "".join(f"<li>{text(_where(board, why))}: {text(why)}</li>" for why in known)
    left = (
        f'<div class="note"><p>In these columns no difference is shown, so that every rank in them is possible:</p>'
        f"<ul>{notes}</ul></div>"
        if notes
        else ""
    )
    return (
        f'<div class="card"><p>{text(counted + CLAIM)}</p><div class="wide"><table class="board ranks"><thead><tr>'
        f'<th aria-sort="none"><button type="button">backbone</button></th><th aria-sort="none">'
        f'<button type="button">mean rank</button></th></tr></thead><tbody>{rows}</tbody></table></div>{left}</div>'
    )


def _where(board: BenchBoard, why: str) -> str:
    return ", ".join(
        dict.fromkeys(_side(column) for column, each in zip(board.columns, board.reasons, strict=True) if each == why)
    )


def _rank(row: Row, ranked: int) -> str:
    if row.rank is None or row.low is None or row.high is None:
        return f'<span class="small">not ranked: {row.lacks} scores are missing</span>'
    across = max(ranked - 1, 1)
    low, high, at = (100 * (value - 1) / across for value in (row.low, row.high, row.rank))
    return f'{_bar(low, high, at)}<b>{row.rank:.2f}</b><span class="small">{row.low:.2f} to {row.high:.2f}</span>'


def _bar(low: float, high: float, at: float) -> str:
    return (
        '<svg class="bar" viewBox="0 0 100 7" preserveAspectRatio="none" aria-hidden="true"><rect class="whole" '
        f'width="100" height="7"/><rect class="range" x="{low:.2f}" width="{max(high - low, 0):.2f}" height="7"/>'
        f'<rect class="mark" x="{min(max(at - 0.6, 0), 98.8):.2f}" width="1.2" height="7"/></svg>'
    )


def _scores(board: BenchBoard) -> str:
    """One table: families above, ways of classifying below them."""
    above = "".join(
        f'<th scope="colgroup" colspan="{len(list(group))}">{text(side)}</th>'
        for side, group in groupby(board.columns, key=_side)
    )
    below = "".join(
        f'<th aria-sort="none"><button type="button">{text(column.title)}</button><span class="small">'
        f"{text(column.metric)}</span></th>"
        for column in board.columns
    )
    rows = "".join(
        f'<tr data-label="{text(row.name)}"><th scope="row">{text(row.name)}{_rank_words(row)}</th>'
        + "".join(_cell(cell, board.reasons[place]) for place, cell in enumerate(row.cells))
        + "</tr>"
        for row in board.rows
    )
    facts = "".join(f"<li>{text(fact)}</li>" for fact in dict.fromkeys(map(_facts, board.columns)))
    return (
        '<div class="card"><p>The mark is the score, the band its 95 % interval on further test images; the best of a '
        'column is bold.</p><div class="wide"><table class="board scores"><thead><tr><td></td>'
        f'{above}</tr><tr><th aria-sort="none"><button type="button">backbone</button></th>{below}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div><details><summary>Test images of each column</summary><ul>{facts}</ul>"
        "</details></div>"
    )


def _side(column: Column) -> str:
    return column.family if column.side == "test" else f"{column.family}, {column.side}"


def _facts(column: Column) -> str:
    tasks = f" of {column.tasks} tasks, whose mean it is" if column.tasks > 1 else ""
    seeds = f"; mean over {column.seeds} seeds" if column.seeds > 1 else ""
    return f"{_side(column)}, {column.title}: {column.n} test images{tasks}{seeds}"


def _rank_words(row: Row) -> str:
    return "" if row.rank is None else f'<span class="small">mean rank {row.rank:.2f}</span>'


def _cell(cell: Cell | None, reason: str) -> str:
    if cell is None:
        return '<td data-value=""><span class="small">no score</span></td>'
    value = f"<b>{cell.value:.3f}</b>" if cell.best else f'<span class="mean">{cell.value:.3f}</span>'
    marked = ' class="best"' if cell.best else ""
    if cell.low is None or cell.high is None:
        why = f' title="{text(reason)}"' if reason else ""
        words = f'{value}<span class="small"{why}>no interval</span>'
    else:
        inside = 0 <= cell.low <= cell.high <= 1
        bar = _bar(100 * cell.low, 100 * cell.high, 100 * cell.value) if inside else ""
        words = f'{bar}{value}<span class="small">{cell.low:.3f} to {cell.high:.3f}</span>'
    return f'<td{marked} data-value="{cell.value:.6f}">{words}</td>'


def _failed(board: BenchBoard) -> str:
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{text(why)}</td></tr>' for name, why in board.failed.items()
    )
    return f'<div class="card note"><table><tbody>{rows}</tbody></table></div>' if rows else ""
