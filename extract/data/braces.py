"""Names of many files in one word, as WebDataset and the shell write them: shards-{0000..0099}.tar, {train,val}.tar."""

import re

import bracex

from bb.store.errors import UsageError

MOST = 1_000_000
_STEP_OF_0 = re.compile(r"\{-?\d+\.\.-?\d+\.\.-?0+\}")


def expand(text: str) -> list[str]:
    """All names that a text stands for, in its order; {a..b} counts with a's leading zeros, {a..b..s} in steps.

    Braces may be nested; what is neither a range nor a list stays as it is, and so do backslashes. Raises UsageError
    for over a million names, for steps of 0, and for a brace that nothing closes.
    """
    depth = 0
    for character in text:
        depth = max(0, depth + (character == "{") - (character == "}"))
    if depth:
        raise UsageError(f"{text} opens a brace that nothing closes: write, for example, NAME-{{0000..0099}}.tar.")
    if _STEP_OF_0.search(text):  # which bracex counts in steps of 1
        raise UsageError(f"{text} counts in steps of 0: write {{FIRST..LAST}} or {{FIRST..LAST..STEP}}.")
    try:
        return bracex.expand(text, keep_escapes=True, limit=MOST, return_empty=True)
    except bracex.ExpansionLimitException:
        raise UsageError(f"{text} stands for over {MOST:,} names: fix the numbers between the braces.") from None
    except RecursionError:
        raise UsageError(f"{text[:100]} … nests braces too deeply: write the names with fewer.") from None
