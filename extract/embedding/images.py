"""Image files become RGB pictures, always in the same way, or are refused with a reason short enough for a
list.

Grey, palette, CMYK, YCbCr and 1-bit pictures are converted by Pillow; colour profiles are not applied. Alpha
and transparent colours are laid over white. Of 16-bit samples the high byte of the bits in use is kept (see
extract/embedding/rgb.py). EXIF (or XMP) orientation is applied. Of several frames or pages the first one counts.

A damaged file whose decoder makes a picture all the same is decoded, and the damage named. JPEG's decoder always does,
as soon as the header is whole and some of the pixels follow; a PNG's pixels have checksums and can be counted; the
other decoders refuse what they find a fault in.
"""

import functools
import io
import re
import warnings
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, features

from bb.extract.embedding.damage import (
    PNG_SIGNATURE,
    ROWS_MISSING,
    has_too_few_rows,
    inspect_png,
    jpeg_damage,
    jpeg_ends,
)
from bb.extract.embedding.rgb import WHOLE, to_rgb
from bb.store.errors import BBError

HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
# Beyond twice its own limit Pillow refuses to open a file; below, its warning tells a person nothing to act
# upon, nor do those about damaged EXIF blocks.
MAX_PIXELS = 2 * 89_478_485
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.")
# Of blocks under 32 MiB, glibc keeps what is freed for the thread that had it: gigabytes, with large pictures.
Image.core.set_block_size(64 * 2**20)

_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_JPEG_END = b"\xff\xd9"
TRUNCATED = "truncated"
_JPEGS = ("JPEG", "MPO")


class UnreadableImage(BBError):
    """A file that can't become a picture; its message is the reason, without the file's name."""


class Header(NamedTuple):
    """What a file says of its picture before any pixel: Pillow's format and mode, the EXIF orientation, 1 to 8, and
    the size upright.

    progressive  whether it is a JPEG in several scans, whose decoder holds all coefficients
    """

    format: str
    mode: str
    orientation: int
    width: int
    height: int
    progressive: bool = False

    @property
    def is_plain_jpeg(self) -> bool:
        """Whether libjpeg alone can make the picture that `decode` would (MPO: a JPEG with further ones behind it)."""
        return self.format in _JPEGS and self.mode in ("RGB", "L")

    @property
    def n_bytes(self) -> int:
        """Memory that decoding and cutting takes, at most: 4 bytes a pixel for a plain JPEG, 12 for others."""
        return self.width * self.height * (4 if self.is_plain_jpeg and not self.progressive else 12)


class DecodedImage(NamedTuple):
    """A picture in the form of its decoder, upright.

    damage  what its decoder says is damaged; empty where it found nothing
    note    what else a person should know of it
    """

    picture: Any
    damage: str = ""
    note: str = ""


def decode(data: bytes, depth: int = WHOLE) -> DecodedImage:
    """The picture in an image file, in mode RGB and the right way up.

    depth  bits of a 16-bit sample that are in use, where the file does not say

    Damage in a JPEG is found where simplejpeg is installed. Raises UnreadableImage, and nothing else, whatever the
    bytes are.
    """
    sound, damage, significant = data, "", 0
    if data.startswith(PNG_SIGNATURE):
        sound, damage, significant = inspect_png(data)
    with _open(sound) as image:
        try:
            picture, note = to_rgb(image, lambda: _open(sound), depth, significant)
        except Exception as error:  # Pillow's decoders raise whatever their parsing runs into
            reason = _unreadable(error)
            if image.format not in _JPEGS or isinstance(error, MemoryError):
                raise reason from error
            picture, damage, note = _filled_up(data, reason), str(reason), ""
        turn = _ORIENTATIONS.get(_orientation(image))
        if image.format in _JPEGS:
            damage = _jpeg_damage(data, image.mode == "CMYK") or damage
        elif image.format == "PNG" and not damage and _may_have_too_few_rows(image) and has_too_few_rows(sound):
            damage = ROWS_MISSING
    return DecodedImage(picture if turn is None else picture.transpose(turn), damage, note)


