"""The suite that every task family passes, bb's own and those of plug-ins: `check(family, root)`."""

from pathlib import Path

import polars as pl

from bb.probe.tasks.family import TaskFamily
from bb.probe.tasks.task_table import parse_task_table, read_task_table
from bb.store.storage.download import Archive


def check(family, root: Path) -> None:
    """Runs the suite on a family, and a folder with its labels."""
    assert isinstance(family, TaskFamily)
    assert family.title and "\n" not in family.title and not family.title.endswith(".")
    assert all(isinstance(archive, Archive) and archive.url.startswith("https://") for archive in family.archives)
    found = family.labels(root)
    assert isinstance(found, Path | pl.DataFrame)
    table = read_task_table(found) if isinstance(found, Path) else parse_task_table(found)
    assert table.image_ids and table.tasks
    assert family.labels(root) is not None, "it can be asked twice"
