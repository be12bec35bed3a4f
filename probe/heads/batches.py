"""What a batch sampler is: the contract that the files balanced.py and categories.py fulfil."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable


@runtime_checkable
class BatchSampler(Protocol):
    """The batches of one epoch. A sampler has no state: iterated again, it gives the same batches again.

    So an epoch is known from the seed and its number alone, and training that was killed goes on where it was.
    """

    def __len__(self) -> int:
        """How many batches there are."""
        ...

    def __iter__(self) -> Iterator[list[int]]:
        """Each batch as rows of what is sampled. A row stands in it more than once only where its label has too few."""
        ...


Seed = int | tuple[int, ...]  # as numpy's default_rng takes it: (seed, epoch), say
