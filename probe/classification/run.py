"""One run on a task table: one feature space, one way of splitting, one classifier, one number of shots, one seed.

With a published protocol the classifier, its parameters, preprocessing and draws are the protocol's
(probe/classification/published/), and all of it is part of the run's identity.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64, Num, Shaped

from bb.probe.classification.published.protocol import NONE, PublishedProtocol
from bb.probe.classification.published.registry import PROTOCOLS
from bb.probe.classification.scores import Answers, score
from bb.probe.classifiers.estimator import NEVER, make
from bb.probe.classifiers.preprocess import PREPROCESSING, preprocess
from bb.probe.classifiers.registry import CLASSIFIERS
from bb.probe.features.damaged_images import damage_record, damaged_images
from bb.probe.features.missing import missing_record, note_on
from bb.probe.git_commit import commit
from bb.probe.tasks.few_shot import check_seed
from bb.probe.tasks.fold import UNSEEN, Fold, Shots, Split, draw_shots
from bb.probe.tasks.leaks import split_leaks
from bb.store import Collection, FeatureSpace, Store
from bb.store.errors import BBError, UsageError
from bb.store.files.canonical_json import digest_of, sha256_hex
from bb.store.local.runs import Run, by_precedence
from bb.store.versions import versions

PROTOCOL = "classify"
VERSIONS = ("backbone-bench", "numba", "numpy", "polars", "scikit-learn", "scipy")
# What a classifier is published with; the others get NeWT's centred unit vectors.
USUAL = {"knn": "l2", "simpleshot": "none", "ridge": "standard", "linear-svc": "standard-l2"}


def usual_preprocessing(classifier: str) -> str:
    """What `--preprocessing auto` is."""
    return USUAL.get(classifier, "center-l2")


def check_preprocessing(name: str) -> str:
    """Errors: UsageError for an unknown name."""
    if name not in ("auto", *PREPROCESSING):
        raise UsageError(f"--preprocessing {name!r} is unknown: choose auto, {', '.join(PREPROCESSING)}.")
    return name


@dataclass(frozen=True, eq=False)
class Inputs:
    """What runs over one feature space share: the splits of a table's tasks, and the features of their images.

    tasks     what the table of labels is called
    splits    one for each task, all made in one way
    features  (n, d) in the stored dtype, of `image_ids`, which are sorted
    missing   images that were left out since they have no features, with reasons
    max_missing, same_images_as  the share of them that was allowed if given, and keys of the spaces that lack them
    notes     what a reader of the scores should know
    """

    store: Store
    space: FeatureSpace
    collection: Collection
    tasks: str
    splits: tuple[Split, ...]
    image_ids: Shaped[np.ndarray, " n"]
    features: Num[np.ndarray, "n d"]
    missing: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    max_missing: float | None = None
    same_images_as: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        store: Store,
        space: FeatureSpace,
        collection: Collection,
        tasks: str,
        splits: Sequence[Split],
        *,
        missing: dict[str, str] | None = None,
        notes: Sequence[str] = (),
        max_missing: float | None = None,
        same_images_as: tuple[str, ...] = (),
    ) -> "Inputs":
        """Errors: MissingRows where the space lacks images of the splits."""
        image_ids = sorted({image_id for split in splits for image_id in split.task.ids.tolist()})
        features = store.read(space, collection, image_ids)
        disagreements = store.disagreements(space, collection.digests(image_ids))
        return cls(
            store, space, collection, tasks, tuple(splits), np.array(image_ids), features, dict(missing or {}),
            (*notes, *disagreements), max_missing, same_images_as,
        )  # fmt: skip

    def rows_of(self, image_ids: Shaped[np.ndarray, " m"]) -> Num[np.ndarray, "m d"]:
        return self.features[np.searchsorted(self.image_ids, image_ids)]

    @property
    def target(self) -> str:
        return self.splits[0].task.target

    def damaged(self) -> dict[str, str]:
        """Of the images, by ID, those that were damaged when they were embedded, and how."""
        return damaged_images(self.store, self.space, self.collection, self.image_ids.tolist())


@dataclass(frozen=True)
class Spec:
    """What is asked of a run beside its inputs; `preprocessing` may be "auto".

    protocol, setting  the published protocol that decides the rest, and which of its settings
    """

    classifier: str
    preprocessing: str = "auto"
    shots: Shots = "all"
    seed: int = 0
    protocol: PublishedProtocol | None = None
    setting: str = ""

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

    def estimator(self, target: str) -> Any:
        """A new one. Errors: UsageError for a classifier that is unknown or can't fit the target."""
        chosen = self.protocol.parameters_of(self.shots, self.seed, self.setting) if self.protocol else None
        return make(self.classifier, target, chosen)  # type: ignore[arg-type]

    def draw(self, split: Split) -> Split:
        """The split with the training rows of this run."""
        if self.protocol:
            return self.protocol.draw_split(split, self.shots, self.seed)
        folds = (draw_shots(fold, self.shots, self.seed) for fold in split.folds)
        return replace(split, folds=tuple(replace(fold, val=NONE) for fold in folds))


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run that can be looked up or made: its ID covers all that decides the outcome.

    splits  of each task, with the training sets drawn
    """

    inputs: Inputs
    spec: Spec
    splits: tuple[Split, ...]
    parameters: dict[str, Any]
    run_id: str

    @property
    def folds(self) -> list[tuple[Fold, ...]]:
        return [split.folds for split in self.splits]

    def existing(self) -> list[Run]:
        """Runs of this ID in the store, the one to use first."""
        return by_precedence(self.inputs.store.runs(self.run_id))


def prepare(inputs: Inputs, spec: Spec) -> Prepared:
    """Draws the training sets and names the run; nothing is fitted.

    Errors: UsageError for a classifier that is unknown or can't fit the target, for shots of traits or numbers, and for
    a protocol that is of another target; BBError where a class has fewer images than a protocol draws.
    """
    if spec.protocol and spec.protocol.target != inputs.target:
        raise UsageError(
            f"--protocol {spec.protocol.name} scores {spec.protocol.target}, and the labels are {inputs.target}: "
            "choose another protocol, or leave it out."
        )
    estimator = spec.estimator(inputs.target)
    own = hasattr(estimator, "parameters")
    parameters = {
        "preprocessing": spec.how,
        "estimator": estimator.parameters() if own else {},
        "split_by": inputs.splits[0].by,
    }
    if not CLASSIFIERS.plugins[spec.classifier].own:
        parameters["code"] = CLASSIFIERS.plugins[spec.classifier].tree_hash()
    splits = tuple(map(spec.draw, inputs.splits))
    folds = [split.folds for split in splits]
    used = np.unique(
        np.concatenate([task_ids for each in folds for fold in each for task_ids in (_fitted(fold)[0], fold.test_ids)])
    )
    rows = np.ascontiguousarray(inputs.rows_of(used))
    identity = {
        "protocol": PROTOCOL,
        "tasks": inputs.tasks,
        "target": inputs.target,
        "classifier": spec.classifier,
        "parameters": parameters,
        "shots": spec.shots,
        "backend": ["bb", versions(["backbone-bench"])["backbone-bench"]],
        "classes": [[split.task.name, list(split.task.classes)] for split in inputs.splits],
        "train": [[side.tolist() for side in _fitted(fold)[:2]] for each in folds for fold in each],
        "test": _test_set(folds),
        "features": [used.tolist(), str(rows.dtype), list(rows.shape), sha256_hex(rows.view(np.uint8).data)],
    }
    if spec.protocol:
        plugin = PROTOCOLS.plugins.get(spec.protocol.name)
        code = [] if plugin is None or plugin.own else [plugin.tree_hash()]
        held_out = [fold.task.ids[fold.val].tolist() for each in folds for fold in each]
        identity["published"] = [spec.protocol.name, spec.setting, spec.seed, held_out, *code]
    return Prepared(inputs, spec, splits, parameters, digest_of(_plain(identity)))


def execute(prepared: Prepared, *, progress: Callable[[int], None] = lambda done: None) -> Run:
    """Fits, predicts, scores and publishes. `progress` is told how many folds are done.

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
        fitted = []
        for fold in split.folds:
            answered, parameters = answer(inputs, spec, fold)
            fitted.append(answered)
            chosen.setdefault(split.task.name, []).append(parameters)
            done += 1
            progress(done)
        answers += [Answers.join(fitted, split)] if split.by in ("random", "group") else fitted
        said = [*split.notes, *(note for fold in split.folds for note in fold.notes)]
        said += [split.no_interval] if split.no_interval else []
        if said:
            notes[split.task.name] = list(dict.fromkeys(said))
    seconds = time.monotonic() - clock
    # What a protocol tests is known once it is drawn; else leaks are of the whole pool, whatever the shots.
    divided = prepared.splits if spec.protocol and spec.protocol.pool == "all" else inputs.splits
    leaks = [split_leaks(split, inputs.collection) for split in divided]
    main = spec.protocol.metric if spec.protocol else None
    leaked = {(task, image_id) for each in leaks for task, twins in each.twins.items() for image_id in twins}
    if inputs.missing:
        notes["all tasks"] = [note_on(inputs.missing)]
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
        "backend_version": versions(["backbone-bench"])["backbone-bench"],
        "identical_to_sklearn": False,
        "test_set": digest_of(_test_set(prepared.folds)),
        "train_pool": digest_of(_plain(_train_pool(inputs.splits, with_val=spec.protocol is not None))),
        "train_used": digest_of(_plain(_train_pool(prepared.splits, with_val=spec.protocol is not None))),
        **({"published": spec.protocol.record(spec.setting)} if spec.protocol else {}),
        "split_by": inputs.splits[0].by,
        "class_names": {split.task.name: list(split.task.classes) for split in inputs.splits},
        "labels_name": inputs.tasks,
        "space": inputs.space.key,
        "adopted": inputs.store.lenders(inputs.space, inputs.collection.digests(inputs.image_ids.tolist())),
        "collection": inputs.collection.digest,
        "collection_name": inputs.collection.name,
        "backbones": inputs.store.backbones(inputs.space),
        "scores": score(answers, main),
        "leaks": {task: found for each in leaks for task, found in each.record().items()},
        "scores_without_leaks": score([a for answer in answers if (a := answer.without(leaked))], main)
        if leaked
        else None,
        "labels_notes": [*inputs.notes, *(note for each in leaks for note in each.notes)],
        "hyperparameters": chosen,
        "notes": notes,
        "damaged": damage_record(inputs.damaged()),
        **missing_record(inputs.missing, inputs.max_missing, inputs.same_images_as, inputs.space),
        "provenance": {
            "made": started.isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "versions": versions(VERSIONS),
            "commit": commit(),
        },
    }
    predictions = pl.concat([answer.frame() for answer in answers])
    train = pl.concat([_train(fold) for each in prepared.folds for fold in each])
    return inputs.store.put_run(_plain(record), predictions, train)


