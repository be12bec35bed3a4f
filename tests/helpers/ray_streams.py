"""What the streams of tests/e2e/test_ray.py do on workers, which import it from here."""

import os
from pathlib import Path

from bb.store import BBError


class Sum:
    """A sink that adds up; what it can't take tells whoever waits."""

    def __init__(self, die: Path | None = None) -> None:
        self.total, self.die = 0, die

    def take(self, load):
        if self.die and not self.die.exists():
            self.die.touch()
            os._exit(1)
        if load < 0:
            raise BBError(f"{load} is negative")
        self.total += load
        return 1

    def close(self):
        return {"total": self.total}


def double(item):
    return 2 * item


def deadly(item):
    """Ends the worker that prepares 13, each time."""
    if item == 13:
        os._exit(1)
    return 2 * item


def unable(item):
    raise ModuleNotFoundError("No module named 'lacking'")
