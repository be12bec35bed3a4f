"""What pictures in SVG are made of: scales, ticks, text, colours as classes. Shared by the figures of all reports."""

import html
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from bb.store.text.printable import printable

Number = int | float
Place: TypeAlias = int | Literal["all"]
Picture = tuple[str, Number, Number]  # the inside of an SVG, its width and its height

COLOURS = ("#0068a8", "#c4500a", "#00805c", "#a8428a", "#8a6d00", "#5b4bb5", "#b3273f", "#4d5a66")
NAMED = 24  # rows with a colour and a name of their own in the curves; further ones are grey
BANDS = 8  # rows whose bands are always seen
GUESSES = ("chance", "majority")  # the classes of lines for what scores are held against
RADIUS = 4.2  # of a marker
WIDTH, LETTER, LINE = 780, 7.3, 15  # pixels: a picture, a letter of 12 px, a line of names
STYLE = "".join(
    [
        "text{font:12px 'DejaVu Sans',Helvetica,Arial,sans-serif;fill:#1c2328;stroke:none}",
        ".muted{fill:#5b6670}.axis{stroke:#c3cbd1}.chance{stroke:#5b6670;stroke-dasharray:2 4}",
        ".majority{stroke:#5b6670;stroke-dasharray:8 4}.change{stroke:#5b6670;stroke-dasharray:1 3}",
        ".halo{paint-order:stroke;stroke:#fff;stroke-width:3px}",
        ".line{fill:none;stroke-width:2}.band{stroke:none;fill-opacity:.14}.rest{stroke:#b8c0c6;fill:#b8c0c6}",
        "text.rest{stroke:none;fill:#5b6670}.name{fill:#1c2328}",
        ".late .line{stroke-dasharray:6 3}.later .line{stroke-dasharray:2 3}",
        *(f".s{i}{{stroke:{c};fill:{c}}}text.s{i}{{fill:{c};stroke:none}}" for i, c in enumerate(COLOURS)),
    ]
)


def document(pictures: Sequence[Picture]) -> str:
    """Pictures below each other as one SVG file; each is its inside, width and height."""
    width, height = max(w for _, w, _ in pictures), sum(h for _, _, h in pictures)
    placed, y = [], 0.0
    for inside, _, h in pictures:
        placed.append(f'<g transform="translate(0 {y:g})">{inside}</g>')
        y += h
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}"><style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(placed)}</svg>\n"
    )


def series(label: str, classes: str, inside: Iterable[str]) -> str:
    """A group that the page's filter finds by its label."""
    return f'<g class="series {classes}" data-label="{escape(label)}">{"".join(inside)}</g>'


def text_at(x: Number, y: Number, words: str, classes: str, anchor: str = "start", full: str = "") -> str:
    """A line of text; `full` is shown as its title where that is longer."""
    title = f"<title>{escape(full)}</title>" if full and full != words else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}" text-anchor="{anchor}">{escape(words)}{title}</text>'


def guess_lines(
    guesses: Sequence[tuple[str, Number]],
    left: Number,
    right: Number,
    y_of: Callable[[Number], float],
    marks: Sequence[tuple[Number, Number]] = (),
) -> list[str]:
    """Dashed lines across a picture, each with its words, for what scores are to be held against.

    marks  where the markers are, which words keep clear of while there is room
    """
    parts, heights = [], [y_of(score) for _, score in guesses]
    for kind, (words, score) in zip(GUESSES, guesses, strict=False):
        y = y_of(score)
        parts.append(f'<line class="{kind}" x1="{left:g}" x2="{right:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        below = y > min(heights)  # so that the words of two lines that are near each other keep apart
        base = y + (13 if below else -4)
        parts.append(text_at(_clear(left + 4, right, base, words, marks), base, words, "muted halo"))
    return parts


def _clear(left: Number, right: Number, base: Number, words: str, marks: Sequence[tuple[Number, Number]]) -> Number:
    """Where words on a base line begin: as far left as no marker is in them; at the left where one always is."""
    wide, near = LETTER * len(words), RADIUS + 4
    level = [x for x, y in marks if base - 12 - near < y < base + 4 + near]
    starts = (left + step for step in range(0, max(int(right - left - wide), 1), 8))
    return next((x for x in starts if not any(x - near < at < x + wide + near for at in level)), left)


def marker(place: int, x: Number, y: Number, attributes: str = "") -> str:
    """A disc, a square, a triangle or a diamond, in turn: so that series can be distinguished in grey."""
    r = RADIUS
    match place % 4:
        case 0:
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}"{attributes}/>'
        case 1:
            half, size = r - 0.5, 2 * r - 1
            return f'<rect x="{x - half:.1f}" y="{y - half:.1f}" width="{size:g}" height="{size:g}"{attributes}/>'
        case 2:
            corners = [(0.0, -r - 0.8), (r + 0.6, r), (-r - 0.6, r)]
        case _:
            corners = [(0.0, -r - 1), (r + 1, 0.0), (0.0, r + 1), (-r - 1, 0.0)]
    return f'<polygon points="{" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)}"{attributes}/>'


