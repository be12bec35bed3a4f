"""`bb probe newt`: score stored features on NeWT's two-class tasks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bb import options
from bb.cluster.engine import Job
from bb.cluster.options import ClusterRun, command_line, run_on_cluster, worker_options
from bb.console import say, show_json, show_table, warn
from bb.labels import read_probe_labels
from bb.probe.classifiers.choose_engine import choose
from bb.probe.classifiers.protocol import parse_protocol
from bb.probe.features.damaged_images import damage_note, damage_record
from bb.probe.features.missing import MissingPolicy
from bb.probe.run import FamilyInputs, FamilySpec, prepare
from bb.probe.tasks.few_shot import MAX_SEED, parse_n_train
from bb.probe.tasks.leaks import find_leaks
from bb.runs import probe_all, runs_text, space_text, spaces_to_probe, when_made
from bb.settings import NEWT_LABELS
from bb.store.format.derived import SEEN, head_name
from bb.store.format.space import short
from bb.store.text.command import command
from bb.store.trained_heads import has_seen
from bb.stores import backbone_names, find_version, open_to_probe, parse_data, store_to_name

if TYPE_CHECKING:
    from bb.store.local.runs import Run


def verb(
    ctx: typer.Context,
    n_train: Annotated[
        list[str] | None,
        typer.Option("--n-train", help="Training images per task, or all; several go as 4,10,all."),
    ] = None,
    seed: Annotated[list[str] | None, typer.Option("--seed", help="Which few-shot draw; several go as 0,1,2.")] = None,
    ckpt: options.CkptOption = None,
    space: options.ProbedSpacesOption = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="The collection: NAME, NAME=DIR or NAME@DIGEST. Default: newt."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="Labels in NeWT's columns; else DIR/newt2021_labels.csv, else the store's (@DIGEST)."
        ),
    ] = None,
    drop_leaks: options.DropLeaksOption = False,
    protocol: Annotated[str, typer.Option(envvar="BB_PROTOCOL", help="biobench or newt2021.")] = "biobench",
    svm: Annotated[str, typer.Option(help="auto, linear or search.")] = "auto",
    missing: options.MissingOption = "error",
    max_missing: options.MaxMissingOption = None,
    same_images_as: options.SameImagesOption = None,
    backend: Annotated[str, typer.Option(envvar="BB_BACKEND", help="auto, exact, sklearn or cuml.")] = "auto",
    jobs: options.ProcessesOption = None,
    force: options.ForceOption = False,
    runs_to: options.RunsToOption = None,
    on: options.OnOption = None,
    workers: options.WorkersOption = None,
    cpus: options.CpusOption = None,
    gpus: options.GpusOption = None,
    memory: options.MemoryOption = None,
    time_limit: options.TimeOption = None,
    partition: options.PartitionOption = None,
    account: options.AccountOption = None,
    store: options.StoreOption = options.DEFAULT_STORE,
    cache_size: options.CacheOption = None,
    json_: options.JsonOption = False,
) -> None:
    cluster_run = ClusterRun.of(ctx, on, runs_to or (options.DEFAULT_STORE if "://" in store else store))
    chosen = parse_protocol(protocol)
    shots = [parse_n_train(part) for part in options.listed("--n-train", n_train or ["all"])]
    seeds = options.numbers("--seed", seed or ["0"], int, least=0, below=MAX_SEED)
    policy = MissingPolicy.parse(missing, max_missing, same_images_as)
    ((name, root),) = parse_data([data or "newt"], ctx.obj).items()
    opened, runs_store = open_to_probe(store, runs_to, cache_size)
    backbone_names(ckpt, opened)  # one that can't be is said before labels and features are read
    found_labels = read_probe_labels(opened, name, root, labels, ctx.obj)
    if found_labels.note:
        warn(found_labels.note)
    collection, match = find_version(opened, name, root, found_labels.image_ids, policy)
    found_labels = found_labels.renamed(match)
    spaces, left_out = spaces_to_probe(opened, collection, found_labels.image_ids, ckpt, space, policy)
    same_as = policy.keys(opened, spaces)
    found_labels = found_labels.without(left_out, max_missing, same_as)
    leaks = find_leaks(found_labels, collection)
    if drop_leaks and leaks:
        found_labels = leaks.drop(found_labels)
    warn(*(f"note: {note}" for note in (*found_labels.notes, *([] if drop_leaks else leaks.notes))))
    keys = collection.digests(sorted({image_id for task in found_labels.tasks for image_id in task.test_ids.tolist()}))
    warn(*(f"note: {head_name(each.weights)} {SEEN}" for each in spaces if has_seen(opened, each, keys)))
    choose(backend)  # one that is unknown or not there is said before anything is read
    labels_name = labels.stem if labels and not str(labels).startswith("@") and labels.name != NEWT_LABELS else None
    inputs = [FamilyInputs.read(opened, each, collection, found_labels, "newt", labels_name) for each in spaces]
    for each in inputs:
        if note := damage_note(damage_record(each.damaged())):
            warn(f"note: {space_text(each)}: {note}")
    requested = [
        FamilySpec(chosen, shot, number, svm, backend, warn)
        for shot in dict.fromkeys(shots)
        for number in ([0] if shot == "all" else dict.fromkeys(seeds))
    ]
    specs = list(dict.fromkeys(spec.on(found_labels) for spec in requested))
    for shot in dict.fromkeys(spec.n_train for spec in requested if spec.on(found_labels).n_train != spec.n_train):
        warn(f"note: n_train {shot} takes every training image of every task, so it is scored as n_train all")
    if cluster_run is None:
        results = probe_all(inputs, specs, jobs=jobs, force=force)
    else:
        prepared = [prepare(each, spec) for each in inputs for spec in specs]
        common = worker_options(ctx, cluster_run, opened, labels, f"{name}={root.resolve()}" if root else data)
        results = run_on_cluster(
            cluster_run,
            prepared,
            lambda each: Job(
                f"{space_text(each.inputs)}, n_train {each.spec.n_train}, seed {each.spec.seed}",
                command_line(
                    ctx,
                    **common,
                    space=[each.inputs.space.key],
                    same_images_as=same_as if left_out else None,
                    n_train=[each.spec.n_train],
                    seed=[each.spec.seed],
                    svm=each.spec.kind,
                ),
            ),
            force=force,
        )
    if json_:
        show_json([{**run.record, "fresh": fresh} for run, fresh in results])
        return
    leaked = any(run.record.get("scores_without_leaks") for run, _ in results)
    show_table(
        ["backbone", "space", "n_train", "seed", "mean", *["no leaks"] * leaked, "over tasks", "run", ""],
        [_run_line(run, fresh, leaked=leaked) for run, fresh in results],
        right=["n_train", "seed", "mean", "no leaks", "over tasks"],
    )
    say(f"{runs_text([run for run, _ in results], {run.run_id for run, fresh in results if fresh})}. Next:")
    local = opened.runs_to or opened
    far = sum(next(local.runs(run.run_id), None) is None for run, _ in results)
    if far < len(results):
        say(f"  {command('report newt', store=store_to_name(ctx, runs_store))}")
    if far:
        say(f"  {command('report newt', store=opened.name)}")


def _run_line(run: "Run", fresh: bool, *, leaked: bool = False) -> list[object]:
    record, scores, without = run.record, run.record["scores"], run.record.get("scores_without_leaks")
    return [
        ", ".join(record["backbones"]), short(record["space"]), record["n_train"],
        "" if record["seed"] is None else record["seed"],
        f"{scores['mean']:.4f}", *[f"{without['mean']:.4f}" if without else ""] * leaked,
        f"{scores['mean_over_tasks']:.4f}", short(run.run_id), when_made(run, fresh),
    ]  # fmt: skip
