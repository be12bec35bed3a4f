"""One command line, run where an engine put it."""

import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

SAID = 20  # last lines of standard error that are kept


@dataclass(frozen=True)
class Ended:
    """How a command line ended.

    status  exit status; negative: the signal that ended it; None where it was lost with its machine
    out     its standard output
    why     where it failed, for people: the end of its standard error, or what became of its job
    log     where to read more; empty where there is nothing
    """

    status: int | None
    out: str = ""
    why: str = ""
    log: str = ""


def run(command: Sequence[str]) -> Ended:
    """Runs a command line, and lets its standard error through into the log of whatever this runs in.

    Asked to end (SIGTERM, or SIGUSR2 as submitit has Slurm send before a time limit), it asks the command to, and waits
    for what that still publishes.
    """
    process = subprocess.Popen(
        list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace", preexec_fn=_deaf_to_usr2,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    said: deque[str] = deque(maxlen=SAID)
    listener = threading.Thread(target=_pass_on, args=(process.stderr, said), daemon=True)
    listener.start()
    with _asked_to_end(process.terminate):
        try:
            out = process.stdout.read()
            status = process.wait()
        except BaseException:  # Ray cancels a task by an interrupt
            process.terminate()
            process.wait()
            raise
    listener.join()
    return Ended(status, out, "" if status == 0 else _words(said))


@contextmanager
def _asked_to_end(answer: Callable[[], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: answer()) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_on(lines: Iterable[str], said: deque[str]) -> None:
    for line in lines:
        said.append(line)
        sys.stderr.write(line)
        sys.stderr.flush()


def _words(said: Sequence[str]) -> str:
    """bb's own message, which is what stands from its last line that begins with `bb:`; else the last line."""
    lines = [line.rstrip() for line in said if line.strip()]
    starts = [i for i, line in enumerate(lines) if line.startswith("bb: ")]
    return "\n".join(lines[starts[-1] :]).removeprefix("bb: ") if starts else (lines[-1] if lines else "")


def _deaf_to_usr2() -> None:
    """The signal reaches every process of a job, and would end one that does not expect it."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
