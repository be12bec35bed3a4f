"""`bb probe retrieval`: score stored features on finding images of the same label: re-identification, retrieval.

`bb probe FAMILY` of a re-identification set is this verb, too, with the family's own labels.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bb import options
from bb.cluster.engine import Job
from bb.cluster.options import ClusterRun, command_line, run_on_cluster, worker_options
from bb.console import ConsoleReporter
from bb.labels import family_table
from bb.probe.features.missing import MissingPolicy
from bb.probe.features.select_spaces import space_name
from bb.probe.retrieval.evaluate import Retrieval
from bb.probe.retrieval.facade import find_or_make, prepare_all
from bb.probe.retrieval.faiss_search import parse_index
from bb.probe.retrieval.labels import family_items, read_items
from bb.store import UsageError
from bb.stores import backbone_names, find_version, one_collection, open_to_probe
from bb.texts.results import show_retrieval


def verb(
    ctx: typer.Context,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="CSV or Parquet: image_id, label; see docs/retrieval.md for what may be."),
    ] = None,
    not_missing: options.NotMissingOption = None,
    ckpt: options.CkptOption = None,
    space: options.ProbedSpacesOption = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="The collection, NAME or NAME@DIGEST. Default: the store's only one."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Rows to take: train, val, test or all. Default: test, if there are any.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="The split that answers; else the rows answer each other.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Cross-validation: no row answers another of its fold.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed of the folds.")] = 0,
    distance: Annotated[str, typer.Option(help="cosine or euclidean.")] = "cosine",
    convention: Annotated[str, typer.Option(help="standard, or oml: as Open Metric Learning counts.")] = "standard",
    k: Annotated[str, typer.Option("--k", help="Cut-offs of CMC@k, precision@k, …, with commas.")] = "1,5,10",
    knn: Annotated[str, typer.Option("--knn", help="Neighbours that vote on a label, with commas.")] = "1,5,20",
    pairs: Annotated[bool, typer.Option(help="Count all pairs, for AUROC and FNMR@FMR.")] = True,
    fmr: Annotated[str, typer.Option("--fmr", help="False match rates of FNMR@FMR.")] = "0.1,0.01,0.001",
    index: Annotated[
        str, typer.Option(help="exact, or faiss: faster on large galleries, and says its recall.")
    ] = "exact",
    missing: options.MissingOption = "error",
    max_missing: options.MaxMissingOption = None,
    same_images_as: options.SameImagesOption = None,
    jobs: Annotated[int | None, typer.Option(envvar="BB_JOBS", min=1, help="Threads. Default: all cores.")] = None,
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
    policy = MissingPolicy.parse(missing, max_missing, same_images_as)
    cluster_run = ClusterRun.of(ctx, on, runs_to or (options.DEFAULT_STORE if "://" in store else store))
    how = Retrieval(
        distance=distance, convention=convention, ks=options.numbers("--k", [k], int, least=1),
        knn=options.numbers("--knn", [knn] if knn else [], int, least=1),
        pairs=pairs, fmrs=options.numbers("--fmr", [fmr], float, least=0),
    )  # fmt: skip
    faiss = parse_index(index)
    family = ctx.info_name if ctx.info_name != "retrieval" else None
    if labels is None and (family is None or cluster_run is not None):
        raise UsageError("which labels? Give --labels FILE with the columns image_id and label; of a task family, "
                         "bb data check FAMILY --csv FILE writes it.")  # fmt: skip
    table = read_items(labels, not_missing=not_missing or ()) if labels else None
    opened, _ = open_to_probe(store, runs_to, cache_size)
    name, root = one_collection(opened, data or family, ctx.obj)
    if table is None:
        table = family_items(family_table(opened, str(family), name, root), str(family))
    with ConsoleReporter("note: ") as reporter:
        prepared, left_out = prepare_all(
            opened, table, partial(find_version, opened, name, root, policy=policy),
            tasks=labels.stem if labels else str(family), how=how, faiss=faiss,
            roles={"split": split, "against": against, "folds": folds, "seed": seed},
            ckpt=backbone_names(ckpt, opened), space=space or (), policy=policy, reporter=reporter,
        )  # fmt: skip
        if cluster_run is None:
            results = [find_or_make(each, jobs=jobs, force=force, reporter=reporter) for each in prepared]
    if cluster_run is not None:
        common = worker_options(ctx, cluster_run, opened, labels, data)
        same_as = [*(same_images_as or []), *(each.space.key for each in prepared)] if left_out else None
        results = run_on_cluster(
            cluster_run,
            prepared,
            lambda each: Job(
                space_name(opened, each.space),
                command_line(ctx, **common, space=[each.space.key], same_images_as=same_as),
            ),
            force=force,
        )
    show_retrieval(results, json_=json_)
