"""One run on a task table: one feature space, one way of splitting, one classifier, one number of shots, one seed.

With a published protocol the classifier, its parameters, preprocessing and draws are the protocol's
(probe/classification/published/), and all of it is part of the run's identity.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int64, Num

from bb.probe.classification.open_set import UNKNOWN, loss_of, with_unknown
from bb.probe.classification.published.registry import PROTOCOLS
from bb.probe.classification.run_inputs import Draw, Inputs, fitted, plain
from bb.probe.classification.scores import Answers, score, unscored_notes
from bb.probe.classification.spec import Spec
from bb.probe.classifiers.estimator import one_sided
from bb.probe.classifiers.registry import CLASSIFIERS
from bb.probe.features.missing import note_on
from bb.probe.git_commit import commit
from bb.probe.run_records import classification_problem
from bb.probe.tasks.fold import UNSEEN, Fold, Split
from bb.store.errors import BBError, UsageError
from bb.store.files.canonical_json import canonical_json, digest_of_parts, sha256_hex
from bb.store.format.derived import SEEN, head_name
from bb.store.local.runs import Run, by_precedence
from bb.store.local.stored_rows import StoredRows
from bb.store.trained_heads import has_seen
from bb.store.versions import versions

PROTOCOL = "classify"
MAX_GROUP_NAMES = 10_000  # of a task, that a run keeps
VERSIONS = ("backbone-bench", "numba", "numpy", "polars", "scikit-learn", "scipy")


@dataclass(frozen=True, eq=False)
class PreparedClassification:
    """A run that can be looked up or made: its ID covers all that decides the outcome."""

    inputs: Inputs
    spec: Spec
    draw: Draw
    parameters: dict[str, Any]
    run_id: str

    @property
    def splits(self) -> tuple[Split, ...]:
        """Of each task, with the training sets drawn."""
        return self.draw.splits

    @property
    def folds(self) -> list[tuple[Fold, ...]]:
        return [split.folds for split in self.splits]

    @property
    def labels_notes(self) -> list[str]:
        """What is to be said of the table: a run that was there may be of another one with the same labels."""
        return [*self.inputs.notes, *(note for each in self.draw.leaks for note in each.notes)]

    def existing(self) -> list[Run]:
        """Runs of this ID in the store that can be read, the one to use first."""
        return by_precedence(
            run for run in self.inputs.store.runs(self.run_id) if classification_problem(run.record) is None
        )


def prepare(inputs: Inputs, spec: Spec) -> PreparedClassification:
    """Draws the training sets and names the run; nothing is fitted.

    Errors: UsageError for a classifier that is unknown or can't fit the target, for shots of traits or numbers, and for
    a protocol that is of another target; BBError where a class has fewer images than a protocol draws.
    """
    if spec.protocol and spec.protocol.target != inputs.target:
        raise UsageError(
            f"--protocol {spec.protocol.name} scores {spec.protocol.target}, and the labels are {inputs.target}: "
            "choose another protocol, or leave it out."
        )
    estimators = {split.task.name: spec.estimator(split.task.target, split.task.name) for split in inputs.splits}
    of_each = {task: each.parameters() if hasattr(each, "parameters") else {} for task, each in estimators.items()}
    parameters = {
        "preprocessing": spec.how,
        "estimator": of_each if spec.given else next(iter(of_each.values())),
        "split_by": inputs.splits[0].by,
    }
    if not spec.given and not CLASSIFIERS.plugins[spec.classifier].own:
        parameters["code"] = CLASSIFIERS.plugins[spec.classifier].tree_hash()
    if inputs.pooling:
        parameters["pool_group"] = inputs.pooling.how
    if spec.poisonous is not None:
        parameters["poisonous"] = spec.poisonous
    draw = inputs.draw(spec)
    identity: dict[str, Any] = {
        "protocol": PROTOCOL,
        "tasks": inputs.tasks,
        "target": inputs.target,
        "classifier": spec.classifier,
        "parameters": parameters,
        "shots": spec.shots,
        "backend": ["bb", _versions()["backbone-bench"]],
        "classes": [[split.task.name, list(split.task.classes)] for split in inputs.splits],
    }
    if spec.protocol:
        plugin = PROTOCOLS.plugins.get(spec.protocol.name)
        code = [] if plugin is None or plugin.own else [plugin.tree_hash()]
        held_out = [fold.task.ids[fold.val].tolist() for split in draw.splits for fold in split.folds]
        identity["published"] = [spec.protocol.name, spec.setting, spec.seed, held_out, *code]
    own = {key: canonical_json(plain(value)) for key, value in identity.items()}
    return PreparedClassification(inputs, spec, draw, parameters, digest_of_parts({**own, **draw.parts}))


def execute(prepared: PreparedClassification, *, progress: Callable[[int], None] = lambda done: None) -> Run:
    """Fits, predicts, scores and publishes. `progress` gets how many folds are done.

    Errors: BBError naming the task and fold that can't be fitted; then nothing is published.
    """
    inputs, spec = prepared.inputs, prepared.spec
    inputs.store.check_writable("runs", "local")
    started, clock = datetime.now(UTC), time.monotonic()
    answers: list[Answers] = []
    notes: dict[str, list[str]] = {}
    chosen: dict[str, list[dict[str, Any]]] = {}
    done = 0
    for split in prepared.splits:
        of_folds = []
        for fold in split.folds:
            answered, parameters = _answer_once(inputs, spec, fold)
            of_folds.append(answered)
            chosen.setdefault(split.task.name, []).append(parameters)
            done += 1
            progress(done)
        unscored = unscored_notes(of_folds)
        joined = split.by in ("random", "group")
        of_sides = [Answers.join(of_folds, split, fitted=not spec.given)] if joined else of_folds
        answers += of_sides
        lines = [*split.notes, *(note for fold in split.folds for note in fold.notes), *unscored]
        lines += [note for each in of_sides for note in each.constant_notes()]
        lines += [split.no_interval] if split.no_interval else []
        if lines:
            notes[split.task.name] = list(dict.fromkeys(lines))
    seconds = time.monotonic() - clock
    leaks = prepared.draw.leaks
    main = spec.protocol.metric if spec.protocol else None
    more = None if spec.poisonous is None else partial(loss_of, poisonous=spec.poisonous)
    leaked = {(task, image_id) for each in leaks for task, twins in each.twins.items() for image_id in twins}
    unleaked = [kept for answer in answers if (kept := answer.without(leaked))] if leaked else []
    of_all = [note_on(inputs.missing)] if inputs.missing else []
    tested = {image_id for each in answers for image_id in each.task.ids[each.rows].tolist()}
    images = inputs.pooling.images(sorted(tested)) if inputs.pooling else sorted(tested)
    if has_seen(inputs.store, inputs.space, inputs.collection.digests(images)):
        of_all.append(f"{head_name(inputs.space.weights)} {SEEN}")
    if of_all:
        notes["all tasks"] = of_all
    record: dict[str, Any] = {
        "run_id": prepared.run_id,
        "tasks": inputs.tasks,
        "protocol": PROTOCOL,
        "target": inputs.target,
        "parameters": prepared.parameters,
        "n_train": spec.shots,
        "seed": spec.seed,
        "classifier": spec.classifier,
        "backend": "bb",
        "backend_version": _versions()["backbone-bench"],
        "identical_to_sklearn": False,
        "test_set": sha256_hex(prepared.draw.parts["test"]),
        "train_pool": inputs.train_pool(with_val=spec.protocol is not None),
        "train_used": prepared.draw.train_used(with_val=spec.protocol is not None),
        **({"published": spec.protocol.record(spec.setting)} if spec.protocol else {}),
        "split_by": inputs.splits[0].by,
        "class_names": {split.task.name: list(split.task.classes) for split in inputs.splits},
        "group_names": {
            split.task.name: list(split.task.group_names)
            for split in inputs.splits
            if len(split.task.group_names) <= MAX_GROUP_NAMES
        },
        "labels_name": inputs.tasks,
        **inputs.facts,
        "scores": score(answers, main, more),
        "leaks": {task: found for each in leaks for task, found in each.record().items()},
        "scores_without_leaks": score(unleaked, main, more) if unleaked else None,
        "labels_notes": prepared.labels_notes,
        "hyperparameters": chosen,
        "notes": notes,
        **spec.facts,
        "provenance": {
            "made": started.isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "versions": _versions(),
            "commit": commit(),
            "extraction": inputs.extraction,
        },
    }
    predictions = pl.concat([answer.frame() for answer in answers])
    train = pl.concat([_train(fold) for each in prepared.folds for fold in each])
    return inputs.store.put_run(plain(record), predictions, train)


def _answer_once(inputs: Inputs, spec: Spec, fold: Fold) -> tuple[Answers, dict[str, Any]]:
    """As `answer`; a protocol whose larger draw is a smaller one, as no class has more images, is fitted once."""
    if not spec.protocol or spec.shots == "all" or not hasattr(CLASSIFIERS.load(spec.classifier), "best"):
        return answer(inputs, spec, fold)
    chosen = canonical_json(plain(spec.protocol.parameters_of(spec.shots, spec.seed, spec.setting)))
    rows = tuple(sha256_hex(side.tobytes()) for side in (fold.train, fold.val, fold.test))
    key = spec.protocol.name, chosen, fold.task.name, fold.name, rows
    known: tuple[Answers, dict[str, Any]] | None = inputs.answered.get(key)
    if known is None:
        known = inputs.answered[key] = answer(inputs, spec, fold)
    return known


def answer(inputs: Inputs, spec: Spec, fold: Fold) -> tuple[Answers, dict[str, Any]]:
    """What a classifier fitted on a fold's training images says of its test images."""
    _, y_train, held_out = fitted(fold)
    x_train, x_test = inputs.sides(fold, spec.how)
    estimator = spec.estimator(fold.task.target, fold.task.name)
    alone = None
    if inputs.target == "traits":
        y_train = np.where(y_train == UNSEEN, np.nan, y_train.astype(np.float64))
        alone = one_sided(y_train)
        y_train = y_train[:, ~alone]
    if fold.one_class and not spec.given:
        return _only_class(fold, estimator), {}
    if alone is not None and alone.all():
        return _without_traits(fold, alone), {}
    try:
        estimator.fit(x_train, y_train, **({} if held_out is None else {"held_out": held_out}))
    except (BBError, ValueError) as error:
        raise BBError(f"task {fold.task.name!r}, {fold.name}: {error}") from None
    parameters = dict(getattr(estimator, "parameters_", {}))
    if alone is not None and alone.any():
        fitted_traits = [name for name, left_out in zip(fold.task.classes, alone, strict=True) if not left_out]
        predicted, decision = np.asarray(estimator.predict(x_test)), _decision(estimator, x_test, "traits")
        return _without_traits(fold, alone, predicted, decision), {**parameters, "traits": fitted_traits}
    if inputs.target == "classes" and hasattr(estimator, "best"):
        place, of_best = estimator.best(x_test)
        return Answers(fold.name, fold.task, fold.test, estimator.classes_[place], of_best, None), parameters
    decision = _decision(estimator, x_test, inputs.target)
    if decision is not None and inputs.target == "classes" and hasattr(estimator, "parameters"):
        predicted = estimator.classes_[decision.argmax(axis=1)]  # the contract of bb's own, at half the price
    else:
        predicted = np.asarray(estimator.predict(x_test))
    probabilities = None
    if hasattr(estimator, "predict_proba") and inputs.target == "classes":
        again = decision is None or not hasattr(estimator, "proba_of")
        shares = estimator.predict_proba(x_test) if again else estimator.proba_of(decision)
        probabilities = _spread(shares, estimator.classes_, fold)
    if decision is not None and inputs.target == "classes":
        decision = _spread(decision, estimator.classes_, fold, least=-np.inf)
    names = fold.task.classes
    if hasattr(estimator, "rejects") and decision is not None and names[-1] == UNKNOWN:
        predicted, decision = with_unknown(predicted, decision, estimator.rejects(x_test), len(names) - 1)
    return Answers(fold.name, fold.task, fold.test, predicted, decision, probabilities), parameters


