"""The tutorials run as written: their commands succeed, and print the lines that the pages show."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers import slurm
from tests.helpers.photographs import PHOTOS, ROOT, needs_photographs, photographs_of_kinds

PAGES = ROOT / "docs" / "tutorials"
SHOWN = 8  # labelled photographs of each kind
pytestmark = [needs_photographs, pytest.mark.e2e]


def script_of(page):
    """The page's commands as one shell script that prints a mark before each; (script, [(command, shown lines)])."""
    lines, commands = ["set -eu"], []
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        if language == "toml":
            assert block.startswith("# bb.toml\n"), block
            lines += ["cat > bb.toml <<'END_OF_TOML'", block.rstrip(), "END_OF_TOML"]
        elif language == "console":
            for line in block.splitlines():
                if line.startswith("$ "):
                    lines += [f"echo '=== {len(commands)}'", line[2:]]
                    commands.append((line[2:], []))
                else:
                    commands[-1][1].append(line)
    return "\n".join(lines), commands


def outline(line):
    """A line without its figures, which other machines have others of; what follows … may be anything."""
    return re.sub(r"\d[\d.,]*", "#", line.partition("…")[0]).strip()


def run(page, folder):
    """Runs a page in a folder, on this environment's bb."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "bb"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m bb "$@"\n')
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BB_")}
    environment = {
        **kept,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'scripts'}",
        "BB_CACHE": str(folder / "cache"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    script, commands = script_of((PAGES / page).read_text(encoding="utf-8"))
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout
    printed = re.split(r"^=== \d+\n", done.stdout, flags=re.MULTILINE)[1:]
    assert len(printed) == len(commands)
    for (command, shown), text in zip(commands, printed, strict=True):
        there = [outline(line) for line in text.splitlines()]
        for line in shown:
            assert any(each.startswith(outline(line)) for each in there), f"{command}\n{line}\nis not in\n{text}"


def test_the_ecologists(tmp_path):
    kinds, seen = photographs_of_kinds(tmp_path / "photos"), Counter()
    rows = ["file,species"]
    for name, kind in kinds.items():
        seen[kind] += 1
        if seen[kind] <= SHOWN:
            rows.append(f"{name},{kind}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    run("photographs.md", tmp_path)
    assert (tmp_path / "report.html").exists() and len((tmp_path / "next.csv").read_text().splitlines()) == 11
    assert len((tmp_path / "rest.csv").read_text().splitlines()) == 1 + len(kinds) - SHOWN * len(seen)


def test_the_researchers(tmp_path):
    if lacking := slurm.missing():
        pytest.skip(lacking)
    shutil.copytree(PHOTOS, tmp_path / "newt")
    with slurm.slurm(tmp_path / "slurm"):
        run("paper.md", tmp_path)
    assert "Methods" in (tmp_path / "report.html").read_text()


def test_the_labs(tmp_path):
    for lab in ("lab-a", "lab-b"):
        (tmp_path / lab).mkdir()
    (tmp_path / "lab-a" / "newt").symlink_to(PHOTOS)
    run("share.md", tmp_path)
    runs = [
        sorted(path.name for path in (tmp_path / lab / "features.bb" / "runs").iterdir()) for lab in ("lab-a", "lab-b")
    ]
    assert runs[0] == runs[1] and runs[0]


def test_every_tutorial_is_run():
    source = Path(__file__).read_text()
    assert all(f'run("{path.name}"' in source for path in PAGES.glob("*.md"))
