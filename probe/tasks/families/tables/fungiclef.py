"""FungiCLEF 2023: Danish fungi by species; validation observations of several photographs, some of unknown species."""

from pathlib import Path

import polars as pl

from bb.probe.tasks.families.csv_file import read_csv, refuse_numbers_but, refuse_repeats, whole
from bb.probe.tasks.families.folder_family import FolderFamily
from bb.probe.tasks.families.layout import LayoutPart, image_files, refuse_outside, require, table_of
from bb.probe.tasks.family import About
from bb.probe.tasks.task_table import TaskTable
from bb.store.text.size import counted

UNKNOWN = "-1"  # class_id of a species that is not among the training images'
PARTS = (
    LayoutPart(("FungiCLEF2023_train_metadata_PRODUCTION.csv",), "image_path and class_id of each training image"),
    LayoutPart(("FungiCLEF2023_val_metadata_PRODUCTION.csv",), "image_path, class_id and observationID of each image"),
    LayoutPart(("DF20_300", "DF20"), "training images", folder=True),
    LayoutPart(("DF21_300", "DF21"), "validation images", folder=True),
)


def _labels(root: Path) -> TaskTable:
    """Images of unknown species have no label. The group is the observation. Errors: UsageError for another layout;
    BBError naming file and line of what is wrong."""
    train, val, train_images, val_images = require(root, PARTS)
    frame = pl.concat([_rows(train, "train", train_images), _rows(val, "val", val_images)])
    unknown = frame["label"].null_count()
    return table_of(frame, str(root), [f"{counted(unknown, 'image')} of unknown species"] if unknown else [])


def _rows(path: Path, side: str, images: Path) -> pl.DataFrame:
    table = read_csv(path, ["image_path", "class_id", "observationID"])
    table = table.select(ids=["image_path"], required=["class_id"], optional=["observationID"])
    refuse_outside(table, "image_path")
    refuse_repeats(table, "image_path")
    refuse_numbers_but(table, "class_id", -1)
    there = set(image_files(images, ""))
    # The archives write some names in lower case that the tables write otherwise.
    lower = {name: low for name in table.frame["image_path"] if name not in there and (low := name.lower()) in there}
    name = pl.concat_str(pl.lit(f"{images.name}/"), pl.col("image_path").replace(lower))
    label = whole("class_id")
    return table.frame.select(
        name.alias("image_id"),
        pl.when(label != UNKNOWN).then(label).alias("label"),
        pl.lit(side).alias("split"),
        pl.col("observationID").alias("group"),
    )


FUNGICLEF = FolderFamily(
    "FungiCLEF 2023: Danish fungi by species, with species that are unknown",
    About(
        needs="FungiCLEF2023_{train,val}_metadata_PRODUCTION.csv, DF20_300/*.JPG and DF21_300/*.JPG; for the user loss "
        "poison_status_list.csv",
        size="1,604 species",
        home="https://www.imageclef.org/FungiCLEF2023",
        citation="""@inproceedings{picek2022danish,
  title = {Danish Fungi 2020 - Not Just Another Image Recognition Dataset},
  author = {Picek, Luk{\\'a}{\\v{s}} and {\\v{S}}ulc, Milan and Matas, Ji{\\v{r}}{\\'i} and Jeppesen, Thomas S. and
    Heilmann-Clausen, Jacob and L{\\ae}ss{\\o}e, Thomas and Fr{\\o}slev, Tobias},
  booktitle = {WACV},
  year = {2022}
}""",
        classifier="simpleshot",
        metrics=("macro_f1@wilds", "macro_f1@biobench"),
        pool="test-mean",
        poisonous="poison_status_list.csv",
        published="biobench: SimpleShot and a threshold for unknown species, train to val, a mean for each "
        "observation, user loss",
        protocols=("biobench-fungiclef",),
    ),
    PARTS,
    _labels,
)
