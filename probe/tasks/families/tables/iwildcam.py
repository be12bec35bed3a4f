"""iWildCam of WILDS: photographs of camera traps; scored at locations that were trained on, and at others."""

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from bb.probe.tasks.families.csv_file import (
    plain_date,
    read_csv,
    refuse_numbers_but,
    refuse_other_sides,
    refuse_repeats,
    whole,
)
from bb.probe.tasks.families.layout import LayoutPart, absent, base_of, refuse_outside, require, table_of
from bb.probe.tasks.family import About
from bb.probe.tasks.task_table import TaskTable
from bb.store.storage.download import Archive

UNPACKED = "iwildcam_v2.0"
PARTS = (
    LayoutPart(("metadata.csv",), "split, y and location of each image"),
    LayoutPart(("train",), "all images", folder=True),
)


@dataclass(frozen=True)
class IWildCam:
    """`test` is of locations without a training image, `id_test` of others; the unit of an interval is the location.

    Labels are the numbers `y`. Fulfils bb.probe.tasks.family.DescribedFamily.
    """

    title: str
    about: About
    archives: tuple[Archive, ...] = field(default=())

    def check(self, root: Path) -> list[str]:
        """See DescribedFamily."""
        return absent(base_of(root, UNPACKED)[0], PARTS)

    def labels(self, root: Path) -> TaskTable:
        """See TaskFamily. Errors: UsageError for another layout; BBError naming the line of what is wrong."""
        base, before = base_of(root, UNPACKED)
        path, images = require(base, PARTS)
        table = read_csv(path, ["split", "filename", "y", "location_remapped"], ["datetime"])
        dated = ["datetime"] if "datetime" in table.columns else []
        table = table.select(ids=["filename"], required=["split", "y", "location_remapped"], optional=dated)
        refuse_outside(table, "filename")
        refuse_repeats(table, "filename")
        refuse_other_sides(table, "split")
        refuse_numbers_but(table, "y", 0)
        site = pl.col("location_remapped")
        frame = table.frame.select(
            pl.concat_str(pl.lit(f"{before}{images.name}/"), "filename").alias("image_id"),
            whole("y").alias("label"),
            pl.col("split"),
            site.alias("group"),
            site.alias("site"),
            *(plain_date(name).alias("date") for name in dated),
        )
        return table_of(frame, str(path))


IWILDCAM = IWildCam(
    "iWildCam-WILDS: camera traps, at seen and at unseen locations",
    About(
        needs="iwildcam_v2.0/metadata.csv and iwildcam_v2.0/train/*.jpg",
        size="182 classes, 11 GB",
        licence="CDLA-Permissive-1.0",
        home="https://wilds.stanford.edu/datasets/#iwildcam",
        citation="""@inproceedings{koh2021wilds,
  title = {WILDS: A Benchmark of in-the-Wild Distribution Shifts},
  author = {Koh, Pang Wei and Sagawa, Shiori and Marklund, Henrik and Xie, Sang Michael and Zhang, Marvin and
    Balsubramani, Akshay and Hu, Weihua and Yasunaga, Michihiro and Phillips, Richard Lanas and Gao, Irena and others},
  booktitle = {ICML},
  year = {2021}
}""",
        metrics=("macro_f1@wilds", "macro_f1@biobench"),
        published="WILDS: macro-F1 over the classes in the test images; biobench: linear probe by AdamW, train to "
        "test, macro-F1 over all numbers, which is never higher",
        protocols=("biobench-linear",),
    ),
)
