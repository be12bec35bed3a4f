"""What is said of runs of every kind, those that were there and those computed now."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bb.store.text.size import counted

if TYPE_CHECKING:
    from bb.store.local.runs import Run


def runs_text(runs: "Iterable[Run]", fresh: "Iterable[str]") -> str:
    """How many runs were computed, by their IDs, and how many were there: what was asked for twice is one."""
    made = set(fresh)
    there = {run.run_id for run in runs} - made
    return f"{counted(len(made), 'run')} computed, {len(there)} were there"


def when_made(run: "Run", fresh: bool) -> str:
    """What a table says of a run that was there before."""
    from bb.store.local.tier import Tier

    return "" if fresh else "was there" if run.tier < Tier.OTHER else "was there, origin unknown"
