"""What a report says, and all that is ever shown of it: boards of rows of cells, each with its figures and origin."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from bb.probe.classifiers.protocol import kind_of, parse_protocol
from bb.probe.features.extraction import Cost
from bb.probe.report.provenance import Origin
from bb.probe.statistics.leaders import Lead
from bb.probe.tasks.few_shot import NTrain

Kind = Literal["cluster", "subcluster", "task"]
KINDS: tuple[Kind, ...] = ("cluster", "subcluster", "task")


class Estimate(NamedTuple):
    """A score with its 95% interval; NaN where there is none.

    holds        whether the interval held the score before it was extended to it
    no_interval  why there is no interval; empty where there is
    """

    mean: float
    low: float
    high: float
    holds: bool = True
    no_interval: str = ""

    @property
    def ends(self) -> tuple[float, float]:
        """The interval's, or the score twice where there is none."""
        return (self.mean, self.mean) if self.no_interval else (self.low, self.high)


class Delta(NamedTuple):
    """How much better than the baseline at the same n_train. `p` is corrected for all such differences on the board."""

    difference: float
    low: float
    high: float
    p: float


class Rank(NamedTuple):
    """The rank among the backbones at the same n_train, 1 the best; its interval holds for all of them together at 95%.

    None where there is no interval.
    """

    rank: float
    low: int | None
    high: int | None


class PublishedScore(NamedTuple):
    """A published score and ours, of the whole family, or unweighted means over the `tasks` tasks that both have.

    obstacles  why the two do not compare; empty where they do, as far as both say how they were made
    """

    score: float
    mean: float
    tasks: int
    obstacles: tuple[str, ...] = ()

    @property
    def difference(self) -> float:
        """How much higher ours is."""
        return self.mean - self.score


@dataclass(frozen=True)
class LeaderboardCell:
    """One backbone at one n_train, averaged over its seeds.

    best      the highest score at this n_train; tied: not called different from that one
    group     letters: two cells of one n_train share one if they are not called different; empty where there are too
              many pairs to compare
    splits    the score in each cluster, subcluster ("cluster/subcluster") and task, as far as asked for
    leads     the clusters that it leads: "best" where every other backbone is called different, "tied" where it has the
              highest score or is not called different from that
    variance  shares of the variance of the mean over tasks: tasks, images, draws, rest; None where unknown
    """

    estimate: Estimate
    best: bool
    tied: bool
    group: str
    rank: Rank
    origin: Origin
    delta: Delta | None = None
    beside: PublishedScore | None = None
    splits: Mapping[Kind, Mapping[str, Estimate]] = field(default_factory=dict)
    leads: Mapping[str, Lead] = field(default_factory=dict)
    variance: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        return self.estimate.mean


@dataclass(frozen=True)
class LeaderboardRow:
    """One line of a board. `label` is the backbone, with what tells it from its namesakes; `space` the key."""

    label: str
    backbones: tuple[str, ...]
    space: str
    cells: Mapping[NTrain, LeaderboardCell]

    @property
    def cost(self) -> Cost:
        """Of an image, which is the same at every n_train."""
        return next(iter(self.cells.values())).origin.cost


class HardImage(NamedTuple):
    """A test image and the share of wrong answers it got: from all backbones, each averaged over its seeds.

    wrong_by_backbone  each backbone's own share, by the label of its row
    """

    image_id: str
    y_true: int
    wrong: float
    wrong_by_backbone: Mapping[str, float] = {}


@dataclass(frozen=True)
class Task:
    """A task and its hardest images, the hardest first, as far as asked for.

    class_names  of classes 0 and 1, where the labels name them
    """

    name: str
    cluster: str
    subcluster: str | None
    n: int
    hardest: tuple[HardImage, ...] = ()
    class_names: tuple[str, str] | None = None

    def class_name(self, y: int) -> str:
        """A class as people know it."""
        return self.class_names[y] if self.class_names and y in (0, 1) else f"class {y}"


