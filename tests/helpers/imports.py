"""Who imports whom, read from the files of a tree: for tests of layers."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Tree:
    """The modules below some folders, by dotted name, and what each imports.

    roots  folder → name of the package that it is, such as Path("store") → "bb.store"
    """

    roots: dict[Path, str]

    def modules(self) -> dict[str, Path]:
        found = {}
        for root, package in self.roots.items():
            for path in sorted(root.rglob("*.py")):
                parts = [package, *path.relative_to(root).with_suffix("").parts]
                found[".".join(part for part in parts if part != "__init__")] = path
        return found

    def imports(self) -> dict[str, set[str]]:
        """Of each module the modules of the tree that it imports, at its top, in functions and for type checking."""
        modules = self.modules()
        return {name: set(_own(imported(path.read_text()), modules)) - {name} for name, path in modules.items()}

    def folders(self) -> dict[str, int]:
        """Of each folder the number of its modules."""
        counts: dict[str, int] = {}
        for path in self.modules().values():
            counts[str(path.parent)] = counts.get(str(path.parent), 0) + 1
        return counts


@cache  # several tests read the same files
def imported(source: str, *, types: bool = True) -> frozenset[str]:
    """Dotted names that a file imports, anywhere in it: of `from a import b` both a and a.b.

    types  whether imports for type checking alone count
    """
    if not types and "TYPE_CHECKING" not in source:
        return imported(source)
    tree, names = ast.parse(source), set()
    if not types:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def _own(names: Iterable[str], modules: dict[str, Path]) -> Iterable[str]:
    """The modules of the tree among imported names; a package only where none of its modules is meant."""
    for name in names:
        if name in modules and not any(other.startswith(f"{name}.") and other in modules for other in names):
            yield name


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, or nothing."""
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for other in sorted(imports.get(name, ())):
            if found := visit(other, [*way, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(imports) if (found := visit(name, []))), [])


def upward(imports: dict[str, set[str]], order: list[list[str]]) -> list[str]:
    """Imports that run against an order of packages, lowest first: "a imports b". Packages side by side don't import
    each other. A module belongs to the longest name in the order that it is or is below; those below none are named.
    """
    level = {name: i for i, names in enumerate(order) for name in names}

    def home(module: str) -> str | None:
        return max((name for name in level if module == name or module.startswith(f"{name}.")), key=len, default=None)

    found = []
    for module, others in sorted(imports.items()):
        mine = home(module)
        if mine is None:
            found.append(f"{module} is in no layer")
            continue
        for other in sorted(others):
            theirs = home(other)
            if theirs and theirs != mine and level[theirs] >= level[mine]:
                found.append(f"{module} imports {other}")
    return found