def _filled_up(data: bytes, reason: UnreadableImage) -> Image.Image:
    """A JPEG as libjpeg makes it up to the marker that it can't go on after, found by bisection, all of it tried first.

    What it needs beyond that, be it a segment, are end marks. Raises `reason` where there is no picture.
    """
    ends, picture = jpeg_ends(data), None
    low, high, at = 0, len(ends), len(ends) - 1
    while low < high:
        try:
            with _open(data[: ends[at]] + _JPEG_END * 2**16) as image:
                picture = to_rgb(image, lambda: image, WHOLE, 0)[0]
            low = at + 1
        except MemoryError as error:  # says nothing of the file
            raise _unreadable(error) from error
        except Exception:  # as above
            high = at
        at = (low + high) // 2
    if picture is None:
        raise reason
    return picture


def _may_have_too_few_rows(image: Image.Image) -> bool:
    """Whether the last row of a PNG is empty, or rows are not in order."""
    return "interlace" in image.info or not np.asarray(image.crop((0, image.height - 1, *image.size))).any()


def header(data: bytes) -> Header:
    """Of the formats that `decode` knows. Raises UnreadableImage where no picture begins, or one beyond the limit."""
    with _open(data) as image:
        orientation = _orientation(image)
        width, height = image.size
        if image.format != "TIFF" and orientation >= 5:  # Pillow turns a TIFF's size itself
            width, height = height, width
        progressive = "progressive" in image.info
        return Header(image.format or "", image.mode, orientation, width, height, progressive)


def size(data: bytes) -> tuple[int, int] | None:
    """(width, height) that `decode` will give, read from the header alone; None where that can't be told."""
    try:
        found = header(data)
    except UnreadableImage:
        return None
    return found.width, found.height


@functools.cache
def formats() -> tuple[str, ...]:
    """Those of FORMATS that can be read here."""
    absent = set() if features.check("avif") else {"AVIF"}
    if find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
    else:
        absent.add("HEIF")
    return tuple(name for name in FORMATS if name not in absent)


def _open(data: bytes) -> Image.Image:
    try:
        return _open_plain(data)
    except UnreadableImage:
        if not data.startswith(PNG_SIGNATURE):
            raise
        return _open_plain(inspect_png(data).data)  # without texts, which may be what is wrong


def _open_plain(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=formats())
    except Image.DecompressionBombError as error:
        count = re.search(r"\d+", str(error))
        pixels = f"{int(count[0]):,}" if count else "too many"
        raise UnreadableImage(f"{pixels} pixels, over the limit of {MAX_PIXELS:,}") from error
    except Image.UnidentifiedImageError as error:
        raise UnreadableImage(_unidentified(data)) from error
    except Exception as error:
        raise _unreadable(error) from error


def _unidentified(data: bytes) -> str:
    if not data:
        return "empty file"
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if brand in HEIF_BRANDS and "HEIF" not in formats():
        return "a HEIC image, which needs pillow-heif: pip install 'backbone-bench[heif]'"
    if brand in AVIF_BRANDS and "AVIF" not in formats():
        return "an AVIF image, which this Pillow can't read: pip install 'pillow>=11.3'"
    return f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"


def _jpeg_damage(data: bytes, cmyk: bool) -> str:
    if find_spec("simplejpeg") is None:
        return ""
    return jpeg_damage(data, cmyk=cmyk)


def _unreadable(error: Exception) -> UnreadableImage:
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return UnreadableImage(TRUNCATED)
    return UnreadableImage(f"unreadable: {' '.join(str(error).split())[:120] or type(error).__name__}")


def _orientation(image: Image.Image) -> int:
    try:
        # PngImageFile's own getexif would read all pixels in search of a block behind them.
        return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block says nothing of the orientation, and spoils no pixel
        return 1
