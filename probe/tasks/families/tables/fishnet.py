"""FishNet: nine traits of fishes: where they feed, live, and in which water."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from bb.probe.tables.table_file import of_value, read_table_file
from bb.probe.tasks.families.csv_file import AGAIN
from bb.probe.tasks.families.folder_family import FolderFamily
from bb.probe.tasks.families.layout import LayoutPart, is_outside, require, table_of
from bb.probe.tasks.family import About
from bb.probe.tasks.task_columns import TRAIT
from bb.probe.tasks.task_table import TaskTable
from bb.store.errors import BBError
from bb.store.text.size import counted

PARTS = (
    LayoutPart(("train.csv",), "image, folder and traits of each training image"),
    LayoutPart(("test.csv",), "the same of each test image"),
    LayoutPart(("Image_Library", "images"), "a folder for each family of fishes", folder=True),
)
# The publishers' columns of the image's path and its folder, by place: the first may be nameless.
IMAGE, FOLDER = 3, 12
TRAITS = (
    "FeedingPath", "Tropical", "Temperate", "Subtropical", "Boreal", "Polar", "freshwater", "saltwater", "brackish",
)  # fmt: skip
TRUTHS = {"pelagic": "1", "benthic": "0", "1": "1", "0": "0", "1.0": "1", "0.0": "0"}


def _labels(root: Path) -> TaskTable:
    """Rows without all nine traits are left out, as the publishers do. Errors: UsageError for another layout; BBError
    naming file and line of what is wrong."""
    train, test, images = require(root, PARTS)
    parts = [_rows(path, side, images.name) for side, path in (("train", train), ("test", test))]
    dropped = sum(n for _, n in parts)
    notes = [f"{counted(dropped, 'image')} without all nine traits left out"] if dropped else []
    return table_of(pl.concat([frame for frame, _ in parts]), str(root), notes)


def _rows(path: Path, side: str, above: str) -> tuple[pl.DataFrame, int]:
    """The images of one table, and how many rows do not have all traits."""
    named: list[str] = []

    def choose(header: Sequence[str]) -> list[str]:
        named[:] = [header[place] for place in (IMAGE, FOLDER)] if len(header) > FOLDER else []
        return [*named, *TRAITS]

    table = read_table_file(path, what=f"no table at {path}. {AGAIN}", columns=choose, remedy=AGAIN)
    table.require(TRAITS, AGAIN)
    if not named or not set(named) <= set(table.columns):
        raise BBError(f"{path} has {len(table.columns)} columns with a name; the image is in the {IMAGE + 1}th and its "
                      f"folder in the {FOLDER + 1}th. {AGAIN}")  # fmt: skip
    image, folder = named
    table = table.select(ids=[image, folder], optional=TRAITS)
    for trait in TRAITS:
        word = pl.col(trait).str.strip_chars().str.to_lowercase()
        strange = table.frame.filter(word.is_not_null() & ~word.is_in(list(TRUTHS)))
        table.refuse(strange, of_value(trait, "it must be 0 or 1, pelagic or benthic, or empty"))
    table.refuse(
        table.frame.filter(pl.Series([is_outside(name) for name in table.frame[folder]])),
        of_value(folder, "it must be the name of a folder"),
    )
    complete = table.frame.drop_nulls(TRAITS)
    name = pl.col(image).str.split("/").list.last()
    frame = complete.select(
        pl.concat_str(pl.lit(f"{above}/"), folder, pl.lit("/"), name).alias("image_id"),
        pl.lit(side).alias("split"),
        *(pl.col(t).str.strip_chars().str.to_lowercase().replace_strict(TRUTHS).alias(TRAIT + t) for t in TRAITS),
    )
    return frame, table.frame.height - complete.height


FISHNET = FolderFamily(
    "FishNet: nine traits of fishes",
    About(
        needs="Image_Library/FOLDER/*, train.csv and test.csv",
        size="94,532 images, 17,357 species",
        home="https://fishnet-2023.github.io",
        citation="""@inproceedings{khan2023fishnet,
  title = {FishNet: A Large-scale Dataset and Benchmark for Fish Recognition, Detection, and Functional Trait
    Prediction},
  author = {Khan, Faizan Farooq and Li, Xiang and Temple, Andrew J. and Elhoseiny, Mohamed},
  booktitle = {ICCV},
  year = {2023}
}""",
        metrics=("macro_f1", "exact_match"),
        published="BioCLIP 2: a network of one hidden layer, all nine traits right; biobench: the same, macro-F1",
        protocols=(
            "biobench-fishnet",
            "bioclip2-fishnet",
        ),
    ),
    PARTS,
    _labels,
)
