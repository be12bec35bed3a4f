"""What a folder holds that bb can work with, for `bb` alone and `bb status`: images, tables, settings, stores."""

import os
from collections.abc import Iterator
from pathlib import Path

TABLES = (".csv", ".tsv", ".parquet")
LOOKED_AT = 100_000  # files and folders of a folder, at most


def something_here(folder: Path) -> bool:
    """Whether it has a table, settings or a store, or an image at any depth."""
    names = [name.lower() for name in os.listdir(folder)]
    if "bb.toml" in names or any(name.endswith((".bb", *TABLES)) for name in names):
        return True
    return next(images_here(folder), None) is not None


def images_here(folder: Path) -> Iterator[str]:
    """Of each image file the folder right below that holds it, or "."; hidden folders and stores are passed over."""
    from bb.extract.data.file_kind import SUFFIXES

    seen = 0
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[:1] != "." and not name.endswith(".bb"))
        inside = Path(at).relative_to(folder).parts
        yield from (inside[0] if inside else "." for name in files if os.path.splitext(name)[1].lower() in SUFFIXES)
        seen += 1 + len(files)
        if seen > LOOKED_AT:
            return
