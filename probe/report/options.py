"""What is asked of the runs when they are reported."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from bb.probe.report.leaderboard import Kind, size
from bb.probe.report.reference import Reference
from bb.probe.statistics.bootstrap import Average, Level
from bb.probe.statistics.comparison import Correction
from bb.probe.statistics.metrics import METRICS
from bb.probe.tasks.few_shot import NTrain, listed
from bb.store.arguments import parse_arguments
from bb.store.errors import UsageError
from bb.store.local.runs import Run

Sort = NTrain | Literal["score", "name"]


@dataclass(frozen=True)
class ReportOptions:
    """Everything has an answer of its own if it is left out.

    metric     one of METRICS; "auto" is accuracy, or balanced accuracy where classes are too uneven for it
    average    over "images" or "tasks"; images for accuracy, tasks for the others if None
    over       what the intervals are for further ones of: "images", "draws", "tasks"
    baseline   a row's label or backbone, which the others are compared with
    groups     of a collection's name: the group of each test image, where groups are drawn; units: what they are
    kinds      the splits of each score that are wanted; details: hardest images and sources of variance too
    n_train    the columns; all if empty
    sort       "score" is that of the last column; one of the columns, or "name"
    reference  a published table to compare with
    """

    metric: str = "auto"
    average: Average | None = None
    over: Level = "images"
    baseline: str | None = None
    correction: Correction = "holm"
    groups: Callable[[str], Mapping[str, str]] | None = None
    units: str = "test images"
    kinds: tuple[Kind, ...] = ()
    details: bool = False
    n_train: tuple[NTrain, ...] = ()
    sort: Sort = "score"
    reference: Reference | None = None
    resamples: int = 10_000

    @classmethod
    def parse(cls, **given: Any) -> "ReportOptions":
        """Of fields as they are typed or given from Python. Errors: UsageError for what they do not take."""
        if "kinds" in given:
            given["kinds"] = tuple(listed(given["kinds"]))
        for name, option, known in (
            ("average", "--average", get_args(Average)), ("over", "--over", get_args(Level)),
            ("correction", "--correction", get_args(Correction)), ("kinds", "--by", get_args(Kind)),
        ):  # fmt: skip
            for word in listed(given.get(name) or ()):
                if word not in known:
                    raise UsageError(f"{option} {word} is unknown: choose {', '.join(known)}.")
        options = parse_arguments(cls)(**given)
        if options.resamples < 1:
            raise UsageError(f"resamples={options.resamples} makes no sense: choose 1 or more, such as 10000.")
        return options

    def check(self, runs: Sequence[Run]) -> None:
        """Errors: UsageError where no run is of what is asked for."""
        if self.metric not in ("auto", *METRICS):
            raise UsageError(f"no metric is called {self.metric!r}: choose {', '.join(METRICS)}.")
        shots = sorted({run.record["n_train"] for run in runs}, key=size)
        there = ", ".join(map(str, shots))
        for n in self.n_train:
            if n not in shots:
                raise UsageError(f"found no runs at n_train {n}: choose from {there}.")
        shown = self.n_train or tuple(shots)
        if self.sort not in ("score", "name") and self.sort not in shown:
            raise UsageError(
                f"--sort {self.sort} is not a column: write score, name, or one of {', '.join(map(str, shown))}."
            )
        names = sorted({name for run in runs for name in run.record["backbones"]})
        if self.baseline is not None and not any(self.baseline.startswith(name) for name in names):
            raise UsageError(f"--baseline {self.baseline} has no runs: there are those of {', '.join(names)}.")
