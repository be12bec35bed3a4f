"""The contract of a task family: published tasks whose labels a folder of images comes with.

A family is an object, named by a line of the registry; a plug-in's entry point comes in by the same registry.
`bb probe FAMILY` fits classifiers to it as `bb probe classify` does to a table of labels, or ranks its images as
`bb probe retrieval` does; NeWT has a verb with its own protocol. Every family passes the suite in
tests/contracts/family.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import polars as pl

from bb.probe.tasks.task_table import TaskTable, parse_task_table, read_task_table
from bb.store.storage.download import Archive

Labels: TypeAlias = Path | pl.DataFrame | TaskTable


@runtime_checkable
class TaskFamily(Protocol):
    """Where the labels of a family are, and where it comes from.

    title     what it is, in a line
    archives  what `bb data download` fetches and unpacks into one folder; empty where the user fetches it
    """

    title: str
    archives: tuple[Archive, ...]

    def labels(self, root: Path) -> Labels:
        """The table of labels in a folder, or its file: columns as docs/labels.md has them.

        Errors: OSError where the folder has no labels, and any other where they can't be read.
        """
        ...


@dataclass(frozen=True)
class About:
    """What a person should know of a family.

    needs       what its folder has to hold
    size        images, classes and bytes, as far as the publishers say
    licence     as far as it was seen
    home        where the publishers have it
    citation    BibTeX
    probe       "classify", or "retrieval" where individuals are to be found again
    classifier  what `bb probe FAMILY` fits unless --classifier names another; "" leaves it to the verb
    metrics     what its board shows first, and is sorted by; () leaves it to the verb
    pool        how the images of a group become one unit unless --pool-group says it; "" for none
    poisonous   the file of poisonous classes below the root, for FungiCLEF's loss; "" for none
    published   what the published board does, for a person
    protocols   names of bb's replicas of it, as --protocol takes them
    """

    needs: str
    size: str = ""
    licence: str = "ask the publisher"
    home: str = ""
    citation: str = ""
    probe: Literal["classify", "retrieval"] = "classify"
    classifier: str = ""
    metrics: tuple[str, ...] = ()
    pool: str = ""
    poisonous: str = ""
    published: str = ""
    protocols: tuple[str, ...] = ()


@runtime_checkable
class DescribedFamily(TaskFamily, Protocol):
    """A family that also says what its folder needs, and what a wrong one does not have. All of bb's own but NeWT."""

    about: About

    def check(self, root: Path) -> Sequence[str]:
        """What is wrong with the layout of a folder, a clause each, such as "it has train/ but no val/"; no labels are
        read. Empty where nothing is.
        """
        ...


@runtime_checkable
class NamedFamily(TaskFamily, Protocol):
    """A family whose image IDs say the labels, so that stored features are enough and no folder is needed."""

    def from_ids(self, image_ids: Sequence[str]) -> TaskTable | None:
        """The table of labels of these images, named as in the folder; None where the names do not say them."""
        ...


def as_task_table(found: Labels, source: str) -> TaskTable:
    """What `labels` gave, as a checked table. Errors: those of `read_task_table`."""
    if isinstance(found, TaskTable):
        return found
    return read_task_table(found) if isinstance(found, Path) else parse_task_table(found, source=source)


def about(family: TaskFamily) -> About:
    """What a family says of itself; of one with the short contract that its labels are needed."""
    found = getattr(family, "about", None)
    return found if isinstance(found, About) else About("its images and labels", licence="")
