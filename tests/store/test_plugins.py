"""Kinds by name: bb's own, and those of packages that are installed."""

import sys
from importlib.metadata import EntryPoint

import pytest

from bb.store import UsageError
from bb.store.plugins import PluginError, Registry, installed

COLOURS = {"red": "colours_of_bb:RED", "green": "colours_of_bb:GREEN"}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """`install(package, source, **entries)`: a distribution on sys.path whose entry points are bb.colours."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def add(package, source, **entries):
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").write_text(source)
        info = tmp_path / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        lines = "\n".join(f"{name} = {package}:{value}" for name, value in entries.items())
        (info / "entry_points.txt").write_text(f"[bb.colours]\n{lines}\n")
        return folder

    (tmp_path / "colours_of_bb.py").write_text("RED, GREEN = '#f00', '#0f0'\n")
    yield add
    for name in set(sys.modules) - before:
        del sys.modules[name]


def colours():
    return Registry("bb.colours", "colour", COLOURS)


def test_own_kinds_and_those_of_plugins_load_by_the_same_road(install):
    install("paint", "BLUE = '#00f'\n", blue="BLUE")
    assert colours().names() == ["red", "green", "blue"]
    assert [colours().load(name) for name in colours().names()] == ["#f00", "#0f0", "#00f"]
    assert colours().usable() == {"red": "#f00", "green": "#0f0", "blue": "#00f"}
    assert "blue" in colours() and "black" not in colours()
    assert [(p.distribution, p.version, p.own) for p in installed("bb.colours")] == [("paint", "1.2", False)]
    assert colours().plugins["red"].own


def test_entry_points_that_the_backport_finds_are_those_of_the_standard_library(install):
    """MLflow imports it, and from then on it answers `importlib.metadata` for the whole process."""
    pytest.importorskip("importlib_metadata")
    install("paint", "BLUE = '#00f'\n", blue="BLUE")
    assert [plugin.entry for plugin in installed("bb.colours")] == [EntryPoint("blue", "paint:BLUE", "bb.colours")]
    assert colours().load("blue") == "#00f"


def test_nothing_is_imported_before_it_is_used(install):
    install("paint", "BLUE = '#00f'\n", blue="BLUE")
    found = colours()
    assert "blue" in found and not {"paint", "colours_of_bb"} & set(sys.modules)
    found.load("blue")
    assert "paint" in sys.modules and "colours_of_bb" not in sys.modules


def test_an_unknown_kind_is_answered_with_those_there_are(install):
    install("paint", "BLUE = '#00f'\n", blue="BLUE")
    with pytest.raises(UsageError, match="^Unknown colour 'black': choose red, green, blue.$"):
        colours().load("black")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("raise RuntimeError('two\\nlines')\n", "RuntimeError: two"),
        ("", "AttributeError: module 'paint' has no attribute 'BLUE'"),
        ("import sys; sys.exit('bye')\n", "SystemExit: bye"),
    ],
)
def test_a_plugin_that_fails_to_import_is_named_and_the_others_work(install, source, reason):
    install("paint", source, blue="BLUE")
    install("ink", "BLACK = '#000'\n", black="BLACK")
    found = colours()
    message = f"plug-in paint 1.2 (bb.colours: blue = paint:BLUE) can't be imported: {reason}. Update or uninstall it."
    with pytest.raises(PluginError) as error:
        found.load("blue")
    assert str(error.value) == message
    assert found.usable() == {"red": "#f00", "green": "#0f0", "black": "#000"}
    assert {plugin.name: why for plugin, why in found.problems().items()} == {"black": "", "blue": message}


def test_a_name_that_is_taken_stays_with_its_first_owner(install):
    install("paint", "RED = 'not red'\nBLUE = '#00f'\n", red="RED", blue="BLUE")
    install("wash", "BLUE = 'pale'\n", blue="BLUE")
    found = colours()
    assert (found.load("red"), found.load("blue")) == ("#f00", "#00f")
    problems = {(plugin.distribution, plugin.name): why for plugin, why in found.problems().items()}
    assert problems == {
        ("paint", "blue"): "",
        ("paint", "red"): "the name 'red' belongs to backbone-bench: rename this plug-in's entry point.",
        ("wash", "blue"): "the name 'blue' belongs to paint: rename this plug-in's entry point.",
    }


def test_the_tree_hash_follows_every_file_of_the_package(install):
    folder = install("paint", "BLUE = '#00f'\n", blue="BLUE")
    plugin = colours().plugins["blue"]
    hashes = [plugin.tree_hash()]
    for path, text in (("__init__.py", "BLUE = '#00e'\n"), ("deep/net.py", "x = 1\n"), ("deep/table.json", "{}")):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
        hashes.append(plugin.tree_hash())
    (folder / "deep" / "net.py").rename(folder / "deep" / "net2.py")
    hashes.append(plugin.tree_hash())
    assert len(set(hashes)) == len(hashes) and all(len(found) == 64 for found in hashes)
    (folder / "__pycache__").mkdir(exist_ok=True)
    (folder / "__pycache__" / "net.pyc").write_bytes(b"x")
    assert plugin.tree_hash() == hashes[-1], "what Python compiles is no part of it"


def test_a_plugin_that_lacks_what_its_kind_needs_is_refused(install):
    install("paint", "BLUE = '#00f'\nPINK = 7\n", blue="BLUE", pink="PINK")
    found = Registry("bb.colours", "colour", COLOURS, needs=("upper", "lower"))
    assert dict(found.usable()) == {"red": "#f00", "green": "#0f0", "blue": "#00f"}
    with pytest.raises(PluginError, match=r"paint:PINK\) is not a colour: it has no upper, lower\.$"):
        found["pink"]
    with pytest.raises(KeyError):
        found["black"]
