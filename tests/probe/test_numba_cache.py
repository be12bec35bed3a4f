"""Compiled code in a container: neither the install nor the home can be written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.e2e  # installs, each of which compiles
SCRIPT = (
    "import numpy as np, bb.probe.search_kernels; from bb.probe.statistics import rank_metrics as ranking\n"
    "order, last = ranking.descending(np.array([[0.9, 0.1]]))\n"
    "print(ranking.average_precision(order, last, np.array([True, False]), np.ones((1, 2))))\n"
)
# Root may write everywhere, unless it gives that right up.
PLAIN = ["setpriv", "--bounding-set=-dac_override"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []


@pytest.fixture
def install(tmp_path):
    """A copy of the packages that can't be written, and a way to run a script on it."""
    if PLAIN and shutil.which("setpriv") is None:
        pytest.skip("root without setpriv can write everywhere")
    copy = tmp_path / "install"
    shutil.copytree(ROOT / "scripts" / "bb", copy / "bb", ignore=shutil.ignore_patterns("__pycache__"))
    home = tmp_path / "home"
    home.mkdir()
    for path in (home, copy, *copy.rglob("*")):
        if path.is_dir():
            path.chmod(0o555)

    def run(script=SCRIPT, **variables):
        plain = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "BB_CACHE")}
        environment = {**plain, "HOME": str(home), "PYTHONPATH": str(copy), "TMPDIR": str(tmp_path), **variables}
        return subprocess.run(
            [*PLAIN, sys.executable, "-P", "-B", "-c", script], env=environment, capture_output=True, text=True, cwd="/"
        )

    yield run
    for path in (home, copy, *copy.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def test_compiled_code_goes_into_bbs_cache(install, tmp_path):
    done = install(BB_CACHE=str(tmp_path / "cache"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "[[1.]]\n", "")
    assert list((tmp_path / "cache" / "numba").rglob("*.nbc"))


def test_without_any_cache_it_works_and_is_said_once(install, tmp_path):
    done = install(
        SCRIPT
        + "import os; print(bool(list(__import__('pathlib').Path(os.environ['NUMBA_CACHE_DIR']).rglob('*.nbc'))))"
    )
    assert (done.returncode, done.stdout) == (0, "[[1.]]\nTrue\n")
    assert done.stderr.count("note:") == 1 and "set BB_CACHE to a folder that can be written" in done.stderr
    assert not list(tmp_path.glob("bb-numba-*"))  # it is removed at the end
