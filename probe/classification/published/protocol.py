"""The contract of a published protocol: all that decides a score apart from the features, with where it was published.

A protocol is one record in a file of this folder and one line of registry.py; a plug-in's entry point in the group
`bb.protocols` comes in by the same registry. A replica repeats its source, faults included, so that a score can stand
next to the published one; what the source does otherwise than bb is said in `faults` and `differs`, which go into each
run and onto each board.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Int64

from bb.probe.classification.published.registry import PROTOCOLS
from bb.probe.tasks.few_shot import check_seed, listed
from bb.probe.tasks.fold import Fold, Shots, Split, parse_shots
from bb.probe.tasks.task_table import Target
from bb.store.errors import UsageError

# From a fold, shots and a seed to the fold that is fitted: its rows in the order fitted, and in `val` the rows that
# the classifier's parameters are chosen on. It depends on nothing else.
Draw: TypeAlias = Callable[[Fold, Shots, int], Fold]
Settings: TypeAlias = Mapping[str, Mapping[str, Any]]

NONE: Int64[np.ndarray, " 0"] = np.empty(0, np.int64)


def whole(fold: Fold, shots: Shots, seed: int) -> Fold:
    """All training rows in the order of their image IDs; validation rows are left out."""
    return replace(fold, val=NONE)


def one_setting(shots: Shots) -> Settings:
    """The classifier's `parameters` alone."""
    return {"": {}}


@dataclass(frozen=True)
class PublishedProtocol:
    """One protocol.

    title       what it is, in a line
    source      the repository's file and commit, or date, that it repeats
    paper       whose tables it belongs to
    tables      the published tables, each with what its scores are of
    classifier  a name of bb.classifiers, and `parameters` that differ from its defaults
    selection   how C, l2 or the like are chosen, in words
    preprocessing  a name of bb.probe.classifiers.preprocess
    metric      the headline's name
    shots, seeds  the published grid: a run for each pair; the headline is the mean over seeds
    any_shots   whether the source takes any number of shots, and any seed with it
    draw        training and validation rows of each run
    settings    by name, parameters in which runs of the same draw differ; one without a name if there is one alone
    seeded      the classifier's parameter that takes the run's seed
    pool        "split": the table's split, or folds, say what is tested. "all": the protocol draws that, too
    pool_group  how the images of a group are pooled to one, as `--pool-group` has it
    replica     whether it repeats its source, faults included; False for bb's corrected version of one
    faults      of the source, that a replica keeps
    differs     why a score may still differ from the published one
    """

    name: str
    title: str
    source: str
    paper: str
    tables: tuple[str, ...]
    classifier: str
    selection: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: str = "none"
    metric: str = "accuracy"
    target: Target = "classes"
    shots: tuple[Shots, ...] = ("all",)
    seeds: tuple[int, ...] = (0,)
    any_shots: bool = False
    draw: Draw = whole
    settings: Callable[[Shots], Settings] = one_setting
    seeded: str | None = None
    pool: Literal["split", "all"] = "split"
    pool_group: str | None = None
    replica: bool = True
    faults: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()

    def grid(self, shots: Sequence[Shots] | None, seeds: Sequence[int] | None) -> list[tuple[Shots, int, str]]:
        """Shots, seed and setting of each run. Errors: UsageError for those that it doesn't have."""
        asked = list(dict.fromkeys(map(parse_shots, self.shots if shots is None else shots)))
        drawn = list(dict.fromkeys(self.seeds if seeds is None else seeds))
        for option, values, known in (("--shots", asked, self.shots), ("--seed", drawn, self.seeds)):
            if not self.any_shots and (other := [str(value) for value in values if value not in known]):
                raise UsageError(
                    f"{option} {','.join(other)} is not part of the protocol {self.name}, which has "
                    f"{','.join(map(str, known))}. Choose of these, or leave {option} out."
                )
        for seed in drawn:
            check_seed(seed)
        return [(n, seed, name) for n in asked for seed in drawn for name in self.settings(n)]

    def parameters_of(self, shots: Shots, seed: int, setting: str) -> dict[str, Any]:
        """The classifier's parameters for one run."""
        seeded = {self.seeded: seed} if self.seeded else {}
        return {**self.parameters, **seeded, **self.settings(shots)[setting]}

    def draw_split(self, split: Split, shots: Shots, seed: int) -> Split:
        """The split with what is fitted and tested. Errors: BBError where classes have too few images."""
        return replace(split, folds=tuple(self.draw(fold, shots, seed) for fold in split.folds))

    def record(self, setting: str = "") -> dict[str, Any]:
        """What a run keeps of it, JSON-ready."""
        kept = ("name", "title", "source", "metric", "shots", "seeds", "replica", "faults", "differs")
        return {
            **{name: list(value) if isinstance(value, tuple) else value for name in kept
               if (value := getattr(self, name)) is not None},
            "setting": setting,
        }  # fmt: skip


def parse_protocol(name: str) -> PublishedProtocol:
    """A protocol by its name. Errors: UsageError, which says where NeWT's two are; PluginError."""
    if name in ("biobench", "newt2021"):
        raise UsageError(
            f"--protocol {name} scores NeWT's tasks of two classes: run `bb probe newt --protocol {name}`. "
            f"`bb probe classify` has {', '.join(PROTOCOLS)}."
        )
    protocol: PublishedProtocol = PROTOCOLS.load(name)
    return protocol


def check_options(protocol: PublishedProtocol, given: Mapping[str, Any]) -> None:
    """Errors: UsageError naming the first option that is given and that the protocol decides."""
    for option, value in given.items():
        if value:
            text = "" if value is True else f" {','.join(map(str, listed(value)))}"
            raise UsageError(
                f"{option}{text} contradicts --protocol {protocol.name}, which decides that: leave one of them out."
            )
