"""Learning curves and reliability diagrams, as SVG in the page's colours and readable without them."""

import math
from collections.abc import Callable, Mapping, Sequence

from bb.probe.classification.report.curves import Curve, Point
from bb.probe.features.extraction import count_text
from bb.probe.report.formats.svg_parts import (
    BANDS,
    LETTER,
    LINE,
    NAMED,
    RADIUS,
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
    tip,
)
from bb.probe.statistics.multiclass.calibration import Bin
from bb.probe.tasks.fold import Shots

_FEW = 80  # points that the keyboard may visit


def curves_picture(curves: Sequence[Curve], metric: str, guesses: Sequence[tuple[str, float]] = ()) -> Picture:
    """Scores over shots on a logarithmic axis, with bands of their intervals; a name at the end of each curve.

    Markers differ, so that curves can be told apart in grey. Of more than 24 curves the further ones are grey.
    """
    names = distinct([curve.label for curve in curves[:NAMED]], 40)
    left, top, bottom, right = 48, 12, 44, 30 + LETTER * max(map(len, names))
    height, end = top + bottom + max(280, LINE * len(names)), WIDTH - right
    points = [point for curve in curves for point in curve.points]
    sizes = sorted({point.shots for point in points}, key=lambda shots: math.inf if shots == "all" else shots)
    x_of = positions(sizes, left + 14, end - 14)
    bounds = [bound for point in points for bound in (point.value, point.low, point.high) if bound is not None]
    y_of, ticks = scale([*bounds, *(score for _, score in guesses)], height - bottom, top)
    parts = []
    for tick in ticks:
        parts.append(f'<line class="axis" x1="{left}" x2="{end:g}" y1="{y_of(tick):.1f}" y2="{y_of(tick):.1f}"/>')
        parts.append(text_at(left - 6, y_of(tick) + 4, f"{tick:.2f}", "muted", "end"))
    for shots, x in x_of.items():
        parts.append(text_at(x, height - bottom + 18, str(shots), "muted", "middle"))
    parts.append(text_at((left + end) / 2, height - 6, "training images of each class (shots)", "muted", "middle"))
    named = apart([y_of(curve.points[-1].value) for curve in curves[:NAMED]], top + 4, height - bottom)
    for place in reversed(range(len(curves))):  # the best is drawn last, over the others
        curve = curves[place]
        inside = [_band(curve.points, x_of, y_of)] if all(point.low is not None for point in curve.points) else []
        line = " ".join(f"{x_of[point.shots]:.1f},{y_of(point.value):.1f}" for point in curve.points)
        inside.append(f'<polyline class="line" points="{line}"/>')
        for point in curve.points:
            tooltip = tip(f"{curve.label}, shots {point.shots}: {_words(point)}", len(points) <= _FEW)
            inside.append(marker(place, x_of[point.shots], y_of(point.value), tooltip))
        if place < NAMED:
            last = curve.points[-1]
            x, y = x_of[last.shots], y_of(last.value)
            inside.append(
                f'<line class="axis" x1="{x + 7:.1f}" y1="{y:.1f}" x2="{end + 2:.1f}" y2="{named[place]:.1f}"/>'
            )
            inside.append(marker(place, end + 9, named[place], ""))
            inside.append(text_at(end + 18, named[place] + 4, names[place], colour(place), full=curve.label))
        thin = "" if place < BANDS and len(curves) <= BANDS else " thin"
        parts.append(series(curve.label, f"{colour(place)}{thin}", inside))
    marks = [(x_of[point.shots], y_of(point.value)) for point in points]
    parts += guess_lines(guesses, left, end, y_of, marks)
    return "".join(parts), WIDTH, height


def key_of(curves: Sequence[Curve]) -> list[tuple[str, str]]:
    """Of the curves with a name their marker, 12 pixels in square, and label."""
    return [
        (f'<g class="{colour(place)}">{marker(place, 6, 6, "")}</g>', curve.label)
        for place, curve in enumerate(curves[:NAMED])
    ]


def reliability_picture(bins: Sequence[Bin]) -> Picture:
    """The share of right answers over confidence, with intervals, and below it how many images each bin has."""
    width, margin, end, top, side = 452, 58, 436, 16, 378
    foot, tall = top + side, 56  # where the diagram ends, and the height of the bars below it
    height = foot + 30 + tall + 22
    most = max(bin_.n for bin_ in bins)

    def across(value: Number) -> float:
        return margin + value * (end - margin)

    def up(value: Number) -> float:
        return foot - value * side

    parts = []
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        x, y = across(tick), up(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{foot}"/>')
        parts.append(f'<line class="axis" x1="{margin}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text_at(x, foot + 16, f"{tick:.1f}", "muted", "middle"))
        parts.append(text_at(margin - 6, y + 4, f"{tick:.1f}", "muted", "end"))
    parts.append(f'<line class="chance" x1="{margin}" y1="{foot}" x2="{end}" y2="{top}"/>')
    base = height - 22
    inside = []
    for bin_ in bins:
        x, y = across(bin_.confidence), up(bin_.accuracy)
        start, stop = across(bin_.low), across(bin_.high)
        bar = bin_.n / most * tall
        inside.append(
            f'<rect class="count" x="{start + 1:.1f}" y="{base - bar:.1f}" width="{stop - start - 2:.1f}" '
            f'height="{bar:.1f}"/>'
        )
        tooltip = f"confidence {bin_.confidence:.3f}: {bin_.accuracy:.3f} of {bin_.n} images are right"
        if bin_.interval:
            low, high = bin_.interval
            tooltip += f", interval {low:.3f} to {high:.3f}"
            inside.append(f'<line class="line" x1="{x:.1f}" x2="{x:.1f}" y1="{up(low):.1f}" y2="{up(high):.1f}"/>')
        inside.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}"{tip(tooltip, True)}/>')
    parts.append(f'<line class="axis" x1="{margin}" x2="{end}" y1="{base}" y2="{base}"/>')
    parts.append(text_at(margin - 6, base - tall + 10, count_text(most), "muted", "end"))
    parts.append(text_at(margin - 6, base, "0", "muted", "end"))
    parts.append(f'<g class="s0">{"".join(inside)}</g>')
    parts.append(
        text_at((margin + end) / 2, height - 6, "confidence: the predicted class's probability", "muted", "middle")
    )
    middle = f'text-anchor="middle" transform="translate(11 {top + side / 2:g}) rotate(-90)"'
    parts.append(f'<text class="muted" {middle}>share of right answers</text>')
    middle = f'text-anchor="middle" transform="translate(11 {base - tall / 2:g}) rotate(-90)"'
    parts.append(f'<text class="muted" {middle}>images</text>')
    return "".join(parts), width, height


def _band(points: Sequence[Point], x_of: Mapping[Shots, float], y_of: Callable[[Number], float]) -> str:
    """The area between the bounds; of a single point a narrow one."""
    half = 4 if len(points) == 1 else 0
    ends = [(x_of[point.shots] + side, point) for point in points for side in sorted({-half, half})]
    upper = [f"{x:.1f},{y_of(point.high or 0):.1f}" for x, point in ends]
    lower = [f"{x:.1f},{y_of(point.low or 0):.1f}" for x, point in ends]
    return f'<polygon class="band" points="{" ".join([*upper, *reversed(lower)])}"/>'


def _words(point: Point) -> str:
    tooltip = f"{point.value:.3f}"
    if point.low is not None and point.high is not None:
        tooltip += f" [{point.low:.3f}, {point.high:.3f}]"
    return tooltip + (f", {point.seeds} seeds" if point.seeds > 1 else "")
