"""Things that are costly to make and soon wanted again: each made once for all threads, and no more kept than fit."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass
class PrefetchCache(Generic[K, V]):
    """The latest things made, by key.

    most    how much of them is kept, as `weigh` has it; the latest one is kept whatever its weight
    ahead   how many may be in the making at once that nobody waits for yet
    """

    most: int
    weigh: Callable[[V], int]
    ahead: int = 8
    _made: "OrderedDict[K, Future[V]]" = field(default_factory=OrderedDict)
    _weights: dict[K, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pool: ThreadPoolExecutor | None = None

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The thing; made here, or waited for where another thread is at it. What `make` raises is forgotten."""
        with self._lock:
            future = self._made.get(key)
            mine = future is None
            if future is None:
                future = self._made[key] = Future()
            self._made.move_to_end(key)
        if mine:
            self._make(key, future, make)
        return future.result()

    def has(self, key: K) -> bool:
        """Whether it is there, or in the making."""
        with self._lock:
            return key in self._made

    def prepare(self, key: K, make: Callable[[], V]) -> None:
        """Has it made by another thread, unless enough is in the making already."""
        with self._lock:
            making = len(self._made) - len(self._weights)
            if key in self._made or making >= self.ahead:
                return
            self._pool = self._pool or ThreadPoolExecutor(self.ahead, thread_name_prefix="shelf")
            future = self._made[key] = Future()
            self._pool.submit(self._make, key, future, make)

    def _make(self, key: K, future: "Future[V]", make: Callable[[], V]) -> None:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                self._made.pop(key, None)
            future.set_exception(error)
            return
        with self._lock:
            self._weights[key] = self.weigh(value)
            total = sum(self._weights.values())
            for old in list(self._made):
                if total <= self.most:
                    break
                if old != key and old in self._weights:
                    del self._made[old]
                    total -= self._weights.pop(old)
        future.set_result(value)
