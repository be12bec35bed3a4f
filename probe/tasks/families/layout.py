"""What is in the folder of a family: the parts that it needs, image files, and what is said where a part is absent."""

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from bb.probe.tables.missing_value import is_missing
from bb.probe.tables.table_file import TableFile, of_value
from bb.probe.tasks.task_table import TaskTable, parse_task_table
from bb.store.errors import BBError, UsageError
from bb.store.format.collection import normalise_id, some
from bb.store.text.lookalike import shown
from bb.store.text.size import counted

IMAGES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic"]
)
PICKLES = (".pkl", ".pickle")
_OUTSIDE = r"^\s*$|^[/~]|^[A-Za-z]:|\\|\x00|(^|/)\.\.(/|$)"


@dataclass(frozen=True)
class LayoutPart:
    """A file or folder that a family needs.

    names  what it may be called, as paths below the root; the first is the publishers' name
    what   what it holds, for messages
    """

    names: tuple[str, ...]
    what: str = ""
    folder: bool = False

    def find(self, root: Path) -> Path | None:
        """The first that is there."""
        found = (find(root, name) for name in self.names)
        return next((path for path in found if path and (path.is_dir() if self.folder else path.is_file())), None)

    def describe(self) -> str:
        names = " or ".join(name + "/" * self.folder for name in self.names)
        return f"{names} ({self.what})" if self.what else names


def find(root: Path, name: str) -> Path | None:
    """A path below the root, whichever Unicode normalization a file system has given its steps; None if not there."""
    path = root
    for step in name.split("/"):
        plain = path / step
        if not plain.exists() and not step.isascii():
            alike = unicodedata.normalize("NFC", step)
            plain = next((e for e in entries(path) if unicodedata.normalize("NFC", e.name) == alike), plain)
        path = plain
    return path if path.exists() else None


def base_of(root: Path, name: str) -> tuple[Path, str]:
    """The folder that an archive unpacks to, and what image IDs have in front: `root/name`, or the root itself."""
    inside = find(root, name)
    return (inside, f"{name}/") if inside is not None and inside.is_dir() else (root, "")


def entries(folder: Path) -> list[Path]:
    """What is in a folder but for hidden files, sorted by name; nothing where it can't be read."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []


def absent(root: Path, parts: Sequence[LayoutPart]) -> list[str]:
    """A clause for each part that is not there, with what is; where a folder below has all, that it is to be named."""
    if not root.is_dir():
        return [f"{root} is not a folder"]
    missing = [part for part in parts if part.find(root) is None]
    if not missing:
        return []
    there = [part.find(root) for part in parts]
    has = " and ".join(f"{p.relative_to(root)}{'/' * p.is_dir()}" for p in there if p)
    if has:
        return [f"it has {has} but no {part.describe()}" for part in missing]
    for inside in entries(root):
        if inside.is_dir() and all(part.find(inside) for part in parts):
            return [f"{inside.name}/ in it has the right layout: name {inside} itself"]
    names = [f"{entry.name}{'/' * entry.is_dir()}" for entry in entries(root)]
    return [f"it has no {missing[0].describe()}, only {some(names, 5)}" if names else "it is empty"]


def require(root: Path, parts: Sequence[LayoutPart]) -> list[Path]:
    """The parts, all there. Errors: UsageError."""
    if problems := absent(root, parts):
        raise UsageError(f"{root}: {'; '.join(problems)}.")
    return [path for part in parts if (path := part.find(root))]


def image_files(folder: Path, prefix: str) -> Iterator[str]:
    """The image IDs of the files in a folder, not below it: the prefix before each name, as `bb extract` writes it."""
    with os.scandir(folder) as found:
        for entry in found:
            if os.path.splitext(entry.name)[1].lower() in IMAGES and entry.name[0] != ".":
                yield prefix + plain_name(entry.name)


def plain_name(name: str) -> str:
    """A file's name as `bb extract` has it in image IDs."""
    return normalise_id(os.fsencode(name).decode("utf-8", "backslashreplace"))


def refuse_outside(table: TableFile, column: str) -> None:
    """Errors: BBError naming the line of a path that is absolute, leads out of the folder, or has backslashes."""
    outside = table.frame.filter(pl.col(column).str.contains(_OUTSIDE))
    table.refuse(outside, of_value(column, "it must be a path below the folder, with forward slashes and no .."))


def is_outside(path: str) -> bool:
    """Whether a path is absolute, leads out of the folder, or has backslashes."""
    return re.search(_OUTSIDE, path) is not None


def pickles(root: Path) -> list[str]:
    """A sentence for pickles among the files of a folder, which are never loaded."""
    found = [entry.name for entry in entries(root) if entry.suffix.lower() in PICKLES]
    if not found:
        return []
    return [f"{some(found)}: a pickle can run any code when it is loaded, so bb does not. Write what it holds as CSV "
            "with the columns image_id, label and split, and name that with --labels"]  # fmt: skip


def table_of(frame: pl.DataFrame, source: str, notes: Sequence[str] = ()) -> TaskTable:
    """A checked table of labels from columns of the contract; a label such as "none" is a class's name.

    Errors: UsageError and BBError as of `parse_task_table`.
    """
    key = ["task", "image_id"] if "task" in frame.columns else ["image_id"]
    if "split" in frame.columns:
        sides = frame.group_by(key).agg(pl.col("split").unique().sort()).filter(pl.col("split").list.len() > 1)
        if sides.height:
            first = sides.sort(key).row(0, named=True)
            raise BBError(f"{source}: image {shown(first['image_id'])} is on the sides {' and '.join(first['split'])}; "
                          f"keep it on one ({counted(sides.height, 'image')} like it).")  # fmt: skip
    names = frame["label"].drop_nulls().unique().to_list() if "label" in frame.columns else []
    kept = [name for name in names if name.strip() and is_missing(name)]
    table = parse_task_table(frame, source=source, not_missing=kept)
    return replace(table, notes=(*table.notes, *notes))


def as_csv(table: TaskTable) -> str:
    """A table of labels as CSV that `read_task_table` reads; the crop is x,y,width,height in one cell."""
    frame = table.frame
    if "crop" in frame.columns:
        crop = pl.col("crop").cast(pl.List(pl.Float64)).list.eval(pl.element().cast(pl.String)).list.join(",")
        frame = frame.with_columns(crop)
    return frame.write_csv()
