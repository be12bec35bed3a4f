"""`--plot`: learning curves and leaderboard as a file. SVG is drawn here; PNG and PDF are made of it by vl-convert."""

from collections.abc import Sequence
from importlib.util import find_spec

from bb.probe.report.formats.svg import curves, scores
from bb.probe.report.formats.svg_parts import document
from bb.probe.report.leaderboard import Leaderboard
from bb.store.errors import UsageError

FORMATS = (".svg", ".png", ".pdf")


def check_format(suffix: str) -> None:
    """Errors: UsageError for a file that can't be drawn."""
    if suffix not in FORMATS:
        raise UsageError(f"--plot draws {', '.join(FORMATS)}, not {suffix or 'a file without a suffix'}.")
    if suffix != ".svg" and find_spec("vl_convert") is None:
        raise UsageError(
            f"--plot needs vl-convert for {suffix}: pip install 'backbone-bench[report]'. For .svg it needs nothing."
        )


def plot(boards: Sequence[Leaderboard], suffix: str) -> bytes:
    """The pictures of all boards, below each other."""
    drawn = [figure(board, title=True) for board in boards for figure in (curves, scores)]
    svg = document(drawn)
    if suffix == ".svg":
        return svg.encode()
    import vl_convert

    return bytes(vl_convert.svg_to_png(svg, scale=2) if suffix == ".png" else vl_convert.svg_to_pdf(svg))
