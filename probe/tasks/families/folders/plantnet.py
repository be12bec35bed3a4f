"""Pl@ntNet-300K: photographs of plants by species; images of one observation are of one plant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from bb.probe.tasks.families.folders.class_folders import ClassFolders
from bb.probe.tasks.families.json_file import read_json
from bb.probe.tasks.families.layout import LayoutPart
from bb.probe.tasks.family import About
from bb.probe.tasks.task_table import TaskTable
from bb.store.errors import BBError
from bb.store.storage.download import Archive

METADATA = LayoutPart(("plantnet300K_metadata.json",), "observation and licence of each image")
_ABOUT = About(
    needs="images/{train,val,test}/SPECIES_ID/*.jpg; for intervals by observation plantnet300K_metadata.json",
    size="306,146 images, 1,081 species",
    licence="each image has its own, in plantnet300K_metadata.json",
    home="https://doi.org/10.5281/zenodo.5645731",
    citation="""@inproceedings{plantnet-300k,
  title = {{Pl@ntNet-300K}: a plant image dataset with high label ambiguity and a long-tailed distribution},
  author = {Garcin, Camille and Joly, Alexis and Bonnet, Pierre and Lombardo, Jean-Christophe and Affouard, Antoine and
    Chouet, Mathias and Servajean, Maximilien and Lorieul, Titouan and Salmon, Joseph},
  booktitle = {NeurIPS Datasets and Benchmarks},
  year = {2021}
}""",
    metrics=("macro_f1@wilds", "macro_f1@biobench"),
    published="birder: SimpleShot of 2 and 5 shots, train to test",
)


@dataclass(frozen=True)
class PlantNet:
    """Folders of species, with the observation of each image as its group where the metadata are there."""

    title: str
    about: About
    sides: Mapping[str, tuple[str, ...]]
    archives: tuple[Archive, ...] = field(default=())

    @property
    def folders(self) -> ClassFolders:
        return ClassFolders(self.title, self.about, self.sides)

    def check(self, root: Path) -> list[str]:
        """See DescribedFamily."""
        return self.folders.check(root)

    def from_ids(self, image_ids: Sequence[str]) -> TaskTable | None:
        """See NamedFamily."""
        return self.folders.from_ids(image_ids)

    def labels(self, root: Path) -> TaskTable:
        """See TaskFamily. Errors: UsageError for another layout, BBError for metadata that can't be read."""
        table = self.folders.labels(root)
        path = METADATA.find(root)
        if path is None:
            return table.with_frame(table.frame, f"no {METADATA.names[0]}, so images of one observation count as "
                                    "independent")  # fmt: skip
        stem = pl.col("image_id").str.split("/").list.last().str.replace(r"\.[^.]*$", "")
        frame = table.frame.with_columns(stem.replace_strict(_observations(path), default=None).alias("group"))
        return replace(table.with_frame(frame), columns={**table.columns, "group": "obs_id"})


def _observations(path: Path) -> dict[str, str]:
    """Image → observation. Errors: BBError."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise BBError(
            f"{path} holds a {type(found).__name__}, where it needs an object for each image. Fetch it again."
        )
    for name, facts in found.items():
        if not isinstance(facts, dict) or not isinstance(facts.get("obs_id"), str | int):
            raise BBError(f"{path}: image {name!r} has no obs_id that is a text or number. Fetch it again.")
    return {name: str(facts["obs_id"]) for name, facts in found.items()}


def _folders(side: str) -> tuple[str, ...]:
    return (f"images/{side}", f"images_{side}", side)


PLANTNET = PlantNet(
    "Pl@ntNet-300K: plants by species, with labels that are hard to tell",
    _ABOUT,
    {side: _folders(side) for side in ("train", "val", "test")},
)
PLANTNET_VAL = PlantNet(
    "Pl@ntNet-300K, tested on its validation side as biobench does",
    replace(_ABOUT, needs="images/{train,val}/SPECIES_ID/*.jpg",
            published="biobench: linear probe by AdamW, train to val, macro-F1", protocols=("biobench-linear",)),
    {side: _folders(side) for side in ("train", "val")},
)  # fmt: skip
