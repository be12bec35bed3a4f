"""A folder for each class, below one for each side of a split: train/Strix aluco/1.jpg, as torchvision's ImageFolder.

Classes are folders' names, so a class is the same on every side: numbers counted for each side would differ as soon as
one side has a folder that the other does not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from bb.probe.tasks.families.layout import (
    LayoutPart,
    absent,
    counted,
    entries,
    image_files,
    plain_name,
    require,
    table_of,
)
from bb.probe.tasks.family import About
from bb.probe.tasks.task_table import TaskTable
from bb.store.format.collection import normalise_id
from bb.store.storage.download import Archive


@dataclass(frozen=True)
class ClassFolders:
    """A family of this layout. Fulfils bb.probe.tasks.family.DescribedFamily and NamedFamily.

    sides    side of the split → names of its folder below the root, the publishers' first; the first that is there
             counts
    unknown  names of folders, in lower case, whose images are of no class: they get no label
    """

    title: str
    about: About
    sides: Mapping[str, tuple[str, ...]]
    unknown: frozenset[str] = frozenset()
    archives: tuple[Archive, ...] = field(default=())

    def parts(self) -> list[LayoutPart]:
        return [LayoutPart(names, "a folder for each class", folder=True) for names in self.sides.values()]

    def check(self, root: Path) -> list[str]:
        """See DescribedFamily."""
        if problems := absent(root, self.parts()):
            return problems
        problems = []
        for folder in require(root, self.parts()):
            name = folder.relative_to(root)
            classes = [entry for entry in entries(folder) if entry.is_dir()]
            if len(classes) < 2:
                inside = counted(sum(entry.is_file() for entry in entries(folder)), "file")
                problems.append(f"{name}/ has {counted(len(classes), 'folder')} and {inside}, where it needs a folder "
                                "for each of two or more classes")  # fmt: skip
            elif not any(True for each in classes for _ in image_files(each, "")):
                problems.append(f"no folder of a class in {name}/ has an image")
        return problems

    def labels(self, root: Path) -> TaskTable:
        """See TaskFamily. Lists folders and reads no file. Errors: UsageError for another layout."""
        ids: list[str] = []
        for folder in require(root, self.parts()):
            for of_class in entries(folder):
                if of_class.is_dir():
                    above = plain_name(str(of_class.relative_to(root)))
                    ids += image_files(of_class, f"{above}/")
        return self._table(ids, str(root))

    def from_ids(self, image_ids: Sequence[str]) -> TaskTable | None:
        """See NamedFamily: the last two folders of each ID are side and class."""
        found = {"/".join(image_id.split("/")[:-2]) for image_id in image_ids if image_id.count("/") > 1}
        there = [any(self._is(folder, name) for folder in found for name in names) for names in self.sides.values()]
        return self._table(image_ids, "the image IDs") if all(there) else None

    def _table(self, image_ids: Iterable[str], source: str) -> TaskTable:
        rows = [(image_id, *image_id.rsplit("/", 2)[:2]) for image_id in image_ids if image_id.count("/") > 1]
        folders = sorted({folder for _, folder, _ in rows})
        side_of: dict[str, str] = {}
        for side, names in self.sides.items():
            chosen = next((name for name in names if any(self._is(folder, name) for folder in folders)), names[0])
            side_of |= {folder: side for folder in folders if self._is(folder, chosen)}
        used = [(image_id, label, side_of[folder]) for image_id, folder, label in rows if folder in side_of]
        frame = pl.DataFrame(used, schema=["image_id", "label", "split"], orient="row")
        nothing = pl.col("label").str.to_lowercase().is_in(list(self.unknown))
        unknown = frame.filter(nothing).height
        notes = [f"{counted(unknown, 'image')} of folders for what is of no class have no label"] if unknown else []
        label = pl.when(~nothing).then(pl.col("label")).alias("label")
        return table_of(frame.with_columns(label), source, notes)

    @staticmethod
    def _is(folder: str, name: str) -> bool:
        """Whether a folder's path is, or ends with, a side's."""
        name = normalise_id(name)
        return folder == name or folder.endswith(f"/{name}")
