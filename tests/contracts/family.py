"""The suite that every task family passes, bb's own and those of plug-ins: `check(family, root)`.

`check_described` is for families that say what their folder needs.
"""

from pathlib import Path

import polars as pl

from bb.probe.classification.pool_groups import POOLINGS
from bb.probe.classification.published.registry import PROTOCOLS
from bb.probe.statistics import multilabel
from bb.probe.statistics.multiclass import metrics as multiclass
from bb.probe.tasks.family import DescribedFamily, NamedFamily, TaskFamily, as_task_table
from bb.probe.tasks.task_table import TaskTable
from bb.store.storage.download import Archive


def check(family, root: Path) -> None:
    """Runs the suite on a family, and a folder with its labels."""
    assert isinstance(family, TaskFamily)
    assert family.title and "\n" not in family.title and not family.title.endswith(".")
    assert all(isinstance(archive, Archive) and archive.url.startswith("https://") for archive in family.archives)
    found = family.labels(root)
    assert isinstance(found, Path | pl.DataFrame | TaskTable)
    table = as_task_table(found, "labels")
    assert table.image_ids and table.tasks
    assert not any(image_id.startswith("/") or ".." in image_id.split("/") for image_id in table.image_ids)
    assert family.labels(root) is not None, "it can be asked twice"


def check_described(family, root: Path, nothing: Path) -> None:
    """The same of a family that describes itself; `nothing` is an empty folder."""
    check(family, root)
    assert isinstance(family, DescribedFamily)
    about = family.about
    assert about.needs and about.licence and about.probe in ("classify", "retrieval")
    assert not about.citation or (
        about.citation.startswith("@") and about.citation.count("{") == about.citation.count("}")
    )
    assert set(about.metrics) <= {*multiclass.METRICS, *multilabel.METRICS}
    assert about.pool in ("", *POOLINGS)
    assert set(about.protocols) <= set(PROTOCOLS)
    assert list(family.check(root)) == []
    for wrong in (nothing, nothing / "absent"):
        problems = list(family.check(wrong))
        assert problems and not any(problem.endswith(".") or "\n" in problem for problem in problems), problems
    if isinstance(family, NamedFamily):
        table = as_task_table(family.labels(root), "labels")
        named = family.from_ids(table.image_ids)
        assert named is None or named.image_ids == table.image_ids
