"""Labels without a table: the folder of an image is its class, below folders of the sides of a split if there are any.

    fox/1.jpg                  class fox
    train/fox/1.jpg            class fox, side train (and val, test; also training, validation, testing …)
    Aves/Parus major/1.jpg     class Aves/Parus major: all folders, so that two of one name stay apart

Folders that all images share come before the sides or classes and say nothing.
"""

from collections.abc import Sequence

import polars as pl

from bb.probe.tasks.task_table import ONE_TASK, SIDES, TaskTable
from bb.store.errors import UsageError
from bb.store.text import lookalike
from bb.store.text.lookalike import shown


class NoClasses(UsageError):
    """Folders do not give classes. problem: the message without what to do about it, which depends on who asks."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem} {advice}")
        self.problem = problem


def table_from_folders(
    image_ids: Sequence[str], *, depth: int | None = None, source: str = "the collection"
) -> TaskTable:
    """A task table of classes from image IDs, which are relative paths with forward slashes.

    depth  the number of folders that make the class, counted from the outermost; None: all
    Folders are sides where each outermost one has the name of one, there are two or more, and they hold classes; an
    image right in a side's folder has no label, one outside of any folder is left out. Errors: UsageError where there
    are fewer than two classes, or some outermost folders are sides and others are not.
    """
    if depth is not None and depth < 1:
        raise UsageError(f"depth {depth} leaves no folder to be the class; give 1 or more.")
    paths = {image_id: image_id.split("/")[:-1] for image_id in image_ids}
    inside = {image_id: folders for image_id, folders in paths.items() if folders}
    shared = _shared(list(inside.values()))
    above = "/".join(next(iter(inside.values()), [])[:shared])
    inside = {image_id: folders[shared:] for image_id, folders in inside.items()}
    outermost = {folders[0] for folders in inside.values() if folders}
    sided = _are_sides(outermost, inside, source)
    if sided:
        sides = {image_id: SIDES[_word(folders[0])] for image_id, folders in inside.items()}
        inside = {image_id: folders[1:] for image_id, folders in inside.items()}
    labels = {image_id: "/".join(folders[:depth]) or None for image_id, folders in inside.items()}
    classes = sorted({label for label in labels.values() if label})
    if len(classes) < 2:
        one = shown(classes[0] if classes else above)
        what = f"all images are in folder {one}" if classes or above else "no image is in a folder"
        raise NoClasses(f"{source}: {what}; classes are two or more folders.", "Name a table with --labels FILE.")
    data: dict[str, list[str | None]] = {
        "image_id": list(labels),
        "task": [ONE_TASK] * len(labels),
        "label": list(labels.values()),
    }
    if sided:
        data["split"] = [sides[image_id] for image_id in labels]
    frame = pl.DataFrame(data, schema=dict.fromkeys(data, pl.String))
    folders_of = "the folder" if depth == 1 else "all folders" if depth is None else f"the first {depth} folders"
    columns = {"image_id": "the path", "label": folders_of, **({"split": "the outermost folder"} if sided else {})}
    nested = [each for each in classes if any(other.startswith(each + "/") for other in classes)]
    loose, unlabelled = len(paths) - len(labels), sum(label is None for label in labels.values())
    notes = [
        *([f"{loose} images outside of any folder are left out"] if loose else []),
        *([f"{unlabelled} images outside of a class's folder have no label"] if unlabelled else []),
        *([f"folder {shown(nested[0])} has images next to folders: each is a class"]
          if nested else []),
        *lookalike.notes("label", classes),
    ]  # fmt: skip
    return TaskTable(frame.sort("task", "image_id"), "classes", source, columns, tuple(notes))


def _shared(paths: Sequence[list[str]]) -> int:
    """How many leading folders all paths share."""
    first, last = min(paths, default=[]), max(paths, default=[])
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _are_sides(outermost: set[str], inside: dict[str, list[str]], source: str) -> bool:
    sides = {folder for folder in outermost if _word(folder) in SIDES}
    others = outermost - sides
    if len({SIDES[_word(folder)] for folder in sides}) < 2 or not any(len(folders) > 1 for folders in inside.values()):
        return False
    if others or any(not folders for folders in inside.values()):
        what = f"folder {shown(min(others))}" if others else "an image next to them"
        raise NoClasses(f"{source}: {' and '.join(map(shown, sorted(sides)))} look like the sides of a split, but "
                        f"there is {what}, too.", "Move it below one, or name a table with --labels FILE.")  # fmt: skip
    return True


def _word(folder: str) -> str:
    return folder.strip().lower().replace("-", "_").replace(" ", "_")
