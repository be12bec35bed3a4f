"""The documents say what is true: every verb, option and file is in them, and what they tell to run can be run."""

import re
import shlex
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "scripts"))
import architecture
import pictures
from tests.helpers.verbs import VERBS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text() for path in DOCS.rglob("*.md")}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_option_is_documented(verb):
    row = re.search(rf"^\| `{re.escape(verb)}[ `].*$", PAGES["settings.md"], re.MULTILINE)
    assert row, f"{verb} is not in docs/settings.md"
    assert VERBS[verb].help
    for parameter in VERBS[verb].params:
        for option in parameter.opts:
            if option.startswith("--") and option != "--help":
                assert option in row[0], f"{option} of {verb} is not in docs/settings.md"


def test_every_documented_option_exists():
    parameters = [parameter for command in VERBS.values() for parameter in command.params]
    options = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
    known = options | {"--help", "--version", "--install-completion", "--show-completion"}
    for name, text in {**PAGES, "README.md": README}.items():
        others = ("uv ", "pip ", "git ", "hf ", "eval ")
        shown = "\n".join(
            line
            for line in text.splitlines()
            if not line.lstrip().startswith(others)
            and not any(word in line for word in ("rsync", "scripts/", "--exclude"))
        )
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", shown)) <= known, name


def test_every_variable_is_documented():
    sources = [path.read_text() for path in (ROOT / "scripts" / "bb").glob("**/*.py")]
    used = set(re.findall(r"BB_[A-Z_]+", "".join(sources)))
    assert used <= set(re.findall(r"BB_[A-Z_]+", PAGES["settings.md"]))


COMMANDS = [line for block in README.split("```")[1::2] for line in block.splitlines() if line.startswith("bb ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_readme_parses(line):
    """Through the very parser; what each does has tests of its own."""
    words = shlex.split(line.partition("#")[0])
    name = max((verb for verb in VERBS if words[: len(verb.split())] == verb.split()), key=len)
    command = VERBS[name]
    command.make_context(name, words[len(name.split()) :])


def test_the_map_of_the_tree_is_true():
    text = PAGES["architecture.md"]
    assert text == architecture.page(text), "run `python scripts/architecture.py`"
    for path in re.findall(r"`((?:extract|probe|store|scripts)/[\w/.]*)`", text):
        assert (ROOT / path).exists(), path


def test_links_lead_somewhere():
    for name, text in {"README.md": README, **{f"docs/{name}": text for name, text in PAGES.items()}}.items():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if "://" not in target:
                assert ((ROOT / name).parent / target).exists(), f"{name}: {target}"


def test_the_picture_is_of_the_page_as_it_is_now():
    """It is made of runs that are kept in tests/data/picture."""
    assert pictures.PICTURE.with_suffix(".txt").read_text().strip() == pictures.shown(pictures.page()), (
        "the report's page has changed: run `python scripts/pictures.py`, and look at docs/images/report.png"
    )
