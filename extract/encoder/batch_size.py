"""The search for a batch size: the smallest one at which a GPU is as quick as it gets."""

import time
from collections.abc import Callable

import torch

SMALLEST, LARGEST = 16, 1024
AS_QUICK = 0.95  # of the best rate; a larger batch only takes memory, and leaves more to fill up at the end
NO_LONGER = 0.9  # of the best rate: batches that are slower by so much have outgrown some cache


def search(seconds: Callable[[int], float], *, smallest: int = SMALLEST, largest: int = LARGEST) -> int:
    """A power of two times `smallest`, by the rates that `seconds` (of a batch of that size) gives.

    Running out of memory ends the search; 0 says that not even the smallest fits.
    """
    rates: dict[int, float] = {}
    size = smallest
    while size <= largest:
        try:
            rates[size] = size / seconds(size)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            break
        if rates[size] < NO_LONGER * max(rates.values()):
            break
        size *= 2
    best = max(rates.values(), default=0.0)
    return next((size for size, rate in rates.items() if rate >= AS_QUICK * best), 0)


def out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)


def seconds(work: Callable[[], object]) -> float:
    """What some work takes where it is done when it returns: once to warm up, then once by the clock."""
    work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
