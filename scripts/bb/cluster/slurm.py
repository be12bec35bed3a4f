"""Command lines as a Slurm job array, through submitit.

Whether a job is over is asked of squeue, which every Slurm has; sacct, which submitit asks, needs an accounting
database. How it ended is what it left behind, or else the last that squeue said of it.
"""

import importlib.util
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bb.cluster.command import Ended, run
from bb.cluster.engine import Job, Resources
from bb.store.errors import BBError, UsageError

WORKERS = 8  # jobs in an array, where nobody says
POLL = 5.0  # seconds
GRACE = 60.0  # seconds in which a shared file system shows what a job on another machine wrote
TIME = "4:00:00"  # of a job, where nobody says
OVER = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT")
)


@dataclass(frozen=True)
class Slurm:
    """The engine. `folder` holds submission scripts and logs, and must be seen from every node.

    time   of a job, as sbatch takes it: minutes, H:MM:SS or D-HH:MM:SS
    setup  shell lines before the command: modules to load, for example
    sbatch further options of sbatch, by name
    """

    folder: Path
    resources: Resources = field(default_factory=Resources)
    partition: str | None = None
    account: str | None = None
    time: str = TIME
    setup: tuple[str, ...] = ()
    sbatch: dict[str, Any] = field(default_factory=dict)
    name: str = "bb"
    poll: float = POLL

    def __post_init__(self) -> None:
        """Raises UsageError where there is no Slurm here, no submitit, or a time that sbatch would not take."""
        minutes(self.time)
        if "%" in str(self.folder):
            raise UsageError(f"logs go to {self.folder}, where Slurm takes % for a pattern: give --store without a %.")
        for program in ("sbatch", "squeue", "srun"):
            if shutil.which(program) is None:
                raise UsageError(
                    f"--on slurm: {program} is not on this machine. Run this on a machine that can submit to Slurm, "
                    "such as its login node."
                )
        if importlib.util.find_spec("submitit") is None:
            raise UsageError("--on slurm needs submitit: pip install 'backbone-bench[slurm]'")

    def run(self, jobs: Sequence[Job], *, say: Callable[[str], None], tick: Callable[[int], None]) -> list[Ended]:
        """Submits one array and follows it. Ctrl-C leaves it running, and raises BBError that says so."""
        handles = self._submit(jobs)
        array = handles[0].job_id.partition("_")[0]
        look, cancel = f"squeue -j {array}", f"scancel {array}"
        first = handles[0].paths.stderr
        logs = str(first).replace(f"{array}_0_", f"{array}_*_")
        say(f"{len(jobs)} jobs are submitted as {array}. Look at them: {look}; tail -f {logs}. Cancel them: {cancel}")
        try:
            states = self._follow([handle.job_id for handle in handles], tick)
        except KeyboardInterrupt:
            raise BBError(
                f"stopped looking; the jobs go on. Look at them: {look}. Cancel them: {cancel}. When they have ended, "
                f"the same command submits what is then still missing."
            ) from None
        return [_ended(handle, states.get(handle.job_id, "")) for handle in handles]

    def _submit(self, jobs: Sequence[Job]) -> list[Any]:
        import submitit

        wanted = {
            "job_name": self.name,
            "partition": self.partition,
            "account": self.account,
            "time": minutes(self.time),
            "gpus_per_node": self.resources.gpus or None,
            "cpus_per_task": self.resources.cpus,
            "mem": None if self.resources.memory is None else f"{round(self.resources.memory * 1024)}M",
            "setup": list(self.setup) or None,
            "additional_parameters": self.sbatch or None,
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            executor = submitit.SlurmExecutor(folder=self.folder.resolve())
            executor.update_parameters(
                **{name: value for name, value in wanted.items() if value is not None},
                array_parallelism=self.resources.workers or WORKERS,
            )
            handles: list[Any] = executor.map_array(run, [job.command for job in jobs])
        except submitit.core.utils.FailedJobError as error:
            raise BBError(f"sbatch refused the jobs: {_refusal(error)}") from None
        return handles

    def _follow(self, ids: list[str], tick: Callable[[int], None]) -> dict[str, str]:
        """Waits until squeue has none of them; what it said last of each."""
        last: dict[str, str] = {}
        while True:
            now = queue(ids[0].partition("_")[0])
            if now is not None:  # else Slurm's controller does not answer just now
                last |= now
                ended = sum(now.get(job, "COMPLETED") in OVER for job in ids)
                tick(ended)
                if ended == len(ids):
                    return last
            time.sleep(self.poll)


def minutes(text: str) -> int:
    """A time limit as sbatch takes it, in whole minutes. Raises UsageError for what is none."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not found:
        raise UsageError(f"--time {text} is not a time: write minutes, H:MM:SS or D-HH:MM:SS.")
    days, *rest = found.groups()
    units = (60, 1, 1 / 60) if days or rest[2] else (1, 1 / 60, 0)  # D-HH[:MM[:SS]], H:MM:SS; MM[:SS]
    seconds = sum(int(value or 0) * unit * 60 for value, unit in zip(rest, units, strict=True))
    total = int(days or 0) * 1440 + math.ceil(seconds / 60)
    if not total:
        raise UsageError(f"--time {text} leaves no time to work in: give a minute at least.")
    return total


def queue(array: str) -> dict[str, str] | None:
    """State of each job of an array, by ID, as far as squeue still knows them; None where it gives no answer."""
    asked = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={array}", "--format=%i %T"]
    done = subprocess.run(asked, capture_output=True, text=True)
    if done.returncode:
        return {} if "Invalid job id" in done.stderr else None  # forgotten, minutes after its end
    return dict(line.split()[:2] for line in done.stdout.splitlines() if line.strip())


def _ended(handle: Any, state: str) -> Ended:
    """What a job left behind; where that is nothing, what became of it."""
    import submitit

    log = str(handle.paths.stderr)
    deadline = time.monotonic() + (GRACE if state in ("COMPLETED", "") else 0.0)
    while not handle.paths.result_pickle.exists() and time.monotonic() < deadline:
        os.listdir(handle.paths.folder)  # which makes NFS look again
        time.sleep(1)
    if not handle.paths.result_pickle.exists():
        what = f"Slurm says {state}" if state else "Slurm knows no more of it, and it left no result"
        return Ended(None, "", f"job {handle.job_id}: {what}", log)
    try:
        result: Ended = handle.result()
    except submitit.core.utils.UncompletedJobError as error:  # what runs the command failed, not the command
        said = [line for line in str(error).splitlines() if line and not line.startswith((" ", "-", "You can"))]
        return Ended(None, "", f"job {handle.job_id}: {said[-1]}", log)
    if result.status == 0:
        return result
    what = f"Slurm says {state}" if state in OVER - {"COMPLETED", "FAILED"} else ""
    why = "; ".join(filter(None, (what, result.why))) or f"it ended with status {result.status}"
    return replace(result, why=f"job {handle.job_id}: {why}", log=log)


def _refusal(error: Exception) -> str:
    """What sbatch said, out of submitit's report."""
    said = [line for line in str(error).splitlines() if "sbatch: error:" in line]
    return " ".join(line.partition("sbatch: error:")[2].strip() for line in said) or str(error).strip()
