"""The lists of CUB-200 and NABirds: images with a number each, their classes, boxes, and which of them train."""

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from bb.probe.tables.table_file import LINE, TableFile, of_value
from bb.probe.tasks.families.layout import LayoutPart, absent, base_of, refuse_outside, require, table_of
from bb.probe.tasks.families.word_file import read_words
from bb.probe.tasks.family import About
from bb.probe.tasks.task_table import TaskTable
from bb.store.errors import BBError
from bb.store.storage.download import Archive

PARTS = (
    LayoutPart(("images",), "the images", folder=True),
    LayoutPart(("images.txt",), "number and path of each image"),
    LayoutPart(("image_class_labels.txt",), "number and class of each image"),
    LayoutPart(("train_test_split.txt",), "number of each image, and 1 where it trains"),
    LayoutPart(("classes.txt",), "number and name of each class"),
)
BOXES = LayoutPart(("bounding_boxes.txt",))


@dataclass(frozen=True)
class NumberedImages:
    """A family of this layout. Fulfils bb.probe.tasks.family.DescribedFamily.

    unpacked  the folder that the publishers' archive makes; the root is it, or holds it
    """

    title: str
    about: About
    unpacked: str
    archives: tuple[Archive, ...] = field(default=())

    def check(self, root: Path) -> list[str]:
        """See DescribedFamily."""
        return absent(base_of(root, self.unpacked)[0], PARTS)

    def labels(self, root: Path) -> TaskTable:
        """See TaskFamily. Errors: UsageError for another layout; BBError naming file and line of what is wrong."""
        base, before = base_of(root, self.unpacked)
        _, images, labels, split, classes = require(base, PARTS)
        paths = _numbered(images, ["image", "path"])
        refuse_outside(paths, "path")
        of_image = _numbered(labels, ["image", "class"])
        sides = _numbered(split, ["image", "trains"])
        sides.refuse(sides.frame.filter(~pl.col("trains").is_in(["0", "1"])), of_value("trains", "it must be 0 or 1"))
        names = _names(_numbered(classes, ["class", "name"]), of_image)
        frame = paths.frame.select("image", pl.concat_str(pl.lit(f"{before}images/"), "path").alias("image_id"))
        frame = _joined(frame, of_image, paths, "class")
        frame = _joined(frame, sides, paths, "trains")
        side = pl.when(pl.col("trains") == "1").then(pl.lit("train")).otherwise(pl.lit("test")).alias("split")
        frame = frame.with_columns(side, pl.col("class").replace_strict(names).alias("label"))
        kept = ["image_id", "label", "split"]
        if boxes := BOXES.find(base):
            box = _numbered(boxes, ["image", "x", "y", "width", "height"])
            numbers = [box.numbers(name) for name in ("x", "y", "width", "height")]
            crop = pl.concat_str(*numbers, separator=",").alias("crop")
            frame = frame.join(box.frame.select("image", crop), on="image", how="left", maintain_order="left")
            kept.append("crop")
        return table_of(frame.select(kept), str(base))


def _numbered(path: Path, columns: list[str]) -> TableFile:
    """A list whose first column stands for one line each. Errors: BBError."""
    table = read_words(path, columns)
    again = table.frame.filter(~pl.col(columns[0]).is_first_distinct())
    table.refuse(again, lambda row: f"{columns[0]} {row[columns[0]]!r} stands on an earlier line already; keep one")
    return table


def _names(classes: TableFile, of_image: TableFile) -> dict[str, str]:
    """Number of each class that images have → its name, with the number where another of them has the same name."""
    used = classes.frame.filter(pl.col("class").is_in(of_image.frame["class"].unique().to_list()))
    unknown = of_image.frame.filter(~pl.col("class").is_in(used["class"].to_list()))
    of_image.refuse(unknown, of_value("class", f"{Path(classes.source).name} has no such class"))
    twice = used["name"].is_duplicated()
    name = pl.when(twice).then(pl.concat_str("name", pl.lit(" ("), "class", pl.lit(")"))).otherwise("name")
    return dict(used.select("class", name).iter_rows())


def _joined(frame: pl.DataFrame, other: TableFile, images: TableFile, column: str) -> pl.DataFrame:
    """The images with a column of another list. Errors: BBError for an image that it does not have."""
    found = frame.join(other.frame.drop(LINE), on="image", how="left", maintain_order="left")
    if found[column].null_count():
        image = found.filter(pl.col(column).is_null())["image"][0]
        raise BBError(f"{other.source} has no line for image {image!r} of {Path(images.source).name}. Fetch it again.")
    return found
