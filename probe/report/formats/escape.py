"""Strings out of someone's store, made harmless where they are shown: a name must steer no terminal, page or sheet."""

import re

from bb.store.text.printable import printable

_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: f"{{{c}}}" for c in "[]-`'\"<>"},  # no options of a row's end, no ligatures
}


def latex(text: object) -> str:
    return "".join(_LATEX.get(c, c) for c in printable(text))


def markdown(text: object) -> str:
    """In a table's cell: no markup, no link, no HTML, no cell of its own."""
    escaped = re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", printable(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("://", ":&#47;/")


def csv(value: object) -> object:
    """Text that a spreadsheet does not take for a formula; numbers stay."""
    if not isinstance(value, str):
        return value
    plain = printable(value)
    return f"'{plain}" if plain.lstrip()[:1] in tuple("=+-@") and plain.strip() else plain
