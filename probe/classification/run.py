"""One run on a task table: one feature space, one way of splitting, one classifier, one number of shots, one seed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64, Num, Shaped

from bb.probe.classification.scores import Answers, score
from bb.probe.classifiers.estimator import make
from bb.probe.classifiers.preprocess import PREPROCESSING, ROW_BY_ROW, preprocess, row_by_row
from bb.probe.classifiers.registry import CLASSIFIERS
from bb.probe.features.damaged_images import damage_record, damaged_images
from bb.probe.features.missing import missing_record, note_on
from bb.probe.git_commit import commit
from bb.probe.tasks.few_shot import check_seed
from bb.probe.tasks.fold import UNSEEN, Fold, Shots, Split, draw_shots
from bb.probe.tasks.leaks import Leaks, split_leaks
from bb.store import Collection, FeatureSpace, Store
from bb.store.errors import BBError, UsageError
from bb.store.files.canonical_json import canonical_json, digest_of_parts, sha256_hex
from bb.store.local.runs import Run, by_precedence
from bb.store.versions import versions

PROTOCOL = "classify"
PLAIN = {str, int, float, bool, type(None)}
VERSIONS = ("backbone-bench", "numba", "numpy", "polars", "scikit-learn", "scipy")
# What a classifier is published with; the others get NeWT's centred unit vectors.
HASHED = 4096  # rows of features that are hashed at once
KEPT = 2**29  # bytes of test features that are kept for the runs to come
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
    ) -> "Inputs":
        """Errors: MissingRows where the space lacks images of the splits."""
        image_ids = sorted({image_id for split in splits for image_id in split.task.ids.tolist()})
        features = store.read(space, collection, image_ids)
        disagreements = store.disagreements(space, collection.digests(image_ids))
        return cls(
            store, space, collection, tasks, tuple(splits), np.array(image_ids), features, dict(missing or {}),
            (*notes, *disagreements),
        )  # fmt: skip

    def rows_of(self, image_ids: Shaped[np.ndarray, " m"]) -> Num[np.ndarray, "m d"]:
        return self.features[np.searchsorted(self.image_ids, image_ids)]

    @property
    def target(self) -> str:
        return self.splits[0].task.target

    def damaged(self) -> dict[str, str]:
        """Of the images, by ID, those that were damaged when they were embedded, and how."""
        return damaged_images(self.store, self.space, self.collection, self.image_ids.tolist())

    def test_rows(self, fold: Fold, how: str) -> Num[np.ndarray, "m d"]:
        """Features of a fold's test images; where preprocessing knows of no other row, they are preprocessed."""
        key = id(fold.test), how if how in ROW_BY_ROW else "none"
        if key not in self._test_rows:
            rows = self.rows_of(fold.test_ids).astype(np.float32, copy=False)
            rows = row_by_row(key[1], rows)
            if rows.nbytes + sum(kept.nbytes for _, kept in self._test_rows.values()) > KEPT:
                return rows
            self._test_rows[key] = fold.test, rows
        return self._test_rows[key][1]

    @cached_property
    def _test_rows(self) -> dict[tuple[int, str], tuple[Any, Num[np.ndarray, "m d"]]]:
        return {}

    @cached_property
    def test_set(self) -> bytes:
        """Canonical JSON of what runs are tested on."""
        return canonical_json(_plain(_test_set([split.folds for split in self.splits])))

    @cached_property
    def train_pool(self) -> str:
        return sha256_hex(canonical_json(_plain(_train_pool(self.splits))))

    @cached_property
    def leaks(self) -> list[Leaks]:
        return [split_leaks(split, self.collection) for split in self.splits]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What every run's record says of the images and their features."""
        return {
            "space": self.space.key,
            "adopted": self.store.lenders(self.space, self.collection.digests(self.image_ids.tolist())),
            "collection": self.collection.digest,
            "collection_name": self.collection.name,
            "backbones": self.store.backbones(self.space),
            "damaged": damage_record(self.damaged()),
            **missing_record(self.missing, None),
        }

    def draw(self, shots: Shots, seed: int) -> "Draw":
        """The training sets of one number of shots and one seed; those of the last call are kept."""
        seed = 0 if shots == "all" else seed
        if (shots, seed) not in self._draws:
            self._draws.clear()
            folds = tuple(tuple(draw_shots(fold, shots, seed) for fold in split.folds) for split in self.splits)
            train = [[fold.train_ids.tolist(), fold.train_y.tolist()] for each in folds for fold in each]
            parts = {"train": canonical_json(_plain(train)), "features": self._used(folds), "test": self.test_set}
            self._draws[shots, seed] = Draw(folds, parts)
        return self._draws[shots, seed]

    @cached_property
    def _draws(self) -> "dict[tuple[Shots, int], Draw]":
        return {}

    def _used(self, folds: Sequence[Sequence[Fold]]) -> bytes:
        """Canonical JSON of which images are trained and tested on, and the digest of their features."""
        wanted = np.zeros(len(self.image_ids), bool)
        for fold in (fold for each in folds for fold in each):
            for side in (fold.train_ids, fold.test_ids):
                wanted[np.searchsorted(self.image_ids, side)] = True
        rows, features = np.flatnonzero(wanted), sha256()
        for start in range(0, len(rows), HASHED):
            some = np.ascontiguousarray(self.features[rows[start : start + HASHED]])
            features.update(some.view(np.uint8).data)
        shape = [len(rows), *self.features.shape[1:]]
        return canonical_json([self.image_ids[rows].tolist(), str(self.features.dtype), shape, features.hexdigest()])


