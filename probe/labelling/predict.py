"""`bb.probe.predict`: a table of all images of a collection from the labels of some, and how far to trust it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import polars as pl
from jaxtyping import Bool, Num

from bb.probe.classification.inputs import labelled_images
from bb.probe.classification.spec import check_preprocessing, usual_preprocessing
from bb.probe.classifiers.estimator import names, reads_of
from bb.probe.features.missing import MissingPolicy
from bb.probe.features.select_spaces import space_name
from bb.probe.labelling.abstention import accept
from bb.probe.labelling.cross_validation import Folds, Setting, cross_validated, fit, nested
from bb.probe.labelling.group_thresholds import GroupThresholds, group_names, groups_of_unlabelled
from bb.probe.labelling.how_chosen import measured_on
from bb.probe.labelling.predictor import Predictor
from bb.probe.labelling.result import Labelled, table
from bb.probe.labelling.same_files import once_each
from bb.probe.labelling.stored_model import keep, labels_digest, model_of, note_unkept
from bb.probe.statistics.multiclass.by_class import by_class
from bb.probe.statistics.multiclass.intervals import estimate
from bb.probe.statistics.multiclass.metrics import METRICS
from bb.probe.statistics.multiclass.predictions import Predictions
from bb.probe.tasks.few_shot import check_seed
from bb.probe.tasks.fold import Split
from bb.probe.tasks.splits import FOLDS, check_folds, split_table
from bb.probe.tasks.task_table import TaskTable
from bb.store import Store
from bb.store.errors import BBError, UsageError
from bb.store.format.space import short
from bb.store.reporter import Reporter, Silent
from bb.store.text.size import counted


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
    labels_table, copies = once_each(one_task(images.table), images.collection)
    grouped = "group" in labels_table.frame.columns
    (split,) = split_table(labels_table, ["group" if grouped else "random"], folds=folds, seed=seed)
    ids, classes = split.task.ids.tolist(), len(split.task.classes)
    rest = sorted(set(images.collection.table["image_id"].to_list()) - {*ids, *copies})
    if not rest and not everything:
        raise BBError(f"every image of {images.collection.name} is labelled: --all predicts these, too.")
    measured = measured_on(labels_table, ids)
    labelled = _folds(split, measured.rows, grouped)
    features = [opened.read(each, images.collection, ids) for each in images.spaces]
    validated = cross_validated(
        features,
        labelled,
        setting,
        lambda done: reporter.progress("cross-validating", done, len(features), "backbones"),
    )
    outer = [each.given for each in validated]
    scores = [labelled.score(each) for each in outer]
    order = sorted(range(len(features)), key=lambda i: -scores[i])
    honest = np.mean(outer, axis=0) if ensemble else nested(features, outer, labelled, setting)
    answers = Predictions(labelled.y, honest.argmax(axis=1), classes, honest, split.task.group, labelled.fold)
    answers = answers.among(measured.rows)
    accuracy, of_groups = measured.checked(estimate(answers, METRICS["accuracy"], widening=labelled.widening)), None
    by_group: GroupThresholds | None = None
    if grouped and split.task.group is not None:  # images of a group that the classifier knows are easier
        easier = _of_known_groups(labels_table, measured.rows, features, setting, ensemble, folds, seed)
        easier = easier.among(measured.rows)
        of_groups, accuracy = (
            accuracy,
            measured.checked(estimate(easier, METRICS["accuracy"], widening=labelled.widening)),
        )
        if not measured.unstated:
            by_group = GroupThresholds.of(
                easier.confidence, easier.hit, split.task.group[measured.rows], group_names(labels_table), target_error
            )
    acceptance = accept(answers.confidence, answers.hit, target_error, group=answers.group)
    of_classes = by_class(answers)
    if measured.unstated:
        acceptance = replace(acceptance, interval=None)
        of_classes = [replace(c, recall_interval=None, precision_interval=None, f1_interval=None) for c in of_classes]
    used = order if ensemble else order[:1]
    predictor = Predictor(
        [images.spaces[i] for i in used],
        [fit(features[i], labelled, setting, validated[i].heat) for i in used],
        split.task.classes,
        acceptance.threshold,
        by_group.thresholds if by_group else None,
    )
    rest, without = predictor.with_features(opened, images.collection, rest)
    notes = [*labels_table.notes, *split.notes, *([split.no_interval] if split.no_interval else [])]
    if without:
        notes.append(
            f"{counted(len(without), 'image')} without features, and so without a prediction, such as {without[0]}"
        )
    if measured.note:
        notes.append(measured.note)
    tables, known_groups = list(predictor.predictions(opened, images.collection, rest)), 0
    if by_group and tables:
        frame, rows = by_group.thresholds.applied(pl.concat(tables), groups_of_unlabelled(labels_table))
        tables, notes, known_groups = [frame], [*notes, *by_group.notes(rows)], rows
    if everything:
        place = {image_id: row for row, image_id in enumerate(ids)}
        shown = [*range(len(ids)), *(place[first] for first in copies.values())]
        far = predictor.novelty_of_labelled()
        tables.append(table([*ids, *copies], honest[shown], split.task.classes, acceptance.threshold, far[shown]))
    if not tables:
        raise BBError(f"no other image of {images.collection.name} has features: run bb extract on it first.")
    found = Labelled(
        pl.concat(tables).sort("image_id"),
        [(space_name(opened, images.spaces[i]), scores[i]) for i in order],
        setting,
        len(ids),
        split.task.classes,
        accuracy,
        of_groups,
        target_error,
        acceptance,
        of_classes,
        tuple(notes),
        ensemble,
        by_group,
        tested=len(answers),
        chosen=measured.chosen,
        known_groups=known_groups,
    )
    if not keep_model:
        return found
    try:
        model = model_of(
            predictor,
            backbones=[(opened.backbones(space) or [short(space.key)])[0] for space in predictor.spaces],
            collection=images.collection,
            labels=labels_digest(images.collection, ids, labelled.y, split.task.classes, split.task.group),
            protocol={
                "folds": folds,
                "seed": seed,
                "split": "group" if grouped else "random",
                "ensemble": ensemble,
                "target_error": target_error,
                "candidates": sorted(space.key for space in images.spaces),
            },
            stated=found.stated(),
        )
        digest, reason = keep(opened, model)
    except UsageError as error:
        digest, reason = None, f"the model is not kept: {error}"
    return replace(found, model=digest, notes=(*notes, *([reason] if reason else [])))


def check_target_error(target_error: float) -> None:
    """Errors: UsageError for what is not a share."""
    if not 0 < target_error < 1:
        raise UsageError(f"--target-error {target_error} is not a share: choose one between 0 and 1, such as 0.05.")


def check_reads_images(classifier: str) -> None:
    """Errors: UsageError for a classifier of patch features."""
    if reads_of(classifier) == "img":
        return
    others = ", ".join(name for name in names() if reads_of(name) == "img")
    raise UsageError(
        f"--classifier {classifier} reads patch features; bb predict reads image features, as the models that it keeps "
        f"do. Choose {others}; `bb probe classify --classifier {classifier}` scores it."
    )


def one_task(table: TaskTable) -> TaskTable:
    """Errors: UsageError for a table of several tasks, or of traits."""
    if table.target != "classes" or len(table.tasks) > 1:
        what = f"{len(table.tasks)} tasks" if len(table.tasks) > 1 else table.target
        raise UsageError(
            f"{table.source} has {what}; bb predict takes one task of classes. Name its column with --label."
        )
    return table


def _folds(split: Split, tested: Bool[np.ndarray, " n"], grouped: bool) -> Folds:
    fold = np.full(len(split.task.ids), -1, np.int64)
    for k, each in enumerate(split.folds):
        fold[each.test] = k
    return Folds(split.task.y, fold, len(split.task.classes), tested, grouped)


def _of_known_groups(
    table: TaskTable,
    tested: Bool[np.ndarray, " n"],
    features: Sequence[Num[np.ndarray, "n _"]],
    setting: Setting,
    ensemble: bool,
    folds: int,
    seed: int,
) -> Predictions:
    """What is said of each labelled image where images of its group may be trained on."""
    (split,) = split_table(table.with_frame(table.frame.drop("group")), ["random"], folds=folds, seed=seed)
    labelled = _folds(split, tested, False)
    outer = [each.given for each in cross_validated(features, labelled, setting)]
    given = np.mean(outer, axis=0) if ensemble else nested(features, outer, labelled, setting)
    return Predictions(labelled.y, given.argmax(axis=1), labelled.classes, given, None, labelled.fold)
