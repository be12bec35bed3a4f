"""`bb probe rerank`: learn to put the nearest images into a better order, and say what that changes."""

import importlib.util
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bb import options
from bb.console import ConsoleReporter, say, show_json, show_table, warn
from bb.probe.features.missing import MissingPolicy
from bb.probe.retrieval.labels import read_items
from bb.probe.retrieval.loggers.base import open_logger
from bb.store import Collection, UsageError
from bb.store.format.space import short
from bb.stores import backbone_names, collection_of, find_version, open_to_probe
from bb.texts.report import check_files

if TYPE_CHECKING:
    from bb.store.text.image_ids import IdMatch


def verb(
    ctx: typer.Context,
    labels: Annotated[Path, typer.Option("--labels", help="The labelled table: image_id, label, split, …")],
    not_missing: options.NotMissingOption = None,
    learn_on: Annotated[str, typer.Option("--learn-on", help="The split that the model is learned on.")] = "train",
    test_on: Annotated[
        str | None, typer.Option("--test-on", help="The split it is tested on: test, but all with --load.")
    ] = None,
    top_n: Annotated[int, typer.Option("--top-n", min=2, help="How many of the nearest get a new order.")] = 100,
    distance: Annotated[
        str, typer.Option("--distance", help="What finds the nearest: cosine or euclidean.")
    ] = "cosine",
    convention: Annotated[str, typer.Option("--convention", help="Of the metrics: standard or oml.")] = "standard",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of folds and pairs.")] = 0,
    missing: options.MissingOption = "error",
    max_missing: options.MaxMissingOption = None,
    same_images_as: options.SameImagesOption = None,
    save: Annotated[Path | None, typer.Option("--save", help="Write the model (safetensors).")] = None,
    load: Annotated[Path | None, typer.Option("--load", help="Take a model that was saved, and learn none.")] = None,
    ckpt: options.CkptOption = None,
    space: options.ProbedSpacesOption = None,
    data: Annotated[str | None, typer.Option("--data", help="The collection: NAME, or NAME@DIGEST.")] = None,
    log: options.LogOption = None,
    force: options.ForceOption = False,
    runs_to: options.RunsToOption = None,
    store: options.StoreOption = options.DEFAULT_STORE,
    cache_size: options.CacheOption = None,
    json_: options.JsonOption = False,
) -> None:
    if save:
        check_files({"--save": save}, labels)
    if importlib.util.find_spec("torch") is None:
        raise UsageError("bb probe rerank needs torch: pip install 'backbone-bench[heads]'")
    from bb.probe.heads.pairwise.rerank import RerankRecipe, prepare_all, rerank_all

    recipe = RerankRecipe(learn_on, test_on, top_n, distance, convention, seed, save, load)
    policy = MissingPolicy.parse(missing, max_missing, same_images_as)
    table = read_items(labels, not_missing=not_missing or ())
    opened, _ = open_to_probe(store, runs_to, cache_size)

    def find(image_ids: Sequence[str]) -> "tuple[Collection, IdMatch]":
        name, root = collection_of(opened, data, list(image_ids), ctx.obj, policy)
        return find_version(opened, name, root, image_ids, policy)

    with ConsoleReporter("note: ") as reporter:
        prepared = prepare_all(
            opened, table, find, recipe, tasks=labels.stem, ckpt=backbone_names(ckpt, opened), space=space or (),
            policy=policy, reporter=reporter,
        )  # fmt: skip
        with ExitStack() as stack:
            loggers = [stack.enter_context(closing(open_logger(text))) for text in log or ()]
            found = rerank_all(prepared, loggers=loggers, force=force, reporter=reporter)
    if save:
        warn(*(f"wrote {save}: {each.learned.chosen}, {short(each.model)}" for each in found))
    if json_:
        show_json([each.record() for each in found])
        return
    for each in found:
        learned = each.learned
        n = max(change.queries for change in each.changes.values())
        say(f"{each.backbone}, space {short(each.space.key)}: {learned.chosen}; the nearest {top_n} of {n} queries")
        if learned.refused:
            say(f"note: no model was learned: {learned.refused}")
        say(each.claim)
        show_table(
            ["metric", "before", "after", "difference", "p"],
            [
                [metric, f"{change.before.mean:.4f}", f"{change.after.mean:.4f}", change.difference.text(4, "+"),
                 "" if change.p is None else f"{change.p:.4f}"]
                for metric, change in each.changes.items()
            ],
        )  # fmt: skip
