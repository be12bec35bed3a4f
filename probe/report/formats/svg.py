"""Boards as pictures: learning curves, scores and ranks with their intervals, two backbones' tasks. Plain SVG.

Everything is drawn here, once, for the page and for `--plot`. Colours are classes: the page gives them values for
light and dark, a picture of its own carries those of STYLE.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from bb.probe.report.formats.svg_parts import (
    BANDS,
    COLOURS,
    GUESSES,
    LETTER,
    LINE,
    NAMED,
    WIDTH,
    Number,
    Picture,
    apart,
    colour,
    distinct,
    guess_lines,
    marker,
    positions,
    scale,
    series,
    text_at,
    ticks_of,
    tip,
)
from bb.probe.report.leaderboard import Leaderboard, LeaderboardCell
from bb.probe.tasks.few_shot import NTrain


def curves(board: Leaderboard, *, title: bool = False) -> Picture:
    """Scores over n_train, with bands of their intervals."""
    names = distinct([row.label for row in board.rows[:NAMED]], 40)
    left, top, bottom = 48, 34 if title else 12, 56
    right = 26 + LETTER * max(map(len, names))
    height = top + bottom + max(300, LINE * len(names))
    x_of = positions(board.columns, left + 14, WIDTH - right - 14)
    cells = [cell for row in board.rows for cell in row.cells.values()]
    y_of, ticks = scale(
        [
            *(value for c in cells for value in c.estimate.ends),
            *(score for _, score in board.guesses),
        ],
        height - bottom,
        top,
    )
    parts = [_heading(board, "learning curves")] if title else []
    for tick in ticks:
        y = y_of(tick)
        parts.append(f'<line class="axis" x1="{left}" x2="{WIDTH - right:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text_at(left - 6, y + 4, f"{tick:.2f}", "muted", "end"))
    x_before = 0.0
    classifiers = [board.classifier(n) for n in board.columns]
    for n, x, classifier, before in zip(board.columns, x_of.values(), classifiers, ["", *classifiers], strict=False):
        parts.append(text_at(x, height - bottom + 18, str(n), "muted", "middle"))
        if classifier != before:
            parts.append(text_at(x, height - bottom + 32, classifier, "muted", "middle"))
        if before and classifier != before:
            between = (x + x_before) / 2
            parts.append(
                f'<line class="change" x1="{between:.1f}" x2="{between:.1f}" y1="{top}" y2="{height - bottom}"/>'
            )
            parts.append(text_at(between, top + 10, f"{before} | {classifier}", "muted halo", "middle"))
        x_before = x
    parts.append(
        text_at((left + WIDTH - right) / 2, height - 6, "training images per task (n_train)", "muted", "middle")
    )
    ends = apart([y_of(list(row.cells.values())[-1].mean) for row in board.rows[:NAMED]], top + 4, height - bottom)
    few = len(cells) <= 80  # points that the keyboard may visit
    # The best is drawn last, over the others.
    for place in reversed(range(len(board.rows))):
        row = board.rows[place]
        points = [(x_of[n], cell, n) for n, cell in row.cells.items()]
        inside = [drawn for segment in _segments(points) for drawn in _segment(segment, y_of)]
        inside += [
            marker(place, x, y_of(cell.mean), tip(f"{row.label}, n_train {n}: {describe(cell)}", few))
            for x, cell, n in points
        ]
        if place < NAMED:
            x, y = points[-1][0], y_of(points[-1][1].mean)
            if abs(ends[place] - y) > 3 or x < WIDTH - right - 15:
                inside.append(
                    f'<line class="axis" x1="{x + 6:.1f}" y1="{y:.1f}" x2="{WIDTH - right + 2:.1f}" '
                    f'y2="{ends[place]:.1f}"/>'
                )
            inside.append(marker(place, WIDTH - right + 9, ends[place]))
            inside.append(text_at(WIDTH - right + 18, ends[place] + 4, names[place], colour(place), full=row.label))
        shown = "" if place < BANDS and len(board.rows) <= BANDS else " thin"
        parts.append(series(row.label, f"{colour(place)}{shown}", inside))
    marks = [(x_of[n], y_of(cell.mean)) for row in board.rows for n, cell in row.cells.items()]
    parts += guess_lines(board.guesses, left, WIDTH - right, y_of, marks)
    return "".join(parts), WIDTH, height


_Point = tuple[float, LeaderboardCell, NTrain]


def _segments(points: Sequence[_Point]) -> Iterator[list[_Point]]:
    """Neighbours of one classifier: scores of two classifiers are not one curve."""
    for _, segment in groupby(points, key=lambda point: point[1].origin.classifier):
        yield list(segment)


def _segment(points: Sequence[_Point], y_of: Callable[[Number], float]) -> list[str]:
    """A band and a line; a single point has its interval as a narrow band."""
    half = 4 if len(points) == 1 else 0
    upper = [(x + side, y_of(cell.estimate.ends[1])) for x, cell, _ in points for side in sorted({-half, half})]
    lower = [(x + side, y_of(cell.estimate.ends[0])) for x, cell, _ in points for side in sorted({-half, half})]
    band = " ".join(f"{x:.1f},{y:.1f}" for x, y in (*upper, *reversed(lower)))
    line = " ".join(f"{x:.1f},{y_of(cell.mean):.1f}" for x, cell, _ in points)
    return [f'<polygon class="band" points="{band}"/>', f'<polyline class="line" points="{line}"/>']


def scores(board: Leaderboard, *, title: bool = False) -> Picture:
    """A panel for each n_train: every score with its interval."""

    def of(cell: LeaderboardCell) -> tuple[Number, Number, Number]:
        return cell.estimate.mean, *cell.estimate.ends

    return _panels(board, "leaderboard" if title else "", of, "{:.2f}", board.guesses)


def ranks(board: Leaderboard) -> Picture:
    """A panel for each n_train: every rank with its interval, the best at the left."""

    def of(cell: LeaderboardCell) -> tuple[Number, Number, Number]:
        rank, low, high = cell.rank
        return rank, rank if low is None else low, rank if high is None else high

    return _panels(board, "", of, "{:g}")


def scatter(board: Leaderboard) -> Picture:
    """A point for each task: the score of the second row over that of the first, at the last n_train.

    The page moves the points when others are chosen: `data-low` and `data-high` are the ends of both axes, `data-from`
    and `data-to` where these stand.
    """
    side, margin = 440, 46
    n = board.columns[-1]
    low, high = limits(board)
    end = side - 16

    def at(value: Number) -> float:
        return margin + (value - low) / (high - low) * (end - margin)

    parts = []
    for tick in ticks_of(low, high):
        place = at(tick)
        parts.append(f'<line class="axis" x1="{place:.1f}" x2="{place:.1f}" y1="{side - end}" y2="{side - margin}"/>')
        parts.append(f'<line class="axis" x1="{margin}" x2="{end}" y1="{side - place:.1f}" y2="{side - place:.1f}"/>')
        parts.append(text_at(place, side - margin + 16, f"{tick:g}", "muted", "middle"))
        parts.append(text_at(margin - 6, side - place + 4, f"{tick:g}", "muted", "end"))
    parts.append(f'<line class="chance" x1="{margin}" y1="{side - margin}" x2="{end}" y2="{side - end}"/>')
    places = cluster_places(board)
    a, b = board.rows[0].cells.get(n), board.rows[min(1, len(board.rows) - 1)].cells.get(n)
    for place, task in enumerate(board.task_list):
        x, y = (c.splits["task"][task.name].mean if c else math.nan for c in (a, b))
        hidden = ' display="none"' if math.isnan(x + y) else ""
        where = "" if hidden else f' transform="translate({at(x):.1f} {side - at(y):.1f})"'
        described = tip(f"{task.name}: {x:.3f} across, {y:.3f} up", False)
        of_cluster = places[task.cluster]
        shown = f'<g class="{cluster_colour(of_cluster)} dot" data-task="{place}"{where}{described}{hidden}>'
        parts.append(f"{shown}{marker(of_cluster, 0, 0)}</g>")
    parts.append(text_at((margin + end) / 2, side - 6, "", "muted across", "middle"))
    parts.append(
        f'<text class="muted up" text-anchor="middle" transform="translate(11 {side / 2}) rotate(-90)"></text>'
    )
    data = f'data-low="{low:.6f}" data-high="{high:.6f}" data-from="{margin}" data-to="{end}"'
    return f"<g {data}>{''.join(parts)}</g>", side, side


def cluster_places(board: Leaderboard) -> dict[str, int]:
    """The place of each cluster, which decides the colour and the shape of its points."""
    return {cluster: place for place, cluster in enumerate(sorted({task.cluster for task in board.task_list}))}


def cluster_colour(place: int) -> str:
    """The class that colours a cluster's points; colours repeat after eight clusters."""
    return colour(place % len(COLOURS))


