"""The bytes of one image, or the reason why there are none."""

import hashlib

from bb.extract.data.image_source import ImageSource
from bb.extract.embedding.images import UnreadableImage
from bb.store import Entry


def read_image(entry: Entry, source: ImageSource) -> bytes:
    """The file that the entry stands for. Raises UnreadableImage where it can't be read, or is another by now."""
    try:
        data = source.read()
    except OSError as error:
        raise UnreadableImage(f"can't be read: {error.strerror or error}") from None
    if hashlib.sha256(data).digest() != entry.image_sha256:
        raise UnreadableImage("changed while bb ran; run again")
    return data
