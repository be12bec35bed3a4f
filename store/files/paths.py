"""The paths that a store may hold, and which files are published together: no other names are taken from elsewhere."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["root", "space", "segment", "adopted", "collection", "labels", "run", "head", "model", "signature"]

# The folders of what a store publishes.
NAMES = ("spaces", "collections", "labels", "runs", "heads", "models", "signatures")
# Caches, leftovers, and what the Hub adds to a new data set: what may be in a folder that is to become a store.
HARMLESS = ("tmp", "aside", "local", "index", "index.json", ".gitattributes", "README.md")
OWN_NAMES = frozenset((*NAMES, "tmp", "aside", "local", "index", "index.json", "zarr.json"))

# Neither hidden, nor a device of Windows, which also drops a dot at the end.
NAME = r"(?!\.)(?!(?i:con|prn|aux|nul|com\d|lpt\d)(?![A-Za-z0-9_-]))[A-Za-z0-9._-]{1,100}(?<!\.)"
_KEY = "[0-9a-f]{64}"
_ARRAYS = (
    r"image_sha256/(?:zarr\.json|c/0/0)|image_id/(?:zarr\.json|c/0)"
    r"|img_features/(?:zarr\.json|c/0/0)|patch_features/(?:zarr\.json|c/0/0/0)"
)

# Kind: (its folder, its marker, the files next to the marker). No file of a part counts before its marker is there.
_GRAMMAR: dict[Kind, tuple[str, str, str]] = {
    "root": ("", r"zarr\.json", r"spaces/zarr\.json"),
    "space": (f"spaces/{_KEY}", r"zarr\.json", r"segments/zarr\.json"),
    "segment": (f"spaces/{_KEY}/segments/{_KEY}", r"zarr\.json", _ARRAYS),
    "adopted": (f"spaces/{_KEY}/adopted", rf"{_KEY}\.json", ""),
    "collection": (f"collections/{NAME}", rf"{_KEY}\.parquet", ""),
    "labels": (f"labels/{NAME}", rf"{_KEY}\.parquet", ""),
    "run": (f"runs/{_KEY}/{_KEY}", r"run\.json", r"predictions\.parquet|train\.parquet|retrieved\.parquet"),
    "head": ("heads", rf"{_KEY}\.safetensors", ""),
    "model": (f"models/{_KEY}", rf"{_KEY}\.safetensors", ""),
    "signature": ("signatures", rf"{_KEY}\.json", ""),
}
_MARKERS = {kind: marker.replace("\\", "") for kind, (_, marker, beside) in _GRAMMAR.items() if beside}
_PATTERNS = {
    kind: re.compile(f"(?P<folder>{folder}){'/' if folder else ''}(?P<file>{'|'.join(filter(None, (marker, beside)))})")
    for kind, (folder, marker, beside) in _GRAMMAR.items()
}


@dataclass(frozen=True, order=True)
class StorePart:
    """What is published at once: a folder of files with a marker among them, or one file that is its own marker."""

    kind: Kind
    folder: str
    marker: str

    @property
    def path(self) -> str:
        """Path of the marker in the store."""
        return self.at(self.marker)

    def at(self, file: str) -> str:
        """Path in the store of one of its files."""
        return f"{self.folder}/{file}" if self.folder else file

    @property
    def owner(self) -> str:
        """What it is under: a space key, a collection's or task family's name, a run ID; "" for the others."""
        steps = self.path.split("/")
        return steps[1] if len(steps) > 2 else ""

    @property
    def digest(self) -> str:
        """The digest that names it: of its marker's bytes, but a space's of its feature space; "" for the root."""
        name = self.folder.rpartition("/")[2] if self.kind in _MARKERS else self.marker
        return name.partition(".")[0]


def locate(path: str) -> tuple[StorePart, str] | None:
    """The part that a path belongs to, and the path in the part's folder; None where a store has no such path.

    So nothing absolute, with `..`, over-long, or of a device's name is ever a path in a store.
    """
    for kind, pattern in _PATTERNS.items():
        if found := pattern.fullmatch(path):
            return StorePart(kind, found["folder"], _MARKERS.get(kind, found["file"])), found["file"]
    return None


def published(paths: Iterable[str]) -> dict[StorePart, list[str]]:
    """The parts whose marker is among the paths, sorted, each with its files (paths in its folder) that are there."""
    files: dict[StorePart, list[str]] = {}
    for path in paths:
        if found := locate(path):
            part, file = found
            files.setdefault(part, []).append(file)
    return {part: files[part] for part in sorted(files) if part.marker in files[part]}
