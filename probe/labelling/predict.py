"""`bb.probe.predict`: a table of all images of a collection from the labels of some, and how far to trust it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64, Num

from bb.probe.classification.inputs import LabelledImages, labelled_images, space_name
from bb.probe.classification.run import check_preprocessing, usual_preprocessing
from bb.probe.features.missing import MissingPolicy
from bb.probe.labelling.abstention import Acceptance, accept
from bb.probe.labelling.cross_validation import Folds, Setting, cross_validated, fit, nested
from bb.probe.statistics.multiclass.by_class import OfClass, by_class
from bb.probe.statistics.multiclass.intervals import Estimate, estimate
from bb.probe.statistics.multiclass.metrics import METRICS
from bb.probe.statistics.multiclass.predictions import Predictions
from bb.probe.tables.html_table import html_table
from bb.probe.tasks.fold import Split
from bb.probe.tasks.splits import FOLDS, split_table
from bb.probe.tasks.task_table import TaskTable
from bb.store import Store
from bb.store.errors import BBError, UsageError
from bb.store.reporter import Reporter, Silent

BLOCK = 4096  # images at a time
SHOWN = 20  # rows in a notebook
COLUMNS = ("image_id", "label", "probability", "second", "second_probability", "accepted", "novelty")


@dataclass(frozen=True, eq=False, repr=False)
class Labelled:
    """What `predict` gives.

    frame        a row for each image: COLUMNS
    backbones    the candidates with their cross-validated accuracy, the best first; of an ensemble all are used
    accuracy     expected of further images like the labelled ones
    of_groups    expected of images of a further group; None where the table has no groups
    acceptance   at the target error
    classes      of each class how well it is found
    """

    frame: pl.DataFrame
    backbones: list[tuple[str, float]]
    setting: Setting
    labelled: int
    class_names: tuple[str, ...]
    accuracy: Estimate
    of_groups: Estimate | None
    target_error: float
    acceptance: Acceptance
    classes: list[OfClass]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Labelled({len(self.frame)} images from {self.labelled} labels, accuracy {self.accuracy.value:.3f})"

    def _repr_html_(self) -> str:
        return html_table(self.frame.head(SHOWN), repr(self))

    def record(self) -> dict[str, Any]:
        """The figures beside the table, JSON-ready."""
        return {
            "backbones": [{"name": name, "accuracy": score} for name, score in self.backbones],
            "classifier": self.setting.classifier,
            "preprocessing": self.setting.how,
            "labelled": self.labelled,
            "predicted": len(self.frame),
            "accuracy": _plain(self.accuracy),
            "accuracy_of_new_groups": _plain(self.of_groups) if self.of_groups else None,
            "target_error": self.target_error,
            "threshold": self.acceptance.threshold,
            "accepted": int(self.frame["accepted"].sum()),
            "error_of_accepted": self.acceptance.error,
            "error_of_accepted_interval": list(self.acceptance.interval) if self.acceptance.interval else None,
            "classes": [
                {
                    "class": self.class_names[c.label],
                    "images": c.n,
                    "recall": None if np.isnan(c.recall) else c.recall,
                    "recall_interval": list(c.recall_interval) if c.recall_interval else None,
                    "precision": None if np.isnan(c.precision) else c.precision,
                    "precision_interval": list(c.precision_interval) if c.precision_interval else None,
                }
                for c in self.classes
            ],
            "notes": list(self.notes),
        }


def predict(
    store: Store | str | Path,
    labels: str | Path | pl.DataFrame,
    data: str | None = None,
    *,
    id: str | None = None,
    label: str | None = None,
    group: str | None = None,
    not_missing: Sequence[str] = (),
    ckpt: str | Sequence[str] = (),
    space: str | Sequence[str] = (),
    max_missing: float | None = None,
    classifier: str = "logistic",
    preprocessing: str = "auto",
    ensemble: bool = False,
    target_error: float = 0.05,
    everything: bool = False,
    folds: int = FOLDS,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Labelled:
    """Predicts the class of each image that a table does not label, from stored features alone, as `bb predict` does.

    labels      a table as docs/labels.md describes it, or its file; its split is not used
    ckpt        candidates: the best by cross-validation is used, or with `ensemble` the mean of their probabilities
    everything  labelled images are predicted too, by classifiers that were not fitted on them

    Raises UsageError and BBError, which name what to change.
    """
    reporter = reporter or Silent()
    check_preprocessing(preprocessing)
    if not 0 < target_error < 1:
        raise UsageError(f"--target-error {target_error} is not a share: choose one between 0 and 1, such as 0.05.")
    setting = Setting(classifier, usual_preprocessing(classifier) if preprocessing == "auto" else preprocessing)
    opened = store if isinstance(store, Store) else Store.open(store)
    images = labelled_images(
        opened,
        labels,
        data,
        {"id": id, "label": label, "split": "", "group": group, "not_missing": not_missing},
        ckpt=[ckpt] if isinstance(ckpt, str) else ckpt,
        space=[space] if isinstance(space, str) else space,
        policy=MissingPolicy.parse("skip", max_missing, None),
        reporter=reporter,
    )
    table = _one_task(images.table)
    grouped = "group" in table.frame.columns
    (split,) = split_table(table, ["group" if grouped else "random"], folds=folds, seed=seed)
    ids, classes = split.task.ids.tolist(), len(split.task.classes)
    rest = sorted(set(images.collection.table["image_id"].to_list()) - set(ids))
    if not rest and not everything:
        raise BBError(f"every image of {images.collection.name} is labelled: --all predicts these, too.")
    labelled = _folds(split)
    features = [opened.read(each, images.collection, ids) for each in images.spaces]
    outer = cross_validated(
        features,
        labelled,
        setting,
        lambda done: reporter.progress("cross-validating", done, len(features), "backbones"),
    )
    scores = [float((each.argmax(axis=1) == labelled.y).mean()) for each in outer]
    order = sorted(range(len(features)), key=lambda i: -scores[i])
    honest = np.mean(outer, axis=0) if ensemble else nested(features, outer, labelled, setting)
    answers = Predictions(labelled.y, honest.argmax(axis=1), classes, honest, split.task.group, labelled.fold)
    accuracy, of_groups = estimate(answers, METRICS["accuracy"]), None
    if grouped:  # images of a group that the classifier knows are easier
        of_groups, accuracy = accuracy, _of_known_groups(table, features, setting, ensemble, folds, seed)
    acceptance = accept(answers.confidence, answers.hit, target_error)
    used = order if ensemble else order[:1]
    rows = _Predictor(opened, images, [images.spaces[i] for i in used], [features[i] for i in used])
    rest, without = rows.with_features(rest)
    notes = [*table.notes, *split.notes, *([split.no_interval] if split.no_interval else [])]
    if without:
        notes.append(f"{len(without)} images have no features and are not predicted, such as {without[0]}")
    if chosen := _chosen(table):
        notes.append(chosen)
    tables = list(rows.predictions(rest, labelled, setting, split.task.classes, acceptance))
    if everything:
        tables.append(_table(ids, honest, split.task.classes, acceptance, rows.novelty_of_labelled()))
    if not tables:
        raise BBError(f"no other image of {images.collection.name} has features: run bb extract on it first.")
    return Labelled(
        pl.concat(tables).sort("image_id"),
        [(space_name(opened, images.spaces[i]), scores[i]) for i in order],
        setting,
        len(ids),
        split.task.classes,
        accuracy,
        of_groups,
        target_error,
        acceptance,
        by_class(answers),
        tuple(notes),
    )


def _one_task(table: TaskTable) -> TaskTable:
    """Errors: UsageError for a table of several tasks, or of traits."""
    if table.target != "classes" or len(table.tasks) > 1:
        what = f"{len(table.tasks)} tasks" if len(table.tasks) > 1 else table.target
        raise UsageError(
            f"{table.source} has {what}; bb predict takes one task of classes. Name its column with --label."
        )
    return table


def _chosen(table: TaskTable) -> str:
    """What to know where `bb suggest` chose images that are labelled; "" where it did not, or drew them at random."""
    if "suggested_by" not in table.frame.columns:
        return ""
    ways = table.frame.drop_nulls("label")["suggested_by"].drop_nulls().to_list()
    n = sum(way != "random" for way in ways)
    return (
        f"{n} of {len(table)} labelled images were chosen by bb suggest, not at random: the stated accuracy is of "
        "images like these, which are harder than most; label a random sample for an accuracy of the collection"
        if n
        else ""
    )


def _folds(split: Split) -> Folds:
    fold = np.full(len(split.task.ids), -1, np.int64)
    for k, each in enumerate(split.folds):
        fold[each.test] = k
    return Folds(split.task.y, fold, len(split.task.classes))


def _of_known_groups(
    table: TaskTable,
    features: Sequence[Num[np.ndarray, "n _"]],
    setting: Setting,
    ensemble: bool,
    folds: int,
    seed: int,
) -> Estimate:
    """The accuracy where images of one group may be on both sides."""
    (split,) = split_table(table.with_frame(table.frame.drop("group")), ["random"], folds=folds, seed=seed)
    labelled = _folds(split)
    outer = cross_validated(features, labelled, setting)
    given = np.mean(outer, axis=0) if ensemble else nested(features, outer, labelled, setting)
    answers = Predictions(labelled.y, given.argmax(axis=1), labelled.classes, given, None, labelled.fold)
    return estimate(answers, METRICS["accuracy"])


@dataclass(frozen=True, eq=False)
class _Predictor:
    """The feature spaces that are used, and the labelled images' rows in each."""

    store: Store
    images: LabelledImages
    spaces: list[Any]
    labelled: list[Num[np.ndarray, "n _"]]

    def with_features(self, image_ids: Sequence[str]) -> tuple[list[str], list[str]]:
        """The images that every space has features of, and the others."""
        if not image_ids:
            return [], []
        digests = self.images.collection.digests(image_ids)
        has = np.all([self.store.has(space, digests) for space in self.spaces], axis=0).tolist()
        kept = [image_id for image_id, there in zip(image_ids, has, strict=True) if there]
        return kept, [image_id for image_id, there in zip(image_ids, has, strict=True) if not there]

    def predictions(
        self, image_ids: Sequence[str], folds: Folds, setting: Setting, classes: Sequence[str], acceptance: Acceptance
    ) -> Iterator[pl.DataFrame]:
        models = [fit(x, folds, setting) for x in self.labelled] if image_ids else []
        for start in range(0, len(image_ids), BLOCK):
            block = image_ids[start : start + BLOCK]
            rows = [self.store.read(space, self.images.collection, block) for space in self.spaces]
            given = np.mean([model.probabilities(x) for model, x in zip(models, rows, strict=True)], axis=0)
            yield _table(block, given, classes, acceptance, _novelty(rows[0], self.labelled[0]))

    def novelty_of_labelled(self) -> Float64[np.ndarray, " n"]:
        """Of each labelled image the distance to the nearest other one."""
        x = self.labelled[0]
        blocks = [np.arange(start, min(start + BLOCK, len(x))) for start in range(0, len(x), BLOCK)]
        return np.concatenate([_novelty(x[rows], x, rows) for rows in blocks])


