"""`bb bench`: every family on disk by every complete backbone by the classifiers of a file, in one page."""

from pathlib import Path
from typing import Annotated

import typer

from bb import options
from bb.cluster.bench import bench_on_cluster
from bb.cluster.options import ClusterRun
from bb.console import ConsoleReporter, say, show_json, warn
from bb.probe.bench.facade import bench
from bb.probe.bench.plan import EXAMPLE, BenchPlan
from bb.store import UsageError
from bb.stores import open_to_probe
from bb.texts.bench import show_bench
from bb.texts.report import check_files, write_file


def verb(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="Families, backbones and classifiers: see --example.")] = None,
    example: Annotated[bool, typer.Option("--example", help="Print such a file.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="The page; else what FILE says, or FILE.html.")] = None,
    part: Annotated[
        str | None, typer.Option("--part", help="I/N: every N-th pair of family and backbone, from the I-th; no page.")
    ] = None,
    jobs: options.ProcessesOption = None,
    runs_to: options.RunsToOption = None,
    on: options.OnOption = None,
    workers: options.WorkersOption = None,
    cpus: options.CpusOption = None,
    gpus: options.GpusOption = None,
    memory: options.MemoryOption = None,
    time_limit: options.TimeOption = None,
    partition: options.PartitionOption = None,
    account: options.AccountOption = None,
    store: Annotated[
        str | None, typer.Option("--store", envvar="BB_STORE", help="The feature store; else what FILE says.")
    ] = None,
    cache_size: options.CacheOption = None,
    json_: options.JsonOption = False,
) -> None:
    if example:
        say(EXAMPLE.rstrip())
        return
    if file is None:
        raise UsageError("which families and classifiers? Give FILE.toml; `bb bench --example` prints one.")
    plan = BenchPlan.read(file)
    place = store or plan.store or ctx.obj.options.get("store") or options.DEFAULT_STORE
    target = out or plan.out or file.with_suffix(".html")
    check_files({"--out": target}, file, *plan.files)
    cluster_run = ClusterRun.of(ctx, on, runs_to or (options.DEFAULT_STORE if "://" in place else place))
    which = parse_part(part)
    if part and out:
        raise UsageError(f"--part {part} writes no page: leave out --out, which the run of all parts takes.")
    opened, _ = open_to_probe(place, runs_to, cache_size)
    roots = {name: root for name, root in ctx.obj.data.items() if isinstance(root, Path)}
    with ConsoleReporter("note: ") as reporter:
        if cluster_run:
            found = bench_on_cluster(ctx, cluster_run, opened, plan, file, roots, reporter)
        else:
            found = bench(plan, opened, roots=roots, part=which, jobs=jobs, reporter=reporter)
    if part is None:
        write_file(target, found.page().encode())
    if json_:
        show_json({**found.board.record(), "runs": len(found), "fresh": sorted(found.fresh)})
    else:
        show_bench(found, target if part is None else None)
    if found.failed:
        warn(*(f"failed: {name}: {why}" for name, why in found.failed.items()))
        raise typer.Exit(1)


def parse_part(text: str | None) -> tuple[int, int]:
    """`--part` I/N. Errors: UsageError for anything else."""
    number, slash, of = (text or "1/1").partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise UsageError(f"--part {text} is not a part: write, for example, --part 1/8 for the first of eight.")
    return int(number), int(of)
