"""`bb probe newt`: score stored features on NeWT's two-class tasks."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bb import options
from bb.cluster.engine import Job
from bb.cluster.options import ClusterRun, command_line, run_on_cluster, worker_options
from bb.console import ConsoleReporter, say, show_json, show_table
from bb.labels import read_probe_labels
from bb.probe.facade import find_or_make, name_of, prepare_all, run_name
from bb.probe.features.missing import MissingPolicy
from bb.probe.tasks.few_shot import MAX_SEED, parse_n_train
from bb.runs import runs_text, when_made
from bb.store.format.space import short
from bb.store.text.command import command
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
    shots = [parse_n_train(part) for part in options.listed("--n-train", n_train or ["all"])]
    seeds = options.numbers("--seed", seed or ["0"], int, least=0, below=MAX_SEED)
    policy = MissingPolicy.parse(missing, max_missing, same_images_as)
    ((name, root),) = parse_data([data or "newt"], ctx.obj).items()
    opened, runs_store = open_to_probe(store, runs_to, cache_size)
    backbones = backbone_names(ckpt, opened)  # one that can't be is said before labels and features are read
    with ConsoleReporter("note: ") as reporter:
        prepared, left_out = prepare_all(
            opened, read_probe_labels(opened, name, root, labels, ctx.obj),
            partial(find_version, opened, name, root, policy=policy),
            labels_name=name_of(labels), n_train=shots, seed=seeds, protocol=protocol, classifier=svm, backend=backend,
            ckpt=backbones, space=space or (), policy=policy, drop_leaks=drop_leaks, reporter=reporter,
        )  # fmt: skip
        if cluster_run is None:
            results = [find_or_make(each, jobs=jobs, force=force, reporter=reporter) for each in prepared]
    if cluster_run is not None:
        common = worker_options(ctx, cluster_run, opened, labels, f"{name}={root.resolve()}" if root else data)
        same_as = policy.keys(opened, [each.inputs.space for each in prepared]) if left_out else None
        results = run_on_cluster(
            cluster_run,
            prepared,
            lambda each: Job(
                run_name(each),
                command_line(
                    ctx,
                    **common,
                    space=[each.inputs.space.key],
                    same_images_as=same_as,
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
