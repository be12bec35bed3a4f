"""The frame of every page: one file that works from a disk. No server, no address from elsewhere, no library.

A page is whole without scripts and in print; page.js sorts, filters and chooses. Every string is escaped, and a content
security policy names the one style and the one script by their hashes: were a string to slip through, it would still
not run.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from string import Template

from bb.probe.report.formats.svg_parts import shortened
from bb.store.text.printable import printable
from bb.store.versions import installed

SAID, FOLDED = 6, 12  # backbones that are named beside an image, and of each answer below it
LONG = 40  # rows of a table that is as high as it needs
NAME = 32  # letters of their names


def frame(title: str, *, nav: str, body: str, filtered: str, data: Sequence[object] = (), style: str = "") -> str:
    """The whole file.

    nav, body  HTML, made of strings that went through `text`
    filtered   what the filter is of, in words: it hides elements by their data-label
    data       what page.js needs beside them
    style      rules after those of page.css
    """
    parts = files("bb.probe.report.formats")
    rules, script, whole = (
        parts.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "page.html")
    )
    rules += style
    policy = (
        f"default-src 'none'; style-src {_hash(rules)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template(whole).substitute(
        policy=policy,
        title=text(title),
        style=rules,
        nav=nav,
        body=body,
        filtered=text(filtered),
        version=text(installed("backbone-bench") or ""),
        data=json.dumps(data, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c"),
        script=script,
    )


def text(words: object) -> str:
    """As text in HTML, or in a quoted attribute."""
    return html.escape(printable(words))


def breakable(words: str) -> str:
    """A backbone's or an image's name, which may go on in the next line after what separates its parts."""
    return re.sub(r"([_/:.])", r"\1<wbr>", text(words))


def head(words: str, order: str = "none", kind: str = "number") -> str:
    """The head of a column that page.js sorts by. order: as aria-sort has it; kind: number or text."""
    return f'<th scope="col" aria-sort="{order}" data-kind="{kind}"><button type="button">{text(words)}</button></th>'


def wide(inside: str, label: str) -> str:
    """What may be wider than the page, or a table of many rows, in a box that scrolls and that the keyboard reaches."""
    classes = "wide long" if inside.count("<tr") > LONG else "wide"
    return f'<div class="{classes}" tabindex="0" role="region" aria-label="{text(label)}">{inside}</div>'


def answers(found: Sequence[tuple[str, Sequence[str]]]) -> str:
    """What backbones said of an image: each answer with their names, which are folded where they are many."""
    if sum(len(names) for _, names in found) <= SAID:
        lines = (f"{words}: {', '.join(shortened(each, NAME) for each in names)}" for words, names in found)
        return "".join(f'<span class="small said">{text(line)}</span>' for line in lines)
    lines = (f"{words}: {len(names)} backbones" for words, names in found)
    shown = "".join(f'<span class="small said">{text(line)}</span>' for line in lines)
    folded = "".join(
        f"<dt>{text(words)}</dt><dd>{text(', '.join(names[:FOLDED]))}"
        f"{f' and {len(names) - FOLDED} more' if len(names) > FOLDED else ''}</dd>"
        for words, names in found
    )
    return f'{shown}<details class="said"><summary>which ones</summary><dl>{folded}</dl></details>'


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
