"""How uneven the classes of a table's tasks are, and which models do no more than name one class."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from bb.probe.statistics.bootstrap import Average
from bb.probe.statistics.predictions import Table

UNEVEN = 2 / 3  # what naming the commonest class scores above which accuracy misleads
MOST_NOTES = 10


def majority(table: Table, average: Average) -> float:
    """The accuracy of always naming each task's commonest class; tasks of one class are left out where others are."""
    shares = [np.unique(table.y_true[table.of_task(t)], return_counts=True)[1] for t in range(len(table.tasks))]
    several = [counts for counts in shares if len(counts) > 1] or shares
    weights = [counts.sum() if average == "images" else 1 for counts in several]
    return float(np.average([counts.max() / counts.sum() for counts in several], weights=weights))


def is_uneven(table: Table) -> bool:
    """Whether balanced accuracy says more: some task has several classes, and the commonest is right above UNEVEN."""
    several = any(len(np.unique(table.y_true[table.of_task(t)])) > 1 for t in range(len(table.tasks)))
    return several and majority(table, "tasks") > UNEVEN


def constant_notes(table: Table, names: Sequence[str]) -> list[str]:
    """A note on each model that gives all images of a task the same answer, where they have several classes."""
    notes = list(_constant_notes(table, names))
    more = len(notes) - MOST_NOTES
    return notes if more <= 0 else [*notes[:MOST_NOTES], f"{more} more backbones name one class alone in some tasks"]


def _constant_notes(table: Table, names: Sequence[str]) -> Iterator[str]:
    tasks = [t for t in range(len(table.tasks)) if len(np.unique(table.y_true[table.of_task(t)])) > 1]
    for model, name in enumerate(names):
        columns = table.columns_of(model)
        named = Counter[int]()
        for task in tasks:
            answers = table.fields["y_pred"][columns, table.of_task(task)]
            named.update(answers[(answers == answers[:, :1]).all(axis=1), 0].tolist())
        if not named:
            continue
        what = f"always says {next(iter(named))}" if len(named) == 1 else "says one class alone"
        of = f"{len(tasks)} task{'s' * (len(tasks) != 1)}"
        of = f"{len(tasks) * len(columns)} draws of {of}" if len(columns) > 1 else of
        yield f"{name} {what} in {named.total()} of {of}"
