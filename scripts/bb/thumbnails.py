"""Small pictures of available images, for pages and loggers."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bb.console import ConsoleReporter, warn

if TYPE_CHECKING:
    from bb.extract.data.source_spec import Root
    from bb.probe.report.leaderboard import Leaderboard
    from bb.probe.retrieval.report.thumbnail import Thumbnail
    from bb.store import Collection, Store


THUMBNAIL = (192, 192)  # pixels, at most


def make_thumbnails(
    found: "Sequence[Leaderboard]", opened: "Store", roots: "dict[str, Root | None]"
) -> dict[tuple[str, str], bytes]:
    """Small JPEG files of the hardest images, by collection and ID: those available that are the ones tested on."""
    wanted: dict[tuple[str, str], set[str]] = {}
    for board in found:
        ids = {hard.image_id for task in board.task_list for hard in task.hardest}
        wanted.setdefault((board.collection, board.collection_digest), set()).update(ids)
    names = sorted({name for name, _ in wanted if roots.get(name)})
    if not names:
        warn("note: no images are available, so the page names the hardest ones: --data NAME=DIR shows them")
        return {}
    if importlib.util.find_spec("PIL") is None:
        warn("note: without Pillow the page names the hardest images: pip install 'backbone-bench[images]' shows them")
        return {}
    return {
        (name, image_id): picture.jpeg
        for (name, digest), ids in wanted.items()
        if (root := roots.get(name)) is not None
        for image_id, picture in thumbnails_of(opened, f"{name}@{digest}", root, ids).items()
    }


def thumbnails_at_hand(
    opened: "Store", collection: "Collection", root: "Root | None", ids: Sequence[str]
) -> "dict[str, Thumbnail]":
    """Small pictures of some images, by ID; a note says why there are none."""
    from bb.store.format.space import short

    if root is None:
        warn(f"note: no images are available, so they are only named: --data {collection.name}=DIR shows them")
    elif importlib.util.find_spec("PIL") is None:
        warn("note: without Pillow images are only named: pip install 'backbone-bench[images]' shows them")
    else:
        return thumbnails_of(opened, f"{collection.name}@{short(collection.digest)}", root, set(ids))
    return {}


def thumbnails_of(
    opened: "Store",
    name: str,
    root: "Root",
    ids: set[str],
    boxes: "Mapping[str, tuple[float, float, float, float]] | None" = None,
) -> "dict[str, Thumbnail]":
    """Small pictures of some images of a collection, by ID: of those available that have the collection's bytes.

    boxes  to be framed, by ID, in pixels of the images
    """
    from io import BytesIO

    from bb.extract.collection_images import OtherImage, open_images
    from bb.extract.embedding.images import UnreadableImage
    from bb.probe.retrieval.report.thumbnail import Thumbnail
    from bb.store import BBError

    try:
        with ConsoleReporter() as reporter:
            images = open_images(opened, name, root, image_ids=sorted(ids), reporter=reporter)
    except BBError as error:
        warn(f"note: no thumbnails of {name.partition('@')[0]}: {error}")
        return {}
    made, other, unreadable, beyond = {}, 0, 0, []
    for image_id in images.image_ids:
        try:
            picture = images.picture(image_id)
        except OtherImage:
            other += 1
            continue
        except UnreadableImage:
            unreadable += 1
            continue
        size = picture.size
        picture.thumbnail(THUMBNAIL)
        buffer = BytesIO()
        picture.save(buffer, "JPEG", quality=80, optimize=True)
        made[image_id] = Thumbnail(buffer.getvalue(), *picture.size)
        if boxes and image_id in boxes:
            try:
                made[image_id] = made[image_id].framed(boxes[image_id], *size)
            except ValueError as fact:
                beyond.append(f"{image_id}: {fact}")
    if beyond:
        warn(
            f"note: {len(beyond)} boxes are not drawn, such as that of {beyond[0]}; x1, y1, x2 and y2 count pixels of "
            "the image the right way up"
        )
    if absent := len(ids) - len(images.image_ids):
        warn(f"note: {absent} of {len(ids)} images are not in {root}, and are only named")
    if unreadable:
        warn(f"note: {unreadable} images in {root} can't be decoded, and are only named")
    if other:
        warn(f"note: {other} images in {root} are not those that were tested on, and are not shown")
    return made
