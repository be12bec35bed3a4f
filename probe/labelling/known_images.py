"""The labelled images of a collection that predictions of its other images are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Num

from bb.probe.classification.inputs import LabelledImages, labelled_images
from bb.probe.features.missing import MissingPolicy
from bb.probe.features.select_spaces import space_name
from bb.probe.labelling.same_files import once_each
from bb.probe.tasks.few_shot import listed
from bb.probe.tasks.task_table import TaskTable
from bb.store import Store
from bb.store.errors import UsageError
from bb.store.reporter import Reporter
from bb.store.text.size import counted


@dataclass(frozen=True, eq=False)
class KnownImages:
    """images  the labelled images with features, and the candidates' feature spaces
    table   of labels, each file once; copies: the others' ID → its ID
    """

    store: Store
    images: LabelledImages
    table: TaskTable
    copies: Mapping[str, str]

    @classmethod
    def read(
        cls,
        store: Store,
        labels: str | Path | pl.DataFrame,
        data: str | None,
        *,
        id: str | None,
        label: str | None,
        group: str | None,
        not_missing: Sequence[str],
        ckpt: str | Sequence[str],
        space: str | Sequence[str],
        max_missing: float | None,
        reporter: Reporter,
    ) -> "KnownImages":
        """Errors: those of `labelled_images`; UsageError for a table of several tasks, or of traits."""
        images = labelled_images(
            store,
            labels,
            data,
            {"id": id, "label": label, "split": "", "group": group, "not_missing": not_missing},
            ckpt=listed(ckpt),
            space=listed(space),
            policy=MissingPolicy.parse("skip", max_missing, None),
            reporter=reporter,
        )
        if images.table.target != "classes" or len(images.table.tasks) > 1:
            tasks = len(images.table.tasks)
            what = f"{tasks} tasks" if tasks > 1 else images.table.target
            raise UsageError(
                f"{images.table.source} has {what}; bb predict takes one task of classes. Name its column with --label."
            )
        return cls(store, images, *once_each(images.table, images.collection))

    def features(self, image_ids: Sequence[str]) -> list[Num[np.ndarray, "n _"]]:
        """Of each space."""
        return [self.store.read(each, self.images.collection, image_ids) for each in self.images.spaces]

    def others(self, image_ids: Sequence[str]) -> list[str]:
        """IDs of the images that are not labelled, sorted; image_ids: of those that are."""
        return sorted(set(self.images.collection.table["image_id"].to_list()) - {*image_ids, *self.copies})

    def names(self) -> list[str]:
        """Of the spaces' backbones."""
        return [space_name(self.store, each) for each in self.images.spaces]


def note_without(without: Sequence[str]) -> list[str]:
    """What to say of images that have no features."""
    if not without:
        return []
    return [f"{counted(len(without), 'image')} without features, and so without a prediction, such as {without[0]}"]