def cluster_key(board: Leaderboard) -> dict[str, str]:
    """The mark of each cluster's points, in a square of 12."""
    places = cluster_places(board)
    return {
        cluster: f'<g class="{cluster_colour(place)}">{marker(place, 6, 6)}</g>' for cluster, place in places.items()
    }


def limits(board: Leaderboard) -> tuple[float, float]:
    """The ends of an axis that holds every task's score."""
    found = [e.mean for row in board.rows for cell in row.cells.values() for e in cell.splits["task"].values()]
    found = [value for value in found if not math.isnan(value)] or [0.0, 1.0]
    low, high = math.floor(min(found) * 20) / 20, math.ceil(max(found) * 20) / 20
    return (low, high) if high > low else (low - 0.05, high + 0.05)


def describe(cell: LeaderboardCell) -> str:
    """A cell in words, as tooltips say it."""
    e, runs = cell.estimate, f"{len(cell.origin.runs)} run{'s' * (len(cell.origin.runs) != 1)}"
    if e.no_interval:
        return f"{e.mean:.3f}, rank {cell.rank.rank:g}, {runs}"
    return (
        f"{e.mean:.3f} [{e.low:.3f}, {e.high:.3f}], rank {cell.rank.rank:g} [{cell.rank.low}, {cell.rank.high}], {runs}"
    )


