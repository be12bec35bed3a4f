"""All words that people read are modern plain English, and these tests would notice others."""

import ast
import io
import re
import tokenize
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
    r"\btold\b(?! apart)": "reported",
    r"\bhang(s)? (on|together)\b": "depend on, correlate",
    r"\blacks?\b|\blacking\b": "does not have, is missing",
    r"(?<!there )\b(is|are|was|were) no(?! (longer|more)\b) ": "is not a",
    r", say(?=[,.;:)]|$)": "for example",
    r"\b(somebody|anybody)'s\b": "anyone's",
    r"\bheed(s|ed)?\b": "use, effective",
    r"\bbesides?\b": "next to, also",
    r"\bto be had\b": "available",
    r"\bat hand\b": "available",
    r"\bnought\b|\baught\b|\bwont\b|\bdoomed\b": "a modern word",
}
# In messages alone: "where there is no file" is good English in a docstring.
AVOID_IN_MESSAGES = {r"\bthere (is|are) no\b": "found no, or: unknown"}
CALLS = re.compile(r"(Error|^warn|^say|^Option|^Argument|^note|^fail|^BadParameter|Malformed|UnreadableImage)$")
# Not read: a changed word would change the key of every feature.
UNREAD = "extract/embedding/"


def phrases(text: str, avoid: dict[str, str] = AVOID) -> list[str]:
    """The phrases of `text` that are to be avoided, with what to write instead; code in backticks is not text."""
    plain = re.sub(r"`[^`]*`", "``", text.lower())
    return [
        f"'{match[0].strip()}' (write: {instead})"
        for bad, instead in avoid.items()
        for match in re.finditer(bad, plain)
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


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of everything else: docstrings line by line, comments, and strings of several words."""
    for part in ast.walk(ast.parse(source)):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and " " in part.value:
            yield from enumerate(part.value.splitlines(), part.lineno)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_in_plain_words(module):
    source = module.read_text()
    avoid = AVOID | AVOID_IN_MESSAGES
    found = [f"line {line}: {bad}" for line, text in texts(source) for bad in phrases(text, avoid)]
    if not str(module.relative_to(ROOT)).startswith(UNREAD):
        found += [f"line {line}: {bad}" for line, text in prose(source) for bad in phrases(text)]
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
    assert phrases("there is no loss 'x'", AVOID_IN_MESSAGES) == ["'there is no' (write: found no, or: unknown)"]
    assert phrases("`told` hears whether columns, if present, say so; series can be told apart") == []


def test_docstrings_comments_and_other_strings_are_seen():
    source = 'def f():\n    """What\n    a store lacks."""\n    return f"none at hand: {x}"  # it lies there\n'
    assert sorted((line, bad) for line, text in prose(source) for bad in phrases(text)) == [
        (3, "'lacks' (write: does not have, is missing)"),
        (4, "'at hand' (write: available)"),
        (4, "'lies' (write: is, store)"),
    ]
