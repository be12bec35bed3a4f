"""What can be frozen: kept as it is while something else is trained."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Freezable(Protocol):
    """Both may be called at any time, and twice in a row."""

    def freeze(self) -> None:
        """From now on no parameter asks for a gradient."""
        ...

    def unfreeze(self) -> None:
        """From now on every parameter does."""
        ...