def _table(
    image_ids: Sequence[str],
    given: Float64[np.ndarray, "m k"],
    classes: Sequence[str],
    acceptance: Acceptance,
    novelty: Float64[np.ndarray, " m"],
) -> pl.DataFrame:
    first, second = np.argsort(-given, axis=1, kind="stable")[:, :2].T
    row, names = np.arange(len(given)), np.array(classes)
    certain = given[row, first]
    threshold = np.inf if acceptance.threshold is None else acceptance.threshold
    values = (names[first], certain, names[second], given[row, second], certain >= threshold, novelty)
    return pl.DataFrame(dict(zip(COLUMNS, (list(image_ids), *(v.tolist() for v in values)), strict=True)))


def _novelty(
    x: Num[np.ndarray, "m d"], known: Num[np.ndarray, "n d"], own: Int64[np.ndarray, " m"] | None = None
) -> Float64[np.ndarray, " m"]:
    """Cosine distance to the nearest known image; `own` are the places of x among these, which don't count."""
    one, other = (_unit(np.asarray(each, np.float32)) for each in (x, known))
    near = one @ other.T
    if own is not None:
        near[np.arange(len(own)), own] = -np.inf
    return np.clip(1 - near.max(axis=1), 0, 2).astype(np.float64)


def _unit(x: Num[np.ndarray, "n d"]) -> Num[np.ndarray, "n d"]:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)


def _plain(found: Estimate) -> dict[str, Any]:
    low, high = found.interval or (None, None)
    return {"value": found.value, "low": low, "high": high, "claim": found.claim, "reason": found.reason}
