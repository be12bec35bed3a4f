"""Task families by name: bb's own and those of plug-ins."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bb.store.errors import BBError, UsageError
from bb.store.plugins import Registry

if TYPE_CHECKING:
    from bb.probe.tasks.family import Labels, TaskFamily

OWN = {
    "newt": "bb.probe.tasks.newt:NEWT",
    "inat21": "bb.probe.tasks.families.folders.inat21:INAT21",
    "herbarium19": "bb.probe.tasks.families.folders.herbarium19:HERBARIUM19",
    "plantnet": "bb.probe.tasks.families.folders.plantnet:PLANTNET",
    "plantnet-val": "bb.probe.tasks.families.folders.plantnet:PLANTNET_VAL",
    "iwildcam": "bb.probe.tasks.families.tables.iwildcam:IWILDCAM",
    "fungiclef": "bb.probe.tasks.families.tables.fungiclef:FUNGICLEF",
    "plankton": "bb.probe.tasks.families.folders.plankton:PLANKTON",
    "ecdysis": "bb.probe.tasks.families.tables.ecdysis:ECDYSIS",
    "fishnet": "bb.probe.tasks.families.tables.fishnet:FISHNET",
    "kabr": "bb.probe.tasks.families.clips.kabr:KABR",
    "mammalnet": "bb.probe.tasks.families.clips.mammalnet:MAMMALNET",
    "beluga": "bb.probe.tasks.families.coco.wild_me:BELUGA",
    "coco-reid": "bb.probe.tasks.families.coco.wild_me:COCO_REID",
    "imagenet1k": "bb.probe.tasks.families.tables.imagenet1k:IMAGENET1K",
    "nabirds": "bb.probe.tasks.families.lists.nabirds:NABIRDS",
    "cub200": "bb.probe.tasks.families.lists.cub200:CUB200",
    "awa2": "bb.probe.tasks.families.lists.awa2:AWA2",
    "cct": "bb.probe.tasks.families.coco.caltech_camera_traps:CALTECH_CAMERA_TRAPS",
    "plantdoc": "bb.probe.tasks.families.folders.plantdoc:PLANTDOC",
    "meta-album": "bb.probe.tasks.families.tables.meta_album:META_ALBUM",
}
TASKS: "Registry[TaskFamily]" = Registry("bb.tasks", "task family", OWN, needs=("title", "archives", "labels"))


def layout_problems(name: str, root: Path) -> list[str]:
    """What is wrong with the layout of a family's folder, a clause each; empty where nothing is, or nothing is known.

    Errors: UsageError for an unknown family, PluginError.
    """
    family = TASKS.load(name)
    return list(family.check(root)) if hasattr(family, "check") else []


def family_metrics(name: str) -> tuple[str, ...]:
    """The metrics that come first on a family's board; none where there is no such family, or it does not say
    them."""
    if name not in TASKS or not TASKS.plugins[name].own:
        return ()
    from bb.probe.tasks.family import about

    return about(TASKS.load(name)).metrics


def family_labels(name: str, root: Path | None, image_ids: Sequence[str] = ()) -> "Labels":
    """The labels of a family in the folder of its images, or their file.

    image_ids  of the collection, for families whose image IDs say the labels: then no folder is needed
    Errors: UsageError for an unknown family, where no folder is known, and where it has another layout or no labels;
    BBError where labels can't be read, naming the plug-in that can't; PluginError.
    """
    from bb.probe.tasks.family import about

    family = TASKS.load(name)
    try:
        if root is None:
            table = family.from_ids(image_ids) if image_ids and hasattr(family, "from_ids") else None
            if table is None:
                raise UsageError(f"where are the labels of {name}? Give --data {name}=DIR with its images and labels, "
                                 "or --labels FILE.")  # fmt: skip
            return table
        if problems := layout_problems(name, root):
            raise UsageError(f"{root} does not have the layout of {name}: {'; '.join(problems)}. It needs "
                             f"{about(family).needs}.")  # fmt: skip
        found = family.labels(root)
        if isinstance(found, Path) and not found.is_file():
            raise FileNotFoundError(found)
    except FileNotFoundError as error:
        raise UsageError(f"{root} has no labels of {name}: {error.filename or error} is not there. Fetch it again, or "
                         "give --labels FILE.") from None  # fmt: skip
    except (BBError, UsageError):
        raise
    except PermissionError as error:
        raise BBError(f"{error.filename or root} can't be read: {error.strerror}. Change its permissions.") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BBError(f"{TASKS.plugins[name].describe()} can't read the labels in {root}: {reason}. Update it, or give "
                      "--labels FILE.") from error  # fmt: skip
    return found
