"""What is asked of a run: classifier, preprocessing, shots and seed, or a protocol which decides them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bb.probe.classification.published.protocol import NONE, PublishedProtocol
from bb.probe.classifiers.estimator import Target, make
from bb.probe.classifiers.preprocess import PREPROCESSING
from bb.probe.tasks.few_shot import check_seed
from bb.probe.tasks.fold import Shots, Split, draw_shots
from bb.store.errors import UsageError

# What a classifier is published with; the others get NeWT's centred unit vectors.
USUAL = {
    "knn": "l2",
    "simpleshot": "none",
    "ridge": "standard",
    "linear-svc": "standard-l2",
    **dict.fromkeys(("linear-adamw", "attentive", "mlp-multilabel", "mahalanobis"), "none"),
}


def usual_preprocessing(classifier: str) -> str:
    """What `--preprocessing auto` is."""
    return USUAL.get(classifier, "center-l2")


def check_preprocessing(name: str) -> str:
    """Errors: UsageError for an unknown name."""
    if name not in ("auto", *PREPROCESSING):
        raise UsageError(f"--preprocessing {name!r} is unknown: choose auto, {', '.join(PREPROCESSING)}.")
    return name


@dataclass(frozen=True)
class Spec:
    """What is asked of a run apart from its inputs; `preprocessing` may be "auto".

    protocol, setting  the published protocol that decides the rest, and which of its settings
    poisonous  of an open set the classes that FungiCLEF's loss takes for poisonous; None where it isn't asked for
    given  for each task an estimator that needs no training image, as of zero-shot classification; then `classifier` is
           a name for people, and shots are 0
    facts  what the record of such a run also says
    """

    classifier: str
    preprocessing: str = "auto"
    shots: Shots = "all"
    seed: int = 0
    protocol: PublishedProtocol | None = None
    setting: str = ""
    poisonous: tuple[str, ...] | None = None
    given: Mapping[str, Any] = field(default_factory=dict, compare=False)
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Errors: UsageError for a seed that no report could read."""
        check_seed(self.seed)

    @classmethod
    def of(cls, protocol: PublishedProtocol, shots: Shots, seed: int, setting: str) -> "Spec":
        """One run of a protocol's grid."""
        return cls(protocol.classifier, protocol.preprocessing, shots, seed, protocol, setting)

    @property
    def how(self) -> str:
        return usual_preprocessing(self.classifier) if self.preprocessing == "auto" else self.preprocessing

    def estimator(self, target: Target, task: str = "") -> Any:
        """A new one, or the one given for a task. Errors: UsageError for a classifier that is unknown or can't fit the
        target.
        """
        if self.given:
            return self.given[task]
        chosen = self.protocol.parameters_of(self.shots, self.seed, self.setting) if self.protocol else None
        estimator = make(self.classifier, target, chosen)
        if not self.protocol and "seed" in getattr(estimator, "__dataclass_fields__", {}):
            estimator.seed = self.seed  # what draws random numbers, by the run's seed
        return estimator

    def draw(self, split: Split) -> Split:
        """The split with the training rows of this run."""
        if self.given:
            bare = tuple(replace(fold, train=NONE, val=NONE) for fold in split.folds)
            return replace(split, folds=bare, notes=())  # what they say is of training
        if self.protocol:
            return self.protocol.draw_split(split, self.shots, self.seed)
        folds = [draw_shots(fold, self.shots, self.seed) for fold in split.folds]
        unused = max(len(fold.val) for fold in folds)
        note = f"{unused} images of the validation side are not used: published protocols choose on them, bb on folds"
        notes = (*split.notes, note) if unused else split.notes
        return replace(split, folds=tuple(replace(fold, val=NONE) for fold in folds), notes=notes)
