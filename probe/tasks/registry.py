"""Task families by name: bb's own and those of plug-ins."""

from pathlib import Path
from typing import TYPE_CHECKING

from bb.store.errors import BBError, UsageError
from bb.store.plugins import Registry

if TYPE_CHECKING:
    import polars as pl

    from bb.probe.tasks.family import TaskFamily

TASKS: "Registry[TaskFamily]" = Registry(
    "bb.tasks", "task family", {"newt": "bb.probe.tasks.newt:NEWT"}, needs=("title", "archives", "labels")
)


def family_labels(name: str, root: Path | None) -> "Path | pl.DataFrame":
    """The labels of a family in the folder of its images, or their file.

    Errors: UsageError for an unknown family, where no folder is known, and where it has no labels; BBError where a
    plug-in can't read them; PluginError.
    """
    family = TASKS.load(name)
    if root is None:
        raise UsageError(f"where are the labels of {name}? Give --data {name}=DIR with its images and labels, or "
                         "--labels FILE.")  # fmt: skip
    try:
        found = family.labels(root)
        if isinstance(found, Path) and not found.is_file():
            raise FileNotFoundError(found)
    except FileNotFoundError as error:
        raise UsageError(f"{root} has no labels of {name}: {error.filename or error} is not there. Fetch it again, or "
                         "give --labels FILE.") from None  # fmt: skip
    except (BBError, UsageError):
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BBError(f"{TASKS.plugins[name].describe()} can't read the labels in {root}: {said}. Update it, or give "
                      "--labels FILE.") from error  # fmt: skip
    return found
