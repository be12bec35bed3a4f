"""Images on one page that works offline and prints: those to label next, of `bb suggest --html`, and those found."""

from collections.abc import Iterable, Mapping

from bb.probe.labelling.active_learning.suggest import Suggestions
from bb.probe.report.formats.templates import render
from bb.probe.retrieval.report.thumbnail import Thumbnail


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
    """A page of images: the ID of each, what it is filtered by, and what stands below it."""
    return render(
        "labelling/active_learning/sheet.html",
        title=f"bb: {title}",
        filtered="images",
        heading=title,
        facts=facts,
        images=images,
        thumbnails=thumbnails,
    )
