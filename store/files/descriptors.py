"""Open files are few: 256 on macOS, 1,024 on many Linux machines, and less where an administrator says so."""

import errno
import gc
import os
import random
import resource
import time
from collections.abc import Callable
from typing import BinaryIO, TypeVar

from bb.store.errors import BBError

T = TypeVar("T")
RESERVED = 12  # for what libraries open: a socket, a file of numba's cache, a dataset's index
LONGEST_WAIT = 20.0  # seconds
UNLIMITED = 2**20


def limit() -> int:
    """How many files this process may have open (`ulimit -n`)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNLIMITED if soft == resource.RLIM_INFINITY else min(soft, UNLIMITED)


def in_use() -> int:
    """How many files this process has open now."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder)) - 1  # without the one that lists them
        except OSError:
            continue
    return limit() // 4


def fitting(wanted: int, each: int) -> int:
    """How many of `wanted` threads may run at once when each needs up to `each` descriptors; at least one."""
    return max(1, min(wanted, (limit() - in_use() - RESERVED) // each))


def nearly_all_taken(file: BinaryIO) -> bool:
    """Whether no more descriptors are free than libraries need; `file` is any open one."""
    try:
        lowest = os.dup(file.fileno())  # the system gives the lowest that is free
    except OSError as error:
        if not is_shortage(error):
            raise
        return True
    os.close(lowest)
    return lowest >= limit() - RESERVED


def retry(acquire: Callable[[], T]) -> T:
    """The result of `acquire`, which opens files and holds none when it fails; called again while too many are open.

    Other threads close theirs meanwhile. Raises BBError after 20 seconds without a free descriptor.
    """
    try:
        return acquire()
    except OSError as error:
        if not is_shortage(error):
            raise
    gc.collect()  # memory maps in reference cycles hold descriptors
    deadline, pause = time.monotonic() + LONGEST_WAIT, 0.002
    while True:
        try:
            return acquire()
        except OSError as error:
            if not is_shortage(error):
                raise
        if time.monotonic() > deadline:
            raise BBError(
                f"too many open files: this process may have {limit()}. Raise the limit (`ulimit -n 1024`), "
                f"or work with fewer threads (--jobs 1)."
            )
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(0.2, pause * 2)


def is_shortage(error: OSError) -> bool:
    """Whether the process, or the machine, has too many files open."""
    return error.errno in (errno.EMFILE, errno.ENFILE)
