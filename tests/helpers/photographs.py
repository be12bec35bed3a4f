"""Where the tests find real photographs in NeWT's layout; they are never part of the repository."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PHOTOS = Path(os.environ.get("BB_PHOTOS") or ROOT.parent / "shared" / "data" / "newt-mini")

needs_photographs = pytest.mark.skipif(
    not (PHOTOS / "newt2021_images").is_dir(), reason=f"no photographs at {PHOTOS}; set BB_PHOTOS"
)
