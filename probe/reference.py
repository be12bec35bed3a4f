"""A published table, to be laid beside ours: columns task (or the family, as "newt"), ckpt and score."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from store.errors import BBError, UsageError

COLUMNS = ("task", "ckpt", "score")


@dataclass(frozen=True)
class Reference:
    """name of the file; scores by backbone and task."""

    name: str
    scores: Mapping[str, Mapping[str, float]]

    def scores_of(self, backbones: Sequence[str], label: str) -> Mapping[str, float]:
        """By task: of a row by its label, or by a backbone's name; empty where there are none."""
        return next((self.scores[name] for name in (label, *backbones) if name in self.scores), {})

    def unknown_tasks(self, tasks: Sequence[str]) -> list[str]:
        """Tasks of the table that are none of ours."""
        return sorted({task for by_task in self.scores.values() for task in by_task} - set(tasks))


def read_reference(path: Path, canonical: Callable[[str], str] = lambda name: name) -> Reference:
    """Reads a CSV file. `canonical` makes of a backbone's name in it the one that runs have.

    Errors: UsageError where there is no such file, BBError naming the line where it has other columns, a score that is
    no number from 0 to 1, or a (task, ckpt) twice.
    """
    if not path.is_file():
        raise UsageError(f"--reference {path}: there is no such file. It has the columns {', '.join(COLUMNS)}.")
    try:
        table = pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BBError(f"{path} can't be read as CSV: {str(error).splitlines()[0]}.") from None
    absent = [column for column in COLUMNS if column not in table.columns]
    if absent:
        raise BBError(
            f"{path} lacks the column{'s' * (len(absent) > 1)} {', '.join(absent)}; it has {', '.join(table.columns)}. "
            f"A reference has {', '.join(COLUMNS)}."
        )
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for line, (task, ckpt, score) in enumerate(table.select(COLUMNS).iter_rows(), 2):
        if not task or not ckpt:
            raise BBError(f"{path}, line {line}: every row needs a task and a ckpt.")
        name, value = canonical(ckpt), _number(score)
        if value is None:
            raise BBError(f"{path}, line {line}: the score {score!r} is no number from 0 to 1.")
        if task in scores[name]:
            raise BBError(f"{path}, line {line}: {ckpt} has a score for task {task!r} already; keep one of the rows.")
        scores[name][task] = value
    return Reference(path.name, dict(scores))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None
