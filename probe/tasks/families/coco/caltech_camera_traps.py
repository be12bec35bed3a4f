"""Caltech Camera Traps: species, and whether there is an animal, at locations that nothing was trained on."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import polars as pl

from bb.probe.tasks.families.folder_family import FolderFamily
from bb.probe.tasks.families.json_file import read_json, records
from bb.probe.tasks.families.layout import LayoutPart, is_outside, require, table_of
from bb.probe.tasks.family import About
from bb.probe.tasks.task_table import TaskTable
from bb.store.errors import BBError
from bb.store.text.lookalike import shown
from bb.store.text.size import counted

EMPTY = "empty"  # the category of images without an animal
PARTS = (
    LayoutPart(("caltech_images_20210113.json",), "category and location of each image"),
    LayoutPart(("CaltechCameraTrapsSplits_v0.json",), "the locations of each side"),
    LayoutPart(("cct_images",), "the images", folder=True),
)


def _labels(root: Path) -> TaskTable:
    """Two tasks: `species` of images of one category that are not empty, and `empty`, whether an image is. The unit of
    an interval is the location. Errors: UsageError for another layout; BBError naming file and place of what is
    wrong."""
    path, splits, folder = require(root, PARTS)
    side = _sides(splits)
    value = read_json(path)
    images = records(path, value, "images", {"id": (str, int), "file_name": (str,), "location": (str, int)})
    categories = records(path, value, "categories", {"id": (int, str), "name": (str,)})
    annotations = records(path, value, "annotations", {"image_id": (str, int), "category_id": (int, str)})
    name = {each["id"]: each["name"] for each in categories}
    of_image: dict[str | int, set[str]] = defaultdict(set)
    for place, each in enumerate(annotations):
        if each["category_id"] not in name:
            raise BBError(f"{path}: annotations[{place}] has category_id {each['category_id']!r}, which no "
                          "category has. Fetch it again.")  # fmt: skip
        of_image[each["image_id"]].add(name[each["category_id"]])
    rows, other, several = [], 0, 0
    for place, image in enumerate(images):
        if is_outside(image["file_name"]):
            raise BBError(f"{path}: images[{place}] has file_name {shown(image['file_name'][:80])}; it must be a "
                          "path below cct_images/ without .. in it.")  # fmt: skip
        location, found = str(image["location"]), of_image.get(image["id"], set())
        if location not in side or not found:
            other += 1
            continue
        facts = (f"{folder.name}/{image['file_name']}", side[location], location, _date(image))
        rows.append(("empty", EMPTY if found == {EMPTY} else "animal", *facts))
        several += len(found) > 1
        if len(found) == 1 and found != {EMPTY}:
            rows.append(("species", next(iter(found)), *facts))
    if not rows:
        raise BBError(f"{path}: no image is of a location of {splits.name}. Fetch both again.")
    columns = ["task", "label", "image_id", "split", "site", "date"]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    notes = [
        *([f"{counted(other, 'image')} of other locations or without a category left out"] if other else []),
        *([f"{counted(several, 'image')} of several categories in the task empty alone"] if several else []),
    ]
    return table_of(frame.with_columns(pl.col("site").alias("group")), str(path), notes)


def _sides(path: Path) -> dict[str, str]:
    """Location → side. Errors: BBError."""
    value = read_json(path)
    splits = value.get("splits") if isinstance(value, dict) else None
    found: dict[str, str] = {}
    for side in ("train", "val"):
        places = splits.get(side) if isinstance(splits, dict) else None
        if not isinstance(places, list) or not all(isinstance(each, str | int) for each in places):
            raise BBError(f"{path} has no list of locations splits.{side}. Fetch it again.")
        for each in map(str, places):
            if found.setdefault(each, side) != side:
                raise BBError(f"{path}: location {each!r} is both of {found[each]} and of {side}. Fetch it again.")
    return found


def _date(image: dict[str, Any]) -> str | None:
    found = re.match(r"(?:19|20)\d{2}-(?:0[1-9]|1[0-2])-(?:[0-2]\d|3[01])(?!\d)", str(image.get("date_captured") or ""))
    return found[0] if found else None


CALTECH_CAMERA_TRAPS = FolderFamily(
    "Caltech Camera Traps: species and empty images, at unseen locations",
    About(
        needs="caltech_images_20210113.json, CaltechCameraTrapsSplits_v0.json and cct_images/*.jpg",
        size="about 243,000 images, 140 locations, 22 categories",
        home="https://lila.science/datasets/caltech-camera-traps",
        citation="""@inproceedings{beery2018recognition,
  title = {Recognition in Terra Incognita},
  author = {Beery, Sara and Van Horn, Grant and Perona, Pietro},
  booktitle = {ECCV},
  year = {2018}
}""",
        metrics=("macro_f1@wilds", "accuracy"),
        published="birder: nearest neighbours, k of 10, 20 and 100, train to val; images of one category",
    ),
    PARTS,
    _labels,
)
