"""From a classifier's answers to the numbers of a run, each with its interval or with the reason why it has none."""

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int64, Num, Shaped

from bb.probe.statistics import multilabel, regression
from bb.probe.statistics.multiclass import calibration
from bb.probe.statistics.multiclass import metrics as multiclass
from bb.probe.statistics.multiclass.intervals import MetricEstimate, estimate
from bb.probe.statistics.multiclass.predictions import Predictions
from bb.probe.tasks.fold import UNSEEN, Split, TaskImages
from bb.store.errors import BBError
from bb.store.format.collection import some
from bb.store.text.lookalike import shown

SKEWED = 2 / 3  # a larger share of one class makes accuracy a poor number
MAIN = {"traits": "macro_f1", "values": "r2"}


@dataclass(frozen=True, eq=False)
class Answers:
    """What was predicted for the test images of one task, on one side or over all folds.

    rows           places of the images in `task`
    predicted      classes: (n,) int64; traits: (n, t); values: (n,) float64
    decision       (n, classes) or (n, traits), higher is likelier; of classes without probabilities also (n,), of those
                   predicted; None for values
    probabilities  (n, classes), None where the classifier gives none
    fold           which fitted model answered; None where one answered all
    unscored       (n, traits), which answers there are none of, as training had one value of the trait alone
    no_interval    why no interval may be stated
    """

    side: str
    task: TaskImages
    rows: Int64[np.ndarray, " n"]
    predicted: Num[np.ndarray, "n ..."]
    decision: Float64[np.ndarray, "n ..."] | None
    probabilities: Float64[np.ndarray, "n k"] | None
    fold: Int64[np.ndarray, " n"] | None = None
    no_interval: str | None = None
    unscored: Bool[np.ndarray, "n t"] | None = None

    @classmethod
    def join(cls, folds: Sequence["Answers"], split: Split, *, fitted: bool = True) -> "Answers":
        """The answers of all folds as one, with probabilities that the other folds' answers calibrate.

        fitted  whether the folds' classifiers differ; else one answered all, and its probabilities stay
        """
        rows, predicted, decision, given = (
            None if getattr(folds[0], name) is None else np.concatenate([getattr(each, name) for each in folds])
            for name in ("rows", "predicted", "decision", "probabilities")
        )
        fold = np.repeat(np.arange(len(folds)), [len(each.rows) for each in folds])
        assert rows is not None and predicted is not None
        task = split.task
        if fitted and given is not None and decision is not None and len(folds) > 1:
            given = calibration.calibrated(decision, task.y[rows], fold)
        which = fold if fitted else None
        unscored = None
        if any(each.unscored is not None for each in folds):
            unscored = np.concatenate(
                [np.zeros(each.predicted.shape, bool) if each.unscored is None else each.unscored for each in folds]
            )
        return cls(f"{len(folds)} folds", task, rows, predicted, decision, given, which, split.no_interval, unscored)

    @property
    def y(self) -> Shaped[np.ndarray, "n ..."]:
        """As in TaskImages; UNSEEN of traits that are not scored."""
        y = self.task.y[self.rows]
        return y if self.unscored is None else np.where(self.unscored, np.int8(UNSEEN), y)

    @property
    def group(self) -> Int64[np.ndarray, " n"] | None:
        return None if self.task.group is None else self.task.group[self.rows]

    def without(self, leaked: Container[tuple[str, str]]) -> "Answers | None":
        """Those of images that no training image equals; None where there are no others."""
        ids = self.task.ids[self.rows].tolist()
        kept = np.array([(self.task.name, image_id) not in leaked for image_id in ids])
        if not kept.any():
            return None
        parts = {
            name: None if (value := getattr(self, name)) is None else value[kept]
            for name in ("rows", "predicted", "decision", "probabilities", "fold", "unscored")
        }
        return replace(self, **parts)  # type: ignore[arg-type]

    def predictions(self) -> Predictions:
        """Of classes. Errors: BBError for probabilities that are none."""
        classes = len(self.task.classes)
        return Predictions(self.y, self.predicted, classes, self.probabilities, self.group, self.fold)

    def constant_notes(self) -> list[str]:
        """Where all test images get one answer, though several would be right."""
        n, where = len(self.rows), f"on the side {self.side!r}"
        if self.task.target == "traits":
            known = [(self.y[:, t] != UNSEEN, t) for t in range(self.y.shape[1])]
            same = [t for seen, t in known if _is_one(self.predicted[seen, t]) and not _is_one(self.y[seen, t])]
            names = some([self.task.classes[t] for t in same])
            if not same:
                return []
            return [f"all test images get the same answer {where} for {len(same)} of {len(known)} traits: {names}"]
        if not _is_one(self.predicted) or _is_one(self.y):
            return []
        if self.task.target == "values":
            return [f"all {n} test images get the same value {where}, {self.predicted[0]:.4g}"]
        several = len(np.unique(self.y))
        name = self.task.classes[int(self.predicted[0])]
        return [f"all {n} test images get the same answer {where}, {name!r}, but are of {several} classes"]

    def frame(self) -> pl.DataFrame:
        """A row for each image (of traits one for each image and known trait), as predictions.parquet has it."""
        ids, names = self.task.ids[self.rows], np.array(self.task.classes or [""])
        task = np.full(len(ids), self.task.name)
        y, predicted = self.y, self.predicted
        if self.task.target == "traits":
            row, trait = np.nonzero(y != UNSEEN)
            assert self.decision is not None
            decision = self.decision[row, trait]
            task = np.char.add(f"{self.task.name}:", names[trait])
            ids, y, predicted = ids[row], y[row, trait], predicted[row, trait]
            score = (y == predicted).astype(np.float32)
        elif self.task.target == "classes":
            assert self.decision is not None
            decision = self.decision if self.decision.ndim == 1 else self.decision[np.arange(len(ids)), predicted]
            score = (y == predicted).astype(np.float32)
        else:
            decision, score = predicted, -np.abs(y - predicted).astype(np.float32)
        certain = None
        if self.probabilities is not None:
            certain = self.probabilities[np.arange(len(self.rows)), self.predicted].tolist()
        nothing = [None] * len(ids)
        grouped = self.group is not None and len(self.group) == len(ids)
        return pl.DataFrame(
            {
                "task": task,
                "cluster": [self.side] * len(ids),
                "subcluster": pl.Series(nothing, dtype=pl.String),
                "image_id": ids,
                "y_true": y.astype(np.float64),
                "y_pred": predicted.astype(np.float64),
                "decision": np.asarray(decision, np.float64),
                "score": score,
                "probability": pl.Series(certain or nothing, dtype=pl.Float64),
                "group": pl.Series(self.group if grouped else nothing, dtype=pl.Int64),
            }
        )


