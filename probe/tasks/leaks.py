"""The same picture on both sides of a split: a test image whose file equals a training image's, byte for byte.

The store knows every image's SHA-256, so such leaks are always found. Pictures that were re-encoded or cropped are
found by their features (`features.duplicates`), whose pairs `near_leaks` takes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int, Shaped

from bb.probe.tasks.fold import UNSEEN, Split
from bb.probe.tasks.newt import Labels
from bb.store import Collection
from bb.store.errors import BBError
from bb.store.text.lookalike import shown


@dataclass(frozen=True)
class Leaks:
    """Of a task family on a collection.

    twins     task → test image ID → the first training image ID of the same task with equal bytes
    n_test    test images of each task, as many as there are rows
    both      task → two IDs of one picture that the task gives different labels
    what      how a twin resembles the training image, in a sentence
    stays     whether `--drop-leaks` can't leave them out, since a protocol draws what is tested
    """

    twins: Mapping[str, Mapping[str, str]]
    n_test: Mapping[str, int]
    both: Mapping[str, tuple[str, str]]
    what: str = "the same file"
    stays: bool = False

    def __bool__(self) -> bool:
        return bool(self.twins)

    @property
    def summary(self) -> str:
        """How many there are, and which; for a person."""
        count = sum(map(len, self.twins.values()))
        task, twins = next(iter(self.twins.items()))
        test, train = next(iter(twins.items()))
        more = f" and {len(self.twins) - 1} other tasks" if len(self.twins) > 1 else ""
        return (
            f"{count} of {sum(self.n_test.values())} test images are {self.what} as a training image of their task "
            f"({task}{more}; test image {shown(test)} is training image {shown(train)})"
        )

    @property
    def notes(self) -> list[str]:
        """What a reader of the scores should know."""
        advice = "" if self.stays else "; --drop-leaks leaves them out"
        leaked = [f"{self.summary}: such scores say little of new images{advice}"] if self else []
        return leaked + [
            f"task {task}: images {shown(one)} and {shown(other)} are {self.what} with different labels"
            for task, (one, other) in list(self.both.items())[:3]
        ]

    def record(self) -> dict[str, Any]:
        """For run.json: the count of each task, and one pair of it."""
        return {
            task: {"leaked": len(twins), "test": self.n_test[task], "example": list(next(iter(twins.items())))}
            for task, twins in self.twins.items()
        }

    def without(self, predictions: pl.DataFrame) -> pl.DataFrame:
        """The predictions (or labels: columns task and image_id) of the other test images."""
        rows = [(task, image_id) for task, twins in self.twins.items() for image_id in twins]
        leaked = pl.DataFrame(rows, schema={"task": pl.String, "image_id": pl.String}, orient="row")
        return predictions.join(leaked, on=["task", "image_id"], how="anti", maintain_order="left")

    def drop(self, labels: Labels) -> Labels:
        """The labels without leaked test images, and without tasks that then have no test images of a class.

        Errors: BBError where no task is left.
        """
        train = labels.table.filter(pl.col("split") == "train")
        test = labels.table.filter(pl.col("split") == "test").rename({"id": "image_id"})
        test = self.without(test).rename({"image_id": "id"})
        whole = test.group_by("task").agg(pl.col("label").n_unique()).filter(pl.col("label") == 2)["task"]
        if whole.is_empty():
            raise BBError("--drop-leaks leaves no task with test images of both classes: correct the splits.")
        gone = sorted(set(labels.table["task"]) - set(whole))
        kept = pl.concat([train, test]).filter(pl.col("task").is_in(whole.implode()))
        count = sum(map(len, self.twins.values()))
        left_out = f"{count} test images that equal training images are left out"
        if gone:
            left_out += f", and {len(gone)} tasks that then miss a class, such as {gone[0]!r}"
        return labels.with_rows(kept, left_out)


def find_leaks(labels: Labels, collection: Collection) -> Leaks:
    """The test images of each task that a training image of it equals. Errors: BBError for absent images."""
    ids = labels.image_ids
    picture = dict(zip(ids, _pictures(collection, ids).tolist(), strict=True))
    n_test = {task.name: len(task.test_ids) for task in labels.tasks}
    if len(set(picture.values())) == len(ids):
        return Leaks({}, n_test, {})
    twins, both = {}, {}
    for task in labels.tasks:
        train, test = task.train_ids.tolist(), task.test_ids.tolist()
        if found := dict(_equal(picture, train, test)):
            twins[task.name] = found
        label = dict(zip([*train, *test], [*task.train_y.tolist(), *task.test_y.tolist()], strict=True))
        zeros, ones = ([image_id for image_id, y in label.items() if y == kind] for kind in (0, 1))
        if pair := next(_equal(picture, zeros, ones), None):
            both[task.name] = pair
    return Leaks(twins, n_test, both)


def split_leaks(
    split: Split,
    collection: Collection,
    members: Mapping[str, Sequence[str]] | None = None,
    *,
    with_val: bool = False,
) -> Leaks:
    """The test images of a split that equal a training image of their fold.

    members   of pooled images, ID → the images that are pooled: one equal image is enough
    with_val  whether validation images are trained on, too: parameters are chosen on them, or they are fitted
    Errors: BBError for absent images.
    """
    if with_val:
        folds = (replace(fold, train=np.concatenate([fold.train, fold.val])) for fold in split.folds)
        split = replace(split, folds=tuple(folds))
    parts = [(members or {}).get(image_id, (image_id,)) for image_id in split.task.ids.tolist()]
    rows = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    picture = _pictures(collection, [image_id for part in parts for image_id in part])
    order = np.argsort(picture, kind="stable")
    same = picture[order][1:] == picture[order][:-1]
    groups = [np.unique(rows[group]) for group in np.split(order, np.flatnonzero(~same) + 1) if len(group) > 1]
    return _across(split, [group for group in groups if len(group) > 1], "the same file")


def near_leaks(split: Split, pairs: Sequence[tuple[str, str]]) -> Leaks:
    """The test images of a split that look like a training image of their fold, from pairs of image IDs that do."""
    row_of = {image_id: row for row, image_id in enumerate(split.task.ids.tolist())}
    rows = [(row_of[a], row_of[b]) for a, b in pairs if a in row_of and b in row_of]
    return _across(split, [np.array(pair) for pair in rows], "nearly the same picture")


def drop_split_leaks(split: Split, leaks: Leaks) -> Split:
    """The split without leaked test images. Errors: BBError where a fold has no others."""
    leaked = np.isin(split.task.ids, list(leaks.twins.get(split.task.name, ())))
    folds = tuple(replace(fold, test=fold.test[~leaked[fold.test]]) for fold in split.folds)
    if empty := [fold.name for fold in folds if not len(fold.test)]:
        raise BBError(f"--drop-leaks leaves no test image in {empty[0]}: correct the split.")
    note = f"{int(leaked.sum())} test images that equal training images are left out"
    return replace(split, folds=folds, notes=(*split.notes, note) if leaked.any() else split.notes)


def _across(split: Split, alike: Sequence[Int[np.ndarray, " _"]], what: str) -> Leaks:
    """Leaks from groups of rows that resemble each other."""
    task, twins, both = split.task, dict[str, str](), dict[str, tuple[str, str]]()
    for fold in split.folds:
        side = np.zeros(len(task.ids), np.int8)
        side[fold.train], side[fold.test] = 1, 2
        for rows in alike:
            trained = rows[side[rows] == 1]
            if len(trained):
                twins.update({str(task.ids[row]): str(task.ids[trained[0]]) for row in rows[side[rows] == 2]})
    for rows in alike:
        differs = task.y[rows] != task.y[rows[0]]
        if task.target == "traits":
            differs &= (task.y[rows] != UNSEEN) & (task.y[rows[0]] != UNSEEN)
        other = np.flatnonzero(differs.reshape(len(rows), -1).any(1))
        if len(other):
            both[task.name] = str(task.ids[rows[0]]), str(task.ids[rows[other[0]]])
            break
    n_test = {task.name: sum(len(fold.test) for fold in split.folds)}
    return Leaks({task.name: twins} if twins else {}, n_test, both, what)


def shared_pictures(collection: Collection, one: Sequence[str], other: Sequence[str]) -> list[tuple[str, str]]:
    """Images of `one` with the same bytes as one of `other`, each with the first such. Errors: as `find_leaks`."""
    ids = sorted({*one, *other})
    return list(_equal(dict(zip(ids, _pictures(collection, ids).tolist(), strict=True)), other, one))


def shared_note(collection: Collection, held_out: Sequence[str], learned: Sequence[str]) -> str:
    """What to know where images that a model is tested on equal images that it learns from; empty where none do."""
    if not (twins := shared_pictures(collection, held_out, learned)):
        return ""
    one, other = twins[0]
    return (
        f"{len(twins)} of {len(held_out)} images that are not learned from are the same file as one that is, such as "
        f"{one!r} and {other!r}: scores on them say little of new images; take them out of the labels"
    )


def _equal(picture: Mapping[str, int], known: Sequence[str], asked: Sequence[str]) -> Iterator[tuple[str, str]]:
    first: dict[int, str] = {}
    for image_id in known:
        first.setdefault(picture[image_id], image_id)
    yield from ((image_id, first[picture[image_id]]) for image_id in asked if picture[image_id] in first)


def _pictures(collection: Collection, ids: Sequence[str]) -> Int[np.ndarray, " n"]:
    """A number for each image, the same for equal bytes."""
    digests: Shaped[np.ndarray, " n"] = np.ascontiguousarray(collection.digests(ids)).view("V32").ravel()
    return np.unique(digests, return_inverse=True)[1]
