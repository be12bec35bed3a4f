"""A Slurm of one's own on 127.0.0.1: munged, slurmctld and two slurmd, started and stopped by the tests."""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.helpers.servers import GUARD

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")

CONF = """
ClusterName=bb
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
KillWait=10
MinJobAge=300
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdSpoolDir={folder}/spool.%n
{nodes}
PartitionName=all Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why no Slurm can be started here; empty where it can."""
    os.environ["PATH"] += os.pathsep + "/usr/sbin"  # where Debian has the daemons
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"no {', '.join(lacking)} (Debian: slurm-wlm, munge)" if lacking else ""


@contextmanager
def slurm(folder: Path) -> Iterator[None]:
    """Starts all of it, with SLURM_CONF in the environment, and ends it with its jobs.

    Raises RuntimeError, with what the daemons logged, where it does not come up.
    """
    for name in ("state", "spool.n1", "spool.n2"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    conf, key = folder / "slurm.conf", folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    ports = _free_ports(3)
    host = socket.gethostname().partition(".")[0]
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=1000 State=UNKNOWN"
        for name, port in zip(("n1", "n2"), ports[1:], strict=True)
    )
    conf.write_text(CONF.format(host=host, port=ports[0], user=getpass.getuser(), folder=folder, nodes=nodes))
    own = [
        f"--{what}={folder}/munge.{what.partition('-')[0]}" for what in ("socket", "key-file", "pid-file", "seed-file")
    ]
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(conf)
    try:
        with ExitStack() as stack:
            stack.enter_context(_daemon(["munged", "--foreground", "--force", *own, f"--log-file={folder}/munged.log"]))
            _await(lambda: (folder / "munge.socket").exists(), folder)
            stack.enter_context(_daemon(["slurmctld", "-D", "-f", conf]))
            for name in ("n1", "n2"):
                stack.enter_context(_daemon(["slurmd", "-D", "-N", name, "-f", conf]))
            _await(_both_idle, folder)
            try:
                yield
            finally:
                subprocess.run(["scancel", "--user", getpass.getuser()], capture_output=True)
                _await(lambda: not _asked("squeue", "--noheader"), folder)
    finally:
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before


def _both_idle() -> bool:
    return _asked("sinfo", "--noheader", "--format=%T %D").split() == ["idle", "2"]


def _asked(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


@contextmanager
def _daemon(command: list[object]) -> Iterator[None]:
    process = subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(is_so, folder: Path) -> None:
    deadline = time.monotonic() + GUARD
    while not is_so():
        if time.monotonic() > deadline:
            logs = "".join(f"\n{path.name}: {path.read_text()[-600:]}" for path in sorted(folder.glob("*.log")))
            raise RuntimeError(f"Slurm did not come up in {GUARD} s{logs}")
        time.sleep(0.1)


def _free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
