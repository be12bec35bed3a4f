"""Image files become RGB pictures, always in the same way, or are refused with a reason short enough for a
list.

Grey, palette, CMYK, YCbCr and 1-bit pictures are converted by Pillow; colour profiles are not applied. Alpha
and transparent colours are laid over white. Of 16-bit samples the high byte is kept, in grey as Pillow does
it in colour, so that both depths of one picture agree to one level. EXIF (or XMP) orientation is applied. Of
several frames or pages the first one counts.
"""

import io
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from store.errors import BBError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
# Beyond twice its own limit Pillow refuses to open a file; below, its warning tells a person nothing to act
# upon.
MAX_PIXELS = 2 * 89_478_485
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE = 258  # TIFF 6.0


class UnreadableImage(BBError):
    """A file that can't become a picture; its message is the reason, without the file's name."""


class Header(NamedTuple):
    """What a file says of its picture before any pixel: Pillow's format and mode, and the EXIF orientation, 1 to 8."""

    format: str
    mode: str
    orientation: int


def decode(data: bytes) -> Image.Image:
    """The picture in a JPEG, PNG, WebP, TIFF, BMP or GIF file, in mode RGB and the right way up.

    It raises UnreadableImage, and nothing else, whatever the bytes are.
    """
    with _open(io.BytesIO(data)) as image:
        try:
            image.load()
            picture = _rgb(image)
            turn = _ORIENTATIONS.get(_orientation(image))
            return picture if turn is None else picture.transpose(turn)
        except UnreadableImage:
            raise
        except Exception as error:  # Pillow's decoders raise whatever their parsing runs into
            raise _unreadable(error) from error


def header(data: bytes) -> Header:
    """Of the formats that `decode` knows. Raises UnreadableImage where no picture begins, or one beyond the limit."""
    with _open(io.BytesIO(data)) as image:
        return Header(image.format or "", image.mode, _orientation(image))


def size(source: bytes | str | Path) -> tuple[int, int] | None:
    """(width, height) that `decode` will give, read from the header alone; None where that can't be told.

    source: a file's bytes, or its path
    """
    try:
        if isinstance(source, bytes):
            return _upright_size(io.BytesIO(source))
        with Path(source).open("rb") as file:
            return _upright_size(file)
    except (UnreadableImage, OSError):
        return None


def _upright_size(file: io.BytesIO | io.BufferedReader) -> tuple[int, int]:
    with _open(file) as image:
        width, height = image.size
        turned = image.format != "TIFF" and _orientation(image) >= 5  # Pillow turns a TIFF's size itself
        return (height, width) if turned else (width, height)


def _open(file: io.BytesIO | io.BufferedReader) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        count = re.search(r"\d+", str(error))
        pixels = f"{int(count[0]):,}" if count else "too many"
        raise UnreadableImage(f"{pixels} pixels, over the limit of {MAX_PIXELS:,}") from error
    except Image.UnidentifiedImageError as error:
        if not file.seek(0, io.SEEK_END):
            raise UnreadableImage("empty file") from error
        raise UnreadableImage(f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from error
    except Exception as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> UnreadableImage:
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return UnreadableImage("truncated")
    return UnreadableImage(f"unreadable: {' '.join(str(error).split())[:120] or type(error).__name__}")


def _orientation(image: Image.Image) -> int:
    try:
        # PngImageFile's own getexif would read all pixels in search of a block behind them.
        return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block says nothing of the orientation, and spoils no pixel
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    """The loaded picture in mode RGB."""
    if image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.mode in ("F", "I"):
        kind = "floating-point" if image.mode == "F" else "32-bit or signed"
        raise UnreadableImage(f"{kind} samples, whose white is not defined: convert to 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    bits = _bits(image)
    samples_HW = np.asarray(image).astype(np.uint16)
    grey_HW = (samples_HW >> (bits - 8)).astype(np.uint8)
    if "transparency" in image.info:  # PNG: the one grey that is transparent
        grey_HW[samples_HW == image.info["transparency"]] = 255
    return Image.fromarray(grey_HW).convert("RGB")


def _bits(image: Image.Image) -> int:
    """12 for the TIFFs of some cameras and scanners, 16 otherwise."""
    tags = getattr(image, "tag_v2", {})
    return int(tags.get(_BITS_PER_SAMPLE, (16,))[0])
