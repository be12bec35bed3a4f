"""Sets of tensors in a checkpoint that may be a network's.

What a checkpoint calls its tensors says little: scripts put them under keys (`state_dict`, `teacher`) and prefixes
(`module.`, `backbone.`). So the tensors under every key and prefix are candidates, and the network decides.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bb.extract.weights.checkpoint import StateDict, WeightsFile
from bb.extract.weights.traced import traced

Convert = Callable[[StateDict], Mapping[str, Any]]

LEVELS = 8  # of a prefix, at most
COUNT = "num_batches_tracked"  # of batch norms: old files do not have it, and no feature depends on it


@dataclass(frozen=True)
class Target:
    """A network that is to get weights.

    name: what the user asked for, for messages
    classifier: names of the tensors that ended the network before its classifier was taken off
    convert: turns a file of the original authors into the network's names
    """

    name: str
    module: nn.Module
    classifier: frozenset[str] = frozenset()
    convert: Convert | None = None


@dataclass(frozen=True)
class TensorGroup:
    """Tensors under one key and prefix of a file.

    state: the tensors by their names below the prefix, or by those that a converter gave them
    dropped: names of what else stands under the key, and of what a converter left out
    made: names of tensors that a converter made from nothing in the file
    resampled: names of tensors that a converter interpolated, with their shapes in the file
    """

    key: str
    prefix: str
    state: StateDict
    dropped: tuple[str, ...] = ()
    made: frozenset[str] = frozenset()
    resampled: Mapping[str, torch.Size] = field(default_factory=dict)

    @property
    def part(self) -> str:
        """Key and prefix joined with dots; "" for the file's top level."""
        return ".".join(filter(None, (self.key, self.prefix.removesuffix("."))))

    def is_in(self, part: str) -> bool:
        """Whether it is what a user means by PART in PATH#PART; "." is the file's top level."""
        return self.part == "" if part == "." else f"{self.part}.".startswith(f"{part}.")


def find_candidates(checkpoint: WeightsFile, size: int) -> Iterator[TensorGroup]:
    """The tensors under each key and prefix; under a prefix, if they are half of the network's `size` at least."""
    for key, state in checkpoint.parts.items():
        prefixes = Counter(
            f"{prefix}."
            for name in state
            for prefix in itertools.accumulate(name.split(".", LEVELS)[:-1], "{}.{}".format)
        )
        for prefix in ("", *(prefix for prefix, count in prefixes.items() if 2 * count >= size)):
            below = {
                name.removeprefix(prefix): value
                for name, value in state.items()
                if name.startswith(prefix) and not (name.endswith(COUNT) and value.is_floating_point())
            }
            yield TensorGroup(key, prefix, below, tuple(name for name in state if not name.startswith(prefix)))


def converted(candidate: TensorGroup, convert: Convert, own: StateDict) -> TensorGroup | None:
    """What a converter makes of it; None where it makes nothing new or can't read it."""
    try:
        conversion = traced(convert, candidate.state)
    except Exception:  # a file that it was not written for is judged as it is
        return None
    if not conversion.state:
        return None
    sources, used = conversion.sources, frozenset().union(*conversion.sources.values())
    resampled = {}
    for name in own.keys() & sources.keys() if conversion.resampled else ():
        shapes = [candidate.state[source].shape for source in sorted(sources[name] or own.keys() & {name})]
        if own[name].numel() != sum(shape.numel() for shape in shapes):
            resampled[name] = shapes[0]
    return TensorGroup(
        candidate.key,
        candidate.prefix,
        conversion.state,
        (*candidate.dropped, *(candidate.prefix + name for name in candidate.state if name not in used)),
        frozenset(name for name in sources if not sources[name]),
        resampled,
    )
