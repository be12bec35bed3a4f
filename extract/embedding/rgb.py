"""A Pillow image of any mode becomes RGB of 8 bits, a band of rows at a time, so that it takes little memory.

Of a 16-bit sample the high byte of the bits in use is kept, in grey as in colour, so that both depths of one picture
agree to one level. All 16 are in use unless the file says otherwise (TIFF's BitsPerSample and MaxSampleValue; PNG's
sBIT, where the samples were not scaled up as PNG wants it), or `--depth` does.
"""

import sys
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

WHOLE = 16
SMALLEST = 8
BAND = 2**20  # pixels
DARK = 2**12  # samples that all stay below may be of 12 bits
_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE = 258, 281  # TIFF 6.0


def to_rgb(
    image: Image.Image, reopen: Callable[[], Image.Image], depth: int, significant: int
) -> tuple[Image.Image, str]:
    """The picture in mode RGB, and a note where its 16-bit samples seem to be of another depth.

    image        opened, not loaded
    reopen       opens the file once more
    depth        bits of a 16-bit sample that are in use, where the file does not say
    significant  what PNG's sBIT says; 0 for nothing

    Errors: ValueError where it is not defined what white is; whatever Pillow's decoders raise.
    """
    wide = _is_wide(image)
    image.load()
    if image.mode.startswith("I;16"):
        return _from_grey_16(image, depth, significant)
    if image.mode in ("F", "I"):
        kind = "floating-point" if image.mode == "F" else "32-bit or signed"
        raise ValueError(f"{kind} samples, whose white is not defined: convert to 8 or 16 bits")
    note = ""
    if wide:
        image, note = _from_colour_16(image, reopen, depth, significant)
    return _paste(image, _over_white if image.has_transparency_data else _converted), note


