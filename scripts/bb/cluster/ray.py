"""A Ray cluster: found or started, and command lines run on it."""

import importlib.util
import logging
import os
import re
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bb.cluster.command import Ended, run
from bb.cluster.engine import Job, Resources
from bb.store.errors import BBError, UsageError

LOOPBACK = "127.0.0.1"
TICK = 1.0  # seconds
RETRIES = 3  # of a task whose machine was lost


@dataclass(frozen=True)
class Cluster:
    """The engine, connected: `nodes` machines with that many CPUs and GPUs together."""

    resources: Resources
    nodes: int
    cpus: int
    gpus: int

    def run(self, jobs: Sequence[Job], *, say: Callable[[str], None], tick: Callable[[int], None]) -> list[Ended]:
        """Each command line as a task. Ctrl-C cancels those that run."""
        import ray

        gpus = self.resources.gpus or 0
        task = ray.remote(num_cpus=self.resources.cpus or 1, num_gpus=gpus, max_retries=RETRIES)(run)
        say(f"{len(jobs)} commands go to {self.describe()}")
        waiting, running = deque(enumerate(jobs)), dict[Any, int]()
        ended = dict.fromkeys(range(len(jobs)), Ended(None))
        try:
            while waiting or running:
                while waiting and len(running) < (self.resources.workers or len(jobs)):
                    i, job = waiting.popleft()
                    running[task.remote(job.command)] = i
                done, _ = ray.wait(list(running), timeout=TICK, fetch_local=False)
                for ref in done:
                    ended[running.pop(ref)] = _result(ref)
                tick(len(jobs) - len(waiting) - len(running))
        except KeyboardInterrupt:
            for ref in running:
                ray.cancel(ref)
            raise
        return list(ended.values())

    @property
    def workers(self) -> int:
        """How many actors: as asked for, or one for each GPU that they want, or for each machine."""
        gpus = self.resources.gpus or 0
        return self.resources.workers or (self.gpus // gpus if gpus else self.nodes)

    def describe(self) -> str:
        machines = "one machine" if self.nodes == 1 else f"{self.nodes} machines"
        return f"Ray on {machines} with {self.cpus} CPUs and {self.gpus} GPUs"


def _result(ref: Any) -> Ended:
    import ray

    try:
        found: Ended = ray.get(ref)
    except ray.exceptions.RayError as error:
        return Ended(None, "", reason(error))
    return found


def reason(error: BaseException) -> str:
    """Why Ray lost something, in a line: the last of a traceback, where it has one, else the first."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    causes = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    return (causes[-1:] or lines[:1] or [type(error).__name__])[0]


@contextmanager
def connected(address: str | None, resources: Resources) -> Iterator[Cluster]:
    """A Ray cluster for as long as the context lasts.

    address  HOST:PORT of one that runs, "auto" for the one that is found here; None starts one on this machine, bound
             to 127.0.0.1 and ended with the context, of as many CPUs as there are

    Raises UsageError where Ray is not installed or has no such resources, BBError where no cluster answers or starts.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--on ray needs ray: pip install 'backbone-bench[ray]'")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        at = _noted() if address == "auto" else address
        if at is not None:
            _check_answers(at)
        ray = _ray(on_loopback=at is None or at.startswith((LOOPBACK, "localhost")))
        if at is None:
            os.environ.setdefault("RAY_worker_niceness", "0")  # else 15: they'd yield to all else on this machine
            ray.init(address="local", include_dashboard=False, **quiet)
        else:
            ray.init(address=at, **quiet)
    except BBError:
        raise
    except Exception as error:  # Ray's own are of many kinds: a start that takes too long is a bare Exception
        if address is None:
            raise BBError(
                f"--on ray: Ray did not start on this machine: {reason(error)} A machine that is busy or low on memory "
                f"starts it too slowly: run the command again when there is less to do, or without --on ray. Ray's "
                f"logs: {_folder() / 'session_latest' / 'logs'}"
            ) from None
        raise BBError(
            f"--on ray:{address}: {reason(error)} Look with `ray status`. --on ray starts one on this machine alone."
        ) from None
    try:
        there = ray.cluster_resources()
        nodes = sum(node["Alive"] for node in ray.nodes())
        cluster = Cluster(resources, nodes, int(there.get("CPU", 0)), int(there.get("GPU", 0)))
        if (resources.gpus or 0) > cluster.gpus or (resources.cpus or 1) > cluster.cpus:
            raise UsageError(
                f"--gpus {resources.gpus or 0} and --cpus {resources.cpus or 1} for each worker are more than there "
                f"are: {cluster.describe()}."
            )
        yield cluster
    finally:
        ray.shutdown()


def _ray(*, on_loopback: bool) -> Any:
    """The library. What it reads of the environment, it reads when it is first imported.

    on_loopback  the cluster is bound to 127.0.0.1. Else Ray takes this machine's own address for its loopback, and
                 listens on every network it is in. The variable bears the name of the systems on which that is Ray's
                 default.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if on_loopback:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    return ray


def _noted() -> str:
    """The address of the cluster that runs here, as RAY_ADDRESS or `ray start` has it. Ray would take one on the
    loopback for one at this machine's own address."""
    if address := os.environ.get("RAY_ADDRESS"):
        return address
    try:
        return (_folder() / "ray_current_cluster").read_text().strip()
    except OSError:
        raise ConnectionError("no cluster runs here: start one, or give --on ray:HOST:PORT.") from None


def _folder() -> Path:
    """Where Ray keeps its sessions."""
    return Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray"


def _check_answers(address: str) -> None:
    """Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 2**16):
        raise UsageError(f"--on ray:{address}: that is neither HOST:PORT nor auto.")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ConnectionError(f"nobody answers at {address} ({error.strerror or error}).") from None
