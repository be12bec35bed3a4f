"""The command line in this process and in one of its own, and images in NeWT's layout to run it on."""

import io
import os
import signal
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from PIL import Image

import bb
from tests.helpers.photographs import ROOT

VIT, RESNET = "timm:test_vit/untrained", "timm:test_resnet/untrained"


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    """A working directory, cache and settings of the test's own."""
    for name in list(os.environ):
        if name.startswith("BB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs a command line; (exit status, standard output, standard error)."""
    return caller(monkeypatch, capsys)


def caller(monkeypatch, capsys, *before):
    """A function that runs a command line, after the words `before`, as the fixture `call` does."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bb", *before, *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            bb.main()
            sys.exit(0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return caught.value.code or 0, out, err

    return run


def run_here(cwd, *arguments):
    """Runs a command line in a folder, in this process, which has its libraries; for fixtures of modules and sessions.

    (exit status, standard output, standard error)
    """
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        chdir(cwd),
        redirect_stdout(out),
        redirect_stderr(err),
        patch.object(sys, "argv", ["bb", *map(str, arguments)]),
    ):
        try:
            bb.main()
        except SystemExit as ended:
            status = ended.code or 0
    return status, out.getvalue(), err.getvalue()


def make_newt(root, n=8, tasks=2, seed=0):
    """Noise in NeWT's layout: class 1 is brighter."""
    rng, rows = np.random.default_rng(seed), []
    folder = root / "newt2021_images"
    folder.mkdir(parents=True)
    for task in range(tasks):
        for split in ("train", "test"):
            for label in (0, 1):
                for i in range(n):
                    image_id = f"{task}-{split}-{label}-{i}"
                    pixels = rng.integers(100 * label, 100 * label + 100, (20, 24, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{image_id}.jpg")
                    rows.append((image_id, "cluster", None, f"task{task}", label, split))
    columns = ["id", "task_cluster", "task_subcluster", "task", "label", "split"]
    pl.DataFrame(rows, schema=columns, orient="row").write_csv(root / "newt2021_labels.csv")
    return root


@pytest.fixture
def newt(tmp_path):
    return make_newt(tmp_path / "newt")


def bb_process(*arguments, cwd, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "bb", *map(str, arguments)], cwd=cwd, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts, **options,
    )  # fmt: skip


def _heed_interrupts():
    """A shell's background job, as which the tests may run, ignores Ctrl-C, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def announce_features(monkeypatch):
    """Makes processes that start from here on write "features added" to stderr after each batch."""
    path = [str(ROOT / "tests" / "announcing"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
