"""`bb report retrieval`: show the queries that retrieval did worst on, with what they got."""

import importlib.util
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bb import options
from bb.console import say, show_json, show_table, warn
from bb.probe.features.missing import missing_of
from bb.probe.retrieval.labels import assign, read_items
from bb.probe.retrieval.loggers.base import open_logger
from bb.probe.retrieval.report.build import log_sheet, newest, roles, sheets
from bb.probe.retrieval.report.html import image_ids, page
from bb.runs import is_of_backbone
from bb.store import BBError
from bb.store.text.command import command
from bb.store.text.image_ids import match_ids
from bb.stores import backbone_names, open_store, parse_data
from bb.texts.report import check_files, write_file
from bb.texts.store import withdrawn_notes
from bb.thumbnails import thumbnails_of

if TYPE_CHECKING:
    from bb.probe.retrieval.report.thumbnail import Thumbnail


def verb(
    ctx: typer.Context,
    labels: Annotated[Path, typer.Option("--labels", help="The labelled table that `bb probe retrieval` was given.")],
    not_missing: options.NotMissingOption = None,
    html: options.PageOption = None,
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
    if html:
        check_files({"--html": html}, labels)
    table = read_items(labels, not_missing=not_missing or ())
    opened = open_store(store, cache_size=cache_size)
    backbones = set(backbone_names(ckpt, opened))
    runs = opened.runs(on_damage=lambda error: warn(f"note: left out: {error}"))
    wanted = [run for run in runs if not backbones or is_of_backbone(run, backbones)]
    chosen, notes = newest(wanted, labels.stem)
    warn(*withdrawn_notes(opened, chosen), *(f"note: {note}" for note in notes))
    if not chosen:
        raise BBError(
            f"{store} has no runs of retrieval on {labels.stem}{' by these backbones' if backbones else ''}: "
            f"{command('probe retrieval', labels=labels, store=store)}"
        )
    shown_of = [read(("image_id",)) for run in chosen[:1] for read in (run.train, run.predictions)]
    known = {image_id for each in shown_of for image_id in each["image_id"]}
    known |= missing_of(chosen[0].record).keys()
    items, _, _ = assign(table.renamed(match_ids(table.image_ids.tolist(), known)), **roles(chosen[0]))
    items = items.without(missing_of(chosen[0].record))
    with ExitStack() as stack:
        loggers = [stack.enter_context(closing(open_logger(text))) for text in log or ()]
        made = list(sheets(chosen, items, metric=metric, queries=queries, top=top))
        thumbnails: dict[str, Thumbnail] = {}
        if html or loggers:
            record = chosen[0].record
            name = str(record["collection_name"])
            root = parse_data([data] if data else None, ctx.obj).get(name)
            if root is None:
                warn(f"note: no images are available, so they are only named: --data {name}=DIR shows them")
            elif importlib.util.find_spec("PIL") is None:
                warn("note: without Pillow images are only named: pip install 'backbone-bench[images]' shows them")
            else:
                shown = set().union(*map(image_ids, made))
                thumbnails = thumbnails_of(opened, f"{name}@{record['collection']}", root, shown, items.boxes())
        for logger in loggers:
            logger.log_pipeline_info({"labels": labels.name, "runs": [run.run_id for run in chosen]})
            for place, each in enumerate(made):
                log_sheet(logger, each, place, thumbnails)
    if html:
        write_file(html, page(made, labels.stem, thumbnails).encode())
    if json_:
        show_json([each.record() for each in made])
    elif not html and not log:
        rows = []
        for each in made:
            lead, *others = (estimate.text(3) for estimate in each.scores.values())
            less, p = "", ""
            if each.behind is not None:
                less = each.behind.difference.text(3, "+")
                p = "" if each.behind.p is None else f"{each.behind.p:.4f}"
            rows.append([each.name, each.space[:12], lead, less, p, *others])
        say(made[0].claim)
        lead, *others = made[0].scores
        show_table(["backbone", "space", lead, "less the first", "p", *others], rows)
