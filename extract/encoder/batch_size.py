"""The batch size: on a GPU a search for the smallest one at which it is as quick as it gets, on a CPU a rule."""

import time
from collections.abc import Callable

from bb.extract.embedding.forward import out_of_memory

SMALLEST, LARGEST = 16, 1024
ON_CPU = 16  # images of the usual 224 pixels: a CPU is hardly quicker with more
CPU_PIXELS = ON_CPU * 224 * 224
AS_QUICK = 0.95  # of the best rate; a larger batch only takes memory, and leaves more to fill up at the end
NO_LONGER = 0.9  # of the best rate: batches that are slower by so much have outgrown some cache


def on_cpu(height: int, width: int) -> int:
    """Images of a view in a batch on a CPU: no more than 16, nor more pixels than 16 images of 224 × 224 have.

    Time and memory grow with pixels, and a short batch is filled up. It is the view's alone, neither the machine's nor
    that of what is missing: a run that goes on gives each image the very bits that an uninterrupted one would have.
    """
    return max(1, min(ON_CPU, CPU_PIXELS // (height * width)))


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


def seconds(work: Callable[[], object]) -> float:
    """What some work takes where it is done when it returns: once to warm up, then once by the clock."""
    work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
