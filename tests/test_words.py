"""Messages and help texts are in modern plain English, and this test would notice others."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    path
    for folder in ("extract", "probe", "store", "scripts/bb")
    for path in (ROOT / folder).rglob("*.py")
    if not any(parent.is_symlink() for parent in path.parents)
)
# A phrase as a regular expression, and what to write instead.
AVOID = {
    r"\bso many\b": "that many, or the number",
    r"\bwho(so)?ever\b": "anyone who",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\b(lies|lay|lays|laid|lain)\b": "is, store",
    r"\btold\b": "reported",
    r"\bhang(s)? (on|together)\b": "depend on, correlate",
    r"\blacks?\b|\blacking\b": "does not have, is missing",
    r"(?<!there )\b(is|are|was|were) no(?! (longer|more)\b) ": "is not a",
    r", say\b": "for example",
    r"\b(somebody|anybody)'s\b": "anyone's",
    r"\bheed(s|ed)?\b": "use, effective",
    r"\bbesides?\b": "next to, also",
    r"\bto be had\b": "available",
    r"\bat hand\b": "available",
    r"\bnought\b|\baught\b|\bwont\b|\bdoomed\b": "a modern word",
}
CALLS = re.compile(r"(Error|^warn|^say|^Option|^Argument|^note|^fail|^BadParameter|Malformed|UnreadableImage)$")


def phrases(text: str) -> list[str]:
    """The phrases of `text` that AVOID lists, with what to write instead."""
    return [
        f"'{match[0].strip()}' (write: {instead})"
        for bad, instead in AVOID.items()
        for match in re.finditer(bad, text.lower())
    ]


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of the strings in calls that show them: errors, warnings, messages, options."""
    seen = set()
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and CALLS.search(_name(call.func)):
            for part in (part for argument in [*call.args, *call.keywords] for part in ast.walk(argument)):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and id(part) not in seen:
                    seen.add(id(part))
                    yield part.lineno, part.value


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_messages_and_help_texts_are_plain(module):
    found = [f"line {line}: {bad}" for line, text in texts(module.read_text()) for bad in phrases(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]), ids=lambda path: path.name
)
def test_pages_are_plain(page):
    text = re.sub(r"```text.*?```", "", page.read_text(), flags=re.DOTALL)  # the tree is made of docstrings
    found = [f"line {number}: {bad}" for number, line in enumerate(text.splitlines(), 1) for bad in phrases(line)]
    assert not found, "\n".join(found)


def test_this_test_would_notice():
    source = (
        'raise BBError(f"{name} is no backbone: mend it")\nself.say("so many", x)\ntyper.Option(help="Whoever, say.")'
    )
    assert [len(phrases(text)) for _, text in texts(source)] == [2, 1, 2]
    assert phrases("There is no store here; it is no longer the display, and nobody lies down relay") == [
        "'lies' (write: is, store)"
    ]
