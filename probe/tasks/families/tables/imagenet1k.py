"""ImageNet-1k as image tables (Parquet files with the columns image and label), or as folders of classes."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from bb.probe.tasks.families.folders.class_folders import ClassFolders
from bb.probe.tasks.families.layout import LayoutPart, absent, entries, table_of
from bb.probe.tasks.family import About
from bb.probe.tasks.task_table import TaskTable
from bb.store.errors import BBError, UsageError
from bb.store.format.collection import normalise_id
from bb.store.storage.download import Archive

SIDES = {"train": "train", "validation": "val", "val": "val"}  # tables of test images have no labels
FOLDERS = {"train": ("train",), "val": ("val", "validation")}
# n01440764_10026_n01440764.JPEG, ILSVRC2012_val_00000293_n01440764.JPEG, n01440764_10026.JPEG
_NAME = re.compile(r"^(?:(?P<train>n\d{8})_\d+|ILSVRC2012_(?P<side>val|test)_\d+)(?:_(?P<synset>n\d{8}))?\.\w+$")


@dataclass(frozen=True)
class ImageNet1k:
    """Labels are the tables' numbers, or the names of synsets where the images' names hold them. Fulfils
    bb.probe.tasks.family.DescribedFamily and NamedFamily."""

    title: str
    about: About
    archives: tuple[Archive, ...] = field(default=())

    @property
    def folders(self) -> ClassFolders:
        return ClassFolders(self.title, self.about, FOLDERS)

    def check(self, root: Path) -> list[str]:
        """See DescribedFamily."""
        shards = _shards(root)
        if not shards:
            parts = [LayoutPart(("data",), "train-*.parquet and validation-*.parquet", folder=True)]
            if any((root / name).is_dir() for names in FOLDERS.values() for name in names):
                return self.folders.check(root)
            return absent(root, parts) or [f"{root.name}/data has no train-*.parquet and validation-*.parquet"]
        there = {_side(path) for path in shards}
        return [f"it has {shards[0].name} but no {name}-*.parquet"
                for side, name in (("train", "train"), ("val", "validation")) if side not in there]  # fmt: skip

    def from_ids(self, image_ids: Sequence[str]) -> TaskTable | None:
        """See NamedFamily: by the synset in each name, or by the folders of classes."""
        rows = []
        for image_id in image_ids:
            found = _NAME.match(image_id.rpartition("/")[2])
            synset = found and (found["synset"] or found["train"])
            if found is None or not (synset or found["side"] == "test"):
                return self.folders.from_ids(image_ids)
            rows.append((image_id, synset, {None: "train", "val": "val", "test": "unlabeled"}[found["side"]]))
        if not {"train", "val"} <= {side for _, _, side in rows}:
            return self.folders.from_ids(image_ids)
        return table_of(pl.DataFrame(rows, schema=["image_id", "label", "split"], orient="row"), "the image IDs")

    def labels(self, root: Path) -> TaskTable:
        """See TaskFamily. Of tables only the labels and paths are used; a table with paths is read whole for them.

        Errors: UsageError for another layout, BBError for a table that can't be read.
        """
        if problems := self.check(root):
            raise UsageError(f"{root}: {'; '.join(problems)}.")
        shards = _shards(root)
        if not shards:
            return self.folders.labels(root)
        tables = [_read(path) for path in shards]
        paths = Counter(path for table in tables for path in table["path"])
        plain = None not in paths and "" not in paths and max(paths.values()) == 1
        twice = [name for name, n in Counter(path.stem for path in shards).items() if n > 1]
        if twice and not plain:
            raise BBError(f"{root} has two tables {twice[0]}.parquet, so rows have no ID of their own. Rename one.")
        parts = []
        for path, table in zip(shards, tables, strict=True):
            ids = table["path"].to_list() if plain else [f"{path.stem}/{row}" for row in range(table.height)]
            labels = [str(label) if label is not None and label >= 0 else None for label in table["label"]]
            parts.append(pl.DataFrame({"image_id": ids, "label": labels, "split": [_side(path)] * table.height}))
        return table_of(pl.concat(parts), str(root))


def _shards(root: Path) -> list[Path]:
    """Tables in the folder or in data/ below it whose names begin as a side's, sorted."""
    found = [path for folder in (root, root / "data") for path in entries(folder) if path.suffix == ".parquet"]
    return [path for path in found if _side(path) and path.is_file()]


def _side(path: Path) -> str | None:
    return SIDES.get(re.split(r"[-_.]", path.name)[0])


def _read(path: Path) -> pl.DataFrame:
    """Columns label (int64) and path (str, null where a row has none that is usable). Errors: BBError."""
    try:
        lazy = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        schema = lazy.collect_schema()
        label = next((name for name in ("label", "labels") if name in schema), None)
        if label is None or not schema[label].is_integer():
            has = ", ".join(f"{name} ({kind})" for name, kind in schema.items() if name != "image")
            raise BBError(f"{path} has no column label of whole numbers; next to the images it has {has or 'nothing'}.")
        labels = lazy.select(pl.col(label).cast(pl.Int64).alias("label")).collect()
        names: list[str | None] = list(_paths(lazy, schema, labels.height))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise BBError(f"{path} can't be read: {str(error).partition(chr(10))[0][:200]}. Fetch it again.") from None
    return labels.with_columns(pl.Series("path", names, pl.String))


def _paths(lazy: pl.LazyFrame, schema: Mapping[str, Any], rows: int) -> Iterator[str | None]:
    kind = schema.get("image")
    if not isinstance(kind, pl.Struct) or "path" not in [each.name for each in kind.fields]:
        yield from [None] * rows
        return
    path = pl.col("image").struct.field("path").cast(pl.String)
    if lazy.slice(0, 1).select(path).collect().to_series().null_count():  # as where rows of a table have none
        yield from [None] * rows
        return
    for name in lazy.select(path).collect().to_series():
        steps = PurePosixPath(name or "").parts
        usable = bool(steps) and steps[0] != "/" and ".." not in steps and "\0" not in (name or "")
        yield normalise_id("/".join(steps)) if usable else None


IMAGENET1K = ImageNet1k(
    "ImageNet-1k: photographs of 1,000 kinds of things",
    About(
        needs="data/train-*.parquet and data/validation-*.parquet with the columns image and label, or "
        "train/CLASS/*.JPEG and val/CLASS/*.JPEG",
        size="1,000 classes",
        home="https://huggingface.co/datasets/ILSVRC/imagenet-1k",
        citation="""@article{russakovsky2015imagenet,
  title = {ImageNet Large Scale Visual Recognition Challenge},
  author = {Russakovsky, Olga and Deng, Jia and Su, Hao and Krause, Jonathan and Satheesh, Sanjeev and Ma, Sean and
    Huang, Zhiheng and Karpathy, Andrej and Khosla, Aditya and Bernstein, Michael and Berg, Alexander C. and Fei-Fei,
    Li},
  journal = {International Journal of Computer Vision},
  year = {2015}
}""",
        metrics=("accuracy", "top_5"),
        published="biobench: linear probe by AdamW; DINOv2: nearest neighbours, logistic regression; accuracy on val",
        protocols=(
            "biobench-linear",
            "dinov2-knn",
            "dinov2-logreg",
        ),
    ),
)
