"""KABR: what zebras and giraffes do, in clips of drones' videos; 16 frames of a clip are pooled to one vector."""

from pathlib import Path

import polars as pl

from bb.probe.tasks.families.csv_file import refuse_numbers_but, refuse_repeats
from bb.probe.tasks.families.folder_family import FolderFamily
from bb.probe.tasks.families.layout import LayoutPart, refuse_outside, require, table_of
from bb.probe.tasks.families.word_file import read_words
from bb.probe.tasks.family import About
from bb.probe.tasks.task_table import TaskTable
from bb.store.text.size import counted

FRAMES, EVERY = 16, 5
PARTS = (
    LayoutPart(("annotation/train.csv",), "video, frame, path and label of each training frame"),
    LayoutPart(("annotation/val.csv",), "the same of each validation frame"),
    LayoutPart(("dataset/image",), "the frames", folder=True),
)
COLUMNS = ["original_vido_id", "video_id", "frame_id", "path", "labels"]


def _labels(root: Path) -> TaskTable:
    """Of each clip the 16 frames in its middle, every fifth or, of a short one, as far apart as fits; the group is the
    clip. Errors: UsageError for another layout; BBError naming file and line of what is wrong."""
    train, val, images = require(root, PARTS)
    above = images.relative_to(root).as_posix()
    parts = [_frames(path, side, above) for side, path in (("train", train), ("val", val))]
    short = sum(n for _, n in parts)
    notes = [f"{counted(short, 'clip')} of fewer than {FRAMES} frames left out"] if short else []
    return table_of(pl.concat([frame for frame, _ in parts]), str(root), notes)


def _frames(path: Path, side: str, above: str) -> tuple[pl.DataFrame, int]:
    """The frames of one side, and how many clips are too short."""
    table = read_words(path, COLUMNS, header=True)
    refuse_outside(table, "path")
    refuse_repeats(table, "path")
    refuse_numbers_but(table, "labels", 0)
    of, place = pl.len().cast(pl.Int64).over("video_id"), pl.int_range(pl.len()).over("video_id")
    stride = pl.min_horizontal(pl.lit(EVERY), (of - 1) // (FRAMES - 1))
    start = (of - ((FRAMES - 1) * stride + 1)) // 2
    counted_frames = table.frame.with_columns(of.alias("of"), stride.alias("stride"), (place - start).alias("place"))
    long = counted_frames.filter(pl.col("of") >= FRAMES)
    step = pl.col("place")
    chosen = long.filter((step >= 0) & (step % pl.col("stride") == 0) & (step < FRAMES * pl.col("stride")))
    frame = chosen.select(
        pl.concat_str(pl.lit(f"{above}/"), "path").alias("image_id"),
        pl.col("labels").alias("label"),
        pl.lit(side).alias("split"),
        pl.concat_str(pl.lit(f"{side}/"), "video_id").alias("group"),
        pl.col("original_vido_id").alias("site"),
    )
    return frame, table.frame["video_id"].n_unique() - long["video_id"].n_unique()


KABR = FolderFamily(
    "KABR: what zebras and giraffes do, in clips of drones' videos",
    About(
        needs="annotation/{train,val}.csv and dataset/image/",
        home="https://huggingface.co/datasets/imageomics/KABR",
        citation="""@inproceedings{kholiavchenko2024kabr,
  title = {KABR: In-Situ Dataset for Kenyan Animal Behavior Recognition from Drone Videos},
  author = {Kholiavchenko, Maksim and Kline, Jenna and Ramirez, Michelle and Stevens, Sam and Sheets, Alec and Babu,
    Reshma and Banerji, Namrata and Campolongo, Elizabeth and Thompson, Matthew and Van Tiel, Nina and Miliko, Jackson
    and Bessa, Eduardo and Duporge, Isla and Berger-Wolf, Tanya and Rubenstein, Daniel and Stewart, Charles},
  booktitle = {WACV Workshops},
  pages = {31--40},
  year = {2024}
}""",
        metrics=("macro_f1@wilds", "macro_f1@biobench"),
        pool="max",
        published="biobench: balanced logistic regression on the maximum of 16 frames from a random start, macro-F1",
    ),
    PARTS,
    _labels,
)
