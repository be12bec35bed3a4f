"""A score in a table's cell: a dot on the band of its interval, with dashed lines for what to compare it with."""

from collections.abc import Sequence

from bb.probe.report.formats.html_frame import text
from bb.probe.report.formats.svg_parts import GUESSES, Number

Guess = tuple[str, float]  # what is compared with, in words, and what it scores


def bar(
    value: Number, bounds: tuple[Number, Number] | None, ends: tuple[Number, Number], guesses: Sequence[Guess] = ()
) -> str:
    """`ends` are the scores at both ends of the cell; what is beyond them is not drawn."""

    def at(score: Number) -> float:
        return 100 * (min(max(score, ends[0]), ends[1]) - ends[0]) / ((ends[1] - ends[0]) or 1)

    inside = ""
    if bounds:
        low, high = map(at, bounds)
        inside = f'<rect class="range" x="{low:.1f}" y="1" width="{max(1.2, high - low):.1f}" height="8"/>'
    for kind, (_, score) in zip(GUESSES, guesses, strict=False):
        inside += _line(at(score), kind) if ends[0] <= score <= ends[1] else ""
    return _svg(f"{inside}{_dot(at(value))}")


def bar_key(guesses: Sequence[Guess] = ()) -> str:
    """What the parts of a bar mean, each drawn as it stands there."""
    parts = [
        (_dot(50.0), "score"),
        ('<rect class="range" x="15" y="1" width="70" height="8"/>', "its 95% interval"),
        *((_line(50.0, kind), f"{words}, {score:.3f}") for kind, (words, score) in zip(GUESSES, guesses, strict=False)),
    ]
    shown = " ".join(f"<span>{_svg(drawn, 'bar key')} {text(words)}</span>" for drawn, words in parts)
    return f'<p class="key">In each bar: {shown}</p>'


def _dot(x: float) -> str:
    # A line of no length has round ends: a circle, however the bar is stretched.
    return f'<path class="mark" d="M{x:.1f} 5h0"/>'


def _line(x: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="10"/>'


def _svg(inside: str, classes: str = "bar") -> str:
    return (
        f'<svg class="{classes}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="whole" x="0" y="4.5" width="100" height="1"/>{inside}</svg>'
    )
