"""`bb report newt`: compare runs: backbones by shot count, with 95% intervals."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bb import options
from bb.console import show_json, warn
from bb.labels import read_groups
from bb.probe.classifiers.protocol import PROTOCOLS
from bb.probe.report.build import boards
from bb.probe.report.formats.image_file import check_format
from bb.probe.report.leaderboard import KINDS
from bb.probe.report.options import ReportOptions
from bb.probe.report.reference import read_reference
from bb.probe.report.withdrawn import withdrawn_notes
from bb.probe.tasks.few_shot import parse_n_train
from bb.store import BBError, UsageError
from bb.store.local.runs import Run
from bb.store.text.command import command
from bb.stores import canonical_name, open_store, parse_data
from bb.texts.report import check_files, open_page, page_path, show_boards, write_report

OTHERS = {"classify": "classification", "retrieval": "retrieval"}  # protocols that other reports show


def verb(
    ctx: typer.Context,
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            help="auto, accuracy, balanced-accuracy, macro-f1, average-precision or auroc; auto is accuracy, "
            "or balanced accuracy where the commonest class alone is right in more than two thirds.",
        ),
    ] = "auto",
    average: Annotated[
        str | None, typer.Option("--average", help="images or tasks; images for accuracy, tasks for the others.")
    ] = None,
    over: Annotated[
        str, typer.Option("--over", help="What the intervals are for further ones of: images, draws or tasks.")
    ] = "images",
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Resample groups of images: a column of the labels.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="The backbone that the others are compared with.")
    ] = None,
    correction: Annotated[
        str, typer.Option("--correction", help="Of p-values for many comparisons: holm or bh.")
    ] = "holm",
    by: Annotated[str | None, typer.Option("--by", help="A table of each cluster, subcluster or task.")] = None,
    n_train: Annotated[list[str] | None, typer.Option("--n-train", help="These columns only.")] = None,
    sort: Annotated[str, typer.Option("--sort", help="score, name, or an n_train.")] = "score",
    reference: Annotated[
        Path | None, typer.Option("--reference", help="CSV of published scores to compare with: task, ckpt, score.")
    ] = None,
    html: options.PageOption = None,
    open_: options.OpenOption = False,
    csv: options.FiguresOption = None,
    latex: Annotated[Path | None, typer.Option("--latex", help="Write booktabs tables; - is standard output.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write Markdown; - is standard output.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw learning curves and leaderboard: .svg, .png or .pdf.")
    ] = None,
    data: options.DataOption = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="The file that has --cluster's column.")] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show the run IDs behind each cell.")] = False,
    store: options.StoreOption = options.DEFAULT_STORE,
    cache_size: options.CacheOption = None,
    json_: options.JsonOption = False,
) -> None:
    html = page_path(html, open_)
    files = {"--html": html, "--csv": csv, "--latex": latex, "--markdown": markdown, "--plot": plot}
    check_files({option: path for option, path in files.items() if path}, labels, reference)
    if plot:
        check_format(plot.suffix)
    if labels and not cluster:
        raise UsageError(f"--labels {labels} is read for a column of groups: name it with --cluster, or leave it out.")
    opened = open_store(store, cache_size=cache_size)
    roots = parse_data(data, ctx.obj)
    question = ReportOptions.parse(
        metric=metric.replace("-", "_"),
        average=average,
        over=over,
        baseline=baseline and canonical_name(baseline),
        correction=correction,
        groups=(lambda name: read_groups(name, cluster, labels, roots)) if cluster else None,
        units=f"groups of test images ({cluster})" if cluster else "test images",
        kinds=KINDS if html or csv or json_ else (by,) if by else (),
        details=bool(html or json_),
        n_train=tuple(parse_n_train(part) for part in options.listed("--n-train", n_train or ())),
        sort=sort if sort in ("score", "name") else parse_n_train(sort),
        reference=read_reference(reference, canonical_name) if reference else None,
    )
    runs = list(opened.runs(on_damage=lambda error: warn(f"note: left out: {error}")))
    found = boards(runs, "newt", question, on_damage=lambda problem: warn(f"note: {problem}"))
    warn(*(f"note: {note}" for note in withdrawn_notes(opened, runs)))
    shown = {*PROTOCOLS, *OTHERS}
    for protocol in sorted({str(run.record["protocol"]) for run in runs if run.record["tasks"] == "newt"} - shown):
        warn(f"note: runs of protocol {protocol!r}, which this bb does not know, are left out")
    if not found:
        raise BBError(_other_runs(runs, store))
    write_report(found, files, opened, roots)
    if open_ and html:
        open_page(html)
    if json_:
        show_json([board.record() for board in found])
    elif not any(files.values()):
        show_boards(found, by=by, verbose=verbose)
    if json_ or any(files.values()):
        warn(*(f"note: {note}" for board in found for note in board.notes))


def _other_runs(runs: Sequence[Run], store: str) -> str:
    """What a store without runs of NeWT has, and how to see it."""
    probe = command("probe newt", n_train=10, store=store)
    if not runs:
        return f"{store} has no runs yet: {probe}"
    others = Counter((str(run.record["protocol"]), str(run.record["tasks"])) for run in runs)
    there = [f"{n} of {OTHERS[kind]} on {name}" for (kind, name), n in sorted(others.items()) if kind in OTHERS]
    ways = {
        "classify": f"`{command('report classify', store=store)}` shows classification",
        "retrieval": f"`{command('report retrieval', store=store)} --labels FILE` shows retrieval",
    }
    shown = [words for kind, words in ways.items() if any(kind == found for found, _ in others)]
    return (
        f"{store} has no runs of newt that can be shown, but {len(runs)} others (there: {', '.join(there) or 'none'}). "
        f"{'; '.join([*shown, f'`{probe}` makes runs of newt'])}."
    )