def _panels(
    board: Leaderboard,
    title: str,
    of: Callable[[LeaderboardCell], tuple[Number, Number, Number]],
    tick_words: str,
    guesses: Sequence[tuple[str, float]] = (),
) -> Picture:
    names = distinct([row.label for row in board.rows], 34)
    left, top, gap = 12 + LETTER * max(map(len, names)), 62 if title else 42, 18
    width = max(WIDTH, left + 90 * len(board.columns))
    panel = (width - left - 8) / len(board.columns) - gap
    step = 22
    foot = 26 + 14 * len(guesses)
    height = top + step * len(board.rows) + foot + 4
    found = [of(cell) for row in board.rows for cell in row.cells.values()]
    x_of, ticks = scale([v for bounds in found for v in bounds] + [score for _, score in guesses], 0, panel, most=4)
    if tick_words == "{:g}":  # ranks are whole, and the first is 1
        most = max(row_cell.rank.high or len(board.rows) for row in board.rows for row_cell in row.cells.values())
        ticks = [float(tick) for tick in range(1, most + 1, -(-most // 4))]
    few = len(found) <= 80
    parts = [_heading(board, title)] if title else []
    for k, n in enumerate(board.columns):
        start = left + 8 + k * (panel + gap)
        parts.append(text_at(start + panel / 2, top - 26, f"n_train {n}", "muted", "middle"))
        parts.append(text_at(start + panel / 2, top - 11, board.classifier(n), "muted", "middle"))
        for tick in ticks:
            x = start + x_of(tick)
            parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{height - foot}"/>')
            parts.append(text_at(x, height - foot + 14, tick_words.format(tick), "muted", "middle"))
        for line, (kind, (description, score)) in enumerate(zip(GUESSES, guesses, strict=False)):
            x = start + x_of(score)
            parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{height - foot}"/>')
            side = "end" if x > start + panel / 2 else "start"
            parts.append(text_at(x, height - foot + 28 + 14 * line, description, "muted", side))
    for place, row in enumerate(board.rows):
        y = top + step * place + step / 2
        inside = [text_at(left, y + 4, names[place], "name", "end", full=row.label)]
        for k, n in enumerate(board.columns):
            if (cell := row.cells.get(n)) is None:
                continue
            value, low, high = (left + 8 + k * (panel + gap) + x_of(v) for v in of(cell))
            inside.append(
                f"<g{tip(f'{row.label}, n_train {n}: {describe(cell)}', few)}>"
                f'<rect class="hit" x="{low - 6:.1f}" y="{y - 9:.1f}" width="{high - low + 12:.1f}" height="18" '
                f'fill-opacity="0" stroke="none"/>'
                f'<line class="line" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<circle cx="{value:.1f}" cy="{y:.1f}" r="3.2"/></g>'
            )
        parts.append(series(row.label, "s0", inside))
    return "".join(parts), width, height


def _heading(board: Leaderboard, what: str) -> str:
    return text_at(8, 18, f"{board.title}, {board.protocol}: {what}. {board.claim}", "")
