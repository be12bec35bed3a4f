"""A bounded queue between two stages, which either side can close."""

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """`put` waits while it holds `room` items; `take` waits while it holds none.

    Closing ends all waiting: what is put afterwards is dropped, what it holds can still be taken.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._items: deque[T] = deque()
        self._closed = False
        lock = threading.Lock()
        self._filled, self._freed = threading.Condition(lock), threading.Condition(lock)

    def put(self, item: T) -> bool:
        """Whether the item was taken in: False once the queue is closed."""
        with self._freed:
            while len(self._items) >= self._room and not self._closed:
                self._freed.wait()
            if self._closed:
                return False
            self._items.append(item)
            self._filled.notify()
            return True

    def take(self) -> T | None:
        """The next item, in order; None once the queue is closed and empty."""
        return next(iter(self.take_some(1)), None)

    def take_some(self, most: int) -> list[T]:
        """The items it holds, in order, at most `most`; nothing once the queue is closed and empty."""
        with self._filled:
            while not self._items and not self._closed:
                self._filled.wait()
            taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            self._freed.notify(len(taken))
            return taken

    def close(self) -> None:
        with self._filled:
            self._closed = True
            self._filled.notify_all()
            self._freed.notify_all()
