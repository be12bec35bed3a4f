"""`bb bench --on …`: every worker takes its part of the pairs of family and backbone; the page is made here."""

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb.cluster.options import ClusterRun, command_line
from bb.console import Progress, warn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bb.cluster.command import Ended
    from bb.cluster.engine import ClusterEngine, Job
    from bb.probe.bench.facade import Bench
    from bb.probe.bench.plan import BenchPlan
    from bb.store import Store
    from bb.store.reporter import Reporter


def bench_on_cluster(
    ctx: Any,
    cluster_run: ClusterRun,
    store: "Store",
    plan: "BenchPlan",
    file: Path,
    roots: "Mapping[str, Path]",
    reporter: "Reporter",
) -> "Bench":
    """The bench, whose cells are computed by `bb bench FILE --part I/N` elsewhere; what failed there is in it.

    Raises BBError or UsageError as `until_done` does.
    """
    from bb.cluster.engine import Job, OnRay, until_done
    from bb.cluster.ray import connected
    from bb.cluster.slurm import WORKERS
    from bb.probe.bench.facade import bench

    failed, fresh = dict[str, str](), set[str]()

    def left(sent: "Sequence[Job]", ended: "Sequence[Ended]") -> "Sequence[Job]":
        """A part that says what failed is done: it would fail again."""
        again = []
        for job, end in zip(sent, ended, strict=True):
            if end.status in (0, 1) and end.out.startswith("{"):
                said = json.loads(end.out)
                failed.update(said["failed"])
                fresh.update(said["fresh"])
            else:
                again.append(job)
        return again

    with ExitStack() as stack:
        engine: ClusterEngine | None = cluster_run.slurm
        parts = cluster_run.resources.workers or WORKERS
        if isinstance(cluster_run.on, OnRay):
            cluster = stack.enter_context(connected(cluster_run.on.address, cluster_run.resources))
            engine, parts = cluster, cluster_run.resources.workers or max(1, cluster.cpus)
        assert engine
        common = {
            "store": store.name if store.runs_to else str(store.root.resolve()),
            "runs_to": str(store.runs_to.root.resolve()) if store.runs_to else None,
            "jobs": ctx.params["jobs"] or cluster_run.resources.cpus or 1,
            "file": str(file.resolve()),
            "out": None,
            "json_": True,
        }
        jobs = [Job(f"part {i}/{parts}", command_line(ctx, **common, part=f"{i}/{parts}")) for i in range(1, parts + 1)]
        tick = stack.enter_context(Progress("bench", len(jobs), "parts"))
        until_done(engine, jobs, left, rounds=cluster_run.rounds, say=warn, tick=tick)
    found = bench(plan, store, roots=roots, compute=False, reporter=reporter)
    every = {**found.failed, **failed}
    return replace(found, fresh=frozenset(fresh), failed=every, board=replace(found.board, failed=every))
