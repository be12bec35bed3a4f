"""One run on a task table: one feature space, one way of splitting, one classifier, one number of shots, one seed.

With a published protocol the classifier, its parameters, preprocessing and draws are the protocol's
(probe/classification/published/), and all of it is part of the run's identity.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64, Num, Shaped

from bb.probe.classification.open_set import UNKNOWN, loss_of, with_unknown
from bb.probe.classification.pool_groups import Pooling
from bb.probe.classification.published.protocol import NONE, PublishedProtocol
from bb.probe.classification.published.registry import PROTOCOLS
from bb.probe.classification.scores import Answers, score
from bb.probe.classifiers.estimator import NEVER, Target, make
from bb.probe.classifiers.preprocess import PREPROCESSING, ROW_BY_ROW, preprocess, row_by_row
from bb.probe.classifiers.registry import CLASSIFIERS
from bb.probe.features.damaged_images import damage_record, damaged_images
from bb.probe.features.extraction import extraction
from bb.probe.features.missing import missing_record, note_on
from bb.probe.git_commit import commit
from bb.probe.tasks.few_shot import check_seed
from bb.probe.tasks.fold import UNSEEN, Fold, Shots, Split, draw_shots
from bb.probe.tasks.leaks import Leaks, split_leaks
from bb.store import Collection, FeatureSpace, Store
from bb.store.errors import BBError, UsageError
from bb.store.files.canonical_json import canonical_json, digest_of_parts, sha256_hex
from bb.store.local.runs import Run, by_precedence
from bb.store.local.stored_rows import StoredRows, blocks
from bb.store.versions import versions

PROTOCOL = "classify"
PLAIN = {str, int, float, bool, type(None)}
MAX_GROUP_NAMES = 10_000  # of a task, that a run keeps
VERSIONS = ("backbone-bench", "numba", "numpy", "polars", "scikit-learn", "scipy")
HASHED = 4096  # rows of features that are hashed at once
KEPT = 2**29  # bytes of test features that are kept for the runs to come
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


@dataclass(frozen=True, eq=False)
class Inputs:
    """What runs over one feature space share: the splits of a table's tasks, and the features of their images.

    tasks     what the table of labels is called
    splits    one for each task, all made in one way
    features  (n, d) in the stored dtype (pooled: float32), of `image_ids`, which are sorted; of patches (n, p, d), read
              when they are asked for
    missing   images that were left out since they have no features, with reasons
    max_missing, same_images_as  the share of them that was allowed if given, and keys of the spaces that lack them
    notes     what a reader of the scores should know
    pooling   of which images each of `image_ids` is made; None where each is one image
    """

    store: Store
    space: FeatureSpace
    collection: Collection
    tasks: str
    splits: tuple[Split, ...]
    image_ids: Shaped[np.ndarray, " n"]
    features: Num[np.ndarray, "n d"] | StoredRows
    missing: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pooling: Pooling | None = None
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
        pooling: Pooling | None = None,
        max_missing: float | None = None,
        same_images_as: tuple[str, ...] = (),
    ) -> "Inputs":
        """Errors: MissingRows where the space lacks images of the splits."""
        image_ids = sorted({image_id for split in splits for image_id in split.task.ids.tolist()})
        images = pooling.images(image_ids) if pooling else image_ids
        features: np.ndarray | StoredRows
        if pooling:
            features = pooling.features(image_ids, partial(store.read, space, collection))
        elif space.kind == "patch":
            features = store.open_rows(space, collection, image_ids)
        else:
            features = store.read(space, collection, image_ids)
        disagreements = store.disagreements(space, collection.digests(images))
        return cls(
            store, space, collection, tasks, tuple(splits), np.array(image_ids), features, dict(missing or {}),
            (*notes, *disagreements), pooling, max_missing, same_images_as,
        )  # fmt: skip

    def rows_of(self, image_ids: Shaped[np.ndarray, " m"]) -> Num[np.ndarray, "m d"] | StoredRows:
        rows = np.searchsorted(self.image_ids, image_ids)
        return self.features.take(rows) if isinstance(self.features, StoredRows) else self.features[rows]

    @property
    def target(self) -> str:
        return self.splits[0].task.target

    @property
    def images(self) -> list[str]:
        """IDs of all images whose features are used."""
        ids = self.image_ids.tolist()
        return self.pooling.images(ids) if self.pooling else ids

    def damaged(self) -> dict[str, str]:
        """Of the images, by ID, those that were damaged when they were embedded, and how."""
        return damaged_images(self.store, self.space, self.collection, self.images)

    def sides(
        self, fold: Fold, how: str
    ) -> tuple[Num[np.ndarray, "n d"] | StoredRows, Num[np.ndarray, "m d"] | StoredRows]:
        """Preprocessed features of what is fitted and tested. Test rows are kept, ready where no other row counts."""
        x_train = self.rows_of(_fitted(fold)[0])
        if not isinstance(x_train, np.ndarray):
            return x_train, self.rows_of(fold.test_ids)
        key = id(fold.test), how if how in ROW_BY_ROW else "none"
        x_test = self._test_rows.get(key)
        if x_test is None:
            x_test = row_by_row(key[1], np.asarray(self.rows_of(fold.test_ids)).astype(np.float32, copy=False))
            kept = x_test.nbytes + sum(each.nbytes for each in self._test_rows.values())
            if key[0] in self._tests and kept <= KEPT:
                self._test_rows[key] = x_test
        if how in ROW_BY_ROW:
            return row_by_row(how, x_train.astype(np.float32, copy=False)), x_test
        return preprocess(how, x_train, x_test)

    @cached_property
    def _test_rows(self) -> dict[tuple[int, str], Num[np.ndarray, "m d"]]:
        return {}

    @cached_property
    def _tests(self) -> set[int]:
        """The test sets that no protocol draws: several runs have them."""
        return {id(fold.test) for split in self.splits for fold in split.folds}

    @cached_property
    def test_set(self) -> bytes:
        """Canonical JSON of what runs are tested on."""
        return canonical_json(_plain(_test_set([split.folds for split in self.splits])))

    def train_pool(self, *, with_val: bool) -> str:
        """A digest of what training sets are drawn from."""
        if with_val not in self._train_pools:
            pool = _train_pool(self.splits, with_val=with_val)
            self._train_pools[with_val] = sha256_hex(canonical_json(_plain(pool)))
        return self._train_pools[with_val]

    @cached_property
    def _train_pools(self) -> dict[bool, str]:
        return {}

    @cached_property
    def leaks(self) -> list[Leaks]:
        return self.leaks_of(self.splits)

    def leaks_of(self, splits: Sequence[Split]) -> list[Leaks]:
        members = self.pooling.members if self.pooling else {}
        return [split_leaks(split, self.collection, members) for split in splits]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What every run's record says of the images and their features."""
        return {
            "space": self.space.key,
            "adopted": self.store.lenders(self.space, self.collection.digests(self.images)),
            "collection": self.collection.digest,
            "collection_name": self.collection.name,
            "backbones": self.store.backbones(self.space),
            "width": self.features.shape[-1],
            "view": dict(self.space.view),
            "damaged": damage_record(self.damaged()),
            **missing_record(self.missing, self.max_missing, self.same_images_as, self.space),
        }

    @cached_property
    def extraction(self) -> list[dict[str, Any]]:
        return extraction(self.store, self.space)

    def draw(self, spec: "Spec") -> "Draw":
        """The training sets of a run; those of the last call are kept."""
        drawn = spec.shots != "all" or spec.protocol is not None
        key = spec.protocol.name if spec.protocol else "", spec.shots, spec.seed if drawn else 0
        if spec.given or key not in self._draws:
            self._draws.clear()
            splits = tuple(map(spec.draw, self.splits))
            folds = [split.folds for split in splits]
            train = [[side.tolist() for side in _fitted(fold)[:2]] for each in folds for fold in each]
            # What such a protocol tests is known once it is drawn; else leaks are of the whole pool, for all shots.
            own = spec.protocol is not None and spec.protocol.pool == "all"
            leaks = [] if spec.given else self.leaks_of(splits) if own else self.leaks
            every = [ids for each in folds for fold in each for ids in (_fitted(fold)[0], fold.test_ids)]
            used = np.unique(np.concatenate(every))
            rows = np.searchsorted(self.image_ids, used)
            shape = [len(rows), *self.features.shape[1:]]
            features = [used.tolist(), str(self.features.dtype), shape, _digest(self.features, rows)]
            parts = {
                "train": canonical_json(_plain(train)),
                "features": canonical_json(features),
                "test": canonical_json(_plain(_test_set(folds))) if own else self.test_set,
            }
            if self.pooling:
                parts["units"] = canonical_json(_plain([self.pooling.members[unit] for unit in used.tolist()]))
            self._draws[key] = Draw(splits, parts, leaks)
        return self._draws.pop(key) if spec.given else self._draws[key]

    @cached_property
    def _draws(self) -> "dict[tuple[str, Shots, int], Draw]":
        return {}


