"""Trying again: passing faults of a network are waited out with back-off, the others are reported at once."""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from bb.store.errors import BBError

T = TypeVar("T")
PASSING = {408, 425, 429, 500, 502, 503, 504}  # statuses of a server that may answer otherwise later
LATER = "Run the same command again later; what has come is kept."
PROGRESS = 2**20  # bytes after which a connection that breaks counts as a first failure again


class ErrorInfo(NamedTuple):
    """What an error means: a message for a person, and how many failures in a row it takes until it is reported."""

    message: str
    most: int = 1


Judge = Callable[[Exception], ErrorInfo]


@dataclass(frozen=True)
class RetryPolicy:
    """How long a place is waited for.

    failures  in a row until a passing fault is reported, and `connecting` until an unreachable server is
    wait      seconds before the second attempt; doubled each time up to 30, with jitter
    silence   seconds without a byte until a connection counts as broken
    least     bytes per second, on average over as many seconds of waiting, below which it counts as broken too
    """

    failures: int = 6
    connecting: int = 3
    wait: float = 0.5
    silence: float = 60.0
    least: float = 1000.0

    def pause(self, failures: int) -> None:
        time.sleep(min(30.0, self.wait * 2 ** (failures - 1)) * random.uniform(0.5, 1.0))


PATIENCE = RetryPolicy()


class TooSlow(TimeoutError):
    """Bytes come, but fewer than the least rate."""


class Pace:
    """Watches how fast bytes come: a server that sends one now and then would keep bb for ever."""

    def __init__(self, patience: RetryPolicy) -> None:
        self._patience, self._bytes, self._seconds = patience, 0, 0.0

    def add(self, n_bytes: int, seconds: float) -> None:
        """Counts bytes that came after `seconds` of waiting. Raises TooSlow if they come too slowly."""
        self._bytes += n_bytes
        self._seconds += seconds
        if self._seconds >= self._patience.silence:
            if self._bytes < self._patience.least * self._seconds:
                raise TooSlow(f"fewer than {self._patience.least:g} bytes per second")
            self._bytes, self._seconds = 0, 0.0


def paced(pieces: Iterable[bytes], patience: RetryPolicy) -> Iterator[bytes]:
    """The pieces as they come. Raises TooSlow where they come too slowly."""
    pace, waiting = Pace(patience), iter(pieces)
    while True:
        started = time.monotonic()
        piece = next(waiting, None)
        pace.add(len(piece or b""), time.monotonic() - started)
        if piece is None:
            return
        yield bytes(piece)


def retry(work: Callable[[], T], judge: Judge, patience: RetryPolicy) -> T:
    """The result of `work`, tried again where `judge` finds that the fault may pass. Raises BBError in the end."""
    failures = 0
    while True:
        try:
            return work()
        except BBError:
            raise
        except Exception as error:
            failures = _failed(error, judge(error), failures, patience)


def retry_stream(
    begin: Callable[[int], Iterator[bytes]], start: int, judge: Judge, patience: RetryPolicy
) -> Iterator[bytes]:
    """The pieces that `begin(start)` gives; where they break off, begun again behind the last byte that came."""
    failures, failed_at = 0, start
    while True:
        try:
            for piece in begin(start):
                start += len(piece)
                yield piece
            return
        except BBError:
            raise
        except Exception as error:
            # By the byte, and not by the attempt: who sends a byte at a time could keep us here for ever.
            if start - failed_at >= PROGRESS:
                failures = 0
            failed_at = start if failures == 0 else failed_at
            failures = _failed(error, judge(error), failures, patience)


def _failed(error: Exception, verdict: ErrorInfo, failures: int, patience: RetryPolicy) -> int:
    failures += 1
    if failures >= verdict.most:
        times = f", {failures} times in a row" if failures > 1 else ""
        raise BBError(verdict.message.replace("{times}", times)) from error
    patience.pause(failures)
    return failures
