"""The form of Meta-Album and of other sets for few shots: a table of paths with a class, or with a taxonomy, each."""

from pathlib import Path

import polars as pl

from bb.probe.tasks.families.csv_file import read_csv, refuse_other_sides, refuse_repeats
from bb.probe.tasks.families.folder_family import FolderFamily
from bb.probe.tasks.families.layout import LayoutPart, refuse_outside, require, table_of
from bb.probe.tasks.family import About
from bb.probe.tasks.task_table import TaskTable
from bb.store.errors import UsageError

PARTS = (LayoutPart(("metadata.csv",), "filepath and class, or species, of each image"),)


def _labels(root: Path) -> TaskTable:
    """With a column `species` the class is genus and species, since `class` is then a rank of the taxonomy. Errors:
    UsageError for another layout; BBError naming the line of what is wrong."""
    (path,) = require(root, PARTS)
    table = read_csv(path, ["filepath"], ["class", "genus", "species", "split"])
    named = ["genus", "species"] if "genus" in table.columns else ["species"]
    if "species" not in table.columns:
        named = ["class"]
    if named[-1] not in table.columns:
        raise UsageError(f"{path} has neither a column class nor species; it has {', '.join(table.columns)}.")
    split = ["split"] if "split" in table.columns else []
    table = table.select(ids=["filepath", *named], required=split)
    refuse_outside(table, "filepath")
    refuse_repeats(table, "filepath")
    if split:
        refuse_other_sides(table, "split")
    label = pl.concat_str(named, separator=" ").alias("label")
    return table_of(table.frame.select(pl.col("filepath").alias("image_id"), label, *split), str(path))


META_ALBUM = FolderFamily(
    "Meta-Album's form: metadata.csv with filepath and class, for few shots",
    About(
        needs="metadata.csv with the columns filepath and class, or genus and species; the images at these paths",
        home="https://meta-album.github.io",
        citation="""@inproceedings{ullah2022metaalbum,
  title = {Meta-Album: Multi-domain Meta-Dataset for Few-Shot Image Classification},
  author = {Ullah, Ihsan and Carri{\\'o}n-Ojeda, Dustin and Escalera, Sergio and Guyon, Isabelle and Huisman, Mike and
    Mohr, Felix and van Rijn, Jan N. and Sun, Haozhe and Vanschoren, Joaquin and Vu, Phan Anh},
  booktitle = {NeurIPS Datasets and Benchmarks},
  year = {2022}
}""",
        classifier="simpleshot",
        metrics=("accuracy",),
        published="BioCLIP 2: SimpleShot of 1 and 5 shots, 5 draws, accuracy",
        protocols=("bioclip2-fewshot",),
    ),
    PARTS,
    _labels,
)
