"""A stream through a Ray cluster: tasks prepare items on any CPU, actors take what was prepared; either may be lost.

What is prepared goes from machine to machine through Ray's object store; here pass only references. There is a bounded
number of them, the same for each actor. Nothing is kept for what is lost: the caller looks afterwards what is
missing, and streams that.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from bb.cluster.ray import RETRIES, Cluster, reason
from bb.store.errors import BBError

T = TypeVar("T")
L = TypeVar("L")
R = TypeVar("R")
AHEAD = 4  # prepared items waiting at an actor, or under way to it
PREPARING = 2  # tasks for each CPU: one runs, one is on its way
PATIENCE = 300.0  # seconds without any actor, before it is given up
TICK = 0.5  # seconds
DEATHS = 3  # of actors in a row, for each that there should be, without one that took anything


@runtime_checkable
class Sink(Protocol):
    """What an actor holds. Made there; a BBError of any of these ends the stream."""

    def take(self, load: Any) -> Any:
        """Takes what was prepared of an item; what it returns goes to the caller."""
        ...

    def close(self) -> Any:
        """Finishes what was taken; the result goes to the caller, too."""
        ...


class Holder:
    """The actor: it opens its sink in a call of its own, whose error can be reported, unlike a constructor's."""

    def __init__(self, make: Callable[[], Sink]) -> None:
        self.make = make

    def open(self) -> None:
        self.sink = self.make()

    def take(self, load: Any) -> Any:
        return self.sink.take(load)

    def close(self) -> Any:
        return self.sink.close()


@dataclass(eq=False)
class _Actor:
    """An actor as seen from here; `taking` is how many loads it has been given and not answered for."""

    handle: Any
    opened: bool = False
    taking: int = 0


@dataclass
class RayStream(Generic[T, L, R]):
    """Items → `prepare` on any machine → `make()`'s sinks on `workers` actors.

    hear   what each take and close returned
    tick   called some times a second
    lost   what was lost on the way, in words; the items of it are not tried again here
    """

    cluster: Cluster
    prepare: Callable[[T], L]
    make: Callable[[], Sink]
    workers: int
    hear: Callable[[R], None]
    tick: Callable[[], None] = lambda: None
    lost: list[str] = field(default_factory=list)
    _actors: list[_Actor] = field(default_factory=list)
    _calls: dict[Any, tuple[str, _Actor]] = field(default_factory=dict)
    _preparing: set[Any] = field(default_factory=set)
    _ready: list[Any] = field(default_factory=list)
    _deaths: int = 0

    def run(self, items: Iterable[T], stop: Callable[[], bool] = lambda: False) -> None:
        """Returns when every item was taken or lost, and every sink is closed. `stop` ends the stream early, whole.

        Raises BBError where a sink does, or where no actor can be had.
        """
        import ray

        resources = self.cluster.resources
        work = self.prepare
        prepare: Any = ray.remote(num_cpus=1, max_retries=RETRIES)(
            lambda item: work(item)
        )  # Ray takes plain functions alone
        waiting: Iterator[T] = iter(items)
        more = True
        since = time.monotonic()
        try:
            for _ in range(self.workers):
                self._start()
            while True:
                if stop():
                    more = False
                    self._drop_prepared()
                if any(actor.opened for actor in self._actors):
                    since = time.monotonic()
                elif time.monotonic() - since > PATIENCE:
                    raise BBError(
                        f"no worker could be started in {PATIENCE:.0f} s on {self.cluster.describe()} (each with "
                        f"{resources.gpus or 0} GPUs). See `ray status`."
                    )
                while more and len(self._preparing) + len(self._ready) < self._bound():
                    try:
                        self._preparing.add(prepare.remote(next(waiting)))
                    except StopIteration:
                        more = False
                self._hand_out()
                working = any(actor.taking for actor in self._actors)
                if not (more or self._preparing or self._ready or working):
                    break
                self._await()
            self._close()
        finally:
            self._drop_prepared()
            for actor in self._actors:
                ray.kill(actor.handle)

    def _bound(self) -> int:
        """How many items are prepared, or wait to be, at a time: enough for all CPUs, and for all actors."""
        return max(PREPARING * self.cluster.cpus, AHEAD * self.workers)

    def _start(self) -> None:
        import ray

        gpus = self.cluster.resources.gpus or 0
        # An actor on the CPU shares it with the tasks, as the forward pass does with the decoders in one process.
        kind = ray.remote(num_cpus=0, num_gpus=gpus, scheduling_strategy="SPREAD")(Holder)
        actor = _Actor(kind.remote(self.make))
        self._actors.append(actor)
        self._calls[actor.handle.open.remote()] = ("open", actor)

    def _hand_out(self) -> None:
        """Gives what is ready to those that have least to do."""
        while self._ready:
            free = [actor for actor in self._actors if actor.opened and actor.taking < AHEAD]
            if not free:
                return
            actor = min(free, key=lambda actor: actor.taking)
            self._calls[actor.handle.take.remote(self._ready.pop(0))] = ("take", actor)
            actor.taking += 1

    def _await(self) -> None:
        """Waits for something to be done, and notes all that is."""
        import ray

        everything = [*self._preparing, *self._calls]
        done, _ = ray.wait(everything, num_returns=1, timeout=TICK, fetch_local=False)
        if done:
            done, _ = ray.wait(everything, num_returns=len(everything), timeout=0, fetch_local=False)
        for ref in done:
            if ref in self._preparing:
                self._preparing.remove(ref)
                self._ready.append(ref)
            elif ref in self._calls:
                self._answer(ref, *self._calls.pop(ref))
        self.tick()

    def _answer(self, ref: Any, call: str, actor: _Actor) -> None:
        import ray

        try:
            result = ray.get(ref)
        except ray.exceptions.RayActorError as error:
            self._bury(actor, reason(error), replace=call != "close")
            return
        except ray.exceptions.RayError as error:
            cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
            if isinstance(cause, ImportError):
                raise BBError(
                    f"a worker does not have what it needs: {cause}. Every machine needs the same bb."
                ) from None
            if not isinstance(cause, ray.exceptions.RayError):
                raise cause from None
            self.lost.append(reason(cause))  # what was prepared is lost, or the process that prepared it died of it
            result = None
        if call == "open":
            actor.opened = True
            return
        if call == "take":
            actor.taking -= 1
        self._deaths = 0
        if result is not None:
            self.hear(result)

    def _bury(self, actor: _Actor, why: str, *, replace: bool) -> None:
        """Another takes the place of an actor that is lost, with its machine perhaps."""
        self._calls = {ref: (call, other) for ref, (call, other) in self._calls.items() if other is not actor}
        self._actors.remove(actor)
        self.lost.append(why)
        if not replace:
            return
        self._deaths += 1
        if self._deaths >= DEATHS * self.workers:
            raise BBError(f"{self._deaths} workers were lost in a row, the last since: {why} See `ray status`.")
        self._start()

    def _close(self) -> None:
        """All at once. One that is lost now is not replaced; one that never opened has nothing to close."""
        self._calls = {actor.handle.close.remote(): ("close", actor) for actor in self._actors if actor.opened}
        while self._calls:
            self._await()

    def _drop_prepared(self) -> None:
        import ray

        for ref in self._preparing:
            ray.cancel(ref)
        self._preparing.clear()
        self._ready.clear()