def unscored_notes(folds: Sequence[Answers]) -> list[str]:
    """Which traits are not scored in which of a split's folds. Errors: BBError where none is scored in any."""
    traits = folds[0].task.classes
    if folds[0].task.target != "traits":
        return []
    none = np.zeros(len(traits), bool)
    left_out = [none if each.unscored is None else np.any(each.unscored, axis=0) for each in folds]
    if np.all(left_out):
        raise BBError(
            f"task {folds[0].task.name!r}: no trait has training images with 0 and training images with 1. Label more "
            "images, or split them otherwise."
        )
    notes = []
    for trait, name in enumerate(traits):
        where = [each for each, alone in zip(folds, np.array(left_out), strict=True) if alone[trait]]
        alike = "training images that are labelled for it all have the same value"
        if len(where) == len(folds):
            notes.append(f"trait {shown(name)} is not scored: {alike}")
        elif where:
            sides, images = ", ".join(each.side for each in where), sum(len(each.rows) for each in where)
            notes.append(
                f"trait {shown(name)} is not scored in {sides}, where {alike}: {images} test images count neither for "
                "it nor for the exact match"
            )
    return notes


def score(
    answers: Sequence[Answers],
    main: str | None = None,
    more: Callable[[Answers], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """JSON-ready. `more` gives further metrics, and what they are made of, of each side.

    main     the metric that comes first: a protocol's, which is given; else accuracy, or balanced accuracy where one
             class is more than two thirds of a task's test images; macro-F1 of traits; R² of numbers
    mean     its mean over tasks and sides
    n        test images, chance and majority (of classes): means over tasks and sides
    tasks    task → side → metric → value, low, high, claim, reason; low and high are null where no interval holds, and
             `reason` says why
    """
    target = answers[0].task.target
    main = main or MAIN.get(target) or ("balanced_accuracy" if any(map(_is_skewed, answers)) else "accuracy")
    tasks: dict[str, dict[str, Any]] = {}
    for answer in answers:
        tasks.setdefault(answer.task.name, {})[answer.side] = _side(answer, more(answer) if more else {})
    sides = [side for each in tasks.values() for side in each.values()]

    def mean(name: str) -> float | None:
        values = [side[name] for side in sides if side.get(name) is not None]
        return float(np.mean(values)) if values else None

    values = [v for side in sides if (v := side["metrics"][main]["value"]) is not None]
    return {
        "main": main,
        "mean": float(np.mean(values)) if values else None,
        "n": sum(side["n"] for side in sides),
        "chance": mean("chance"),
        "majority": mean("majority"),
        "tasks": tasks,
    }


def _is_one(values: Num[np.ndarray, " n"]) -> bool:
    """Whether all are equal; not of none."""
    return len(values) > 0 and bool((values == values[0]).all())


def _is_skewed(answer: Answers) -> bool:
    if answer.task.target != "classes":
        return False
    return bool(np.bincount(answer.y).max() > SKEWED * len(answer.y))


def _side(answer: Answers, more: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of one task's test images."""
    record: dict[str, Any] = {"n": len(answer.rows), "target": answer.task.target}
    if answer.group is not None:
        record["groups"] = len(np.unique(answer.group))
    found: list[MetricEstimate]
    if answer.task.target == "classes":
        p = answer.predictions()
        found = [
            estimate(p, metric)
            for metric in multiclass.METRICS.values()
            if not metric.needs_probabilities or p.probabilities is not None
        ]
        record |= {"classes": len(answer.task.classes), "chance": 1 / p.classes, "majority": multiclass.majority(p)}
    elif answer.task.target == "values":
        y = answer.y.astype(np.float64)
        found = [
            regression.estimate(y, answer.predicted, metric, group=answer.group, fold=answer.fold)
            for metric in regression.METRICS.values()
        ]
    else:
        traits = _traits(answer)
        found = [multilabel.estimate(traits, metric) for metric in multilabel.METRICS.values()]
    record["metrics"] = {each.metric: _plain(each, answer.no_interval) for each in found}
    return {**record, **more, "metrics": {**record["metrics"], **more.get("metrics", {})}}


def _traits(answer: Answers) -> multilabel.Traits:
    known = answer.y != UNSEEN
    return multilabel.Traits(
        answer.y > 0,
        answer.predicted.astype(bool),
        answer.decision,
        answer.group,
        None if known.all() else known,
        answer.fold,
    )


def _plain(found: MetricEstimate, no_interval: str | None) -> dict[str, Any]:
    has_value = math.isfinite(found.value)
    low, high = found.interval if found.interval and not no_interval else (None, None)
    return {
        "value": found.value if has_value else None,
        "low": low,
        "high": high,
        "claim": found.claim,
        "reason": no_interval if no_interval and has_value else found.reason,
    }
