"""Texts that differ in what can't be seen: blanks, case, Unicode normalization, invisible or foreign letters."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise

# Letters of Cyrillic and Greek that look like Latin ones (a small part of Unicode TR39's confusables.txt).
_LATIN = str.maketrans(
    "АВЕЗКМНОРСТУХЅІЈаеорсухѕіјԁһӏΑΒΕΖΗΙΚΜΝΟΡΤΥΧονρα",  # noqa: RUF001
    "ABE3KMHOPCTYXSIJaeopcyxsijdhlABEZHIKMNOPTYXovpa",
)
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-")
_QUOTES = {ord("\N{RIGHT SINGLE QUOTATION MARK}"): "'", ord("\N{LEFT SINGLE QUOTATION MARK}"): "'"}
_FOREIGN: dict[int, str | int | None] = {**_LATIN, **_DASHES, **_QUOTES}


def groups(texts: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of distinct texts that a reader could take for one, each sorted."""
    alike: dict[str, list[str]] = defaultdict(list)
    for text in sorted(set(texts)):
        alike[_skeleton(text)].append(text)
    return [tuple(group) for group in alike.values() if len(group) > 1]


def notes(column: str, texts: Iterable[str]) -> list[str]:
    """A sentence for each of the first groups of a column's values that look alike: how they differ, what follows."""
    found = groups(texts)
    sentences = [
        f"{column} {', '.join(map(shown, group))} look alike: "
        f"{'; '.join(dict.fromkeys(difference(a, b) or 'they differ' for a, b in pairwise(group)))}. They count as "
        f"{len(group)} different ones; if they are one, write them the same way"
        for group in found[:3]
    ]
    return [*sentences, *([f"{len(found) - 3} more groups of {column} values look alike"] if len(found) > 3 else [])]


def shown(text: str) -> str:
    """In quotes, with code points where a character can't be recognised by looking at it."""
    return ascii(text) if any(_is_strange(c) for c in text) else repr(text)


def difference(one: str, other: str) -> str | None:
    """In what two texts differ where a reader could take them for one; None where they are equal or plainly differ."""
    if one == other or _skeleton(one) != _skeleton(other):
        return None
    steps: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("they differ only in trailing or leading whitespace", lambda text: text.strip()),
        ("they differ only in Unicode normalization (NFC, NFD)", lambda text: unicodedata.normalize("NFC", text)),
        ("they differ only in whitespace", _spaced),
        ("they differ only in invisible characters", _visible),
        ("they differ only in upper and lower case", str.casefold),
        ("they differ only in how a number is written", _number),
        ("they differ only in letters of other scripts that look the same", lambda text: text.translate(_FOREIGN)),
    )
    for words, form in steps:
        if form(one) == form(other):
            return words + _code_points(one, other)
    return "they differ in more than one thing that is hard to see" + _code_points(one, other)


def _code_points(one: str, other: str) -> str:
    """The characters where the two part, unless these are plain ASCII."""
    place = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    a, b = one[place : place + 1], other[place : place + 1]
    if (a + b).isascii():
        return ""
    return f" ({_name(a)} where the other has {_name(b)})"


def _name(character: str) -> str:
    if not character:
        return "its end"
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".strip()


def _is_strange(character: str) -> bool:
    return not character.isascii() and (
        not character.isprintable()
        or unicodedata.combining(character) > 0
        or ord(character) in _FOREIGN
        or unicodedata.normalize("NFKC", character) != character
    )


def _visible(text: str) -> str:
    return "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc", "Mn") or unicodedata.combining(c))


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _number(text: str) -> str:
    """A whole number without zeros that change nothing: 1.0, 1,0 and 01 are 1."""
    found = re.fullmatch(r"\s*([+-]?)0*(\d+)(?:\.0+|,0)?\s*", text)
    return f"{found[1].replace('+', '')}{found[2]}" if found else text


def _skeleton(text: str) -> str:
    visible = _visible(_spaced(unicodedata.normalize("NFKC", text)))
    return _number(" ".join(visible.translate(_FOREIGN).casefold().split()))
