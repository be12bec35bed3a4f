"""Images on one page that works offline and prints: those to label next, of `bb suggest --html`, and those found."""

import base64
from collections.abc import Iterable, Mapping

from bb.probe.labelling.active_learning.suggest import Suggestions
from bb.probe.report.formats.html_frame import frame, text
from bb.probe.retrieval.report.thumbnail import Thumbnail

STYLE = """
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 12px; padding: 0;
  list-style: none; }
.sheet li { break-inside: avoid; }
.sheet img { display: block; max-width: 100%; height: auto; }
.sheet code { overflow-wrap: anywhere; font-size: 12px; }
"""


def page(found: Suggestions, thumbnails: Mapping[str, Thumbnail]) -> str:
    """The whole file. thumbnails: small pictures by image ID, of as many as there are."""
    images = [
        (str(row["image_id"]), row["guess"] or "", "" if row["guess"] is None else f"perhaps {row['guess']}")
        for row in found.frame.iter_rows(named=True)
    ]
    title = f"{len(images)} images of {found.collection.name} to label"
    facts = f"Chosen by {found.strategy} with {found.backbone}, from {found.labelled} labels."
    return sheet(title, facts, images, thumbnails)


def sheet(title: str, facts: str, images: Iterable[tuple[str, str, str]], thumbnails: Mapping[str, Thumbnail]) -> str:
    """A page of images: the ID of each, what it is filtered by, and what stands below it. All of it is escaped."""
    items = []
    for number, (image_id, filtered, words) in enumerate(images, 1):
        small = thumbnails.get(image_id)
        picture = ""
        if small is not None:
            source = base64.b64encode(small.jpeg).decode()
            size = f'width="{small.width}" height="{small.height}"'
            picture = f'<img src="data:image/jpeg;base64,{source}" alt="{text(image_id)}" {size}>'
        below = f"<br>{text(words)}" if words else ""
        label = text(f"{filtered} {image_id}")
        items.append(
            f'<li class="card" data-label="{label}">{picture}{number}. <code>{text(image_id)}</code>{below}</li>'
        )
    body = (
        f'<section><h2>{text(title)}</h2><p class="facts">{text(facts)}</p>'
        f'<ol class="sheet">{"".join(items)}</ol></section>'
    )
    return frame(f"bb: {title}", nav="", body=body, filtered="images", style=STYLE)
