"""`bb report classify`: compare runs of bb probe classify: scores, classes, confused pairs."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from bb.console import say, show_json, warn
from bb.options import DEFAULT_STORE, CacheOption, DataOption, JsonOption, StoreOption
from bb.probe.classification.board import Board, boards
from bb.probe.classification.curves import points_frame
from bb.probe.classification.page import page, shown_images
from bb.probe.classification.side_differences import side_differences
from bb.probe.report.formats.frame_csv import to_csv
from bb.probe.retrieval.report.thumbnail import Thumbnail
from bb.settings import Settings
from bb.store import Store
from bb.stores import open_store, parse_data
from bb.texts.classify import show_board, show_details, show_side_differences
from bb.texts.report import check_files, write_file
from bb.thumbnails import thumbnails_of


def verb(
    ctx: typer.Context,
    tasks: Annotated[str | None, typer.Argument(help="The table of labels, by its name; all by default.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write every figure; - is standard output.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page that works offline.")] = None,
    data: DataOption = None,
    classes: Annotated[bool, typer.Option("--classes", help="Show the best run's classes and confused pairs.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show the run IDs.")] = False,
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    json_: JsonOption = False,
) -> None:
    check_files({option: path for option, path in (("--csv", csv), ("--html", html)) if path})
    opened = open_store(store, cache_size=cache_size)
    runs = list(opened.runs(on_damage=lambda error: warn(f"note: left out: {error}")))
    found = boards(runs, tasks, on_damage=lambda said: warn(f"note: {said}"))
    if csv:
        frames = [frame for board in found for frame in (board.frame(), points_frame(board))]
        text = to_csv(pl.concat(frames, how="diagonal_relaxed"))
        if str(csv) == "-":
            print(text, end="")
        else:
            write_file(csv, text.encode())
    if html:
        write_file(html, page(found, _thumbnails(found, opened, data, ctx.obj)).encode())
    if json_:
        show_json([board.record() for board in found])
    elif not csv and not html:
        for number, board in enumerate(found):
            if number:
                say("")
            show_board(board, verbose=verbose)
            if classes:
                show_details(board)
        show_side_differences(side_differences(found))


def _thumbnails(found: list[Board], opened: Store, data: list[str] | None, settings: Settings) -> dict[str, Thumbnail]:
    """Small pictures of confused images, of collections whose images are at hand."""
    roots, made = parse_data(data, settings), dict[str, Thumbnail]()
    for name, image_ids in shown_images(found).items():
        root = roots.get(name.partition("@")[0])
        if root is not None:
            made |= thumbnails_of(opened, name, root, set(image_ids))
        elif image_ids:
            warn(
                f"note: no images are available, so they are only named: --data {name.partition('@')[0]}=DIR shows them"
            )
    return made
