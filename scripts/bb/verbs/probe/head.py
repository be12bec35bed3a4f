"""`bb probe head`: train a projection head on stored features; what it makes of them is a feature space of its own."""

import importlib.util
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bb import options
from bb.console import ConsoleReporter, stop_gracefully
from bb.probe.features.missing import MissingPolicy
from bb.probe.retrieval.labels import read_items
from bb.probe.retrieval.loggers.base import open_logger
from bb.store import UsageError
from bb.stores import backbone_names, find_version, one_collection, open_store
from bb.texts.results import show_heads


def verb(
    ctx: typer.Context,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="CSV or Parquet: image_id, label, split; see docs/heads.md.")
    ] = None,
    not_missing: options.NotMissingOption = None,
    ckpt: options.CkptOption = None,
    space: options.ProbedSpacesOption = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="The collection, NAME or NAME@DIGEST. Default: the store's only one."),
    ] = None,
    loss: Annotated[str, typer.Option(help="triplet or arcface.")] = "triplet",
    miner: Annotated[
        str | None, typer.Option(help="Of triplets: hard (default), all, n-hard[:NxM], hard-cluster.")
    ] = None,
    margin: Annotated[
        str | None, typer.Option(help="Of the triplet loss, 0.2, or soft; of ArcFace in degrees, 28.6.")
    ] = None,
    bank: Annotated[int, typer.Option(help="Further rows with each batch, from which triplets are also mined.")] = 0,
    missing: options.MissingOption = "error",
    max_missing: options.MaxMissingOption = None,
    same_images_as: options.SameImagesOption = None,
    sampler: Annotated[
        str, typer.Option(help="balanced[:LABELSxIMAGES]; category or distinct-categories[:CATEGORIESxLABELSxIMAGES].")
    ] = "balanced",
    dim: Annotated[int | None, typer.Option(help="Length of the new features; the parent's, but 128 at most.")] = None,
    hidden: Annotated[int | None, typer.Option(help="Width of a hidden layer; without it the head is linear.")] = None,
    start: Annotated[str, typer.Option(help="The first layer before training: whitened or plain.")] = "whitened",
    epochs: Annotated[int, typer.Option(help="The largest number of epochs.")] = 100,
    patience: Annotated[int, typer.Option(help="Stop after this many epochs without a better validation.")] = 10,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate of AdamW.")] = 1e-3,
    decay: Annotated[float, typer.Option(help="Weight decay of AdamW.")] = 1e-4,
    warmup: Annotated[int, typer.Option(help="Epochs in which only what began by chance is trained.")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Of batches, of what is drawn, and of labels held out.")] = 0,
    load: Annotated[
        str | None,
        typer.Option("--load", help="Train nothing; send rows through a head that is there: its name, or a file."),
    ] = None,
    log: options.LogOption = None,
    accept: Annotated[
        str, typer.Option(help="better: write a head only if validation shows it to be better than its parent; or any.")
    ] = "better",
    force: Annotated[bool, typer.Option("--force", help="Train again what was trained.")] = False,
    store: options.StoreOption = options.DEFAULT_STORE,
    json_: options.JsonOption = False,
) -> None:
    absent = [name for name in ("torch", "safetensors") if importlib.util.find_spec(name) is None]
    if absent:
        raise UsageError(f"bb probe head needs {', '.join(absent)}: pip install 'backbone-bench[heads]'")
    from bb.probe.heads.facade import Heads, prepare_all, train_all, use_head
    from bb.probe.heads.recipe import HeadRecipe, parse_loss, parse_sampling

    policy = MissingPolicy.parse(missing, max_missing, same_images_as)

    if load is not None and (labels or ckpt or space):
        raise UsageError(
            "--load trains nothing, and the head says what it is for: leave out --labels, --ckpt and --space."
        )
    if load is None and labels is None:
        raise UsageError("which labels? Give --labels FILE to train a head, or --load HEAD to use one that is there.")
    recipe = HeadRecipe(
        parse_loss(loss, miner, margin, bank), parse_sampling(sampler), dim, hidden, start, epochs, patience, lr, decay,
        warmup, seed,
    )  # fmt: skip
    items = read_items(labels, not_missing=not_missing or ()) if labels else None
    opened = open_store(store, write=True)
    name, root = one_collection(opened, data, ctx.obj)
    if items is None or labels is None:
        show_heads(Heads((use_head(opened, str(load), name),), (True,)), opened, None, json_=json_)
        return
    with ConsoleReporter("note: ") as reporter:
        prepared = prepare_all(
            opened, items, partial(find_version, opened, name, root, policy=policy), tasks=labels.stem, recipe=recipe,
            accept=accept, ckpt=backbone_names(ckpt, opened), space=space or (), policy=policy, reporter=reporter,
        )  # fmt: skip
        with ExitStack() as stack:
            loggers = [stack.enter_context(closing(open_logger(text))) for text in log or ()]
            heads = train_all(prepared, loggers=loggers, force=force, reporter=reporter, stopping=stop_gracefully)
    again = {
        "not_missing": not_missing,
        "data": data,
        "missing": "skip" if policy.skip else None,
        "max_missing": max_missing,
        "same_images_as": same_images_as,
    }
    show_heads(heads, opened, labels, json_=json_, again=again)
