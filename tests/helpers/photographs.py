"""Where the tests find real photographs in NeWT's layout; they are never part of the repository."""

import csv
import hashlib
import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PHOTOS = Path(os.environ.get("BB_PHOTOS") or ROOT.parent / "shared" / "data" / "newt-mini")

needs_photographs = pytest.mark.skipif(
    not (PHOTOS / "newt2021_images").is_dir(), reason=f"no photographs at {PHOTOS}; set BB_PHOTOS"
)

KINDS = ("bird", "fish", "insect", "primate", "reptile", "ungulate")


def photographs_of_kinds(folder: Path) -> dict[str, str]:
    """Copies newt-mini's photographs of six kinds of animals into a folder; file name → kind, ordered by SHA-256."""
    with (PHOTOS / "newt2021_labels.csv").open(newline="") as file:
        kinds = {row["id"]: row["text_label"] for row in csv.DictReader(file) if row["text_label"] in KINDS}
    folder.mkdir(parents=True)
    found = {}
    for image_id in sorted(kinds, key=lambda text: hashlib.sha256(text.encode()).digest()):
        (path,) = (PHOTOS / "newt2021_images").glob(f"{image_id}.*")
        shutil.copy(path, folder)
        found[path.name] = kinds[image_id]
    return found
