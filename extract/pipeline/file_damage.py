"""Damage in a file that its decoder passes over: a GIF without its end, and the strips of a TIFF.

Pillow shows the first picture of a GIF and reads no further, and leaves the rows of a TIFF for which there is no strip
at zero. libtiff leaves a strip as soon as it has the pixels: it does not compare the checksum of one that zlib packed,
and does not hear what libjpeg says of what is left over.
https://www.w3.org/Graphics/GIF/spec-gif89a.txt, https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
"""

import io
import zlib
from collections.abc import Iterator
from importlib.util import find_spec

from PIL import Image

from bb.extract.embedding.damage import ROWS_MISSING, jpeg_damage
from bb.extract.embedding.images import DecodedImage
from bb.extract.pipeline import libtiff_messages

FORMATS = ("GIF", "TIFF")
CUT, MIXED, CHECKSUM = "its end is missing", "its blocks make no sense", "its pixels don't have their checksum"
_TRAILER, _EXTENSION, _PICTURE = b";", b"!", b","
_STRIPS, _TILES = (273, 279), (324, 325)  # tags: where they are, and how many bytes they have
_COMPRESSION, _INKS, _FILL_ORDER, _TABLES = 259, 262, 266, 347
_HEIGHT, _SAMPLES, _ROWS_OF_STRIP, _PLANES = 257, 277, 278, 284
_APART = 2  # each sample in strips of its own
_JPEG, _ZLIB, _CMYK = 7, (8, 32946), 5
_PIECE = 2**20
_FEW, _DEEPEST = 2**24, 16  # pixels of any tile; bytes of a pixel


def with_damage(decoded: DecodedImage, data: bytes) -> DecodedImage:
    """The same picture, damaged where libtiff said so in this thread, or the file does."""
    decoded = libtiff_messages.with_damage(decoded)
    return decoded if decoded.damage else decoded._replace(damage=file_damage(data))


def file_damage(data: bytes) -> str:
    """Of a file of which a picture was made; empty where nothing is found, or it has another format."""
    if data.startswith(b"GIF8"):
        return _of_gif(data)
    if data.startswith((b"II", b"MM")):
        return next(filter(None, _of_strips(data)), "")
    return ""


def _of_gif(data: bytes) -> str:
    """Whether block follows block up to the trailer. Bytes of zero between them do no harm, and are common."""
    at = _after_colours(data, 10, 13)
    while at < len(data):
        kind = data[at : at + 1]
        if kind == _TRAILER:
            return ""
        if kind == _EXTENSION:
            at = _after_sub_blocks(data, at + 2)
        elif kind == _PICTURE:
            at = _after_sub_blocks(data, _after_colours(data, at + 9, at + 10) + 1)
        elif kind == b"\0":
            at += 1
        else:
            return MIXED
    return CUT


def _after_colours(data: bytes, flags: int, table: int) -> int:
    """Where a colour table ends that begins there if the flags say that there is one."""
    packed = data[flags] if flags < len(data) else 0
    return table + (3 << (packed & 7) + 1 if packed & 0x80 else 0)


def _after_sub_blocks(data: bytes, at: int) -> int:
    while at < len(data) and data[at]:
        at += data[at] + 1
    return at + 1


def _of_strips(data: bytes) -> Iterator[str]:
    """Of no more strips than the file has bytes for, and of none with many more pixels than the picture."""
    with Image.open(io.BytesIO(data)) as image:
        tags, pixels = dict(getattr(image, "tag_v2", {})), max(image.width * image.height, _FEW)
    packing, tables = tags.get(_COMPRESSION), tags.get(_TABLES, b"")
    left = len(data)
    height = _count(tags.get(_HEIGHT), 1)
    rows = _count(tags.get(_ROWS_OF_STRIP), height)
    planes = _count(tags.get(_SAMPLES), 1) if tags.get(_PLANES) == _APART else 1
    strips = -(-height // rows)
    if 0 < len(tags.get(_STRIPS[0], ())) < planes * strips:
        yield ROWS_MISSING
    for places, sizes in (_STRIPS, _TILES):
        for i, (at, size) in enumerate(zip(tags.get(places, ()), tags.get(sizes, ()), strict=False)):
            if not (isinstance(at, int) and isinstance(size, int) and at >= 0 and 0 <= size <= left):
                return
            strip = data[at : at + size]
            left -= size
            if packing == _JPEG and isinstance(tables, bytes):
                # Without the mark that ends the tables, and the one that begins the strip, they are one JPEG.
                jpeg = tables[:-2] + strip[2:] if tables else strip
                least = min(rows, height - i % strips * rows) if places == _STRIPS[0] else 0
                yield _of_jpeg(jpeg, tags.get(_INKS) == _CMYK, least, pixels)
            elif packing in _ZLIB and tags.get(_FILL_ORDER, 1) == 1:
                yield _of_zlib(strip, _DEEPEST * pixels)


def _count(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and value > 0 else otherwise


def _of_jpeg(strip: bytes, cmyk: bool, least: int, most: int) -> str:
    """`least` in rows; `most` in pixels: of more, the strip is not decoded."""
    if find_spec("simplejpeg") is None:
        return ""
    import simplejpeg

    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(strip)
    except ValueError:
        return ""
    if height * width > most:
        return ""
    return jpeg_damage(strip, cmyk=cmyk) or (ROWS_MISSING if height < least else "")


def _of_zlib(strip: bytes, most: int) -> str:
    """Only what zlib calls wrong: writers may leave out the end."""
    unpacked, done = zlib.decompressobj(), 0
    try:
        while strip and not unpacked.eof and done <= most:
            done += len(unpacked.decompress(strip, _PIECE))
            strip = unpacked.unconsumed_tail
    except zlib.error:
        return CHECKSUM
    return ""
