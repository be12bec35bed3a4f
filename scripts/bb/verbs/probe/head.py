"""`bb probe head`: train a projection head on stored features; what it makes of them is a feature space of its own."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from bb import options
from bb.console import warn
from bb.probe.features.missing import MissingPolicy
from bb.probe.retrieval.labels import read_items
from bb.runs import note_damage, shared_notes, spaces_to_probe, train_all
from bb.store import UsageError
from bb.store.format.derived import is_derived
from bb.stores import find_version, one_collection, open_store
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
    from bb.probe.heads.derive import extend, prepare
    from bb.probe.heads.derive import load as load_head
    from bb.probe.heads.recipe import HeadRecipe, parse_loss, parse_sampling

    absent = [name for name in ("torch", "safetensors") if importlib.util.find_spec(name) is None]
    if absent:
        raise UsageError(f"bb probe head needs {', '.join(absent)}: pip install 'backbone-bench[heads]'")

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
        head = load_head(opened, str(load))
        show_heads([(extend(opened, head, opened.collection(name, [])), True)], opened, None, json_=json_)
        return
    collection, match = find_version(opened, name, root, items.image_ids.tolist(), policy)
    items = items.renamed(match)
    warn(*(f"note: {note}" for note in items.notes))
    spaces, left_out = spaces_to_probe(
        opened, collection, items.image_ids.tolist(), ckpt, space, policy,
        unless=is_derived if not ckpt and not space else None,
    )  # fmt: skip
    items = items.without(left_out, max_missing, policy.keys(opened, spaces))
    note_damage(opened, spaces, collection, items.image_ids.tolist())
    if "split" in items.frame.columns:
        learned = (items.frame["split"] == "train").fill_null(False)
        held_out, learn_from = (items.frame.filter(side)["image_id"].to_list() for side in (~learned, learned))
        warn(*(f"note: {note}" for note in shared_notes(collection, held_out, learn_from)))
    prepared = [
        prepare(opened, each, collection, items, tasks=labels.stem, recipe=recipe, accept=accept) for each in spaces
    ]
    again = {
        "not_missing": not_missing,
        "data": data,
        "missing": "skip" if policy.skip else None,
        "max_missing": max_missing,
        "same_images_as": same_images_as,
    }
    show_heads(train_all(prepared, log or [], force=force), opened, labels, json_=json_, again=again)