def to_array(picture: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a picture in mode RGB, without a second copy of all of them on the way."""
    pixels_HWC = np.empty((picture.height, picture.width, 3), np.uint8)
    for top, band in _bands(picture):
        pixels_HWC[top : top + band.height] = np.asarray(band)
    return pixels_HWC


def _paste(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    made = Image.new("RGB", image.size)
    for top, band in _bands(image):
        made.paste(convert(band), (0, top))
    return made


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, BAND // max(1, image.width))
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(image.height, top + rows)))


def _converted(band: Image.Image) -> Image.Image:
    return band.convert("RGB")


def _over_white(band: Image.Image) -> Image.Image:
    rgba = band.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _from_grey_16(image: Image.Image, depth: int, significant: int) -> tuple[Image.Image, str]:
    highest = used = 0
    for _, band in _bands(image):
        samples_HW = _samples(band)
        highest, used = max(highest, int(samples_HW.max())), used | int(np.bitwise_or.reduce(samples_HW, axis=None))
    declared = _of_tiff(image) or _of_png(significant, highest, used)
    transparent = image.info.get("transparency")  # PNG: the one grey that is

    def convert(band: Image.Image) -> Image.Image:
        samples_HW = _samples(band)
        grey_HW = _high_byte(samples_HW, declared or depth)
        if transparent is not None:
            grey_HW[samples_HW == transparent] = 255
        return Image.fromarray(grey_HW)

    return _paste(image, convert), "" if declared else _note(highest, depth)


def _from_colour_16(
    image: Image.Image, reopen: Callable[[], Image.Image], depth: int, significant: int
) -> tuple[Image.Image, str]:
    """Of each sample Pillow keeps the high byte. Where others are in use, the low one comes from decoding the file once
    more with its bytes swapped. `image` is loaded, and loses no alpha."""
    colours = len(image.getbands()) - (image.getbands()[-1] == "A")
    highest = _highest(image, colours) << 8 | 255
    in_use = _of_tiff(image) or significant or depth
    if highest > 255 and (in_use >= WHOLE or (significant and highest >> significant)):
        return image, _note(highest, depth)
    with reopen() as low:
        if not _swap_bytes(low):
            kept = "16-bit grey with alpha: its high byte is kept, whatever --depth is"
            return image, "" if depth == WHOLE else kept
        low.load()
    if in_use >= WHOLE:
        return image, _note(_highest(low, colours), depth)
    used = 0
    for _, samples_HWC in _joined_bands(image, low):
        used |= int(np.bitwise_or.reduce(samples_HWC[..., :colours], axis=None))
    declared = _of_tiff(image) or _of_png(significant, highest, used)
    made = Image.new(image.mode, image.size)
    for top, samples_HWC in _joined_bands(image, low):
        made.paste(Image.fromarray(_high_byte(samples_HWC, declared or depth), image.mode), (0, top))
    return made, "" if declared else _note(used, depth)


def _highest(image: Image.Image, colours: int) -> int:
    return max(int(high) for _, high in image.getextrema()[:colours])  # type: ignore[misc]


def _of_tiff(image: Image.Image) -> int:
    """Bits in use, where a TIFF says that they are fewer than 16; else 0."""
    tags = getattr(image, "tag_v2", {})
    bits = min([WHOLE, *_numbers(tags.get(_BITS_PER_SAMPLE))])
    most = max([0, *_numbers(tags.get(_MAX_SAMPLE_VALUE))])
    bits = min(bits, most.bit_length() or WHOLE)
    return max(SMALLEST, bits) if bits < WHOLE else 0


def _numbers(value: object) -> list[int]:
    return [each for each in (value if isinstance(value, tuple) else (value,)) if isinstance(each, int) and each > 0]


def _of_png(significant: int, highest: int, used: int) -> int:
    """Bits in use, where a PNG says how many they are and its samples were not scaled up, as they ought to be; else 0.

    Samples scaled up have nothing in the bits below, or the highest ones once more, which these have not.
    """
    below = (1 << max(0, WHOLE - significant)) - 1
    return max(SMALLEST, significant) if 0 < significant < WHOLE > highest.bit_length() and used & below else 0


def _is_wide(image: Image.Image) -> bool:
    """Whether it has colour of 16 bits, of which Pillow makes 8. To be asked before it is loaded."""
    tile = next(iter(getattr(image, "tile", ())), None)
    return tile is not None and ";16" in _raw_mode(tile.args) and not image.mode.startswith("I")


def _raw_mode(args: object) -> str:
    return str(args[0] if isinstance(args, tuple) and args else args)


def _swap_bytes(image: Image.Image) -> bool:
    """Whether Pillow can: of grey with alpha it knows one order alone, so of that the high byte is kept."""
    tiles = []
    for tile in image.tile:  # type: ignore[attr-defined]
        mode = _raw_mode(tile.args)
        if mode.startswith("LA"):
            return False
        little = mode.endswith("L") or (mode.endswith("N") and sys.byteorder == "little")
        swapped = mode[:-1] + ("B" if little else "L")
        tiles.append(tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped))
    image.tile = tiles  # type: ignore[attr-defined]
    return True


def _joined_bands(high: Image.Image, low: Image.Image) -> Iterator[tuple[int, UInt16[np.ndarray, "h w c"]]]:
    for (top, high_band), (_, low_band) in zip(_bands(high), _bands(low), strict=True):
        yield top, np.asarray(high_band).astype(np.uint16) << 8 | np.asarray(low_band)


def _samples(band: Image.Image) -> UInt16[np.ndarray, "h w"]:
    return np.asarray(band).astype(np.uint16)


def _high_byte(samples: UInt16[np.ndarray, "*size"], bits: int) -> UInt8[np.ndarray, "*size"]:
    return np.minimum(samples >> (bits - 8), 255).astype(np.uint8)


def _note(highest: int, depth: int) -> str:
    """What a person should know of samples whose file does not say how many bits are in use."""
    if depth == WHOLE and 0 < highest < DARK:
        return f"16-bit samples go up to {highest:,} of 65,535 only: if 12 bits are in use, give --depth 12"
    if highest >> depth:
        return f"samples go up to {highest:,}, over the {(1 << depth) - 1:,} of --depth {depth}, and are cut off there"
    return ""
