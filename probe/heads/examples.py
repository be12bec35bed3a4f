"""What a head or a pairwise model is trained on: rows straight out of the store, as arrays or as torch's Dataset."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.utils.data import Dataset

from bb.probe.retrieval.pairs import ImagePairs
from bb.store import BBError
from bb.store.features import Features


@dataclass(frozen=True, eq=False)
class Examples:
    """What is learned from, row by row.

    features  (n, d) float32
    labels    (n,) codes below `classes`, all of them there
    category  (n,) codes, -1 of none; None where there are no categories
    """

    features: Float[np.ndarray, "n d"]
    labels: Integer[np.ndarray, " n"]
    category: Integer[np.ndarray, " n"] | None = None

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1


class FeatureDataset(Dataset[tuple[Tensor, int, int]]):
    """Stored features with labels, for torch's DataLoader. An item is (feature (D,) float32, label code, row).

        data = FeatureDataset.of(store.features("timm:resnet18", "pics"), {"a.jpg": "owl", "b.jpg": "crow"})

    array      (n, D) of any float dtype; a memory map is read row by row
    labels     (n,) codes, -1 of a row without a label
    classes    the names of the codes
    image_ids  of the rows
    """

    def __init__(
        self,
        array: Float[np.ndarray, "n d"],
        labels: Integer[np.ndarray, " n"],
        classes: tuple[str, ...] = (),
        image_ids: tuple[str, ...] = (),
    ) -> None:
        self.array, self.labels, self.classes, self.image_ids = array, labels, classes, image_ids

    @classmethod
    def of(cls, found: Features, labels: Mapping[str, str]) -> "FeatureDataset":
        """The images of `labels`, by ID, in the order of `found`.

        Raises BBError, naming some, where labelled images have no features.
        """
        if lost := sorted(labels.keys() - set(found.image_ids)):
            raise BBError(f"{len(lost)} labelled images have no features: {', '.join(lost[:3])}. Extract them first.")
        rows = [row for row, image_id in enumerate(found.image_ids) if image_id in labels]
        image_ids = tuple(found.image_ids[row] for row in rows)
        classes, codes = np.unique([labels[image_id] for image_id in image_ids], return_inverse=True)
        array = found.array if len(rows) == len(found) else found.array[rows]
        return cls(array, codes, tuple(classes.tolist()), image_ids)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, row: int) -> tuple[Tensor, int, int]:
        return torch.from_numpy(np.asarray(self.array[row], np.float32).copy()), int(self.labels[row]), row


class PairDataset(Dataset[tuple[Tensor, Tensor, int]]):
    """Pairs of images for torch's DataLoader. An item is (x1, x2, pair): float32 rows, and the pair's row in the table.

    pairs  over stored features, or over images, which are read when an item is asked for
    """

    def __init__(self, pairs: ImagePairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, pair: int) -> tuple[Tensor, Tensor, int]:
        x1, x2 = (torch.from_numpy(np.asarray(x, np.float32).copy()) for x in self.pairs[pair])
        return x1, x2, pair
