"""The contract of a task family: published tasks whose labels a folder of images comes with.

A family is an object, named by a line of the registry; a plug-in's entry point comes in by the same registry.
`bb probe FAMILY` fits classifiers to it as `bb probe classify` does to a table of labels; NeWT has a verb with its own
protocol. Every family passes the suite in tests/contracts/family.py.
"""

from pathlib import Path
from typing import Protocol, runtime_checkable

import polars as pl

from bb.store.storage.download import Archive


@runtime_checkable
class TaskFamily(Protocol):
    """Where the labels of a family are, and where it comes from.

    title     what it is, in a line
    archives  what `bb data download` fetches and unpacks into one folder; empty where the user fetches it
    """

    title: str
    archives: tuple[Archive, ...]

    def labels(self, root: Path) -> Path | pl.DataFrame:
        """The table of labels in a folder, or its file: columns as docs/labels.md has them.

        Errors: OSError where the folder has no labels, and any other where they can't be read.
        """
        ...
