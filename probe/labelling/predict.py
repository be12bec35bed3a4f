"""`bb.probe.predict`: a table of all images of a collection from the labels of some, and how far to trust it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import polars as pl
from jaxtyping import Float64, Num

from bb.probe.classification.spec import check_preprocessing, usual_preprocessing
from bb.probe.classifiers.estimator import names as classifier_names
from bb.probe.classifiers.estimator import reads_of
from bb.probe.labelling.abstention import Acceptance, accept
from bb.probe.labelling.cross_validation import CrossValidated, Folds, Setting, cross_validated, fit, nested
from bb.probe.labelling.group_thresholds import GroupThresholds, group_names, groups_of_unlabelled
from bb.probe.labelling.how_chosen import Measured, measured_on
from bb.probe.labelling.known_images import KnownImages, note_without
from bb.probe.labelling.predictor import Predictor
from bb.probe.labelling.result import Labelled, table
from bb.probe.labelling.stored_model import keep, labels_digest, model_of, note_unkept
from bb.probe.statistics.multiclass.by_class import OfClass, by_class
from bb.probe.statistics.multiclass.intervals import MetricEstimate, estimate
from bb.probe.statistics.multiclass.metrics import METRICS
from bb.probe.statistics.multiclass.predictions import Predictions
from bb.probe.tasks.few_shot import check_seed
from bb.probe.tasks.fold import By, Split
from bb.probe.tasks.splits import FOLDS, check_folds, split_table
from bb.probe.tasks.task_table import TaskTable
from bb.store import Store
from bb.store.errors import BBError, UsageError
from bb.store.format.space import short
from bb.store.reporter import Reporter, Silent


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
    folds: SupportsIndex = FOLDS,
    seed: SupportsIndex = 0,
    keep_model: bool = True,
    reporter: Reporter | None = None,
) -> Labelled:
    """Predicts the class of each image that a table does not label, from stored features alone, as `bb predict` does.

    labels      a table as docs/labels.md describes it, or its file; its split is not used
    ckpt        candidates: the best by cross-validation is used, or with `ensemble` the mean of their probabilities
    everything  labelled images are predicted too, by classifiers that were not fitted on them
    keep_model  the fitted classifier is kept in the store: `use_model` predicts other collections with it

    Raises UsageError and BBError, which name what to change.
    """
    reporter = reporter or Silent()
    check_preprocessing(preprocessing)
    check_target_error(target_error)
    folds, seed = check_folds(folds), check_seed(seed)
    check_reads_images(classifier)
    setting = Setting(classifier, usual_preprocessing(classifier) if preprocessing == "auto" else preprocessing)
    opened = store if isinstance(store, Store) else Store.open(store)
    if keep_model:
        note_unkept(opened, reporter)
    known = KnownImages.read(
        opened, labels, data, id=id, label=label, group=group, not_missing=not_missing, ckpt=ckpt, space=space,
        max_missing=max_missing, reporter=reporter,
    )  # fmt: skip
    way: By = "group" if "group" in known.table.frame.columns else "random"
    (split,) = split_table(known.table, [way], folds=folds, seed=seed)
    ids = split.task.ids.tolist()
    rest = known.others(ids)
    if not rest and not everything:
        raise BBError(f"every image of {known.images.collection.name} is labelled: --all predicts these, too.")
    measured = measured_on(known.table, ids)
    features = known.features(ids)
    tested = _Tested.of(features, split, measured, setting, ensemble, reporter)
    easier = None
    if split.task.group is not None:  # images of a group that the classifier knows are easier
        easier = _of_known_groups(known.table, measured, features, setting, ensemble, folds, seed)
    stated = _Stated.of(tested, easier, measured, known.table, split, target_error)
    used = tested.order if ensemble else tested.order[:1]
    predictor = Predictor(
        [known.images.spaces[i] for i in used],
        [fit(features[i], tested.folds, setting, tested.candidates[i].heat) for i in used],
        split.task.classes,
        stated.acceptance.threshold,
        stated.by_group.thresholds if stated.by_group else None,
    )
    rest, without = predictor.with_features(opened, known.images.collection, rest)
    tables, known_groups = list(predictor.predictions(opened, known.images.collection, rest)), 0
    notes = [
        *known.table.notes, *split.notes, *filter(None, [split.no_interval]), *note_without(without),
        *filter(None, [measured.note]),
    ]  # fmt: skip
    if ensemble and len(features) == 1:
        notes.append(f"there is one backbone, {known.names()[0]}, so --ensemble averages nothing")
    if stated.by_group and tables:
        groups = groups_of_unlabelled(known.table)
        frame, known_groups = stated.by_group.thresholds.applied(pl.concat(tables), groups)
        tables, notes = [frame], [*notes, *stated.by_group.notes(known_groups)]
    if everything:
        place = {image_id: row for row, image_id in enumerate(ids)}
        shown = [*range(len(ids)), *(place[first] for first in known.copies.values())]
        given, far = tested.given[shown], predictor.novelty_of_labelled()[shown]
        tables.append(table([*ids, *known.copies], given, split.task.classes, predictor.threshold, far))
    if not tables:
        raise BBError(f"no other image of {known.images.collection.name} has features: run bb extract on it first.")
    names = known.names()
    found = Labelled(
        pl.concat(tables).sort("image_id"),
        [(names[i], tested.scores[i]) for i in tested.order],
        setting,
        len(ids),
        split.task.classes,
        stated.accuracy,
        stated.of_groups,
        target_error,
        stated.acceptance,
        stated.classes,
        tuple(notes),
        ensemble,
        stated.by_group,
        tested=len(tested.answers),
        chosen=measured.chosen,
        known_groups=known_groups,
    )
    if not keep_model:
        return found
    protocol = {
        "folds": folds, "seed": seed, "split": way, "ensemble": ensemble, "target_error": target_error,
        "candidates": sorted(space.key for space in known.images.spaces),
    }  # fmt: skip
    digest, reason = _kept(known, predictor, split, protocol, found)
    return replace(found, model=digest, notes=(*notes, *filter(None, [reason])))


@dataclass(frozen=True, eq=False)
class _Tested:
    """What classifiers say of labelled images that they were not fitted on.

    candidates  of each feature space; scores: the share that is right; order: their places, the best first
    given       (n, k) probabilities by the candidate that the other folds choose, or of the ensemble
    answers     of the images that are measured on
    """

    folds: Folds
    candidates: list[CrossValidated]
    scores: list[float]
    order: list[int]
    given: Float64[np.ndarray, "n k"]
    answers: Predictions

    @classmethod
    def of(
        cls,
        features: Sequence[Num[np.ndarray, "n _"]],
        split: Split,
        measured: Measured,
        setting: Setting,
        ensemble: bool,
        reporter: Reporter,
    ) -> "_Tested":
        folds, classes, total = _folds(split, measured), len(split.task.classes), len(features)
        candidates = cross_validated(
            features, folds, setting, lambda done: reporter.progress("cross-validating", done, total, "backbones")
        )
        outer = [each.given for each in candidates]
        scores = [folds.score(each) for each in outer]
        order = sorted(range(total), key=lambda i: -scores[i])
        given = np.mean(outer, axis=0) if ensemble else nested(features, outer, folds, setting)
        answers = Predictions(folds.y, given.argmax(axis=1), classes, given, split.task.group, folds.fold)
        return cls(folds, candidates, scores, order, given, answers.among(measured.rows))

    def accuracy(self) -> MetricEstimate:
        return estimate(self.answers, METRICS["accuracy"], widening=self.folds.widening)


@dataclass(frozen=True, eq=False)
class _Stated:
    """What is stated with the predictions, as `Labelled` has it."""

    accuracy: MetricEstimate
    of_groups: MetricEstimate | None
    by_group: GroupThresholds | None
    acceptance: Acceptance
    classes: list[OfClass]

    @classmethod
    def of(
        cls,
        tested: _Tested,
        easier: _Tested | None,
        measured: Measured,
        table: TaskTable,
        split: Split,
        target_error: float,
    ) -> "_Stated":
        """easier: where images of a tested image's group may be trained on; None without groups."""
        answers = tested.answers
        accuracy = measured.checked(tested.accuracy())
        acceptance = accept(answers.confidence, answers.hit, target_error, group=answers.group)
        classes = by_class(answers)
        if measured.unstated:
            acceptance = replace(acceptance, interval=None)
            classes = [replace(c, recall_interval=None, precision_interval=None, f1_interval=None) for c in classes]
        if easier is None or split.task.group is None:
            return cls(accuracy, None, None, acceptance, classes)
        by_group, of_known = None, easier.answers
        if not measured.unstated:
            groups = split.task.group[measured.rows]
            by_group = GroupThresholds.of(of_known.confidence, of_known.hit, groups, group_names(table), target_error)
        return cls(measured.checked(easier.accuracy()), accuracy, by_group, acceptance, classes)