def answer(inputs: Inputs, spec: Spec, fold: Fold) -> tuple[Answers, dict[str, Any]]:
    """What a classifier fitted on a fold's training images says of its test images."""
    train_ids, y_train, held_out = _fitted(fold)
    x_train, x_test = preprocess(spec.how, inputs.rows_of(train_ids), inputs.rows_of(fold.test_ids))
    estimator = spec.estimator(inputs.target)
    if inputs.target == "traits":
        y_train = np.where(y_train == UNSEEN, np.nan, y_train.astype(np.float64))
    try:
        estimator.fit(x_train, y_train, **({} if held_out is None else {"held_out": held_out}))
    except (BBError, ValueError) as error:
        raise BBError(f"task {fold.task.name!r}, {fold.name}: {error}") from None
    decision = _decision(estimator, x_test, fold, inputs.target)
    if decision is not None and inputs.target == "classes" and hasattr(estimator, "parameters"):
        predicted = decision.argmax(axis=1)  # the contract of bb's own, at half the price
    else:
        predicted = np.asarray(estimator.predict(x_test))
    given = hasattr(estimator, "predict_proba") and inputs.target == "classes"
    probabilities = _spread(estimator.predict_proba(x_test), estimator.classes_, fold) if given else None
    parameters = dict(getattr(estimator, "parameters_", {}))
    return Answers(fold.name, fold.task, fold.test, predicted, decision, probabilities), parameters


