"""`bb report classify`: compare runs of bb probe classify: scores, classes, confused pairs."""

from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from bb import options
from bb.console import ConsoleReporter, show_json, warn
from bb.probe.classification.board import Board
from bb.probe.classification.comparisons.headline import headline_frame
from bb.probe.classification.comparisons.reference import Comparison, compare, read_reference
from bb.probe.classification.comparisons.side_differences import side_differences
from bb.probe.classification.facade import report_classification
from bb.probe.classification.report.curves import points_frame
from bb.probe.classification.report.page import page, shown_images
from bb.probe.report.formats.frame_csv import to_csv
from bb.probe.retrieval.report.thumbnail import Thumbnail
from bb.settings import Settings
from bb.store import Store, UsageError
from bb.stores import canonical_name, open_store, parse_data
from bb.texts.classify import show_boards, show_comparisons, show_side_differences
from bb.texts.report import check_files, open_page, page_path, write_file
from bb.thumbnails import thumbnails_of


def verb(
    ctx: typer.Context,
    tasks: Annotated[str | None, typer.Argument(help="The table of labels, by its name; all by default.")] = None,
    csv: options.FiguresOption = None,
    html: options.PageOption = None,
    open_: options.OpenOption = False,
    data: options.DataOption = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", help="CSV of published scores to compare with: ckpt, score, protocol, view …"),
    ] = None,
    classes: Annotated[bool, typer.Option("--classes", help="Show the best run's classes and confused pairs.")] = False,
    verbose: options.VerboseOption = False,
    store: options.StoreOption = options.DEFAULT_STORE,
    cache_size: options.CacheOption = None,
    json_: options.JsonOption = False,
) -> None:
    html = page_path(html, open_)
    check_files({option: path for option, path in (("--csv", csv), ("--html", html)) if path}, reference)
    if classes and (csv or html or json_):
        raise UsageError("--classes shows tables in the terminal: leave it out; the page of --html has them.")
    if data and not html:
        raise UsageError("--data says where the images are that a page shows: add --html FILE, or leave it out.")
    opened = open_store(store, cache_size=cache_size)
    with ConsoleReporter("note: ") as reporter:
        report = report_classification(opened, tasks, reporter=reporter)
    found = list(report)
    beside = []
    if reference:
        published = read_reference(reference, canonical_name)
        beside = compare(found, published, {space.key: space for space in opened.spaces()})
    if csv:
        frames = [frame for board in found for frame in (board.frame(), points_frame(board))]
        frames += [headline_frame(report.headlines), pl.DataFrame([each.record() for each in beside])]
        text = to_csv(pl.concat(frames, how="diagonal_relaxed"))
        if str(csv) == "-":
            print(text, end="")
        else:
            write_file(csv, text.encode())
    if html:
        write_file(html, page(found, _thumbnails(found, opened, data, ctx.obj), beside).encode())
    if open_ and html:
        open_page(html)
    if json_:
        show_json([_record(board, beside) if reference else board.record() for board in found])
    elif not csv and not html:
        show_boards(found, verbose=verbose, with_details=classes)
        show_side_differences(side_differences(found))
        if reference:
            show_comparisons(reference.name, beside)


def _record(board: Board, beside: list[Comparison]) -> dict[str, Any]:
    """A board with the published scores next to its own."""
    return {**board.record(), "reference": [each.record() for each in beside if each.ours.board == board]}


def _thumbnails(found: list[Board], opened: Store, data: list[str] | None, settings: Settings) -> dict[str, Thumbnail]:
    """Small pictures of confused images, of collections whose images are available."""
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
