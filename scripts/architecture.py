"""Writes the tree in docs/architecture.md from the first line of every module's docstring.

    python scripts/architecture.py

tests/test_docs.py checks that the page is what this makes.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
LAYERS = ("extract", "store", "probe", "scripts/bb")
WIDTH = 118
HEADING = "## The tree"  # the page's last


def tree() -> str:
    """Every folder and module with a line about it, as Markdown."""
    return "\n".join(["```text", *(line for layer in LAYERS for line in _folder(ROOT / layer, 0)), "```"])


def _folder(folder: Path, depth: int) -> list[str]:
    lines = [_line(f"{folder.relative_to(ROOT)}/" if not depth else f"{folder.name}/", folder / "__init__.py", depth)]
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if path.suffix == ".py" and path.name != "__init__.py":
            lines.append(_line(path.name, path, depth + 1))
        elif path.is_dir() and not path.is_symlink() and any(path.glob("*.py")):
            lines += _folder(path, depth + 1)
    return lines


def _line(name: str, module: Path, depth: int) -> str:
    first = (ast.get_docstring(ast.parse(module.read_text())) or "").split("\n\n")[0].replace("\n", " ")
    line = f"{'  ' * depth}{name:<{26 - 2 * depth}} {first}"
    return line if len(line) <= WIDTH else line[: line.rindex(" ", 0, WIDTH)] + " …"


def page(text: str) -> str:
    """The page's text with its tree as it is now."""
    before, _, _ = text.partition(HEADING)
    return f"{before}{HEADING}\n\n{tree()}\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
