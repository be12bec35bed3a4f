"""Near-duplicates in a collection by its stored features, and what a table of labels says about each pair."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from bb.probe.features.duplicates import COSINE, near_duplicates
from bb.probe.features.missing import missing_from
from bb.probe.features.select_spaces import choose_spaces
from bb.probe.tasks.match_ids import match_table
from bb.probe.tasks.task_table import TaskTable, read_task_table
from bb.store import Collection, FeatureSpace, Store
from bb.store.errors import BBError, UsageError
from bb.store.format.collection import only_collection
from bb.store.format.space import short

TRAINING = "train"


@dataclass(frozen=True, eq=False)
class DuplicateImages:
    """Pairs of images that look alike, those most alike first.

    pairs    image_id, other, cosine, same_file; with labels also label, other_label, side and other_side, null where
             the table does not say
    n        images compared
    missing  images without features, which are not compared, with reasons
    cosine   the threshold
    """

    collection: Collection
    space: FeatureSpace
    pairs: pl.DataFrame
    n: int
    missing: dict[str, str]
    cosine: float

    @property
    def same_file(self) -> int:
        """Pairs of equal bytes."""
        return int(self.pairs["same_file"].sum())

    @property
    def across(self) -> pl.DataFrame:
        """Pairs of a training image and one that is not; no rows without labels that have a split."""
        one, other = pl.col("side") == TRAINING, pl.col("other_side") == TRAINING
        return self.pairs.filter(one != other) if "side" in self.pairs.columns else self.pairs.clear()

    @property
    def other_labels(self) -> pl.DataFrame:
        """Pairs whose labels differ; no rows without labels."""
        differ = pl.col("label") != pl.col("other_label")
        return self.pairs.filter(differ) if "label" in self.pairs.columns else self.pairs.clear()


def duplicate_images(
    store: Store,
    data: str | None = None,
    *,
    ckpt: Sequence[str] = (),
    space: Sequence[str] = (),
    labels: str | Path | None = None,
    cosine: float = COSINE,
    jobs: int | None = None,
) -> DuplicateImages:
    """Compares all images of a collection that have features in one space.

    ckpt, space  as in `choose_spaces`; together they must give one space
    labels       a table that `read_task_table` reads; of several tasks, a pair is across sides if it is in one of them
    cosine, jobs  as in `near_duplicates`
    Errors: UsageError where several spaces or none are named; BBError where none has features; those of the table.
    """
    collection = store.collection(data or only_collection(store.collection_names()), [])
    image_ids = collection.table["image_id"].to_list()
    if not ckpt and not space:
        raise UsageError("--duplicates compares features: name their backbone with --ckpt, or the space with --space.")
    spaces = choose_spaces(store, collection, image_ids, backbones=ckpt, keys=space)
    if len(spaces) > 1:
        named = ", ".join(short(each.key) for each in spaces)
        raise UsageError(f"--duplicates compares features of one space, and {len(spaces)} are named ({named}).")
    missing = missing_from(store, spaces[0], collection, image_ids)
    compared = [image_id for image_id in image_ids if image_id not in missing]
    if len(compared) < 2:
        raise BBError(f"{len(compared)} images of {collection.name} have features of {spaces[0].key[:12]}: "
                      "extract them before comparing them.")  # fmt: skip
    found = near_duplicates(store.read(spaces[0], collection, compared), cosine=cosine, jobs=jobs)
    one, other = ([compared[row] for row in found.rows[:, side]] for side in (0, 1))
    digest = dict(zip(compared, map(bytes, collection.digests(compared)), strict=True))
    pairs = pl.DataFrame(
        {
            "image_id": one,
            "other": other,
            "cosine": found.cosine,
            "same_file": [digest[a] == digest[b] for a, b in zip(one, other, strict=True)],
        },
        schema={"image_id": pl.String, "other": pl.String, "cosine": pl.Float32, "same_file": pl.Boolean},
    ).sort("cosine", "image_id", "other", descending=[True, False, False])
    if labels is not None:
        table = match_table(read_task_table(labels), image_ids, collection.name).table
        pairs = _with_labels(pairs, table)
    return DuplicateImages(collection, spaces[0], pairs, len(compared), missing, cosine)


def _with_labels(pairs: pl.DataFrame, table: TaskTable) -> pl.DataFrame:
    """Columns label and side of both images; of several tasks, of that in which sides differ, else labels, else any."""
    frame = table.frame
    label = pl.col("label") if table.target == "classes" else pl.lit(None, pl.String)
    side = pl.col("split") if "split" in frame.columns else pl.lit(None, pl.String)
    rows = frame.select("task", "image_id", label.cast(pl.String).alias("label"), side.alias("side"))
    ours = pairs.join(rows, on="image_id", how="left", maintain_order="left")
    theirs = rows.rename({"image_id": "other", "label": "other_label", "side": "other_side"})
    joined = ours.join(theirs, on=["other", "task"], how="left", maintain_order="left")
    leaks = ((pl.col("side") == TRAINING) != (pl.col("other_side") == TRAINING)).fill_null(False)
    differs = (pl.col("label") != pl.col("other_label")).fill_null(False)
    order = ["image_id", "other"]
    first = joined.with_columns(leaks.alias("leaks"), differs.alias("differs")).sort(
        "leaks", "differs", descending=True, maintain_order=True
    )
    chosen = first.unique(order, keep="first", maintain_order=True).drop("task", "leaks", "differs")
    return pairs.select(order).join(chosen, on=order, how="left", maintain_order="left").select(
        *pairs.columns, "label", "other_label", "side", "other_side"
    )  # fmt: skip
