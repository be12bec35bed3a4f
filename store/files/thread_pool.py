"""Threads that wait for disks and networks: results as they come, and an early end where every task would fail."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from bb.store.errors import BBError, Malformed
from bb.store.files.descriptors import fitting

T = TypeVar("T")
R = TypeVar("R")
TICK = 0.1  # seconds
DESCRIPTORS = 8  # of a thread: two files, folders on the way to each, and a connection
PARTING = 10.0  # seconds that work in hand is waited for after an error


class Stopped(Exception):
    """A person asked for an end; raised by work that looked."""


@dataclass(frozen=True)
class Fact:
    """Why a task failed, where the others may still succeed."""

    what: str


def each(
    tasks: Iterable[T],
    work: Callable[[T], R],
    jobs: int,
    tick: Callable[[], None] = lambda: None,
    halt: threading.Event | None = None,
) -> Iterator[tuple[T, R | Fact]]:
    """Does the work of each task in one of `jobs` threads; yields tasks with their results in order of completion.

    Fewer threads run where the descriptors that are free are too few for them.

    A task that raises Malformed, FileNotFoundError or BBError has a Fact for a result; as many BBErrors in a row as
    there are threads end it all, since a place that can't be reached fails every task, and so does any other error.
    A task that raises Stopped ends it without an error. `tick` is called in the calling thread, some times a second.
    `halt` is set at the end, so that work still in hand can look and stop. Threads are daemons: one that hangs in a
    dead connection keeps no process alive.
    """
    todo = list(tasks)
    waiting, guard, halt = iter(todo), threading.Lock(), halt or threading.Event()
    done: SimpleQueue[tuple[T, Any] | None] = SimpleQueue()

    def run() -> None:
        while not halt.is_set():
            with guard:
                try:
                    task = next(waiting)
                except StopIteration:
                    break
            try:
                done.put((task, work(task)))
            except BaseException as error:
                done.put((task, error))
        done.put(None)

    jobs = fitting(min(jobs, len(todo)), DESCRIPTORS)
    threads = [threading.Thread(target=run, daemon=True) for _ in range(jobs if todo else 0)]
    for thread in threads:
        thread.start()
    try:
        running, in_a_row = len(threads), 0
        while running:
            try:
                finished = done.get(timeout=TICK)
            except Empty:
                tick()
                continue
            if finished is None:
                running -= 1
                continue
            task, result = finished
            in_a_row = in_a_row + 1 if isinstance(result, BBError) else 0
            if isinstance(result, Stopped):
                halt.set()
            elif isinstance(result, Malformed | FileNotFoundError | BBError) and in_a_row < max(2, jobs):
                yield task, Fact(describe(result))
            elif isinstance(result, BaseException):
                raise result
            else:
                yield task, result
            tick()
    except KeyboardInterrupt:
        threads = []
        raise
    finally:
        halt.set()
        deadline = time.monotonic() + PARTING
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def describe(error: Exception) -> str:
    """Why a part was not copied; what vanishes between listing and copying was compacted or removed meanwhile."""
    if isinstance(error, FileNotFoundError):
        return "it is no longer there; what took its place comes with the next time"
    return str(error)
