"""A family whose folder has certain parts, from which a function reads the labels."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bb.probe.tasks.families.layout import LayoutPart, absent
from bb.probe.tasks.family import About
from bb.probe.tasks.task_table import TaskTable
from bb.store.storage.download import Archive


@dataclass(frozen=True)
class FolderFamily:
    """Fulfils bb.probe.tasks.family.DescribedFamily.

    parts  of the folder
    read   the labels in a folder, as `labels` gives them
    """

    title: str
    about: About
    parts: tuple[LayoutPart, ...]
    read: Callable[[Path], TaskTable]
    archives: tuple[Archive, ...] = ()

    def check(self, root: Path) -> list[str]:
        """See DescribedFamily."""
        return absent(root, self.parts)

    def labels(self, root: Path) -> TaskTable:
        """See TaskFamily. Errors: UsageError for another layout; BBError naming file and line of what is wrong."""
        return self.read(root)
