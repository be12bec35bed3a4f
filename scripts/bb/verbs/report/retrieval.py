"""`bb report retrieval`: show the queries that retrieval did worst on, with what they got."""

import importlib.util
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bb import options
from bb.console import ConsoleReporter, say, show_json, show_table, warn
from bb.probe.retrieval.labels import read_items
from bb.probe.retrieval.loggers.base import open_logger
from bb.probe.retrieval.report.build import log_sheet
from bb.probe.retrieval.report.facade import report_retrieval
from bb.probe.retrieval.report.html import image_ids
from bb.stores import backbone_names, open_store, parse_data
from bb.texts.report import check_files, open_page, page_path, write_file
from bb.thumbnails import thumbnails_of

if TYPE_CHECKING:
    from bb.probe.retrieval.report.thumbnail import Thumbnail


def verb(
    ctx: typer.Context,
    labels: Annotated[Path, typer.Option("--labels", help="The labelled table that `bb probe retrieval` was given.")],
    not_missing: options.NotMissingOption = None,
    html: options.PageOption = None,
    open_: options.OpenOption = False,
    log: Annotated[
        list[str] | None, typer.Option("--log", help="tensorboard:DIR, mlflow:DIR or wandb:DIR, for the figures too.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="Metric that chooses the worst queries. Default: the runs' main one."),
    ] = None,
    queries: Annotated[int, typer.Option("--queries", min=1, help="How many of the worst are shown.")] = 20,
    top: Annotated[int, typer.Option("--top", min=1, help="Number of results to show for each query.")] = 10,
    ckpt: options.CkptOption = None,
    data: Annotated[str | None, typer.Option("--data", help="NAME=DIR, where the images are, for thumbnails.")] = None,
    store: options.StoreOption = options.DEFAULT_STORE,
    cache_size: options.CacheOption = None,
    json_: options.JsonOption = False,
) -> None:
    html = page_path(html, open_)
    if html:
        check_files({"--html": html}, labels)
    table = read_items(labels, not_missing=not_missing or ())
    opened = open_store(store, cache_size=cache_size)
    with ConsoleReporter("note: ") as reporter:
        found = report_retrieval(
            opened, table, tasks=labels.stem, ckpt=backbone_names(ckpt, opened), metric=metric, queries=queries,
            top=top, reporter=reporter,
        )  # fmt: skip
    with ExitStack() as stack:
        loggers = [stack.enter_context(closing(open_logger(text))) for text in log or ()]
        thumbnails: dict[str, Thumbnail] = {}
        if html or loggers:
            record = found.runs[0].record
            name = str(record["collection_name"])
            root = parse_data([data] if data else None, ctx.obj).get(name)
            if root is None:
                warn(f"note: no images are available, so they are only named: --data {name}=DIR shows them")
            elif importlib.util.find_spec("PIL") is None:
                warn("note: without Pillow images are only named: pip install 'backbone-bench[images]' shows them")
            else:
                shown = set().union(*map(image_ids, found))
                thumbnails = thumbnails_of(opened, f"{name}@{record['collection']}", root, shown, found.items.boxes())
        for logger in loggers:
            logger.log_pipeline_info({"labels": labels.name, "runs": [run.run_id for run in found.runs]})
            for place, each in enumerate(found):
                log_sheet(logger, each, place, thumbnails)
    if html:
        write_file(html, found.page(thumbnails).encode())
    if open_ and html:
        open_page(html)
    if json_:
        show_json([each.record() for each in found])
    elif not html and not log:
        rows = []
        for each in found:
            lead, *others = (estimate.text(3) for estimate in each.scores.values())
            less, p = "", ""
            if each.behind is not None:
                less = each.behind.difference.text(3, "+")
                p = "" if each.behind.p is None else f"{each.behind.p:.4f}"
            rows.append([each.name, each.space[:12], lead, less, p, *others])
        say(found[0].claim)
        lead, *others = found[0].scores
        show_table(["backbone", "space", lead, "less the first", "p", *others], rows)
