"""Decodes every image of a collection as an extraction would, without torch, to find what is unreadable or damaged."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bb.extract.data.read_image import read_image
from bb.extract.data.scan import Scan
from bb.extract.embedding import images
from bb.extract.embedding.images import DecodedImage, UnreadableImage
from bb.extract.embedding.rgb import WHOLE
from bb.extract.pipeline import file_damage, libtiff_messages
from bb.extract.pipeline.decode_memory import DECODING
from bb.store import Entry


def check_images(
    scan: Scan, *, depth: int = WHOLE, threads: int = 4, progress: Callable[[int], None] = lambda done: None
) -> list[tuple[str, DecodedImage | UnreadableImage]]:
    """Of each image in order, by ID, what its decoder says (without the picture), or why it can't be decoded."""

    def check(entry: Entry) -> DecodedImage | UnreadableImage:
        libtiff_messages.forget()
        try:
            data = read_image(entry, scan.sources[entry.image_id])
            with DECODING.hold(images.header(data).n_bytes):
                return file_damage.with_damage(images.decode(data, depth), data)._replace(picture=None)
        except UnreadableImage as error:
            return libtiff_messages.with_message(error)

    libtiff_messages.keep_messages()
    found: list[tuple[str, DecodedImage | UnreadableImage]] = []
    with ThreadPoolExecutor(threads) as pool:
        try:
            for entry, outcome in zip(scan.entries, pool.map(check, scan.entries), strict=True):
                found.append((entry.image_id, outcome))
                progress(len(found))
        finally:
            pool.shutdown(cancel_futures=True)
    return found


def unreadable(entry: Entry, scan: Scan) -> str:
    """Why the header of an image can't be read."""
    try:
        images.header(read_image(entry, scan.sources[entry.image_id]))
    except UnreadableImage as error:
        return str(error)
    return ""
