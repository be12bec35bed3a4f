"""`bb probe zeroshot`: score stored features on classes of which only the names are known."""

from typing import Annotated

import typer

from bb import options
from bb.console import ConsoleReporter, say, show_json
from bb.probe.tasks.few_shot import MAX_SEED
from bb.probe.tasks.splits import FOLDS, parse_split_by
from bb.probe.text.zero_shot import zeroshot
from bb.runs import runs_text
from bb.store import UsageError
from bb.store.text.command import command
from bb.stores import backbone_names, one_collection, open_to_probe, store_to_name
from bb.texts.classify import show_board


def verb(
    ctx: typer.Context,
    labels: options.TableOption = None,
    data: options.CollectionOption = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            help="The texts, as bb extract --text called them; the only ones by default.",
            callback=options.named,
        ),
    ] = None,
    text_space: options.TextSpaceOption = None,
    id_: options.IdOption = None,
    label: options.LabelOption = None,
    split: options.SideOption = None,
    group: Annotated[
        str | None, typer.Option("--group", help="The column whose images are a unit: site, individual, sequence.")
    ] = None,
    task: options.TaskOption = None,
    not_missing: options.NotMissingOption = None,
    split_by: Annotated[
        str | None, typer.Option("--split-by", help="As of bb probe classify: column, random, group or time.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option("--folds", min=2, help=f"Folds, as of bb probe classify; {FOLDS}.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MAX_SEED - 1, help="Of the folds.")] = 0,
    ckpt: options.CkptOption = None,
    space: options.ProbedSpacesOption = None,
    missing: options.MissingOption = "skip",
    max_missing: options.MaxMissingOption = None,
    force: options.ForceOption = False,
    runs_to: options.RunsToOption = None,
    verbose: options.VerboseOption = False,
    store: options.StoreOption = options.DEFAULT_STORE,
    cache_size: options.CacheOption = None,
    json_: options.JsonOption = False,
) -> None:
    ways = parse_split_by(split_by) if split_by else ()
    if len(ways) > 1:
        raise UsageError(f"--split-by {split_by}: zero-shot trains on no side, so choose one way.")
    opened, runs_store = open_to_probe(store, runs_to, cache_size)
    name, _ = one_collection(opened, data, ctx.obj)
    with ConsoleReporter("note: ") as reporter:
        found = zeroshot(
            opened, labels, name, text=text, text_space=text_space, id=id_, label=label, split=split, group=group,
            task=task, not_missing=not_missing or (), split_by=ways[0] if ways else None, folds=folds, seed=seed,
            ckpt=backbone_names(ckpt, opened), space=space or (), missing=missing, max_missing=max_missing, force=force,
            reporter=reporter,
        )  # fmt: skip
    if json_:
        show_json([{**run.record, "fresh": run.run_id in found.fresh} for run in found])
        return
    for board in found.boards:
        show_board(board, verbose=verbose)
    say(f"{runs_text(found, found.fresh)}. Next:")
    say(f"  {command('report classify', found.images.name, store=store_to_name(ctx, runs_store))}")
