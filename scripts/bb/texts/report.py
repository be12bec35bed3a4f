"""Reports in the terminal and in files."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from bb.console import say, warn
from bb.store.text.size import size_text
from bb.thumbnails import make_thumbnails

if TYPE_CHECKING:
    from bb.extract.data.source_spec import Root
    from bb.probe.report.leaderboard import Leaderboard
    from bb.store import Store

PRINTED = ("--csv", "--latex", "--markdown")  # these take - for standard output


def check_files(files: dict[str, Path], *read: Path | None) -> None:
    """What is to be written can be, and not over a file that is read: said before anything is computed."""
    from bb.store import UsageError
    from bb.store.files.regular_file import check_output

    for option, path in files.items():
        if str(path) == "-":
            if option in PRINTED:
                continue
            raise UsageError(f"{option} - names no file, and only {', '.join(PRINTED)} print with -: name a file.")
        check_output(path, f"{option} {path}", *read)
        if same := [other for other, file in files.items() if other != option and file.absolute() == path.absolute()]:
            raise UsageError(f"{option} and {same[0]} both name {path}: name two files.")


def page_path(html: Path | None, open_: bool) -> Path | None:
    """Where the page is written: where --html says, else where --open puts it; None where neither is given."""
    return html or (Path("report.html") if open_ else None)


def open_page(path: Path) -> None:
    """Shows a page in the browser, or says that there is none."""
    if not (_has_display() and typer.launch(str(path)) == 0):
        warn(f"note: no browser could be started; open {path} yourself")


def _has_display() -> bool:
    """Whether a browser can be shown. Without a display xdg-open looks for text browsers, and bb can't see it fail."""
    shown = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in shown)


def write_report(
    found: "list[Leaderboard]", files: dict[str, Path | None], opened: "Store", roots: "dict[str, Root | None]"
) -> None:
    """Writes the files that are asked for, each whole or not at all."""
    from bb.probe.report.formats.csv_file import sheet
    from bb.probe.report.formats.html import page
    from bb.probe.report.formats.image_file import plot
    from bb.probe.report.formats.latex import latex_tables
    from bb.probe.report.formats.markdown import markdown_tables

    made: dict[str, Callable[[Path], str | bytes]] = {
        "--html": lambda path: page(found, make_thumbnails(found, opened, roots)),
        "--csv": lambda path: sheet(found),
        "--latex": lambda path: latex_tables(found),
        "--markdown": lambda path: markdown_tables(found),
        "--plot": lambda path: plot(found, path.suffix),
    }
    for option, path in files.items():
        if path is None:
            continue
        content = made[option](path)
        content = content.encode() if isinstance(content, str) else content
        if str(path) == "-":
            print(content.decode(), end="")
            continue
        write_file(path, content)


def write_file(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all. Errors: BBError."""
    write_files({path: content})


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Writes files, all of them or none. Errors: BBError."""
    from bb.store.files.regular_file import replace_files

    replace_files(contents)
    warn(*(f"wrote {path} ({size_text(len(content))})" for path, content in contents.items()))


def show_boards(found: "Sequence[Leaderboard]", *, by: str | None = None, verbose: bool = False) -> None:
    """Boards in the terminal, an empty line between them."""
    from bb.probe.report.formats.terminal import show_board

    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
    for number, board in enumerate(found):
        if number:
            say("")
        show_board(board, console, by=by, verbose=verbose)  # type: ignore[arg-type]
        warn(*(f"note: {note}" for note in board.notes))