@dataclass(frozen=True, eq=False)
class Draw:
    """Training sets, and what all runs on them share: parts of their IDs as canonical JSON, by key; leaks."""

    splits: tuple[Split, ...]
    parts: dict[str, bytes]
    leaks: list[Leaks]

    @cached_property
    def _digests(self) -> dict[bool, str]:
        return {}

    def train_used(self, *, with_val: bool) -> str:
        """The digest of the training sets, as `Inputs.train_pool` has it: equal where they are the whole pool."""
        if with_val not in self._digests:
            pool = _train_pool(self.splits, with_val=with_val)
            self._digests[with_val] = sha256_hex(canonical_json(_plain(pool)))
        return self._digests[with_val]


@dataclass(frozen=True)
class Spec:
    """What is asked of a run beside its inputs; `preprocessing` may be "auto".

    protocol, setting  the published protocol that decides the rest, and which of its settings
    poisonous  of an open set the classes that FungiCLEF's loss takes for poisonous; None where it isn't asked for
    given  for each task an estimator that needs no training image, as of zero-shot classification; then `classifier` is
           a name for people, and shots are 0
    facts  what the record of such a run says besides
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
        folds = (draw_shots(fold, self.shots, self.seed) for fold in split.folds)
        return replace(split, folds=tuple(replace(fold, val=NONE) for fold in folds))


@dataclass(frozen=True, eq=False)
class Prepared:
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
    own = {key: canonical_json(_plain(value)) for key, value in identity.items()}
    return Prepared(inputs, spec, draw, parameters, digest_of_parts({**own, **draw.parts}))


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
        joined = split.by in ("random", "group")
        answers += [Answers.join(fitted, split, fitted=not spec.given)] if joined else fitted
        said = [*split.notes, *(note for fold in split.folds for note in fold.notes)]
        said += [split.no_interval] if split.no_interval else []
        if said:
            notes[split.task.name] = list(dict.fromkeys(said))
    seconds = time.monotonic() - clock
    leaks = prepared.draw.leaks
    main = spec.protocol.metric if spec.protocol else None
    more = None if spec.poisonous is None else partial(loss_of, poisonous=spec.poisonous)
    leaked = {(task, image_id) for each in leaks for task, twins in each.twins.items() for image_id in twins}
    unleaked = [kept for answer in answers if (kept := answer.without(leaked))]
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
        "scores_without_leaks": score(unleaked, main, more) if leaked and unleaked else None,
        "labels_notes": [*inputs.notes, *(note for each in leaks for note in each.notes)],
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
    return inputs.store.put_run(_plain(record), predictions, train)


def answer(inputs: Inputs, spec: Spec, fold: Fold) -> tuple[Answers, dict[str, Any]]:
    """What a classifier fitted on a fold's training images says of its test images."""
    _, y_train, held_out = _fitted(fold)
    x_train, x_test = inputs.sides(fold, spec.how)
    estimator = spec.estimator(fold.task.target, fold.task.name)
    if inputs.target == "traits":
        y_train = np.where(y_train == UNSEEN, np.nan, y_train.astype(np.float64))
    try:
        estimator.fit(x_train, y_train, **({} if held_out is None else {"held_out": held_out}))
    except (BBError, ValueError) as error:
        raise BBError(f"task {fold.task.name!r}, {fold.name}: {error}") from None
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
    parameters = dict(getattr(estimator, "parameters_", {}))
    return Answers(fold.name, fold.task, fold.test, predicted, decision, probabilities), parameters


def _digest(x: Num[np.ndarray, "n d"] | StoredRows, rows: Int64[np.ndarray, " m"]) -> str:
    """SHA-256 of some rows' bytes."""
    digest = hashlib.sha256()
    if isinstance(x, StoredRows):
        found = blocks(x.take(rows))
    else:
        found = (x[rows[start : start + HASHED]] for start in range(0, len(rows), HASHED))
    for block in found:
        digest.update(np.ascontiguousarray(block).view(np.uint8).data)
    return digest.hexdigest()


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
    side = pl.Series([fold.name] * len(ids), dtype=pl.String)
    return pl.DataFrame({"task": task, "image_id": ids, "fold": side, "y": y.astype(np.float64)})


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
