"""Every command of docs/benchmarks.md runs as it stands there, with --quick; and so does scripts/recompute.py."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from bb import probe
from bb.store import Store
from tests.helpers import ray_nodes, slurm
from tests.helpers.labelled import labelled
from tests.helpers.photographs import PHOTOS, ROOT, needs_photographs

PAGE = (ROOT / "docs" / "benchmarks.md").read_text()
COMMANDS = re.findall(r"`(?:[^`]* && )?(python scripts/[^`]*--json FILE)`", PAGE)
NO_ENGINES = ray_nodes.missing() or slurm.missing()
LACKING = {
    "scripts/bench/clients.py": ""
    if importlib.util.find_spec("s3fs")
    else "s3fs, which needs an environment of its own",
    "scripts/bench/ray.py": ray_nodes.missing(),
    "scripts/bench/extract.py": ray_nodes.missing(),
    "scripts/soak/engines.py": NO_ENGINES,
}


def run(*words):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BB_")}
    done = subprocess.run(
        [sys.executable, *words, "--quick"], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_the_page_names_every_benchmark():
    named = {shlex.split(command)[1] for command in COMMANDS}
    scripts = [*ROOT.glob("scripts/bench/*.py"), *ROOT.glob("scripts/soak/*.py"), ROOT / "scripts" / "grid.py"]
    assert named == {path.relative_to(ROOT).as_posix() for path in scripts}


@needs_photographs
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs_quickly(command, tmp_path):
    _, script, *words = shlex.split(command)
    if LACKING.get(script):
        pytest.skip(LACKING[script])
    given = {"FILE": tmp_path / "figures.json", "FOLDER": tmp_path / "grid", "NEWT": PHOTOS}
    run(script, *(given.get(word, word) for word in words))
    figures = json.loads(given["FILE"].read_text())
    assert figures and not any(isinstance(value, dict | list) for value in figures.values())


def test_stored_predictions_are_those_of_plain_scikit_learn(tmp_path):
    labelled(tmp_path)
    shutil.copy(tmp_path / "newt2021_labels.csv", tmp_path / "labels.csv")
    runs = probe.run(Store.open(tmp_path / "features.bb"), tmp_path / "labels.csv", n_train=[6], backend="exact")
    run("scripts/recompute.py", tmp_path / "features.bb", runs[0].run_id, "--json", tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text()) == {runs[0].run_id: 0}
