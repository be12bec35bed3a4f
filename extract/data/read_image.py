"""An image's bytes and its pixels, or the reason why there are none; the same wherever it is done."""

import hashlib
from collections.abc import Iterable

from jaxtyping import UInt8
from torch import Tensor

from extract.decoder import Decoder, Picture
from extract.geometry import Geometry
from extract.images import UnreadableImage
from extract.source import Source
from store import Entry


def read_image(entry: Entry, source: Source) -> bytes:
    """The file that the entry stands for. Raises UnreadableImage where it can't be read, or is another by now."""
    try:
        data = source.read()
    except OSError as error:
        raise UnreadableImage(f"can't be read: {error.strerror or error}") from None
    if hashlib.sha256(data).digest() != entry.image_sha256:
        raise UnreadableImage("changed while bb ran; run again")
    return data


def cut(decoder: Decoder, picture: Picture, geometries: Iterable[Geometry]) -> dict[Geometry, UInt8[Tensor, "3 h w"]]:
    """A picture resized and cropped by each geometry. Raises UnreadableImage where it can't be."""
    try:
        return {geometry: decoder.cut(picture, geometry) for geometry in geometries}
    except (MemoryError, RuntimeError, ValueError) as error:  # of a picture of some odd shape
        raise UnreadableImage(f"can't be transformed: {error or type(error).__name__}") from None
