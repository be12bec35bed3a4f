"""`bb probe classify`: score stored features on any table of labels: classes, traits or numbers.

`bb probe FAMILY` is this verb, too: its table is the family's, in the folder of its images, unless --labels names one.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from bb import options
from bb.console import ConsoleReporter, say, show_json, warn
from bb.labels import family_table
from bb.probe.classification.comparisons.side_differences import side_differences
from bb.probe.classification.facade import classify, family_options
from bb.probe.tasks.family import Labels
from bb.probe.tasks.few_shot import MAX_SEED
from bb.probe.tasks.splits import FOLDS, parse_split_by
from bb.runs import runs_text
from bb.store.text.command import command
from bb.stores import backbone_names, one_collection, open_to_probe, store_to_name
from bb.texts.classify import show_boards, show_side_differences, show_split_differences


def verb(
    ctx: typer.Context,
    labels: options.TableOption = None,
    data: options.CollectionOption = None,
    id_: options.IdOption = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="The column of labels; several are traits.")
    ] = None,
    split: options.SideOption = None,
    group: Annotated[
        str | None,
        typer.Option("--group", help="The column whose images stay on one side: site, individual, sequence."),
    ] = None,
    task: options.TaskOption = None,
    regression: Annotated[bool, typer.Option("--regression", help="Labels are numbers to predict.")] = False,
    not_missing: options.NotMissingOption = None,
    split_by: Annotated[
        str | None,
        typer.Option("--split-by", help="column, random, group or time; several (random,group) are compared."),
    ] = None,
    pool_group: Annotated[
        str | None,
        typer.Option(
            "--pool-group", help="Pool the images of a group to one: mean or max; test-mean, test-max: not in training."
        ),
    ] = None,
    poisonous: Annotated[
        Path | None,
        typer.Option("--poisonous", help="Open sets: a table of class_id and poisonous (0, 1), for FungiCLEF's loss."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option("--folds", min=2, help=f"Folds where the split is drawn; {FOLDS}.")
    ] = None,
    classifier: Annotated[
        list[str] | None,
        typer.Option("--classifier", help="logistic, svm, linear-svc, knn, simpleshot, ridge …; several make a grid."),
    ] = None,
    preprocessing: Annotated[
        str,
        typer.Option(
            "--preprocessing", help="none, l2, center-l2, standard or standard-l2; auto is the classifier's usual one."
        ),
    ] = "auto",
    protocol: Annotated[
        list[str] | None,
        typer.Option("--protocol", help="Published ones (dinov2-knn …), which decide the rest; several make a grid."),
    ] = None,
    shots: Annotated[
        list[str] | None, typer.Option("--shots", help="Training images of each class, or all; several go as 1,5,all.")
    ] = None,
    seed: Annotated[
        list[str] | None, typer.Option("--seed", help="Seed of draws and folds; several go as 0,1.")
    ] = None,
    ckpt: options.CkptOption = None,
    space: options.ProbedSpacesOption = None,
    missing: options.MissingOption = "skip",
    max_missing: options.MaxMissingOption = None,
    same_images_as: options.SameImagesOption = None,
    drop_leaks: options.DropLeaksOption = False,
    force: options.ForceOption = False,
    runs_to: options.RunsToOption = None,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="List rows without an image, and the reverse.")
    ] = False,
    store: options.StoreOption = options.DEFAULT_STORE,
    cache_size: options.CacheOption = None,
    json_: options.JsonOption = False,
) -> None:
    kinds = options.listed("--classifier", classifier) if classifier else None
    protocols = options.listed("--protocol", protocol) if protocol else None
    draws = options.listed("--shots", shots) if shots else None
    seeds = options.numbers("--seed", seed, int, least=0, below=MAX_SEED) if seed else None
    ways = parse_split_by(split_by) if split_by else None
    opened, runs_store = open_to_probe(store, runs_to, cache_size)
    family = ctx.info_name if ctx.info_name != "classify" else None
    name, root = one_collection(opened, data or family, ctx.obj)
    table: Labels | None = labels
    how: dict[str, Any] = {"classifier": kinds, "pool_group": pool_group, "poisonous": poisonous}
    if family and labels is None:
        table = family_table(opened, family, name, root)
        how = family_options(family, root if isinstance(root, Path) else None, protocol=protocols, **how)
    with ConsoleReporter("note: ") as reporter:
        found = classify(
            opened, table, name, tasks=family, id=id_, label=label, split=split, group=group, task=task,
            regression=regression, not_missing=not_missing or (), split_by=ways, folds=folds,
            preprocessing=preprocessing, protocol=protocols, shots=draws, seed=seeds,
            ckpt=backbone_names(ckpt, opened), space=space or (), missing=missing, max_missing=max_missing,
            same_images_as=same_images_as or (), drop_leaks=drop_leaks, force=force, reporter=reporter, **how,
        )  # fmt: skip
    if verbose:
        warn(*(f"  no image: {each}" for each in found.images.match.rows_without_image))
        warn(*(f"  no row: {each}" for each in found.images.match.images_without_row))
    if json_:
        show_json([{**run.record, "fresh": run.run_id in found.fresh} for run in found])
        return
    show_boards(found.boards, verbose=verbose)
    show_side_differences(side_differences(found.boards))
    show_split_differences(found.differences)
    say(f"{runs_text(found, found.fresh)}. Next:")
    say(f"  {command('report classify', found.images.name, store=store_to_name(ctx, runs_store))}")
