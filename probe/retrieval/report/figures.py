"""A query and what it got, as a picture for loggers: query blue, hit green, miss red, missed truth grey. Plain SVG.

PNG is made of it by vl-convert, as of all other pictures: so no drawing library is needed, and probing stays without
Pillow. Colours are not alone: each image is also named by what it is.
"""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from io import BufferedIOBase

from bb.probe.retrieval.report.thumbnail import Thumbnail
from bb.probe.retrieval.report.worst_queries import Answer, Kind
from bb.store.errors import UsageError

TILE, GAP, TEXT = 120, 14, 50  # pixels: an image, what is around it, three lines below it
COLOURS: dict[Kind, str] = {"query": "#0068a8", "hit": "#00805c", "miss": "#b3273f", "missed": "#7d8790"}
LETTERS = 17  # of a caption


@dataclass(frozen=True)
class Drawing:
    """An SVG that saves itself, as loggers expect of a figure."""

    svg: str

    def savefig(self, fname: BufferedIOBase, *, format: str = "png") -> None:
        """Writes it as png or svg. Errors: UsageError where png is wanted without vl-convert."""
        if format == "svg":
            fname.write(self.svg.encode())
            return
        if find_spec("vl_convert") is None:
            raise UsageError("figures need vl-convert: pip install 'backbone-bench[report]'")
        import vl_convert

        fname.write(bytes(vl_convert.svg_to_png(self.svg, scale=1.5)))


def draw(answer: Answer, metric: str, thumbnails: Mapping[str, Thumbnail]) -> Drawing:
    """The query, then what it got in order of rank, then what it missed.

    thumbnails  by image ID, as far as they are available; others are named only
    """
    tiles = [("query", _tile("query", answer.image_id, answer.label, f"{metric} {answer.score:.3f}", thumbnails))]
    for each in answer.shown:
        note = "" if each.distance is None else f"distance {each.distance:.4g}"
        title = f"{each.rank} {each.kind}" if each.rank else each.kind
        tiles.append((each.kind, _tile(each.kind, each.image_id, each.label, note, thumbnails, title)))
    placed, x, before = [], GAP, "query"
    for kind, tile in tiles:
        x += 2 * GAP if before != kind and (before == "query" or kind == "missed") else 0
        placed.append(f'<g transform="translate({x} {GAP + 14})">{tile}</g>')
        x, before = x + TILE + GAP, kind
    width, height = x, 2 * GAP + TILE + TEXT + 14
    return Drawing(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}"><style>text{{font:12px "DejaVu Sans",Helvetica,Arial,'
        f"sans-serif;fill:#1c2328}}.muted{{fill:#55606a}}.kind{{font-weight:bold}}</style>"
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(placed)}</svg>\n'
    )


def _tile(
    kind: Kind, image_id: str, label: str, note: str, thumbnails: Mapping[str, Thumbnail], title: str | None = None
) -> str:
    colour = COLOURS[kind]
    picture = ""
    if image_id in thumbnails:
        found = thumbnails[image_id]
        size = f'width="{TILE}" height="{TILE}" viewBox="0 0 {found.width} {found.height}"'
        picture = f"<svg {size}>{found.svg()}</svg>"
    lines = [(label, ""), (image_id, "muted"), (note, "muted")]
    below = "".join(
        f'<text y="{TILE + 18 + 15 * place}" class="{kind}">{_cut(line)}</text>'
        for place, (line, kind) in enumerate(lines)
    )
    return (
        f'<text y="-6" class="kind" style="fill:{colour}">{_cut(title or kind)}</text>'
        f'<rect width="{TILE}" height="{TILE}" fill="#eef1f3"/>{picture}'
        f'<rect width="{TILE}" height="{TILE}" fill="none" stroke="{colour}" stroke-width="4"/>{below}'
    )


def _cut(text: str) -> str:
    """As text in SVG, printable, no longer than a tile."""
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return html.escape(plain if len(plain) <= LETTERS else plain[: LETTERS - 1] + "…")
