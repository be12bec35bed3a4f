"""Ecdysis: photographs of pinned arthropods from museums; the later fifth of each species' visits is tested."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from bb.probe.tables.table_file import LINE
from bb.probe.tasks.families.csv_file import plain_date, read_csv, refuse_repeats
from bb.probe.tasks.families.folder_family import FolderFamily
from bb.probe.tasks.families.layout import LayoutPart, require, table_of
from bb.probe.tasks.family import About
from bb.probe.tasks.task_table import TaskTable
from bb.store.errors import BBError
from bb.store.text.size import counted

PARTS = (
    LayoutPart(("metadata.csv",), "image, date and taxonomy of each specimen"),
    LayoutPart(("images",), "the images", folder=True),
)
RANKS = ["gbif_class", "gbif_order", "gbif_family", "gbif_genus", "gbif_species"]
TRAINED = 0.8  # of a species' images, the earliest


def _labels(root: Path) -> TaskTable:
    """A label is the whole taxonomy. Errors: UsageError for another layout; BBError naming the line of what is
    wrong."""
    path, images = require(root, PARTS)
    table = read_csv(path, ["image_thumbnail_large", "visit_date", *RANKS])
    table = table.select(optional=["image_thumbnail_large", "visit_date", *RANKS])
    name = pl.col("image_thumbnail_large").str.split("/").list.last().str.strip_chars()
    with_image = table.frame.with_columns(name.alias("name")).filter(pl.col("name") != "")
    if with_image.is_empty():
        raise BBError(f"{path} names no image in image_thumbnail_large. Fetch it again.")
    table = replace(table, frame=with_image)
    refuse_repeats(table, "name")
    label = pl.concat_str([pl.col(rank).fill_null("") for rank in RANKS], separator="|")
    ranked = table.frame.with_columns(
        pl.when(label.str.contains(r"[^|]")).then(label).alias("label"),
        plain_date("visit_date").alias("date"),
    ).sort("visit_date", LINE, nulls_last=False)
    place, of = pl.int_range(pl.len()).over("label"), pl.len().over("label")
    trained = place < (TRAINED * of).cast(pl.Int64)
    side = pl.when(trained).then(pl.lit("train")).otherwise(pl.lit("test")).alias("split")
    image_id = pl.concat_str(pl.lit(f"{images.name}/"), "name").alias("image_id")
    nameless = ranked["label"].null_count()
    notes = [f"{counted(nameless, 'image')} without taxonomy"] if nameless else []
    return table_of(ranked.with_columns(side, image_id).select("image_id", "label", "split", "date"), str(path), notes)


ECDYSIS = FolderFamily(
    "Ecdysis: pinned arthropods by species",
    About(
        needs="metadata.csv and images/*.jpg",
        home="https://ecdysis.org",
        citation="""@misc{ecdysis,
  title = {Ecdysis: a portal for live-data arthropod collections},
  howpublished = {\\url{https://ecdysis.org}}
}""",
        metrics=("macro_f1@wilds", "macro_f1@biobench"),
        published="biobench: linear probe by AdamW, earlier to later visits, macro-F1",
        protocols=("biobench-linear",),
    ),
    PARTS,
    _labels,
)