def tip(description: str, focus: bool) -> str:
    """Attributes of what is said of an element: by a pointer, and to the keyboard and a screen reader with `focus`."""
    reach = f' tabindex="0" role="img" aria-label="{escape(description)}"' if focus else ""
    return f' data-tip="{escape(description)}"{reach}'


def colour(place: int) -> str:
    """The class of the series in a place: eight colours, then the same with dashes, then grey."""
    if place >= NAMED:
        return "rest"
    return f"s{place % len(COLOURS)}{('', ' late', ' later')[place // len(COLOURS)]}"


def positions(columns: Sequence[Place], left: Number, right: Number) -> dict[Place, float]:
    """Logarithmic; "all" stands one step beyond the last number."""
    numbers = [math.log2(n) for n in columns if n != "all"]
    beyond = numbers[-1] + (numbers[-1] - numbers[0]) / max(1, len(numbers) - 1) if numbers else 0.0
    beyond += 1.0 if len(numbers) == 1 else 0.0
    at = {n: beyond if n == "all" else math.log2(n) for n in columns}
    low, high = min(at.values()), max(at.values())
    if low == high:
        return {n: (left + right) / 2 for n in columns}
    return {n: left + (value - low) / (high - low) * (right - left) for n, value in at.items()}


def scale(
    values: Sequence[Number], start: Number, end: Number, most: int = 8
) -> tuple[Callable[[Number], float], list[float]]:
    """A linear scale with room at both ends, and its ticks."""
    found = [value for value in values if not math.isnan(value)]
    low, high = min(found), max(found)
    room = (high - low) * 0.05 or 0.05
    low, high = low - room, high + room
    return lambda value: start + (value - low) / (high - low) * (end - start), ticks_of(low, high, most)


def ticks_of(low: Number, high: Number, most: int = 8) -> list[float]:
    """At 1, 2 or 5 times a power of ten, no more than `most`."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * times for times in (1, 2, 5, 10, 20) if (high - low) / (power * times) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def apart(wanted: Sequence[Number], low: Number, high: Number) -> list[float]:
    """Places for names, each near the one wanted, a line apart from the next."""
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    placed = [0.0] * len(wanted)
    before = low - LINE
    for k in order:
        before = placed[k] = float(max(wanted[k], before + LINE))
    after = high + LINE
    for k in reversed(order):
        after = placed[k] = float(min(placed[k], after - LINE))
    return placed


def shortened(label: str, most: int) -> str:
    """A label of no more letters than `most`."""
    label = printable(label)
    if len(label) <= most:
        return label
    kept = most // 3  # ends tell more rows apart than beginnings do: tags, files, what is forced
    return f"{label[:kept]}…{label[kept + 1 - most :]}"


def distinct(labels: Sequence[str], most: int) -> list[str]:
    """Labels of no more letters than `most`; those that would be alike are cut around where they begin to differ."""
    short = [shortened(label, most) for label in labels]
    for name, count in Counter(short).items():
        alike = [k for k, each in enumerate(short) if each == name] if count > 1 else []
        whole = [printable(labels[k]) for k in alike]
        ends = zip(min(whole, default=""), max(whole, default=""), strict=False)
        start = next((at for at, (a, b) in enumerate(ends) if a != b), 0) - most // 3
        start = start if start > most // 4 else 0
        for k, label in zip(alike, whole, strict=True):
            cut = ("…" if start else "") + label[start:]
            short[k] = cut if len(cut) <= most else f"{cut[: most - 1]}…"
    return short


def escape(text: str) -> str:
    """As text in SVG, or in a quoted attribute."""
    return html.escape(printable(text))
