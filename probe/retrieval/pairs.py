"""A table of pairs of images, and what a pairwise model says of them: over stored features, or over images."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, Int, Num

from bb.probe.retrieval.pairwise_model import NamedRows, PairwiseModel, Rows, distances
from bb.store.errors import BBError, UsageError
from bb.store.features import Features
from bb.store.format.collection import some

COLUMNS = ("image_id_1", "image_id_2")


@dataclass(frozen=True, eq=False)
class ImagePairs:
    """Pairs of images, and the rows that a pairwise model compares.

        pairs = ImagePairs.of(store.features("timm:resnet18", "pics"), table)
        table.with_columns(distance=pairs.distances(Distance()))

    table   columns image_id_1 and image_id_2 (str), and any others: a row for each pair
    rows    (n, ...): an array, or images that are read when their rows are asked for
    first   (p,) rows of the pairs' first images
    second  (p,) rows of their second images
    """

    table: pl.DataFrame
    rows: Rows
    first: Int[np.ndarray, " p"]
    second: Int[np.ndarray, " p"]

    @classmethod
    def of(cls, found: Features | NamedRows, table: pl.DataFrame) -> "ImagePairs":
        """Pairs of the images of `found`: features of a store, or images as `bb.extract.open_images` gives them.

        Raises UsageError for a table without the two columns, BBError, naming some, where images have no row.
        """
        if absent := [name for name in COLUMNS if name not in table.columns]:
            raise UsageError(f"a table of pairs has the columns {' and '.join(COLUMNS)}; {some(absent)} is missing.")
        place = {image_id: row for row, image_id in enumerate(found.image_ids)}
        named = [table[name].cast(pl.String).to_list() for name in COLUMNS]
        if lost := sorted({str(image_id) for side in named for image_id in side} - place.keys()):
            what = "features" if isinstance(found, Features) else "files here"
            raise BBError(
                f"{len(lost)} images of the pairs have no {what}: {some(lost)}. Add them, or drop these pairs."
            )
        first, second = (np.array([place[image_id] for image_id in side], np.int64) for side in named)
        return cls(table, found.array if isinstance(found, Features) else found, first, second)

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, pair: int) -> tuple[Num[np.ndarray, "..."], Num[np.ndarray, "..."]]:
        """The rows of one pair. Raises IndexError."""
        both = np.array([self.first[pair], self.second[pair]])
        x1, x2 = self.rows[both]
        return x1, x2

    def distances(self, model: PairwiseModel) -> Float[np.ndarray, " p"]:
        """Of each pair, float32, by a model. Raises ValueError where it returns NaN or distances of another shape."""
        return distances(model, self.rows, self.first, self.second)
