"""One run: one protocol on one task family, one feature space, one n_train, one seed; from the store and back to it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Num, Shaped

from probe.commit import commit
from probe.engine import Engine, Outcome, Problem, Size, Split, check_classes, choose, is_small
from probe.newt import Labels
from probe.protocol import Classifier, Protocol, candidates_of, kind_of
from probe.sampling import NTrain, Sample, sample
from probe.scores import score
from store import Collection, FeatureSpace, Store
from store.canonical import digest_of, sha256_hex
from store.runs import Run
from store.versions import versions

AGREEMENT_TASKS = 8
VERSIONS = ("backbone-bench", "numba", "numpy", "polars", "scikit-learn", "scipy")


@dataclass(frozen=True, eq=False)
class Inputs:
    """What the runs over one feature space share: labels, and the features of their images, read once.

    image_ids  every image that some task needs, sorted
    features   (n, d) in the stored dtype, in that order
    """

    store: Store
    space: FeatureSpace
    collection: Collection
    labels: Labels
    tasks: str
    image_ids: Shaped[np.ndarray, " n"]
    features: Num[np.ndarray, "n d"]

    @classmethod
    def read(cls, store: Store, space: FeatureSpace, collection: Collection, labels: Labels, tasks: str) -> "Inputs":
        """Errors: MissingRows where the space lacks images that the labels name."""
        image_ids = labels.image_ids
        features = store.read(space, collection, image_ids)
        return cls(store, space, collection, labels, tasks, np.array(image_ids), features)

    def rows_of(self, image_ids: np.ndarray) -> np.ndarray:
        """Features of some images, (m, d)."""
        return self.features[np.searchsorted(self.image_ids, image_ids)]


@dataclass(frozen=True)
class Spec:
    """What is asked of a run beside its inputs."""

    protocol: Protocol
    n_train: NTrain
    seed: int
    svm: str
    backend: str
    announce: Callable[[str], None] | None = None

    @property
    def classifier(self) -> Classifier:
        return self.protocol.classifier(self.n_train, self.svm)


@dataclass(frozen=True)
class Prepared:
    """A run that can be looked up or made: its ID covers all that decides the outcome."""

    inputs: Inputs
    spec: Spec
    samples: tuple[Sample, ...]
    engine: Engine
    run_id: str

    def existing(self) -> list[Run]:
        """Runs of this ID in the store."""
        return list(self.inputs.store.runs(self.run_id))


def prepare(inputs: Inputs, spec: Spec) -> Prepared:
    """Draws the training sets, checks that they can be fitted, and names the run. Nothing is fitted.

    The ID is SHA-256 of the canonical JSON of: protocol and its parameters, kind of SVM, ordered training and test
    IDs with labels, SHA-256 of the feature rows used, backend and its version, n_train, seed.
    """
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
    return Prepared(inputs, spec, samples, engine, digest_of(identity))


def execute(prepared: Prepared, *, jobs: int, progress: Callable[[int], None] = lambda done: None) -> Run:
    """Fits, predicts, scores and publishes. `progress` is told how many tasks are finished.

    Errors: BBError naming the task that can't be fitted; then nothing is published.
    """
    inputs, spec = prepared.inputs, prepared.spec
    started, clock = datetime.now(UTC), time.monotonic()
    outcomes: dict[str, Outcome] = {}
    for outcome in prepared.engine.solve(_problems(prepared), spec.classifier, jobs=jobs):
        outcomes[outcome.task] = outcome
        progress(len(outcomes))
    seconds = time.monotonic() - clock
    predictions = _predictions(inputs.labels, outcomes)
    train = pl.concat(
        [pl.DataFrame({"task": [s.task] * len(s.y), "image_id": s.image_ids, "y": s.y}) for s in prepared.samples]
    )
    notes = {s.task: [*s.notes, *outcomes[s.task].notes] for s in prepared.samples}
    record = {
        "run_id": prepared.run_id,
        "tasks": inputs.tasks,
        "protocol": spec.protocol.name,
        "parameters": spec.protocol.parameters(),
        "n_train": spec.n_train,
        "seed": _seed(spec),
        "svm": kind_of(spec.classifier),
        "backend": prepared.engine.name,
        "backend_version": prepared.engine.version,
        "identical_to_sklearn": prepared.engine.identical,
        "agreement": _agreement(prepared, outcomes, jobs),
        "test_set": digest_of(_test_set(inputs.labels)),
        "candidates": candidates_of(spec.classifier),
        "space": inputs.space.key,
        "adopted": inputs.store.lenders(inputs.space, inputs.collection.digests(inputs.labels.image_ids)),
        "collection": inputs.collection.digest,
        "collection_name": inputs.collection.name,
        "backbones": inputs.store.backbones(inputs.space),
        "scores": score(predictions),
        "hyperparameters": {task: {**o.parameters, "cv_score": o.cv_score} for task, o in sorted(outcomes.items())},
        "notes": {task: said for task, said in sorted(notes.items()) if said},
        "provenance": {
            "made": started.isoformat(timespec="microseconds"),  # so that no run done again is the same file
            "seconds": round(seconds, 3),
            "commit": commit(),
            "versions": versions(VERSIONS),
            "extraction": extraction(inputs.store, inputs.space),
        },
    }
    return inputs.store.put_run(record, predictions, train)


def _problems(prepared: Prepared) -> Iterator[Problem]:
    inputs = prepared.inputs
    for task, drawn in zip(inputs.labels.tasks, prepared.samples, strict=True):
        x_train, x_test = prepared.spec.protocol.preprocess(
            inputs.rows_of(drawn.image_ids), inputs.rows_of(task.test_ids)
        )
        yield Problem(task.name, x_train, drawn.y, x_test)


def _agreement(prepared: Prepared, outcomes: dict[str, Outcome], jobs: int) -> dict[str, Any] | None:
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
    if isinstance(engine, Split):
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


def _predictions(labels: Labels, outcomes: dict[str, Outcome]) -> pl.DataFrame:
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


def _seed(spec: Spec) -> int | None:
    """There is one way to take all images, so no seed."""
    return None if spec.n_train == "all" else spec.seed


def extraction(store: Store, space: FeatureSpace) -> list[dict[str, Any]]:
    """Library versions and devices of the segments, each distinct set once."""
    distinct: list[dict[str, Any]] = []
    origins = [origin for segment in store.readable(space) for origin in segment.origins]
    for origin in origins:
        facts = {key: value for key, value in sorted(origin.items()) if key != "made"}
        if facts not in distinct:
            distinct.append(facts)
    return distinct
