"""Bounds what all decoders of a process hold together, so that no handful of small files fills the memory.

A picture of 178 million pixels fits into a file of 20 kB. How many pixels there are, its header says.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from joblib import cpu_count

MOST_BYTES = 2**30
CORE_BYTES = 128 * 2**20  # so that large photographs keep all cores busy where there are many


class Budget:
    """Thread-safe. Bytes are handed out in the order of asking, so that small pictures don't overtake a large one
    forever; one that is larger than the whole budget waits until it has it alone."""

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self._held = 0
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, n_bytes: int) -> Iterator[None]:
        """Waits until that many bytes are free. Who holds some must not ask for more."""
        turn = object()
        with self._changed:
            self._queue.append(turn)
            try:
                self._changed.wait_for(lambda: self._queue[0] is turn and self._fits(n_bytes))
                self._held += n_bytes
            finally:
                self._queue.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._held -= n_bytes
                self._changed.notify_all()

    def _fits(self, n_bytes: int) -> bool:
        return not self._held or self._held + n_bytes <= self.n_bytes


DECODING = Budget(max(MOST_BYTES, CORE_BYTES * cpu_count()))
