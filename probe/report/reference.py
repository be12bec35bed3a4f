"""A published table, shown next to bb's scores, and what keeps one of its scores from comparing with one of ours.

Columns task (or the family, as "newt"), ckpt and score; protocol and n_train, if present, say how it was made.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from bb.probe.classifiers.protocol import PROTOCOLS, kind_of
from bb.probe.report.provenance import Origin
from bb.probe.tables.table_file import LINE, read_table_file
from bb.probe.tasks.few_shot import NTrain, parse_n_train
from bb.probe.tasks.newt import N_TASKS
from bb.store.errors import BBError, UsageError

COLUMNS = ("task", "ckpt", "score")
OPTIONAL = ("protocol", "n_train")
FAMILY_TASKS = {"newt": N_TASKS}
# What biobench takes of a timm network: the first prefix token, or the maximum over the map or the tokens
# (img_encode of Timm in src/biobench/third_party_models.py).
BIOBENCH_POOLING = ("cls", "max")


class ReferenceScore(NamedTuple):
    """A score with how it was made; None where the table does not say."""

    score: float
    protocol: str | None = None
    n_train: NTrain | None = None

    def obstacles(self, origin: Origin, metric: str) -> tuple[str, ...]:
        """Why the score does not compare with one of that origin; empty where nothing is known against it."""
        unstated = [name for name in OPTIONAL if getattr(self, name) is None]
        found = [f"it does not state {' and '.join(unstated)}"] if unstated else []
        if self.protocol not in (None, origin.protocol):
            found.append(f"its protocol is {self.protocol}, ours {origin.protocol}")
        if self.n_train not in (None, origin.n_train):
            found.append(f"its n_train is {self.n_train}, ours {origin.n_train}")
        elif isinstance(self.n_train, int):
            found.append("its training images are another draw")
        if self.protocol == origin.protocol and self.n_train == origin.n_train and self.n_train is not None:
            usual = kind_of(PROTOCOLS[origin.protocol].classifier(origin.n_train))
            if origin.classifier != usual:
                found.append(f"its classifier is the protocol's ({usual}), ours {origin.classifier}")
        of_timm = any(name.startswith("timm:") for name in origin.backbones)
        if self.protocol == "biobench" and of_timm and origin.pooling not in BIOBENCH_POOLING:
            ours = f"pooling is {origin.pooling}" if origin.pooling else "runs do not record the pooling"
            found.append(f"biobench takes a class token or the maximum of a timm network, our {ours}")
        if metric != "accuracy":
            found.append(f"it is taken for accuracy, ours is {metric.replace('_', ' ')}")
        return tuple(found)


@dataclass(frozen=True)
class Reference:
    """name of the file; scores by backbone and task."""

    name: str
    scores: Mapping[str, Mapping[str, ReferenceScore]]

    def scores_of(self, backbones: Sequence[str], labels: Sequence[str]) -> Mapping[str, ReferenceScore]:
        """By task: of a row by its label, or by a backbone's name; empty where there are none."""
        return next((self.scores[name] for name in (*labels, *backbones) if name in self.scores), {})

    def unknown_tasks(self, tasks: Sequence[str]) -> list[str]:
        """Tasks of the table that are none of ours."""
        return sorted({task for by_task in self.scores.values() for task in by_task} - set(tasks))


def read_reference(path: Path, canonical: Callable[[str], str] = lambda name: name) -> Reference:
    """Reads a CSV or Parquet file. `canonical` turns a backbone's name in it into the one that runs have.

    Errors: UsageError where there is no such file or it does not have a column, BBError naming the line of a score
    that is not a number from 0 to 1, or of a (task, ckpt) twice.
    """
    what = f"--reference {path}: the file does not exist. It has the columns {', '.join(COLUMNS)}."
    remedy, columns = f"A reference has {', '.join(COLUMNS)}.", (*COLUMNS, *OPTIONAL)
    table = read_table_file(path, what=what, columns=columns, remedy=remedy)
    table.require(COLUMNS, remedy)
    scores: dict[str, dict[str, ReferenceScore]] = defaultdict(dict)
    there = [column for column in OPTIONAL if column in table.columns]
    optional = [pl.col(c) if c in there else pl.lit(None).alias(c) for c in OPTIONAL]
    known = table.select(optional=[*COLUMNS, *there]).frame.with_columns(table.frame["score"])  # as written
    stated = known.select(LINE, *COLUMNS, *optional)
    for line, task, ckpt, score, protocol, n_train in stated.iter_rows():
        if not task or not ckpt:
            raise BBError(f"{path}, line {line}: every row needs a task and a ckpt.")
        name, value = canonical(ckpt), table.share(score)
        if value is None:
            raise BBError(f"{path}, line {line}: the score {score!r} is not a number from 0 to 1.")
        if task in scores[name]:
            raise BBError(f"{path}, line {line}: {ckpt} has a score for task {task!r} already; keep one of the rows.")
        try:
            scores[name][task] = ReferenceScore(value, protocol or None, parse_n_train(n_train) if n_train else None)
        except UsageError:
            raise BBError(
                f"{path}, line {line}: the n_train {n_train!r} is neither all nor a number from 2 up."
            ) from None
    return Reference(path.name, dict(scores))
