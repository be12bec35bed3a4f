"""Scores over what an image costs, with the backbones that no other one beats at the same cost."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from bb.probe.features.extraction import Cost, count_text
from bb.probe.report.formats.svg_parts import (
    LETTER,
    LINE,
    NAMED,
    WIDTH,
    Number,
    Picture,
    apart,
    distinct,
    guess_lines,
    scale,
    series,
    text_at,
    tip,
)

_FINE = (1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
AXES = {"gflops": "GFLOPs for an image", "parameters": "parameters"}


class Spot(NamedTuple):
    """A backbone's score, with its interval where it has one, and what it costs."""

    label: str
    value: float
    bounds: tuple[float, float] | None
    cost: Cost


def axis_of(spots: Sequence[Spot]) -> str | None:
    """The cost that most backbones have on record; None where fewer than two have any."""
    counts = {name: sum(bool(getattr(spot.cost, name)) for spot in spots) for name in AXES}
    name = max(counts, key=lambda each: counts[each])
    return name if counts[name] > 1 else None


def front(spots: Sequence[tuple[Number, Number]]) -> list[bool]:
    """Of (cost, score) pairs, which ones no other has at least the score of for less, or more than for as little."""
    return [not any((c <= cost and v > value) or (c < cost and v >= value) for c, v in spots) for cost, value in spots]


def cost_words(spots: Sequence[Spot], axis: str, score: str) -> str:
    """What the picture shows, and how many backbones are not in it."""
    without = sum(not getattr(spot.cost, axis) for spot in spots)
    return (
        f"{score.capitalize()} over the {AXES[axis]}, with 95% intervals. Discs joined by a line are the Pareto front: "
        "no backbone has a higher score for less. Rings are the others."
        + (f" {without} without a recorded cost {'are' if without > 1 else 'is'} left out." if without else "")
    )


def cost_picture(spots: Sequence[Spot], axis: str, metric: str, guesses: Sequence[tuple[str, float]] = ()) -> Picture:
    """A disc for each backbone on the front, joined by steps, and a ring for each other one.

    axis  one of AXES. All have a name at the right, or those of the front where there are more than 24
    """
    shown = sorted((spot for spot in spots if getattr(spot.cost, axis)), key=lambda spot: -spot.value)
    costs = [float(getattr(spot.cost, axis)) for spot in shown]
    ahead = front(list(zip(costs, (spot.value for spot in shown), strict=True)))
    named = [k for k in range(len(shown)) if ahead[k] or len(shown) <= NAMED][:NAMED]
    names = dict(zip(named, distinct([shown[k].label for k in named], 40), strict=True))
    left, top, bottom, right = 48, 30, 44, 24 + LETTER * max(map(len, names.values()))
    height, end = top + bottom + max(280, LINE * len(named)), WIDTH - right
    low, high = math.log10(min(costs)), math.log10(max(costs))
    room = max(0.06 * (high - low), 0.05)

    def x_of(cost: Number) -> float:
        return left + 10 + (math.log10(cost) - low + room) / (high - low + 2 * room) * (end - left - 20)

    bounds = [bound for spot in shown for bound in (spot.value, *(spot.bounds or ()))]
    y_of, ticks = scale([*bounds, *(score for _, score in guesses)], height - bottom, top)
    parts = []
    for tick in ticks:
        parts.append(f'<line class="axis" x1="{left}" x2="{end:g}" y1="{y_of(tick):.1f}" y2="{y_of(tick):.1f}"/>')
        parts.append(text_at(left - 6, y_of(tick) + 4, f"{tick:.2f}", "muted", "end"))
    for tick in _ticks(low - room, high + room):
        parts.append(text_at(x_of(tick), height - bottom + 18, count_text(tick), "muted", "middle"))
    parts.append(text_at((left + end) / 2, height - 6, f"{AXES[axis]}, logarithmic", "muted", "middle"))
    parts.append(text_at(left, 14, metric, "muted"))
    steps = sorted((costs[k], shown[k].value) for k in range(len(shown)) if ahead[k])
    path = f"M{x_of(steps[0][0]):.1f} {y_of(steps[0][1]):.1f}" + "".join(
        f"H{x_of(cost):.1f}V{y_of(value):.1f}" for cost, value in steps[1:]
    )
    parts.append(f'<path class="s0 line front" d="{path}H{end:g}"/>')
    at = dict(zip(named, apart([y_of(shown[k].value) for k in named], top + 4, height - bottom), strict=True))
    for k in reversed(range(len(shown))):  # the best is drawn last, over the others
        spot, x, y = shown[k], x_of(costs[k]), y_of(shown[k].value)
        inside = []
        if spot.bounds:
            ends = [y_of(bound) for bound in spot.bounds]
            inside.append(f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}"/>')
        description = f"{spot.label}: {spot.value:.3f}, {', '.join(spot.cost.describe())}"
        kind = "" if ahead[k] else ' class="ring"'
        inside.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"{kind}{tip(description, len(shown) <= 80)}/>')
        if k in at:
            inside.append(f'<line class="axis" x1="{x + 6:.1f}" y1="{y:.1f}" x2="{end + 2:.1f}" y2="{at[k]:.1f}"/>')
            inside.append(text_at(end + 6, at[k] + 4, names[k], "name" if ahead[k] else "muted", full=spot.label))
        parts.append(series(spot.label, "s0" if ahead[k] else "rest", inside))
    marks = [(x_of(cost), y_of(spot.value)) for cost, spot in zip(costs, shown, strict=True)]
    parts += guess_lines(guesses, left, end, y_of, marks)
    return "".join(parts), WIDTH, height


def _ticks(low: float, high: float) -> list[float]:
    """Between two powers of ten: a few numbers of each decade, fewer where there are many decades."""
    width = high - low
    steps = tuple(k / 10 for k in range(10, 100)) if width < 0.15 else _FINE if width < 0.7 else (1, 2, 5)
    steps = steps if width < 2.4 else (1,)
    decades = range(math.floor(low), math.ceil(high) + 1)
    found = [tick for d in decades for s in steps if 10**low <= (tick := s * 10.0**d) <= 10**high]
    return found[:: -(-len(found) // 10)] if found else []