@dataclass(frozen=True, eq=False)
class Draw:
    """Training sets, and what the IDs of all runs on them have in common: canonical JSON by key."""

    folds: tuple[tuple[Fold, ...], ...]
    parts: dict[str, bytes]


@dataclass(frozen=True)
class Spec:
    """What is asked of a run beside its inputs; `preprocessing` may be "auto"."""

    classifier: str
    preprocessing: str = "auto"
    shots: Shots = "all"
    seed: int = 0

    def __post_init__(self) -> None:
        """Errors: UsageError for a seed that no report could read."""
        check_seed(self.seed)

    @property
    def how(self) -> str:
        return usual_preprocessing(self.classifier) if self.preprocessing == "auto" else self.preprocessing


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run that can be looked up or made: its ID covers all that decides the outcome."""

    inputs: Inputs
    spec: Spec
    folds: tuple[tuple[Fold, ...], ...]
    parameters: dict[str, Any]
    run_id: str

    def existing(self) -> list[Run]:
        """Runs of this ID in the store, the one to use first."""
        return by_precedence(self.inputs.store.runs(self.run_id))


def prepare(inputs: Inputs, spec: Spec) -> Prepared:
    """Draws the training sets and names the run; nothing is fitted.

    Errors: UsageError for a classifier that is unknown or can't fit the target, and for shots of traits or numbers.
    """
    estimator = make(spec.classifier, inputs.target)  # type: ignore[arg-type]
    own = hasattr(estimator, "parameters")
    parameters = {
        "preprocessing": spec.how,
        "estimator": estimator.parameters() if own else {},
        "split_by": inputs.splits[0].by,
    }
    if not CLASSIFIERS.plugins[spec.classifier].own:
        parameters["code"] = CLASSIFIERS.plugins[spec.classifier].tree_hash()
    draw = inputs.draw(spec.shots, spec.seed)
    identity = {
        "protocol": PROTOCOL,
        "tasks": inputs.tasks,
        "target": inputs.target,
        "classifier": spec.classifier,
        "parameters": parameters,
        "shots": spec.shots,
        "backend": ["bb", _versions()["backbone-bench"]],
        "classes": [[split.task.name, list(split.task.classes)] for split in inputs.splits],
    }
    own_parts = {key: canonical_json(_plain(value)) for key, value in identity.items()}
    return Prepared(inputs, spec, draw.folds, parameters, digest_of_parts({**own_parts, **draw.parts}))


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
    for split, folds in zip(inputs.splits, prepared.folds, strict=True):
        fitted = []
        for fold in folds:
            answer, parameters = _answer(inputs, spec, fold)
            fitted.append(answer)
            chosen.setdefault(split.task.name, []).append(parameters)
            done += 1
            progress(done)
        answers += [Answers.join(fitted, split)] if split.by in ("random", "group") else fitted
        said = [*split.notes, *(note for fold in folds for note in fold.notes)]
        said += [split.no_interval] if split.no_interval else []
        if said:
            notes[split.task.name] = list(dict.fromkeys(said))
    seconds = time.monotonic() - clock
    leaks = inputs.leaks
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
        "backend_version": _versions()["backbone-bench"],
        "identical_to_sklearn": False,
        "test_set": sha256_hex(inputs.test_set),
        "train_pool": inputs.train_pool,
        "split_by": inputs.splits[0].by,
        "class_names": {split.task.name: list(split.task.classes) for split in inputs.splits},
        "labels_name": inputs.tasks,
        **inputs.facts,
        "scores": score(answers),
        "leaks": {task: found for each in leaks for task, found in each.record().items()},
        "scores_without_leaks": score([a for answer in answers if (a := answer.without(leaked))]) if leaked else None,
        "labels_notes": [*inputs.notes, *(note for each in leaks for note in each.notes)],
        "hyperparameters": chosen,
        "notes": notes,
        "provenance": {
            "made": started.isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "versions": _versions(),
            "commit": commit(),
        },
    }
    predictions = pl.concat([answer.frame() for answer in answers])
    train = pl.concat([_train(fold) for each in prepared.folds for fold in each])
    return inputs.store.put_run(_plain(record), predictions, train)


def _answer(inputs: Inputs, spec: Spec, fold: Fold) -> tuple[Answers, dict[str, Any]]:
    """What a classifier fitted on a fold's training images says of its test images."""
    x_train, x_test = inputs.rows_of(fold.train_ids), inputs.test_rows(fold, spec.how)
    if spec.how in ROW_BY_ROW:
        x_train = row_by_row(spec.how, x_train.astype(np.float32, copy=False))
    else:
        x_train, x_test = preprocess(spec.how, x_train, x_test)
    estimator = make(spec.classifier, inputs.target)  # type: ignore[arg-type]
    y_train = fold.train_y
    if inputs.target == "traits":
        y_train = np.where(y_train == UNSEEN, np.nan, y_train.astype(np.float64))
    try:
        estimator.fit(x_train, y_train)
    except (BBError, ValueError) as error:
        raise BBError(f"task {fold.task.name!r}, {fold.name}: {error}") from None
    decision = _decision(estimator, x_test, inputs.target)
    if decision is not None and inputs.target == "classes" and hasattr(estimator, "parameters"):
        predicted = estimator.classes_[decision.argmax(axis=1)]  # the contract of bb's own, at half the price
    else:
        predicted = np.asarray(estimator.predict(x_test))
    given = hasattr(estimator, "predict_proba") and inputs.target == "classes"
    probabilities = None
    if given:
        again = decision is None or not hasattr(estimator, "proba_of")
        shares = estimator.predict_proba(x_test) if again else estimator.proba_of(decision)
        probabilities = _spread(shares, estimator.classes_, fold)
    parameters = dict(getattr(estimator, "parameters_", {}))
    if decision is not None and inputs.target == "classes":
        decision = _spread(decision, estimator.classes_, fold, least=-np.inf)
    return Answers(fold.name, fold.task, fold.test, predicted, decision, probabilities), parameters


