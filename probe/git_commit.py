"""Which commit of the code is running: provenance for runs."""

import json
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path


@cache
def commit() -> str:
    """The 40 hex digits of the checkout's commit, with "-dirty" where files in git differ from it; of an install
    from git, the commit installed; else empty."""
    here = Path(__file__)
    # A virtual environment may lie inside the checkout of something else: only where git knows this file.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name):
        return _git(here.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        installed = metadata.distribution("backbone-bench").read_text("direct_url.json")
        return str(json.loads(installed or "{}")["vcs_info"]["commit_id"])
    except (metadata.PackageNotFoundError, ValueError, KeyError):
        return ""


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
