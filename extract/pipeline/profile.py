"""Where the time of a pass over a collection went: `bb extract --profile`.

Each thread has a clock of its own, so that counting costs no lock. A stage has two figures: in seconds as they
pass, which include waiting for a disk, a device or a free core, and in seconds of a processor.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from joblib import cpu_count

STAGES = ("read", "decode", "transform", "copy", "forward", "write")
# Who does what, and what it means where its threads had no rest.
WORKERS = {
    "reader": ("read",),
    "decoder": ("decode", "transform"),
    "device": ("copy", "forward"),
    "processor": ("decode", "transform", "copy", "forward"),
    "writer": ("write",),
}
BUSY = 0.85  # of its time: a stage that works as much is what the others wait for


@dataclass
class Clock:
    """One thread's: seconds by stage, and seconds of its processor."""

    worker: str
    wall: dict[str, float] = field(default_factory=lambda: dict.fromkeys((*STAGES, "waiting"), 0.0))
    cpu: dict[str, float] = field(default_factory=lambda: dict.fromkeys((*STAGES, "waiting"), 0.0))

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.wall[stage] += time.perf_counter() - wall
            self.cpu[stage] += time.thread_time() - cpu


@dataclass
class Profile:
    """Of one pass; `close` ends it.

    cores     that this process may use
    device    "cpu", "cuda" or "mps"
    features  how many were made: of each image as many as networks lacked it
    forward   seconds of the device by backbone, as it measured them itself; on the CPU as they passed
    """

    cores: int
    device: str
    features: int = 0
    forward: dict[str, float] = field(default_factory=dict)
    clocks: list[Clock] = field(default_factory=list)
    seconds: float = 0.0
    _started: float = field(default_factory=time.perf_counter)

    @classmethod
    def start(cls, device: str, cores: int | None = None) -> "Profile":
        return cls(cores or cpu_count(), device)

    @classmethod
    def merged(cls, several: "Sequence[Profile]", device: str) -> "Profile":
        """Of processes that ran next to each other."""
        whole = cls(sum(each.cores for each in several), device, sum(each.features for each in several))
        for each in several:
            whole.clocks += each.clocks
            for name, seconds in each.forward.items():
                whole.forward[name] = whole.forward.get(name, 0.0) + seconds
        whole.seconds = max((each.seconds for each in several), default=0.0)
        return whole

    def add(self, backbone: str, features: int, seconds: float) -> None:
        """A batch, and what the device took for it."""
        self.features += features
        self.forward[backbone] = self.forward.get(backbone, 0.0) + seconds

    def clock(self, worker: str) -> Clock:
        """A clock for one thread of these workers."""
        clock = Clock(worker)
        self.clocks.append(clock)
        return clock

    def close(self) -> None:
        self.seconds = time.perf_counter() - self._started

    def stage(self, name: str) -> tuple[float, float]:
        """Seconds in a stage and seconds of processors, over all threads; on a GPU, `forward` is its own."""
        wall = sum((clock.wall[name] for clock in self.clocks), 0.0)
        if name == "forward" and self.device != "cpu":
            wall = sum(self.forward.values())
        return wall, sum((clock.cpu[name] for clock in self.clocks), 0.0)

    def load(self, worker: str) -> float:
        """The share of their time, 0 to 1, in which these workers did not wait."""
        threads = sum(clock.worker == worker for clock in self.clocks)
        busy = sum(self.stage(name)[0] for name in WORKERS[worker])
        return min(1.0, busy / (threads * self.seconds)) if threads and self.seconds else 0.0

    def bottleneck(self) -> str:
        """In one sentence.

        Where networks run on the processor, decoders share its cores with them: then it gets what most of its work
        is, unless a disk or a store kept it waiting.
        """
        if not self.features:
            return "nothing was embedded, so nothing held it up"
        loads = {worker: self.load(worker) for worker in WORKERS}
        if self.device == "cpu":
            shared = sum(self.stage(name)[0] for name in WORKERS["processor"]) / (self.cores * self.seconds)
            loads |= {"decoder": 0.0, "device": 0.0, "processor": min(1.0, shared)}
        worker = max(loads, key=lambda name: loads[name])
        if worker == "processor":
            cpu = {name: self.stage(name)[1] for name in STAGES}
            first = max(cpu, key=lambda name: cpu[name])
            what = f"the processor, busy {loads[worker]:.0%} of the time"
            what += f": {cpu[first] / sum(cpu.values()):.0%} of its work is {_WORDS[first]}"
        else:
            stage = max(WORKERS[worker], key=lambda name: self.stage(name)[0])
            what = f"{_WORDS[stage]}: {_WHO[worker]} busy {loads[worker]:.0%} of the time"
        return (
            f"the bottleneck is {what}" if loads[worker] >= BUSY else f"nothing was busy throughout, most of all {what}"
        )

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "seconds": round(self.seconds, 3),
            "features": self.features,
            "cores": self.cores,
            "stages": {
                name: {"seconds": round(wall, 3), "processor_seconds": round(cpu, 3)}
                for name, (wall, cpu) in ((name, self.stage(name)) for name in STAGES)
            },
            "forward": {name: round(seconds, 3) for name, seconds in self.forward.items()},
            "waiting": {
                worker: {
                    "threads": sum(clock.worker == worker for clock in self.clocks),
                    "seconds": round(sum(c.wall["waiting"] for c in self.clocks if c.worker == worker), 3),
                }
                for worker in WORKERS
                if any(clock.worker == worker for clock in self.clocks)
            },
            "bottleneck": self.bottleneck(),
        }


_WORDS = {
    "read": "reading",
    "decode": "decoding",
    "transform": "resizing",
    "copy": "putting batches together and copying them",
    "forward": "the forward pass",
    "write": "writing",
}
_WHO = {
    "reader": "the readers were",
    "decoder": "the decoders were",
    "device": "the device was",
    "writer": "the writer was",
}
