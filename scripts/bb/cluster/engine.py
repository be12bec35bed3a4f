"""What an engine is: something that runs command lines elsewhere, all at once, and says how each ended.

The work is what a store does not have, so an engine need not be reliable: what was lost is found missing, and given
again.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bb.cluster.command import Ended
from bb.store.errors import BBError, UsageError

ROUNDS = 5


@dataclass(frozen=True)
class Job:
    """A command line, and its name in words."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Resources:
    """What is asked for; None leaves it to the engine.

    workers  how many at once: jobs of an array, actors of a stream
    cpus, gpus, memory    for each of them; memory in GB
    """

    workers: int | None = None
    cpus: int | None = None
    gpus: int | None = None
    memory: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and (value < 0 or (value == 0 and name != "gpus")):
                raise UsageError(f"--{name} {value}: give a number from {0 if name == 'gpus' else 1} up.")


@runtime_checkable
class ClusterEngine(Protocol):
    """Somewhere to run command lines."""

    def run(self, jobs: Sequence[Job], *, say: Callable[[str], None], tick: Callable[[int], None]) -> list[Ended]:
        """Runs all of them, and returns when none runs any more; how each ended, in order.

        say   gets what a person should know at once, such as how to look at the jobs
        tick  gets every few seconds how many have ended

        Raises BBError where it can't run anything.
        """
        ...


@dataclass(frozen=True)
class OnRay:
    """`--on ray`: one of this command's own, on this machine; `ray:ADDRESS`: one that runs, `auto` as found here."""

    address: str | None = None


@dataclass(frozen=True)
class OnSlurm:
    """`--on slurm`."""


def parse_on(text: str) -> OnRay | OnSlurm:
    """`--on` as what it means. Raises UsageError for what is not an engine."""
    kind, colon, address = text.partition(":")
    if kind == "slurm" and not colon:
        return OnSlurm()
    if kind == "ray" and bool(colon) == bool(address):
        if "://" in address:
            raise UsageError(
                f"--on {text}: bb does not go through Ray's client. Run it on a machine of the cluster, and give "
                f"--on ray:HOST:PORT or --on ray:auto."
            )
        return OnRay(address or None)
    raise UsageError(f"--on {text} is not an engine: write ray, ray:HOST:PORT, ray:auto or slurm.")


def until_done(
    engine: ClusterEngine,
    jobs: Sequence[Job],
    undone: Callable[[Sequence[Job], Sequence[Ended]], Sequence[Job]],
    *,
    rounds: int = ROUNDS,
    say: Callable[[str], None],
    tick: Callable[[int], None] = lambda ended: None,
) -> None:
    """Runs the jobs, then those that `undone` says are still to do, until there is none. `tick` as of Engine.run.

    Raises UsageError where a job says that it was asked for nonsense, since it would say so again, and BBError after so
    many rounds; both with what the jobs said and where their logs are.
    """
    total = len(jobs)
    for turn in range(1, rounds + 1):
        before = total - len(jobs)
        ended = engine.run(jobs, say=say, tick=lambda n, before=before: tick(before + n))  # type: ignore[misc]
        for job, end in zip(jobs, ended, strict=True):
            if end.status == UsageError.exit_status:
                raise UsageError(f"{job.name}: {_report(end)}")
        lost = [(job, end) for job, end in zip(jobs, ended, strict=True) if end.status != 0]
        jobs = undone(jobs, ended)
        if not jobs:
            return
        of_these = [(job, end) for job, end in lost if job in jobs]
        faults = "".join(f"\n  {job.name}: {_report(end)}" for job, end in of_these[:5])
        more = f"\n  and {len(of_these) - 5} more" if len(of_these) > 5 else ""
        if turn < rounds:
            say(f"{len(jobs)} of the jobs have work left, and are sent again:{faults}{more}")
    raise BBError(
        f"{len(jobs)} jobs have work left after {rounds} rounds:{faults}{more}\n"
        f"What was finished is in the store. Fix what they say and rerun the command."
    )


def _report(end: Ended) -> str:
    said = end.why or ("it ended with work left" if end.status == 0 else f"it ended with status {end.status}")
    return said + (f" (log: {os.path.relpath(end.log) if _is_near(end.log) else end.log})" if end.log else "")


def _is_near(path: str) -> bool:
    """Below the working directory, where a relative path is the shorter."""
    return os.path.abspath(path).startswith(os.path.join(os.getcwd(), ""))
