"""Which networks work together: as many as there is memory for share each image's reading and decoding."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import cast

from torch import nn

from bb.extract.backbones.name import BackboneName
from bb.extract.pipeline.extractor import Extractor


def group_by_memory(
    names: Iterable[BackboneName],
    load: Callable[[BackboneName], Extractor | None],
    memory: int | None = None,
    processes: int = 1,
) -> Iterator[list[Extractor]]:
    """Loads networks in order and yields them in groups, whose weights take no more than a share of the memory.

    memory     by default half of the machine's; a network larger than its share is a group of its own
    processes  which share that memory, since each holds the whole group

    What `load` gives None for is left out.

    A group is emptied before more is loaded for the next, so that its memory is free then. Two names of one feature
    space are never in one group, since the second finds everything done by the first.
    """
    memory = (memory or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2) // processes
    group: list[Extractor] = []
    for name in names:
        if (extractor := load(name)) is None:
            continue
        keys = {space.key for each in group for space in each.spaces}
        known = any(space.key in keys for space in extractor.spaces)
        if group and (known or sum(map(weight_bytes, [*group, extractor])) > memory):
            yield group
            group.clear()
        group.append(extractor)
    if group:
        yield group


def weight_bytes(extractor: Extractor) -> int:
    """What the network's weights take in memory."""
    state = cast(nn.Module, extractor.backbone).state_dict().values()
    return sum(tensor.numel() * tensor.element_size() for tensor in state)
