"""Templates escape what they are given; what is markup is named so in one place; only pages need Jinja2."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bb.probe
from bb.probe.report.formats.templates import environment
from tests.helpers.boards import small_store

FOLDER = Path(bb.probe.__path__[0])
TEMPLATES = {name: (FOLDER / name).read_text(encoding="utf-8") for name in environment().list_templates(["html"])}
EVIL = "<script>alert(1)</script>\"'&\x1b[31m\u202e{{ 7 * 7 }}"


def unescaped(sources):
    """Where templates take a value for markup, or let it be read as some."""
    marks = re.compile(r"\|\s*safe\b|\bautoescape\b")
    return [(name, found) for name, source in sorted(sources.items()) for found in marks.findall(source)]


def test_markup_is_named_so_in_one_place():
    assert unescaped(TEMPLATES) == [("report/formats/macros.html", "|safe")]
    planted = {"a.html": "{{ name | safe }}", "b.html": "{% autoescape false %}"}
    assert [name for name, _ in unescaped(planted)] == ["a.html", "b.html"]


def test_only_pictures_and_the_pages_own_parts_are_markup():
    given = {each for source in TEMPLATES.values() for each in re.findall(r"\braw\(([^)]*\)?)\)", source)}
    assert given == {"data", "markup", "picture[0]", "script", "shape", "style", "thumbnail.svg()"}


def test_values_are_escaped_and_printable():
    shown = environment().from_string('<b title="{{ x }}">{{ x }}{{ x|breakable }}</b>').render(x=EVIL)
    assert shown.count("<") == 2 + shown.count("<wbr>") and "\x1b" not in shown and "\u202e" not in shown
    assert "49" not in shown and "{{ 7 * 7 }}" in shown and shown.count('"') == 2


def test_a_value_that_is_missing_is_an_error():
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError, match="nothing"):
        environment().from_string("{{ nothing }}").render()


def test_every_template_compiles_and_lies_beside_the_page_that_it_is_of():
    for name in TEMPLATES:
        environment().get_template(name)
        assert (FOLDER / name).with_name("__init__.py").exists(), name  # else no wheel has it


def test_only_pages_need_jinja(tmp_path):
    """In a process where Jinja2 can't be imported."""
    small_store(tmp_path / "s.bb", shots=(4,), seeds=1)
    script = """
import sys
sys.modules.update(jinja2=None, markupsafe=None)
import bb
for words in ("store ls", "report newt", "report newt --csv a", "--help"):
    sys.argv = ["bb", *words.split()]
    try:
        bb.main()
    except SystemExit as ended:
        assert not ended.code, words
"""
    environment = {**os.environ, "BB_STORE": "s.bb"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
