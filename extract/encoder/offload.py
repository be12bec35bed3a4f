"""Networks that don't fit a device together take turns on it, group by group."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bb.extract.encoder.encoder import Encoder

SHARE = 0.85  # of the free memory, that weights and one network's work may take


def groups(weights: Sequence[int], work: Sequence[int], room: int) -> list[set[int]]:
    """Networks that fit together, in order: all of a group's weights and the most that one of them needs to work.

    One that is larger than the room alone is a group of its own, and fails by itself.
    """
    found: list[set[int]] = []
    for job in range(len(weights)):
        joined = {*found[-1], job} if found else set()
        if joined and sum(weights[j] for j in joined) + max(work[j] for j in joined) <= room:
            found[-1] = joined
        else:
            found.append({job})
    return found


@dataclass
class ModelOffloader:
    """Which networks are on the device. `there` is replaced, never changed."""

    encoders: Sequence[Encoder]
    groups: list[set[int]]
    there: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, encoders: Sequence[Encoder]) -> "ModelOffloader":
        """On a GPU by its memory; elsewhere all of them share the device. The first group is on it afterwards."""
        room = min((encoder.room() for encoder in encoders), default=0)
        if room:
            for encoder in encoders:
                encoder.offload()
        found = groups([e.weights for e in encoders], [e.work for e in encoders], int(SHARE * room))
        offloader = cls(encoders, found if room else [set(range(len(encoders)))])
        offloader.take(0)
        return offloader

    def take(self, job: int) -> None:
        """Brings a network's group to the device, and all others away from it."""
        group = next(group for group in self.groups if job in group)
        for other in self.there - group:
            self.encoders[other].offload()
        for each in group - self.there:
            self.encoders[each].to_device()
        self.there = group
