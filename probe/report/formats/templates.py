"""The frame of every page: one file that works from a disk. No server, no address from elsewhere, no library.

A page is a Jinja2 template that extends frame.html. Values are escaped wherever a template writes them; what is markup
already, such as a picture in SVG, is named so in macros.html and nowhere else. A page is whole without scripts and in
print; page.js sorts, filters and chooses. A content security policy names the one style and the one script by their
hashes: were a string to slip through, it would still not run.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from bb.probe.report.formats.svg_parts import GUESSES, Number, shortened
from bb.store.format.space import short
from bb.store.text.printable import printable, printable_lines
from bb.store.versions import installed

if TYPE_CHECKING:  # imported when a page is made: most commands make none
    from jinja2 import Environment
    from markupsafe import Markup

FRAME = "report/formats/"
ROOT = "bb.probe"  # templates have their paths below it


def render(template: str, *, title: str, filtered: str, data: Sequence[object] = (), **values: Any) -> str:
    """The whole file.

    template   path below bb.probe; rules for this page alone are in the .css file of the same name, if there is one
    filtered   what the filter is of, in words: it hides elements by their data-label
    data       what page.js needs next to them
    values     what else the template shows
    """
    style, script = _part(f"{FRAME}page.css"), _part(f"{FRAME}page.js")
    own = template.replace(".html", ".css")
    if files(ROOT).joinpath(own).is_file():
        style += _part(own)
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment().get_template(template).render(
        policy=policy,
        style=style,
        script=script,
        version=installed("backbone-bench") or "",
        data=json.dumps(data, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c"),
        title=title,
        filtered=filtered,
        **values,
    )  # fmt: skip


@cache
def environment() -> "Environment":
    """The templates of all pages, with the filters that they share."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader(ROOT, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=lambda value: value if hasattr(value, "__html__") else printable(value),
    )
    made.filters |= {
        "breakable": breakable,
        "lines": _lines,
        "number": format,
        "percent_of": _percent_of,
        "short": short,
        "shortened": shortened,
        "signed": _signed,
    }
    made.globals |= {"GUESSES": GUESSES}
    return made


def breakable(words: object) -> "Markup":
    """Names of backbones or images, which may go on in the next line after what separates their parts; no numbers."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([_/:]|\.(?!\d))", r"\1<wbr>", str(escape(printable(words)))))


def _lines(text: str) -> "Markup":
    """Text of several lines, which stay: for <pre>."""
    from markupsafe import escape

    return escape(printable_lines(text))


def _percent_of(score: Number, ends: tuple[Number, Number]) -> float:
    """Where a score is between the ends of a bar, in percent; what is beyond them is at an end."""
    return 100 * (min(max(score, ends[0]), ends[1]) - ends[0]) / ((ends[1] - ends[0]) or 1)


def _signed(value: Number) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _part(name: str) -> str:
    return files(ROOT).joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
