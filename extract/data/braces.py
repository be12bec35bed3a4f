"""Names of many files in one word, as WebDataset and the shell write them: shards-{0000..0099}.tar, {train,val}.tar."""

import re
from collections.abc import Iterator
from itertools import pairwise

from bb.store.errors import UsageError

MOST = 1_000_000
_RANGE = re.compile(r"(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.(-?\d{1,18}))?")


def expand(text: str) -> list[str]:
    """All names that a text stands for, in its order; {a..b} counts with a's leading zeros, {a..b..s} in steps.

    Braces may be nested; what is no range or list stays as it is. Raises UsageError for over a million names, and for
    a brace that nothing closes.
    """
    names: list[str] = []
    for name in _expand(text, text):
        names.append(name)
        if len(names) > MOST:
            raise UsageError(f"{text} stands for over {MOST:,} names: fix the numbers between the braces.")
    return names


def _expand(text: str, whole: str) -> Iterator[str]:
    start = text.find("{")
    if start < 0:
        yield text
        return
    stop, commas = _group(text, start, whole)
    inside, behind = text[start + 1 : stop], text[stop + 1 :]
    if found := _RANGE.fullmatch(inside):
        choices: Iterator[str] = _count(found[1], found[2], found[3] or "1", whole)
    elif commas:
        edges = [start, *commas, stop]
        parts = [text[a + 1 : b] for a, b in pairwise(edges)]
        choices = (choice for part in parts for choice in _expand(part, whole))
    else:
        choices = iter(["{" + inside + "}"])
    for choice in choices:
        for rest in _expand(behind, whole):
            yield text[:start] + choice + rest


def _group(text: str, start: int, whole: str) -> tuple[int, list[int]]:
    """Where the brace at `start` closes, and where the commas of its own level are."""
    depth, commas = 0, list[int]()
    for place in range(start, len(text)):
        if text[place] == "{":
            depth += 1
        elif text[place] == "}":
            depth -= 1
            if depth == 0:
                return place, commas
        elif text[place] == "," and depth == 1:
            commas.append(place)
    raise UsageError(f"{whole} opens a brace that nothing closes: write, for example, NAME-{{0000..0099}}.tar.")


def _count(first: str, last: str, step: str, whole: str) -> Iterator[str]:
    a, b, by = int(first), int(last), abs(int(step))
    if by == 0:
        raise UsageError(f"{whole} counts in steps of 0: write {{FIRST..LAST}} or {{FIRST..LAST..STEP}}.")
    padded = any(re.match(r"-?0\d", end) for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    for number in range(a, b + 1, by) if a <= b else range(a, b - 1, -by):
        yield f"{number:0{width}d}"
