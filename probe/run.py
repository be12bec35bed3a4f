"""One run: one protocol on one task family, one feature space, one n_train, one seed; from the store and back to it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Num, Shaped

from bb.probe.classifiers.choose_engine import SplitEngine, choose, is_small
from bb.probe.classifiers.engine import Engine, FitResult, Problem, Size, check_classes
from bb.probe.classifiers.protocol import Classifier, PluginClassifier, Protocol, candidates_of, kind_of
from bb.probe.features.damaged_images import damage_record, damaged_images
from bb.probe.features.extraction import extraction
from bb.probe.features.missing import missing_record, note_on
from bb.probe.git_commit import commit
from bb.probe.run_records import newt_problem
from bb.probe.scores import score
from bb.probe.tasks.few_shot import SEED_OF_ALL, NTrain, Sample, check_seed, sample, takes_all
from bb.probe.tasks.leaks import find_leaks
from bb.probe.tasks.newt import Labels
from bb.store import Collection, FeatureSpace, Store
from bb.store.files.canonical_json import digest_of, sha256_hex
from bb.store.local.runs import Run, by_precedence
from bb.store.versions import versions

AGREEMENT_TASKS = 8
ALL_TASKS = "all tasks"  # among the names of tasks in a run's notes
VERSIONS = ("backbone-bench", "numba", "numpy", "polars", "scikit-learn", "scipy")


@dataclass(frozen=True, eq=False)
class FamilyInputs:
    """What the runs over one feature space share: labels, and the features of their images, read once.

    image_ids    every image that some task needs, sorted
    features     (n, d) in the stored dtype, in that order
    labels_name  what a person calls the table of labels; None where it is the task family's usual one
    notes        what a reader of the scores should know of the features
    """

    store: Store
    space: FeatureSpace
    collection: Collection
    labels: Labels
    tasks: str
    image_ids: Shaped[np.ndarray, " n"]
    features: Num[np.ndarray, "n d"]
    labels_name: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        store: Store,
        space: FeatureSpace,
        collection: Collection,
        labels: Labels,
        tasks: str,
        labels_name: str | None = None,
    ) -> "FamilyInputs":
        """Errors: MissingRows where the space does not have images that the labels name."""
        image_ids = labels.image_ids
        features = store.read(space, collection, image_ids)
        notes = tuple(store.disagreements(space, collection.digests(image_ids)))
        return cls(store, space, collection, labels, tasks, np.array(image_ids), features, labels_name, notes)

    def damaged(self) -> dict[str, str]:
        """Of the images, by ID, those that were damaged when they were embedded, and how."""
        return damaged_images(self.store, self.space, self.collection, self.image_ids.tolist())

    def rows_of(self, image_ids: np.ndarray) -> np.ndarray:
        """Features of some images, (m, d)."""
        return self.features[np.searchsorted(self.image_ids, image_ids)]


@dataclass(frozen=True)
class FamilySpec:
    """What is asked of a run apart from its inputs. `kind` is the classifier as `--svm` takes it."""

    protocol: Protocol
    n_train: NTrain
    seed: int
    kind: str
    backend: str
    announce: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        """Errors: UsageError for a seed that no report could read."""
        check_seed(self.seed)

    @property
    def classifier(self) -> Classifier:
        return self.protocol.classifier(self.n_train, self.kind)

    def on(self, labels: Labels) -> "FamilySpec":
        """The same request as "all" where it uses every training image of every task, with the same classifier."""
        if not all(takes_all(task, self.n_train) for task in labels.tasks):
            return self
        usual = self.protocol.classifier("all", self.kind)
        kind = self.kind if usual == self.classifier else kind_of(self.classifier)
        return replace(self, n_train="all", seed=SEED_OF_ALL, kind=kind)


@dataclass(frozen=True)
class PreparedRun:
    """A run that can be looked up or made: its ID covers all that decides the outcome."""

    inputs: FamilyInputs
    spec: FamilySpec
    samples: tuple[Sample, ...]
    engine: Engine
    run_id: str

    def existing(self) -> list[Run]:
        """Runs of this ID in the store that can be read, the one to use first."""
        return by_precedence(run for run in self.inputs.store.runs(self.run_id) if newt_problem(run.record) is None)


def prepare(inputs: FamilyInputs, spec: FamilySpec) -> PreparedRun:
    """Draws the training sets, checks that they can be fitted, and names the run. Nothing is fitted.

    A request for at least as many training images as there are is the run of "all", whatever its seed.

    The ID is SHA-256 of the canonical JSON of: protocol and its parameters, kind of SVM, ordered training and test
    IDs with labels, SHA-256 of the feature rows used, backend and its version, n_train, seed.
    """
    spec = spec.on(inputs.labels)
    samples = tuple(sample(task, spec.n_train, spec.seed) for task in inputs.labels.tasks)
    for drawn in samples:
        check_classes(drawn.task, drawn.y, spec.classifier)
    dim = inputs.features.shape[1]
    sizes = [Size(len(s.y), len(t.test_y), dim) for s, t in zip(samples, inputs.labels.tasks, strict=True)]
    engine = choose(spec.backend, sizes, spec.classifier, spec.announce)
    used = np.unique(np.concatenate([*(s.image_ids for s in samples), *(t.test_ids for t in inputs.labels.tasks)]))
    rows = np.ascontiguousarray(inputs.rows_of(used))
    identity = {
        "tasks": inputs.tasks,
        "protocol": spec.protocol.name,
        "parameters": spec.protocol.parameters(),
        "svm": kind_of(spec.classifier),
        "n_train": spec.n_train,
        "seed": _seed(spec),
        "backend": [engine.name, engine.version],
        "train": [[s.task, s.image_ids.tolist(), s.y.tolist()] for s in samples],
        "test": _test_set(inputs.labels),
        "features": [used.tolist(), str(rows.dtype), list(rows.shape), sha256_hex(rows.view(np.uint8).data)],
    }
    if isinstance(spec.classifier, PluginClassifier):
        identity["classifier_code"] = spec.classifier.code
    return PreparedRun(inputs, spec, samples, engine, digest_of(identity))


def execute(prepared: PreparedRun, *, jobs: int, progress: Callable[[int], None] = lambda done: None) -> Run:
    """Fits, predicts, scores and publishes. `progress` gets how many tasks are finished.

    Errors: BBError naming the task that can't be fitted; then nothing is published.
    """
    inputs, spec = prepared.inputs, prepared.spec
    inputs.store.check_writable("runs", "local")
    started, clock = datetime.now(UTC), time.monotonic()
    outcomes: dict[str, FitResult] = {}
    for outcome in prepared.engine.solve(_problems(prepared), spec.classifier, jobs=jobs):
        outcomes[outcome.task] = outcome
        progress(len(outcomes))
    seconds = time.monotonic() - clock
    predictions = _predictions(inputs.labels, outcomes)
    train = pl.concat(
        [pl.DataFrame({"task": [s.task] * len(s.y), "image_id": s.image_ids, "y": s.y}) for s in prepared.samples]
    )
    leaks = find_leaks(inputs.labels, inputs.collection)
    unleaked = leaks.without(predictions)
    notes = {s.task: [*s.notes, *outcomes[s.task].notes] for s in prepared.samples}
    notes["features"] = list(inputs.notes)
    if inputs.labels.missing:
        notes[ALL_TASKS] = [note_on(inputs.labels.missing)]
    record = {
        "run_id": prepared.run_id,
        "tasks": inputs.tasks,
        "protocol": spec.protocol.name,
        "parameters": spec.protocol.parameters(),
        "n_train": spec.n_train,
        "seed": _seed(spec),
        "classifier": kind_of(spec.classifier),
        "backend": prepared.engine.name,
        "backend_version": prepared.engine.version,
        "identical_to_sklearn": prepared.engine.identical,
        "agreement": _agreement(prepared, outcomes, jobs),
        "test_set": digest_of(_test_set(inputs.labels)),
        "train_pool": digest_of(_train_pool(inputs.labels)),
        "n_used": [min(used := [len(s.y) for s in prepared.samples]), max(used)],
        "labels_name": inputs.labels_name,
        "class_names": {task: list(names) for task, names in inputs.labels.class_names.items()},
        "pooling": inputs.space.output.get("pooling"),
        "width": inputs.features.shape[1],
        "view": dict(inputs.space.view),
        "candidates": candidates_of(spec.classifier),
        **({"classifier_code": spec.classifier.code} if isinstance(spec.classifier, PluginClassifier) else {}),
        "space": inputs.space.key,
        "adopted": inputs.store.adopted_from(inputs.space, inputs.collection.digests(inputs.labels.image_ids)),
        "collection": inputs.collection.digest,
        "collection_name": inputs.collection.name,
        "backbones": inputs.store.backbones(inputs.space),
        "scores": score(predictions),
        "leaks": leaks.record(),
        "scores_without_leaks": score(unleaked) if leaks and len(unleaked) else None,
        "labels_notes": [*inputs.labels.notes, *leaks.notes],
        "hyperparameters": {task: {**o.parameters, "cv_score": o.cv_score} for task, o in sorted(outcomes.items())},
        "notes": {task: lines for task, lines in sorted(notes.items()) if lines},
        "damaged": damage_record(inputs.damaged()),
        **missing_record(
            inputs.labels.missing,
            inputs.labels.max_missing,
            inputs.labels.same_images_as,
            inputs.space,
        ),
        "provenance": {
            "made": started.isoformat(timespec="microseconds"),  # so that no run done again is the same file
            "seconds": round(seconds, 3),
            "commit": commit(),
            "versions": versions(VERSIONS),
            "extraction": extraction(inputs.store, inputs.space),
        },
    }
    return inputs.store.put_run(record, predictions, train)


def _problems(prepared: PreparedRun) -> Iterator[Problem]:
    inputs = prepared.inputs
    for task, drawn in zip(inputs.labels.tasks, prepared.samples, strict=True):
        x_train, x_test = prepared.spec.protocol.preprocess(
            inputs.rows_of(drawn.image_ids), inputs.rows_of(task.test_ids)
        )
        yield Problem(task.name, x_train, drawn.y, x_test)


def _agreement(prepared: PreparedRun, outcomes: dict[str, FitResult], jobs: int) -> dict[str, Any] | None:
    """How far an engine that is not identical agrees with the exact one, on an even sample of the tasks.

    None for an engine that is identical, and where every task is too large for the exact one. Where two engines
    shared the tasks, the one for large tasks does the sample of small ones too: those it did can't be compared.
    """
    engine = prepared.engine
    if engine.identical:
        return None
    small = [problem for problem in _problems(prepared) if is_small(Size.of(problem))]
    sampled = {problem.task: problem for problem in small[:: -(-len(small) // AGREEMENT_TASKS) or 1]}
    exact = list(choose("exact").solve(sampled.values(), prepared.spec.classifier, jobs=jobs))
    if isinstance(engine, SplitEngine):
        again = engine.large.solve(sampled.values(), prepared.spec.classifier, jobs=jobs)
        outcomes = {outcome.task: outcome for outcome in again}
    equal = [expected.y_pred == outcomes[expected.task].y_pred for expected in exact]
    if not equal:
        return None
    chosen = [expected.parameters == outcomes[expected.task].parameters for expected in exact]
    return {
        "tasks": sorted(sampled),
        "predictions": float(np.concatenate(equal).mean()),
        "choices": float(np.mean(chosen)),
    }


def _predictions(labels: Labels, outcomes: dict[str, FitResult]) -> pl.DataFrame:
    tables = []
    for task in labels.tasks:
        outcome = outcomes[task.name]
        n = len(task.test_ids)
        tables.append(
            pl.DataFrame(
                {
                    "task": [task.name] * n,
                    "cluster": [task.cluster] * n,
                    "subcluster": pl.Series([task.subcluster] * n, dtype=pl.String),
                    "image_id": task.test_ids,
                    "y_true": task.test_y,
                    "y_pred": outcome.y_pred.astype(np.uint8),
                    "decision": outcome.decision,
                    "score": (outcome.y_pred == task.test_y).astype(np.float32),
                }
            )
        )
    return pl.concat(tables)


def _test_set(labels: Labels) -> list[list[Any]]:
    """What a run is tested on: runs of another set can't be compared with it."""
    return [[task.name, task.test_ids.tolist(), task.test_y.tolist()] for task in labels.tasks]


def _train_pool(labels: Labels) -> list[list[Any]]:
    """What training sets are drawn from: scores after training on another pool, or on other labels, don't compare."""
    return [[task.name, task.train_ids.tolist(), task.train_y.tolist()] for task in labels.tasks]


def _seed(spec: FamilySpec) -> int | None:
    """There is one way to take all images, so no seed."""
    return None if spec.n_train == "all" else spec.seed