def _only_class(fold: Fold, estimator: Any) -> Answers:
    """That of all training images, for each test image."""
    m, k = len(fold.test), len(fold.task.classes)
    predicted = np.full(m, fold.train_y[0], np.int64)
    if hasattr(estimator, "best"):
        return Answers(fold.name, fold.task, fold.test, predicted, np.zeros(m), None)
    chosen = np.arange(k) == predicted[:, None]
    probabilities = chosen.astype(np.float64) if hasattr(estimator, "predict_proba") else None
    return Answers(fold.name, fold.task, fold.test, predicted, np.where(chosen, 0.0, -np.inf), probabilities)


def _without_traits(
    fold: Fold,
    alone: Bool[np.ndarray, " t"],
    predicted: Num[np.ndarray, "m fitted"] | None = None,
    decision: Float64[np.ndarray, "m fitted"] | None = None,
) -> Answers:
    """Answers for the other traits; those that have one value alone in training are not scored in this fold."""
    shape = len(fold.test), len(alone)
    whole, decisions = np.zeros(shape, np.int64), np.zeros(shape)
    if predicted is not None:
        whole[:, ~alone], decisions[:, ~alone] = predicted, decision
    unscored = np.broadcast_to(alone, shape)
    return Answers(fold.name, fold.task, fold.test, whole, decisions, None, unscored=unscored)


