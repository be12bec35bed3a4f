"""`bb probe rerank`: learn to put the nearest images into a better order, and say what that changes."""

import importlib.util
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bb import options
from bb.console import Progress, say, show_json, show_table, warn
from bb.probe.features.missing import MissingPolicy
from bb.probe.retrieval.evaluate import Retrieval
from bb.probe.retrieval.labels import assign, read_items
from bb.probe.retrieval.loggers.base import open_logger
from bb.probe.retrieval.metrics import CONVENTIONS
from bb.probe.retrieval.pairwise_model import Distance
from bb.probe.retrieval.run import prepare
from bb.probe.retrieval.search import DISTANCES
from bb.probe.retrieval.statistics.paired_tests import claim
from bb.runs import note_damage, retrieve_all, shared_notes, spaces_to_probe
from bb.store import UsageError
from bb.store.format.space import short
from bb.stores import collection_of, find_version, open_to_probe, space_names
from bb.texts.report import check_files

if TYPE_CHECKING:
    from bb.probe.retrieval.labels import RetrievalLabels
    from bb.probe.retrieval.statistics.paired_tests import Change


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
    from bb.probe.heads.pairwise.learn import learn
    from bb.probe.heads.pairwise.model import save as save_model
    from bb.probe.heads.pairwise.rerank import compared, digest, loaded, steps, training

    _check_named(distance, convention)
    if save and load:
        raise UsageError("--save writes a model that is learned, and --load takes one: give one of them.")
    if save:
        check_files({"--save": save}, labels)
    if importlib.util.find_spec("torch") is None:
        raise UsageError("bb probe rerank needs torch: pip install 'backbone-bench[heads]'")

    policy = MissingPolicy.parse(missing, max_missing, same_images_as)
    table = read_items(labels, not_missing=not_missing or ())
    opened, _ = open_to_probe(store, runs_to, cache_size)
    test_split = test_on or ("all" if load else "test")

    def parts(
        table: "RetrievalLabels",
    ) -> "tuple[RetrievalLabels | None, RetrievalLabels, dict[str, Any], list[str], list[str]]":
        train = None if load else training(table, learn_on)
        test, roles, warnings = assign(table, split=test_split)
        every = sorted({*test.image_ids.tolist(), *(train.image_ids.tolist() if train else ())})
        return train, test, roles, warnings, every

    *_, every = parts(table)
    name, root = collection_of(opened, data, every, ctx.obj, policy)
    collection, match = find_version(opened, name, root, every, policy)
    table = table.renamed(match)
    spaces, left_out = spaces_to_probe(opened, collection, parts(table)[-1], ckpt, space, policy)
    train, test, roles, warnings, every = parts(table.without(left_out, max_missing, policy.keys(opened, spaces)))
    note_damage(opened, spaces, collection, every)
    warnings += shared_notes(collection, test.image_ids.tolist(), train.image_ids.tolist() if train else [])
    warn(*(f"note: {text}" for text in warnings))
    if (save or load) and len(spaces) > 1:
        listed = "\n".join(f"  --space {short(s.key)}  {', '.join(opened.backbones(s))}" for s in spaces)
        raise UsageError(f"a file holds the model of one feature space, and {len(spaces)} are there; choose:\n{listed}")
    how = Retrieval(distance=distance, convention=convention, pairs=False)
    trivial = Distance(distance)  # type: ignore[arg-type]  # checked above
    records: list[dict[str, Any]] = []
    results: list[dict[str, Change]] = []
    with ExitStack() as stack:
        loggers = [stack.enter_context(closing(open_logger(text))) for text in log or ()]
        for step, (backbone, each) in enumerate(space_names(opened, spaces).items()):
            make = partial(
                prepare, opened, each, collection, test, tasks=labels.stem, how=how, roles=roles, warnings=warnings
            )
            before = make()
            if not before.existing():
                opened.check_writable("runs", "local")  # before it learns
            if train is None:
                found = loaded(load or Path(), before.features.shape[1])
            else:
                examples = opened.read(each, collection, train.image_ids.tolist())
                with Progress(f"{backbone}: learning from {len(train)} images", 1, "steps") as meter:
                    found = learn(
                        examples, train.label_codes, train.sequence,
                        trivial=trivial, top_n=top_n, seed=seed, progress=meter,
                    )  # fmt: skip
            after = make(steps=steps(found, before, top_n))
            (one, _), (other, _) = retrieve_all([before, after], jobs=None, force=force)
            result = compared(one, other)
            results.append(result)
            records.append(
                {"backbone": backbone, "space": each.key, "model": digest(found), "chosen": found.chosen,
                 "top_n": top_n, "held_out": found.scores, "runs": {"before": one.run_id, "after": other.run_id},
                 "refused": found.refused, "claim": claim(other.record.get("units")),
                 "changes": {metric: asdict(change) for metric, change in result.items()}}
            )  # fmt: skip
            if save:
                save_model(found.model, save)
                warn(f"wrote {save}: {found.chosen}, {short(digest(found))}")
            for logger in loggers:
                for metric, change in result.items():
                    logger.log_scalars(
                        {
                            f"{backbone}/before/{metric}": change.before.mean,
                            f"{backbone}/after/{metric}": change.after.mean,
                        },
                        step,
                    )
        for logger in loggers:
            logger.log_pipeline_info(
                {"labels": labels.name, "learn_on": None if load else learn_on, "top_n": top_n, "seed": seed,
                 "how": how.parameters(), "roles": roles, "runs": {line["space"]: line["runs"] for line in records},
                 "models": {line["space"]: line["model"] for line in records}}
            )  # fmt: skip
    if json_:
        show_json(records)
        return
    for line, result in zip(records, results, strict=True):
        n = max(change.queries for change in result.values())
        say(f"{line['backbone']}, space {short(line['space'])}: {line['chosen']}; the nearest {top_n} of {n} queries")
        if line["refused"]:
            say(f"note: no model was learned: {line['refused']}")
        say(f"{line['claim']}")
        show_table(
            ["metric", "before", "after", "difference", "p"],
            [
                [metric, f"{change.before.mean:.4f}", f"{change.after.mean:.4f}", change.difference.text(4, "+"),
                 "" if change.p is None else f"{change.p:.4f}"]
                for metric, change in result.items()
            ],
        )  # fmt: skip


def _check_named(distance: str, convention: str) -> None:
    """Errors: UsageError where there is no such distance or convention."""
    for option, value, known in (("--distance", distance, DISTANCES), ("--convention", convention, CONVENTIONS)):
        if value not in known:
            raise UsageError(f"{option} {value} is unknown: choose {' or '.join(known)}.")