def _fitted(
    fold: Fold,
) -> tuple[Shaped[np.ndarray, " n"], Shaped[np.ndarray, "n ..."], Int64[np.ndarray, " n"] | None]:
    """IDs and labels of what is fitted, training rows and then validation, and `held_out` of an estimator's `fit`.

    None in place of the last where nothing is held out.
    """
    if not len(fold.val):
        return fold.train_ids, fold.train_y, None
    rows = np.concatenate([fold.train, fold.val])
    held_out = np.repeat([NEVER, 0], [len(fold.train), len(fold.val)])
    return fold.task.ids[rows], fold.task.y[rows], held_out


def _decision(estimator: Any, x: Num[np.ndarray, "m d"], fold: Fold, target: str) -> Float64[np.ndarray, "m k"] | None:
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
    return _spread(scores, estimator.classes_, fold, least=-np.inf)


def _spread(
    values: Float64[np.ndarray, "m k"], classes: Int64[np.ndarray, " k"], fold: Fold, least: float = 0.0
) -> Float64[np.ndarray, "m classes"]:
    """Columns for all classes of the task; those that were not trained on get the least."""
    whole = np.full((len(values), len(fold.task.classes)), least)
    whole[:, classes] = values
    return whole


def _test_set(folds: Sequence[Sequence[Fold]]) -> list[list[Any]]:
    """What a run is tested on, and what its intervals take for units: others can't be compared with it."""
    return [
        [
            fold.task.name,
            fold.name,
            fold.test_ids.tolist(),
            fold.test_y.tolist(),
            None if fold.task.group is None else fold.task.group[fold.test].tolist(),
        ]
        for each in folds
        for fold in each
    ]


def _train_pool(splits: Sequence[Split], *, with_val: bool) -> list[Any]:
    """What training sets are drawn from: scores after training on other images, or on other labels, don't compare."""
    folds = [fold if with_val else replace(fold, val=NONE) for split in splits for fold in split.folds]
    return [
        [
            fold.task.name,
            list(fold.task.classes),
            sorted(zip(*(side.tolist() for side in _fitted(fold)[:2]), strict=True)),
        ]
        for fold in folds
    ]


def _train(fold: Fold) -> pl.DataFrame:
    """Rows as fitted; traits one below another, without those that are unknown."""
    ids, y, _ = _fitted(fold)
    if y.ndim == 2:
        names = np.array([f"{fold.task.name}:{trait}" for trait in fold.task.classes])
        row, trait = np.nonzero(y != UNSEEN)
        task, ids, y = names[trait], ids[row], y[row, trait]
    else:
        task = np.full(len(y), fold.task.name)
    return pl.DataFrame({"task": task, "image_id": ids, "fold": [fold.name] * len(ids), "y": y.astype(np.float64)})


def _plain(value: Any) -> Any:
    """JSON's own types: no tuples, no numpy."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value
