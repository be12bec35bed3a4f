"""`bb probe zeroshot`: score stored features on classes of which only the names are known."""

from pathlib import Path
from typing import Annotated

import typer

from bb.console import ConsoleReporter, say, show_json
from bb.options import (
    DEFAULT_STORE,
    CacheOption,
    CkptOption,
    JsonOption,
    MaxMissingOption,
    MissingOption,
    NotMissingOption,
    StoreOption,
    TextSpaceOption,
)
from bb.probe.tasks.few_shot import MAX_SEED
from bb.probe.tasks.splits import FOLDS, parse_split_by
from bb.probe.text.zero_shot import zeroshot
from bb.store import UsageError
from bb.store.text.command import command
from bb.stores import backbone_names, one_collection, open_to_probe
from bb.texts.classify import show_board


def verb(
    ctx: typer.Context,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="CSV or Parquet of images and labels; without it, folders are classes."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="The collection, NAME or NAME@DIGEST; the store's only one by default."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option("--text", help="The texts, as bb extract --text called them; the only ones by default."),
    ] = None,
    text_space: TextSpaceOption = None,
    id_: Annotated[str | None, typer.Option("--id", help="The column of image IDs or file names.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="The column of labels.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="The column of sides; '' ignores it.")] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="The column whose images are a unit: site, individual, sequence.")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="The column of tasks.")] = None,
    not_missing: NotMissingOption = None,
    split_by: Annotated[
        str | None, typer.Option("--split-by", help="As of bb probe classify: column, random, group or time.")
    ] = None,
    folds: Annotated[int, typer.Option("--folds", min=2, help="Folds, as of bb probe classify.")] = FOLDS,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MAX_SEED - 1, help="Of the folds.")] = 0,
    ckpt: CkptOption = None,
    space: Annotated[list[str] | None, typer.Option("--space", help="A feature space's key, or its beginning.")] = None,
    missing: MissingOption = "skip",
    max_missing: MaxMissingOption = None,
    force: Annotated[bool, typer.Option("--force", help="Compute runs again that exist.")] = False,
    runs_to: Annotated[
        str | None, typer.Option("--runs-to", help="The local store for runs, where --store is a URL; features.bb.")
    ] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show the run IDs.")] = False,
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    json_: JsonOption = False,
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
    computed = len(found.fresh)
    say(f"{computed} runs computed, {len(found) - computed} were there. Next:")
    say(f"  {command('report classify', found.images.name, store=runs_store)}")