@dataclass(frozen=True)
class Leaderboard:
    """Runs that may be compared: one task family, collection, protocol, test set and training pool.

    Rows are in the order asked for.

    test_set   digest of what the runs were tested on
    train_pool digest of the labelled images that training sets were drawn from; empty where runs do not record it
    labels     the name of the label table; None where it is the family's usual one
    metric     of what the scores are; average: over images or tasks; over: what was resampled
    chance     what guessing scores; None where that depends.  majority: what always naming each task's commonest class
               does; None of other metrics than accuracy
    n_images   distinct test images; units: what was drawn of them, if not each by itself
    baseline   the label of the row that others are compared with
    reference  the name of the file to compare with
    test       what the p-values are of
    hard_at    the n_train that the hardest images are reported for
    """

    tasks: str
    collection: str
    collection_digest: str
    protocol: str
    test_set: str
    train_pool: str
    labels: str | None
    metric: str
    average: str
    over: tuple[str, ...]
    correction: str
    test: str
    chance: float | None
    majority: float | None
    n_tasks: int
    n_images: int
    units: str
    columns: tuple[NTrain, ...]
    rows: tuple[LeaderboardRow, ...]
    task_list: tuple[Task, ...]
    hard_at: NTrain
    baseline: str | None
    reference: str | None
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.tasks} on {self.collection}" + (f", labels {self.labels}" if self.labels else "")

    @property
    def heads(self) -> dict[NTrain, str]:
        """The head of each column: n_train, and the classifier of the rows whose labels name none."""
        return {n: f"n_train {n} ({self.classifier(n)})" for n in self.columns}

    def classifier(self, n_train: NTrain) -> str:
        """The classifier in a column: the protocol's own, else those that its rows were made with."""
        found = sorted({row.cells[n_train].origin.classifier for row in self.rows if n_train in row.cells})
        usual = kind_of(parse_protocol(self.protocol).classifier(n_train))
        return usual if usual in found else " or ".join(found)

    @property
    def guesses(self) -> tuple[tuple[str, float], ...]:
        """What scores are to be held against: chance, and the commonest class where it is common enough to matter."""
        if self.chance is None:
            return ()
        common = self.majority is not None and self.majority >= self.chance + SAME_SHARES
        return ("chance", self.chance), *([("always the commonest class", float(self.majority or 0))] if common else [])

    @property
    def guessing(self) -> str:
        """The same in words."""
        return ", ".join(f"{words} {score:.3f}" for words, score in self.guesses)

    @property
    def claim(self) -> str:
        """What the scores are and what the intervals claim, in a line."""
        over = {
            ("images",): f"further {self.units}",
            ("draws", "images"): f"further draws of training images and further {self.units}",
            ("tasks", "images"): "further tasks like these",
        }[self.over]
        reasons = {cell.estimate.no_interval: None for row in self.rows for cell in row.cells.values()}
        why = "; ".join(filter(None, reasons))
        if why and "" not in reasons:
            return f"{self._mean}; no intervals ({why}) for {over}"
        return f"{self._mean}; 95% intervals{f' (some have none: {why})' if why else ''} for {over}"

    @property
    def split_claim(self) -> str:
        """The same of a cluster, subcluster or task."""
        return f"{self._mean}; 95% intervals for further {self.units}"

    @property
    def _mean(self) -> str:
        metric = METRIC_WORDS.get(self.metric, self.metric)
        return f"{metric}, mean over {'test images' if self.average == 'images' else 'tasks'}"

    def record(self) -> dict[str, Any]:
        """The board as a JSON object: what `--json` prints."""
        plain = {name: value for name, value in vars(self).items() if name not in ("rows", "task_list")}
        return _finite(
            {
                **plain,
                "rows": [
                    {
                        "backbone": row.label,
                        "space": row.space,
                        "cells": [_cell_record(n, cell) for n, cell in row.cells.items()],
                    }
                    for row in self.rows
                ],
                "task_list": [
                    {**vars(task), "hardest": [h._asdict() for h in task.hardest]} for task in self.task_list
                ],
            }
        )


SAME_SHARES = 0.005  # by which the commonest class has to be right more often than chance to be worth a word

METRIC_WORDS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "average_precision": "average precision",
    "auroc": "AUROC",
}


def size(n_train: NTrain) -> float:
    """The order of columns: "all" is the last."""
    return math.inf if n_train == "all" else float(n_train)


def _cell_record(n_train: NTrain, cell: LeaderboardCell) -> dict[str, Any]:
    return {
        "n_train": n_train,
        **cell.estimate._asdict(),
        "seeds": len(cell.origin.runs),
        "runs": [run.run_id for run in cell.origin.runs],
        "best": cell.best,
        "tied_with_best": cell.tied,
        "group": cell.group,
        "rank": cell.rank._asdict(),
        "delta": cell.delta and cell.delta._asdict(),
        "reference": cell.beside and {**cell.beside._asdict(), "difference": cell.beside.difference},
        "splits": {k: {name: e._asdict() for name, e in found.items()} for k, found in cell.splits.items()},
        "leads": dict(cell.leads),
        "variance": dict(cell.variance),
        "origin": asdict(cell.origin),
    }


def _finite(value: Any) -> Any:
    """NaN is null in JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