def _kept(
    known: KnownImages, predictor: Predictor, split: Split, protocol: Mapping[str, Any], found: Labelled
) -> tuple[str | None, str]:
    """The digest of the fitted classifier in the store, or None and why it is not kept."""
    store, collection, task = known.store, known.images.collection, split.task
    try:
        model = model_of(
            predictor,
            backbones=[(store.backbones(space) or [short(space.key)])[0] for space in predictor.spaces],
            collection=collection,
            labels=labels_digest(collection, task.ids.tolist(), np.asarray(task.y, np.int64), task.classes, task.group),
            protocol=protocol,
            stated=found.stated(),
        )
        return keep(store, model)
    except UsageError as error:
        return None, f"the model is not kept: {error}"


def check_target_error(target_error: float) -> None:
    """Errors: UsageError for what is not a share."""
    if not 0 < target_error < 1:
        raise UsageError(f"--target-error {target_error} is not a share: choose one between 0 and 1, such as 0.05.")


def check_reads_images(classifier: str) -> None:
    """Errors: UsageError for a classifier of patch features."""
    if reads_of(classifier) == "img":
        return
    others = ", ".join(name for name in classifier_names() if reads_of(name) == "img")
    raise UsageError(
        f"--classifier {classifier} reads patch features; bb predict reads image features, as the models that it keeps "
        f"do. Choose {others}; `bb probe classify --classifier {classifier}` scores it."
    )


def _folds(split: Split, measured: Measured) -> Folds:
    fold = np.full(len(split.task.ids), -1, np.int64)
    for k, each in enumerate(split.folds):
        fold[each.test] = k
    return Folds(split.task.y, fold, len(split.task.classes), measured.rows, split.by == "group")


def _of_known_groups(
    table: TaskTable,
    measured: Measured,
    features: Sequence[Num[np.ndarray, "n _"]],
    setting: Setting,
    ensemble: bool,
    folds: int,
    seed: int,
) -> _Tested:
    """What is said of each labelled image where images of its group may be trained on."""
    (split,) = split_table(table.with_frame(table.frame.drop("group")), ["random"], folds=folds, seed=seed)
    return _Tested.of(features, split, measured, setting, ensemble, Silent())
