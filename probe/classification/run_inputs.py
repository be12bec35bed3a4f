"""What the runs over one feature space share: features, splits, training sets that were drawn, and parts of run IDs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from jaxtyping import Int64, Num, Shaped

from bb.probe.classification.pool_groups import Pooling
from bb.probe.classification.published.protocol import NONE
from bb.probe.classification.spec import Spec
from bb.probe.classifiers.estimator import NEVER
from bb.probe.classifiers.preprocess import ROW_BY_ROW, preprocess, row_by_row
from bb.probe.features.damaged_images import damage_record, damaged_images
from bb.probe.features.extraction import extraction
from bb.probe.features.missing import missing_record
from bb.probe.tasks.fold import Fold, Shots, Split
from bb.probe.tasks.leaks import Leaks, split_leaks
from bb.store import Collection, FeatureSpace, Store
from bb.store.files.canonical_json import canonical_json, sha256_hex
from bb.store.local.stored_rows import StoredRows, blocks

PLAIN = {str, int, float, bool, type(None)}
HASHED = 4096  # rows of features that are hashed at once
KEPT = 2**29  # bytes of test features that are kept for the runs to come


@dataclass(frozen=True, eq=False)
class Inputs:
    """What runs over one feature space share: the splits of a table's tasks, and the features of their images.

    tasks     what the table of labels is called
    splits    one for each task, all made in one way
    features  (n, d) in the stored dtype (pooled: float32), of `image_ids`, which are sorted; of patches (n, p, d), read
              when they are asked for
    missing   images that were left out since they have no features, with reasons
    max_missing, same_images_as  the share of them that was allowed if given, and keys of the spaces that do not have
                                 them
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
        """Errors: MissingRows where the space does not have images of the splits."""
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
        x_train = self.rows_of(fitted(fold)[0])
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
    def answered(self) -> dict[tuple[Any, ...], Any]:
        """What run.py keeps of fits that larger draws repeat."""
        return {}

    @cached_property
    def test_set(self) -> bytes:
        """Canonical JSON of what runs are tested on."""
        return canonical_json(plain(_test_set([split.folds for split in self.splits])))

    def train_pool(self, *, with_val: bool) -> str:
        """A digest of what training sets are drawn from."""
        if with_val not in self._train_pools:
            pool = _train_pool(self.splits, with_val=with_val)
            self._train_pools[with_val] = sha256_hex(canonical_json(pool))
        return self._train_pools[with_val]

    @cached_property
    def _train_pools(self) -> dict[bool, str]:
        return {}

    def leaks(self, *, with_val: bool) -> list[Leaks]:
        if with_val not in self._leaks:
            self._leaks[with_val] = self.leaks_of(self.splits, with_val=with_val)
        return self._leaks[with_val]

    @cached_property
    def _leaks(self) -> dict[bool, list[Leaks]]:
        return {}

    def leaks_of(self, splits: Sequence[Split], *, with_val: bool = False) -> list[Leaks]:
        members = self.pooling.members if self.pooling else {}
        return [split_leaks(split, self.collection, members, with_val=with_val) for split in splits]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What every run's record says of the images and their features."""
        return {
            "space": self.space.key,
            "adopted": self.store.adopted_from(self.space, self.collection.digests(self.images)),
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

    def draw(self, spec: Spec) -> "Draw":
        """The training sets of a run; those of the last call are kept."""
        drawn = spec.shots != "all" or spec.protocol is not None
        key = spec.protocol.name if spec.protocol else "", spec.shots, spec.seed if drawn else 0
        if spec.given or key not in self._draws:
            self._draws.clear()
            splits = tuple(map(spec.draw, self.splits))
            folds = [split.folds for split in splits]
            train = [[side.tolist() for side in fitted(fold)[:2]] for each in folds for fold in each]
            # What such a protocol tests is known once it is drawn; else leaks are of the whole pool, for all shots.
            own = spec.protocol is not None and spec.protocol.pool == "all"
            with_val = any(len(fold.val) for each in folds for fold in each)
            if spec.given:
                leaks = []
            elif own:
                leaks = [replace(each, stays=True) for each in self.leaks_of(splits)]
            else:
                leaks = self.leaks(with_val=with_val)
            every = [ids for each in folds for fold in each for ids in (fitted(fold)[0], fold.test_ids)]
            used = np.unique(np.concatenate(every))
            rows = np.searchsorted(self.image_ids, used)
            shape = [len(rows), *self.features.shape[1:]]
            features = [used.tolist(), str(self.features.dtype), shape, _digest(self.features, rows)]
            parts = {
                "train": canonical_json(plain(train)),
                "features": canonical_json(features),
                "test": canonical_json(plain(_test_set(folds))) if own else self.test_set,
            }
            if self.pooling:
                parts["units"] = canonical_json(plain([self.pooling.members[unit] for unit in used.tolist()]))
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
            self._digests[with_val] = sha256_hex(canonical_json(pool))
        return self._digests[with_val]


def fitted(
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


def plain(value: Any) -> Any:
    """JSON's own types: no tuples, no numpy."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        if isinstance(value, list) and set(map(type, value)) <= PLAIN:
            return value
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


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
            sorted(zip(*(side.tolist() for side in fitted(fold)[:2]), strict=True)),
        ]
        for fold in folds
    ]