def _decision(estimator: Any, x: Num[np.ndarray, "m d"], target: str) -> Float64[np.ndarray, "m k"] | None:
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


def _train_pool(splits: Sequence[Split]) -> list[Any]:
    """What training sets are drawn from: scores after training on other images, or on other labels, don't compare."""
    return [
        [
            split.task.name,
            list(split.task.classes),
            sorted(zip(fold.train_ids.tolist(), fold.train_y.tolist(), strict=True)),
        ]
        for split in splits
        for fold in split.folds
    ]


def _train(fold: Fold) -> pl.DataFrame:
    """Rows as fitted; traits one below another, without those that are unknown."""
    y = fold.train_y
    if y.ndim == 2:
        names = np.array([f"{fold.task.name}:{trait}" for trait in fold.task.classes])
        row, trait = np.nonzero(y != UNSEEN)
        task, ids, y = names[trait], fold.train_ids[row], y[row, trait]
    else:
        task, ids = np.full(len(y), fold.task.name), fold.train_ids
    return pl.DataFrame({"task": task, "image_id": ids, "fold": [fold.name] * len(ids), "y": y.astype(np.float64)})


@cache
def _versions() -> dict[str, str]:
    return versions(VERSIONS)


def _plain(value: Any) -> Any:
    """JSON's own types: no tuples, no numpy."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        if isinstance(value, list) and set(map(type, value)) <= PLAIN:
            return value
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value
