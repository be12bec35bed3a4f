"""`--on` and its options: what runs elsewhere, and the command line that a worker gets."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb.console import ConsoleReporter, Progress, warn
from bb.settings import Settings

if TYPE_CHECKING:
    from bb.cluster.engine import ClusterEngine, Job, OnRay, OnSlurm, Resources
    from bb.cluster.slurm import Slurm
    from bb.store import Store
    from bb.store.local.runs import Run


ENGINE_OPTIONS = ("workers", "cpus", "gpus", "memory", "time_limit", "partition", "account")


@dataclass(frozen=True)
class ClusterRun:
    """--on with all that goes with it. `slurm` is the engine where that is meant; a Ray cluster is connected later."""

    on: "OnRay | OnSlurm"
    resources: "Resources"
    slurm: "Slurm | None"
    rounds: int

    @classmethod
    def of(cls, ctx: Any, on: str | None, place: str) -> "ClusterRun | None":
        """What the options of a verb say; None where it runs here. `place` is the store, next to which logs go.

        Raises UsageError where they don't go together, or where the engine can't be had.
        """
        from bb.cluster.engine import ROUNDS, OnSlurm, Resources, parse_on
        from bb.store import UsageError

        given = {name: ctx.params[name] for name in ENGINE_OPTIONS if ctx.params.get(name) is not None}
        options = {"time_limit": "--time"}
        if on is None:
            if given:
                named = ", ".join(options.get(name, f"--{name}") for name in given)
                raise UsageError(f"{named} without --on: say where to run it, --on ray or --on slurm.")
            return None
        parsed = parse_on(on)
        if not isinstance(parsed, OnSlurm):
            if of_slurm := [name for name in ("partition", "account", "time_limit", "memory") if name in given]:
                raise UsageError(f"{options.get(of_slurm[0], '--' + of_slurm[0])} is for --on slurm: leave it out.")
            return cls(parsed, Resources(**given), None, ROUNDS)
        from bb.cluster.slurm import TIME, Slurm

        settings: Settings = ctx.obj
        said = settings.slurm | {("time" if name == "time_limit" else name): value for name, value in given.items()}
        resources = Resources(**{name: said[name] for name in ("workers", "cpus", "gpus", "memory") if name in said})
        slurm = Slurm(
            Path(f"{place.rstrip('/')}.slurm"),
            resources,
            said.get("partition"),
            said.get("account"),
            str(said.get("time", TIME)),
            tuple(said.get("setup", ())),
            said.get("sbatch", {}),
            f"bb-{ctx.command.name}",
        )
        return cls(parsed, resources, slurm, said.get("rounds", ROUNDS))


def command_line(ctx: Any, **changed: Any) -> tuple[str, ...]:
    """The command line of this verb as a worker is to run it: every option as it came out here, but where changed."""
    verb: list[str] = []
    at: Any = ctx
    while at.parent:
        verb, at = [at.info_name, *verb], at.parent
    words = [sys.executable, "-P", "-m", "bb", *verb]
    for parameter in ctx.command.params:
        name = parameter.name or ""
        value = changed[name] if name in changed else ctx.params.get(name)
        if name in ("on", *ENGINE_OPTIONS) or value is None:
            continue
        option = parameter.opts[0]
        if parameter.param_type_name == "argument":
            words += [str(value)]
        elif isinstance(value, bool):
            words += [option] if value else parameter.secondary_opts[:1]
        else:
            words += [f"{option}={each}" for each in (value if isinstance(value, list | tuple) else [value])]
    return tuple(words)


def run_on_cluster(
    cluster_run: ClusterRun, prepared: "Sequence[Any]", job: "Callable[[Any], Job]", *, force: bool
) -> "list[tuple[Run, bool]]":
    """The run of each, and whether it was computed now: by its job's command line, unless it exists.

    Raises BBError or UsageError as `until_done` does, and where a machine makes other runs than were asked for.
    """
    from bb.cluster.engine import OnRay, until_done
    from bb.cluster.ray import connected
    from bb.probe.computed_runs import existing_run
    from bb.store import BBError

    lacking = [force or not each.existing() for each in prepared]
    jobs = [job(each) for each, lacks in zip(prepared, lacking, strict=True) if lacks]
    if jobs:
        with ExitStack() as stack:
            engine: ClusterEngine | None = cluster_run.slurm
            if isinstance(cluster_run.on, OnRay):
                engine = stack.enter_context(connected(cluster_run.on.address, cluster_run.resources))
            assert engine
            until_done(
                engine,
                jobs,
                lambda sent, ended: [job for job, end in zip(sent, ended, strict=True) if end.status != 0],
                rounds=cluster_run.rounds,
                say=warn,
                tick=stack.enter_context(Progress("probing", len(jobs), "commands")),
            )
    found = [each.existing() for each in prepared]
    if other := [job(each).name for each, runs in zip(prepared, found, strict=True) if not runs]:
        raise BBError(
            f"{len(other)} runs came out as others than were asked for (such as {other[0]}), since a run is known by "
            f"what computed it: install the same versions everywhere."
        )
    each_run, reporter = zip(prepared, found, lacking, strict=True), ConsoleReporter("note: ")
    return [(existing_run(job(each).name, runs, reporter), lacks) for each, runs, lacks in each_run]


def worker_options(
    ctx: Any, cluster_run: ClusterRun, store: "Store", labels: Path | None, data: str | None
) -> dict[str, Any]:
    """What a probe's command line says otherwise on a worker: whole paths, and as many processes as it has CPUs."""
    params, runs_to = ctx.params, store.runs_to
    return {
        "ckpt": [],
        "data": data,
        "labels": labels if labels is None or str(labels).startswith("@") else labels.resolve(),
        "store": params["store"] if runs_to else str(store.root.resolve()),
        "runs_to": str(runs_to.root.resolve()) if runs_to else None,
        "jobs": params["jobs"] or cluster_run.resources.cpus or 1,
        "json_": True,
    }
