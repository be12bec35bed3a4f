"""MammalNet: what mammals do in clips of videos, in combinations of species and behaviour not trained on."""

from pathlib import Path

import polars as pl

from bb.probe.tasks.families.csv_file import refuse_numbers_but, refuse_repeats
from bb.probe.tasks.families.folder_family import FolderFamily
from bb.probe.tasks.families.layout import LayoutPart, require, table_of
from bb.probe.tasks.families.word_file import read_words
from bb.probe.tasks.family import About
from bb.probe.tasks.task_table import TaskTable
from bb.store.errors import BBError
from bb.store.text.size import counted

FRAMES = 32
PARTS = (
    LayoutPart(("annotation/composition/train.csv",), "path, behaviour and species of each training clip"),
    LayoutPart(("annotation/composition/test.csv",), "the same of each test clip"),
    LayoutPart(
        ("frames",), "a folder for each clip with frame_01.jpg to frame_32.jpg, cut from the videos", folder=True
    ),
)
_VIDEO = r"^trimmed_videos/([^/\\]+)\.mp4$"


def _labels(root: Path) -> TaskTable:
    """Labels are the numbers of behaviours; the group is the clip. Errors: UsageError for another layout; BBError
    naming file and line of what is wrong, and where no clip has all its frames."""
    train, test, frames = require(root, PARTS)
    rows, dropped = [], 0
    for side, path in (("train", train), ("test", test)):
        for clip, behaviour in _clips(path):
            names = [f"frame_{n + 1:02}.jpg" for n in range(FRAMES)]
            if not all((frames / clip / name).is_file() for name in names):
                dropped += 1
                continue
            rows += [(f"{frames.name}/{clip}/{name}", behaviour, side, clip) for name in names]
    if not rows:
        raise BBError(f"{frames}: none of {dropped} clips has all of frame_01.jpg to frame_{FRAMES}.jpg. Cut them "
                      "from the videos: every n/32-th frame of a clip of n.")  # fmt: skip
    columns = ["image_id", "label", "split", "group"]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    notes = [f"{counted(dropped, 'clip')} without all {FRAMES} frames left out"] if dropped else []
    return table_of(frame, str(root), notes)


def _clips(path: Path) -> list[tuple[str, str]]:
    """Clip and behaviour of each line. Errors: BBError."""
    table = read_words(path, ["video", "behaviour", "species"])
    strange = table.frame.filter(~pl.col("video").str.contains(_VIDEO) | pl.col("video").str.contains(r"/\.+mp4$"))
    table.refuse(strange, lambda row: f"video is {row['video']!r}; it must be trimmed_videos/NAME.mp4")
    refuse_repeats(table, "video")
    refuse_numbers_but(table, "behaviour", 0)
    return table.frame.select(pl.col("video").str.extract(_VIDEO), "behaviour").rows()


MAMMALNET = FolderFamily(
    "MammalNet: what mammals do, in clips of videos",
    About(
        needs="annotation/composition/{train,test}.csv and frames/CLIP/frame_{01..32}.jpg",
        home="https://mammal-net.github.io",
        citation="""@inproceedings{chen2023mammalnet,
  title = {MammalNet: A Large-scale Video Benchmark for Mammal Recognition and Behavior Understanding},
  author = {Chen, Jun and Hu, Ming and Coker, Darren J. and Berumen, Michael L. and Costelloe, Blair and Beery, Sara and
    Rohrbach, Anna and Elhoseiny, Mohamed},
  booktitle = {CVPR},
  pages = {13052--13061},
  year = {2023}
}""",
        metrics=("macro_f1@wilds", "macro_f1@biobench"),
        pool="max",
        published="biobench: balanced logistic regression on the maximum of 32 frames, train to test, macro-F1",
    ),
    PARTS,
    _labels,
)
