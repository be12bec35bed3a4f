"""Re-identification sets in COCO's form, as Wild Me publishes them on LILA: the field `name` is the individual."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from bb.probe.tasks.families.json_file import read_json, records
from bb.probe.tasks.families.layout import entries, is_outside
from bb.probe.tasks.family import About
from bb.store.errors import BBError, UsageError
from bb.store.storage.download import Archive
from bb.store.text.lookalike import shown

_SIDES = {"train": "train", "val": "val", "test": "test"}
_NEEDS = "annotations/instances_*.json with the field name, and images/*/*.jpg"


@dataclass(frozen=True)
class CocoIndividuals:
    """Individuals to find again, so `bb probe` ranks images. Fulfils bb.probe.tasks.family.DescribedFamily.

    unpacked  the folder that the archive makes; "" for any that ends with .coco. The root is it, or holds it.
    """

    title: str
    about: About
    unpacked: str = ""
    archives: tuple[Archive, ...] = field(default=())

    def check(self, root: Path) -> list[str]:
        """See DescribedFamily."""
        if not root.is_dir():
            return [f"{root} is not a folder"]
        base, _ = self._base(root)
        if not _files(base):
            there = ", ".join(f"{e.name}{'/' * e.is_dir()}" for e in entries(base)[:5]) or "nothing"
            return [f"{base} has {there} but no annotations/instances_*.json"]
        if not (base / "images").is_dir():
            return [f"{base} has annotations/ but no images/"]
        return []

    def labels(self, root: Path) -> pl.DataFrame:
        """image_id, label and, where there are several files, split, of images that show one named individual.

        See TaskFamily. Errors: UsageError for another layout; BBError naming file and place of what is wrong.
        """
        if problems := self.check(root):
            raise UsageError(f"{root}: {'; '.join(problems)}.")
        base, before = self._base(root)
        files = _files(base)
        frames = [_individuals(path, before) for path in files]
        frame = pl.concat(frames)
        if frame.is_empty():
            raise BBError(f"{files[0]}: no annotation has a name, so no individual can be found. Fetch it again.")
        twice = frame.filter(~pl.col("image_id").is_first_distinct())["image_id"].to_list()
        if twice:
            raise BBError(f"{files[-1]}: image {shown(twice[0])} stands in another file of {files[0].parent}, too.")
        return frame if frame["split"].n_unique() > 1 else frame.drop("split")

    def _base(self, root: Path) -> tuple[Path, str]:
        inside = [entry for entry in entries(root) if entry.is_dir() and entry.suffix == ".coco"]
        if self.unpacked:
            inside = [entry for entry in inside if entry.name == self.unpacked]
        return (inside[0], f"{inside[0].name}/") if len(inside) == 1 else (root, "")


def _files(base: Path) -> list[Path]:
    return [e for e in entries(base / "annotations") if e.name.startswith("instances_") and e.suffix == ".json"]


def _individuals(path: Path, before: str) -> pl.DataFrame:
    """One file's images and individuals. Images of several individuals, or of none with a name, are left out."""
    folder = path.stem.removeprefix("instances_")
    value = read_json(path)
    images = records(path, value, "images", {"id": (int, str), "file_name": (str,)})
    found = records(path, value, "annotations", {"image_id": (int, str)})
    files: dict[int | str, str] = {}
    for place, image in enumerate(images):
        if is_outside(image["file_name"]):
            raise BBError(f"{path}: images[{place}] has file_name {shown(image['file_name'][:80])}; it must be a path "
                          "below images/ without .. in it.")  # fmt: skip
        if image["id"] in files:
            raise BBError(f"{path}: images[{place}] has the id {image['id']!r}, as an earlier one has. Keep one.")
        files[image["id"]] = image["file_name"]
    names: dict[int | str, set[str]] = {}
    for place, annotation in enumerate(found):
        if annotation["image_id"] not in files:
            raise BBError(f"{path}: annotations[{place}] is of image {annotation['image_id']!r}, which is not there.")
        name = annotation.get("name")
        if name is not None and not isinstance(name, str | int):
            raise BBError(f"{path}: annotations[{place}] has the name {str(name)[:40]!r}; it must be a text.")
        if name is not None and str(name).strip(" _-"):
            names.setdefault(annotation["image_id"], set()).add(str(name).strip())
    side = next((side for word, side in _SIDES.items() if folder.startswith(word)), "train")
    rows = [
        (f"{before}images/{folder}/{files[image].rpartition('/')[2]}", next(iter(who)), side)
        for image, who in names.items()
        if len(who) == 1
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(("image_id", "label", "split"), pl.String), orient="row")


_BELUGA = """@misc{beluga2022,
  title = {Beluga ID 2022},
  author = {{Wild Me}},
  howpublished = {\\url{https://lila.science/datasets/beluga-id-2022/}},
  year = {2022}
}"""
BELUGA = CocoIndividuals(
    "Beluga ID 2022: white whales from above, by individual",
    About(
        needs=f"beluga.coco/{_NEEDS.replace(' and ', ' and beluga.coco/')}",
        size="5,902 images, 788 individuals",
        home="https://lila.science/datasets/beluga-id-2022/",
        citation=_BELUGA,
        probe="retrieval",
        published="biobench: the label of most of the 5 nearest other images, by Euclidean distance",
    ),
    unpacked="beluga.coco",
)
COCO_REID = CocoIndividuals(
    "Any re-identification set in COCO's form, as Wild Me publishes them",
    replace(BELUGA.about, needs=_NEEDS, size="", home="https://lila.science/datasets", citation="", published=""),
)
