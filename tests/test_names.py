"""A class name stands for one thing in the whole tree, so that a search for it finds that thing."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Names of two classes, and why that is right.
SHARED: dict[str, str] = {}


def classes(source: str) -> list[str]:
    """The names of the classes that a module defines."""
    return [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]


def shared(sources: dict[str, str]) -> dict[str, list[str]]:
    """Names of classes that several modules define, with these modules."""
    homes = defaultdict(list)
    for module, source in sources.items():
        for name in classes(source):
            homes[name].append(module)
    return {name: modules for name, modules in homes.items() if len(modules) > 1}


def test_a_class_name_stands_for_one_thing():
    paths = [path for folder in ("extract", "probe", "store", "scripts/bb") for path in (ROOT / folder).rglob("*.py")]
    sources = {
        str(path.relative_to(ROOT)): path.read_text()
        for path in paths
        if not any(parent.is_symlink() for parent in path.parents)
    }
    found = shared(sources)
    assert len(sources) > 300 and {name: found[name] for name in sorted(found.keys() - SHARED.keys())} == {}
    assert SHARED.keys() - found.keys() == set(), "these are no longer shared"


def test_this_test_would_notice():
    sources = {"a.py": "class Part: ...\nclass A: ...", "b.py": "def f():\n    class Part: ...", "c.py": "class B: ..."}
    assert shared(sources) == {"Part": ["a.py", "b.py"]}
