"""`bb suggest --html`: the images to label next on one page that works offline and prints."""

import base64
from collections.abc import Mapping

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
    items = []
    for number, row in enumerate(found.frame.iter_rows(named=True), 1):
        image_id = str(row["image_id"])
        small = thumbnails.get(image_id)
        picture = ""
        if small is not None:
            source = base64.b64encode(small.jpeg).decode()
            size = f'width="{small.width}" height="{small.height}"'
            picture = f'<img src="data:image/jpeg;base64,{source}" alt="{text(image_id)}" {size}>'
        guess = f"<br>perhaps {text(row['guess'])}" if row["guess"] is not None else ""
        label = text(f"{row['guess'] or ''} {image_id}")
        items.append(
            f'<li class="card" data-label="{label}">{picture}{number}. <code>{text(image_id)}</code>{guess}</li>'
        )
    title = f"{len(items)} images of {found.collection.name} to label"
    body = (
        f'<section><h2>{text(title)}</h2><p class="facts">Chosen by {text(found.strategy)} with '
        f'{text(found.backbone)}, from {found.labelled} labels.</p><ol class="sheet">{"".join(items)}</ol></section>'
    )
    return frame(f"bb: {title}", nav="", body=body, filtered="images", style=STYLE)