def _decision(estimator: Any, x: Num[np.ndarray, "m d"] | StoredRows, target: str) -> Float64[np.ndarray, "m k"] | None:
    if target == "values":
        return None
    if not hasattr(estimator, "decision_function"):  # a plug-in's, with probabilities
        with np.errstate(divide="ignore"):
            scores = np.log(estimator.predict_proba(x))
    else:
        scores = np.asarray(estimator.decision_function(x), np.float64)
    if target == "traits":
        return scores
    if scores.ndim == 1:  # scikit-learn gives one number for two classes
        scores = np.stack([-scores, scores], axis=1)
    return scores


def _spread(
    values: Float64[np.ndarray, "m k"], classes: Int64[np.ndarray, " k"], fold: Fold, least: float = 0.0
) -> Float64[np.ndarray, "m classes"]:
    """Columns for all classes of the task; those that were not trained on get the least."""
    if len(classes) == len(fold.task.classes):
        return values
    whole = np.full((len(values), len(fold.task.classes)), least)
    whole[:, classes] = values
    return whole


def _train(fold: Fold) -> pl.DataFrame:
    """Rows as fitted; traits one below another, without those that are unknown."""
    ids, y, _ = fitted(fold)
    if y.ndim == 2:
        names = np.array([f"{fold.task.name}:{trait}" for trait in fold.task.classes])
        row, trait = np.nonzero(y != UNSEEN)
        task, ids, y = names[trait], ids[row], y[row, trait]
    else:
        task = np.full(len(y), fold.task.name)
    side = pl.Series([fold.name] * len(ids), dtype=pl.String)
    return pl.DataFrame({"task": task, "image_id": ids, "fold": side, "y": y.astype(np.float64)})


@cache
def _versions() -> dict[str, str]:
    return versions(VERSIONS)
