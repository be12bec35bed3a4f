"""Every kind of picture becomes RGB in the same way, and every bad file a short reason."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from bb.extract.embedding import images
from bb.extract.embedding.images import UnreadableImage, decode, header, size
from tests.helpers.pictures import encode

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)


def pixels(data: bytes) -> np.ndarray:
    image = decode(data).picture
    assert image.mode == "RGB"
    return np.asarray(image)


def grey_as_rgb(grey_HW: np.ndarray) -> np.ndarray:
    return np.repeat(grey_HW[:, :, None], 3, axis=2)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "BMP"])
def test_colour_is_unchanged_by_lossless_formats(format):
    data = encode(Image.fromarray(RGB), format, **({"lossless": True} if format == "WEBP" else {}))
    assert np.array_equal(pixels(data), RGB)
    assert size(data) == (30, 20)


def test_jpeg_is_what_pillow_decodes():
    data = encode(Image.fromarray(RGB), "JPEG")
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "GIF"])
def test_grey(format):
    assert np.array_equal(pixels(encode(Image.fromarray(GREY), format)), grey_as_rgb(GREY))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "GIF"])
def test_one_bit_is_black_and_white(format):
    image = Image.fromarray(GREY).point(lambda v: 255 * (v > 127)).convert("1")
    assert np.array_equal(pixels(encode(image, format)), grey_as_rgb(np.where(GREY > 127, 255, 0)))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "GIF"])
def test_palette(format):
    image = Image.fromarray(RGB).quantize(16)
    assert np.array_equal(pixels(encode(image, format)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_transparent_palette_entry_is_white(format):
    image = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2), mode="P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    found = pixels(encode(image, format, transparency=2))
    assert found.reshape(-1, 3).tolist() == [[10, 20, 30], [40, 50, 60], [255, 255, 255], [100, 110, 120]]


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_over_white(format):
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 0] = 200
    rgba[0, :, 3] = 0, 128, 255
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    found = pixels(encode(Image.fromarray(rgba), format, **options))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert np.abs(found[0, 1].astype(int) - [227, 127, 127]).max() <= 1
    assert found[0, 2].tolist() == [200, 0, 0]


def test_grey_with_alpha_is_laid_over_white():
    la = np.array([[[100, 0], [100, 255]]], np.uint8)
    assert pixels(encode(Image.fromarray(la, mode="LA"), "PNG"))[0].tolist() == [[255] * 3, [100] * 3]


@pytest.mark.parametrize("mode, key", [("RGB", (1, 2, 3)), ("L", 7)])
def test_transparent_colour_is_white(mode, key):
    image = Image.new(mode, (2, 1), key)
    image.putpixel((1, 0), (9, 9, 9) if mode == "RGB" else 9)
    assert pixels(encode(image, "PNG", transparency=key))[0].tolist() == [[255] * 3, [9] * 3]


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk(format):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(pixels(encode(image, format)).astype(int) - [255, 0, 0]).max() <= 2


def test_ycbcr_tiff():
    image = Image.fromarray(RGB).convert("YCbCr")
    assert np.array_equal(pixels(encode(image, "TIFF")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_high_byte(format):
    found = pixels(encode(Image.fromarray(GREY16), format))
    assert np.array_equal(found, grey_as_rgb(GREY16 >> 8))


def test_big_endian_sixteen_bit_grey():
    image = Image.frombytes("I;16B", (30, 20), GREY16.astype(">u2").tobytes())
    assert np.array_equal(pixels(encode(image, "TIFF")), grey_as_rgb(GREY16 >> 8))


def test_transparent_grey_of_sixteen_bits_is_white():
    image = Image.fromarray(np.array([[256 * 7 + 1, 256 * 7]], np.uint16))
    data = encode(image, "PNG")
    chunk = struct.pack(">I", 2) + b"tRNS" + struct.pack(">H", 256 * 7 + 1)
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    at = data.index(b"IDAT") - 4
    assert pixels(data[:at] + chunk + data[at:])[0].tolist() == [[255] * 3, [7] * 3]


def test_twelve_bit_grey_is_scaled_by_its_own_depth():
    values = [0xFFF, 0x800]  # two samples in three bytes
    packed = bytes([values[0] >> 4, (values[0] & 15) << 4 | values[1] >> 8, values[1] & 255])
    tags = [(256, 3, 2), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 3, 1), (279, 4, 3)]
    head = b"II*\0" + struct.pack("<I", 12) + packed + b"\0"
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    data = head + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    assert pixels(data)[0, :, 0].tolist() == [255, 128]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_samples_without_a_white_are_refused(mode):
    with pytest.raises(UnreadableImage, match="convert to 8 or 16 bits"):
        decode(encode(Image.new(mode, (4, 4), 3), "TIFF"))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(format, orientation):
    """A picture stored turned, with the tag that says so, comes back upright: red corner at the top left."""
    upright = Image.new("RGB", (32, 16), "white")
    upright.paste("red", (0, 0, 8, 8))
    stored = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    image = upright
    for step in stored:
        image = image.transpose(step)
    exif = Image.Exif()
    exif[274] = orientation
    options = {"tiffinfo": {274: orientation}} if format == "TIFF" else {"exif": exif.tobytes()}
    options |= {"WEBP": {"lossless": True}, "JPEG": {"subsampling": 0}}.get(format, {})
    data = encode(image, format, **options)
    assert np.abs(pixels(data).astype(int) - np.asarray(upright)).max() <= (3 if format == "JPEG" else 0)
    assert size(data) == (32, 16)


def test_damaged_exif_spoils_nothing():
    data = encode(Image.fromarray(RGB), "PNG", exif=b"Exif\0\0nonsense")
    assert np.array_equal(pixels(data), RGB)
    assert size(data) == (30, 20)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_first_frame_counts(format):
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(first, format, save_all=True, append_images=[second], **options)
    assert pixels(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"])
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.8])
def test_cut_off_anywhere_is_an_unreadable_image(format, kept):
    noise = Image.fromarray(RNG.integers(0, 256, (200, 300, 3), dtype=np.uint8))
    data = encode(noise, format)
    with pytest.raises(UnreadableImage) as error:
        decode(data[: int(len(data) * kept)])
    assert len(str(error.value)) < 200


def test_a_jpeg_cut_off_in_its_header_is_called_truncated():
    data = encode(Image.fromarray(RNG.integers(0, 256, (200, 300, 3), dtype=np.uint8)), "JPEG")
    with pytest.raises(UnreadableImage, match=r"^truncated$"):
        decode(data[:300])


def test_a_png_without_its_end_is_whole_and_said_to_be_damaged():
    """All pixels are there where only IEND, or its last bytes, are lost."""
    data = encode(Image.fromarray(RGB), "PNG")
    for lost in (1, 4, 11, 12):
        found = decode(data[:-lost])
        assert np.array_equal(np.asarray(found.picture), RGB) and found.damage == "its end is missing"
    assert decode(data).damage == decode(data + b"\0\0more").damage == ""


def test_a_png_whose_pixels_changed_is_damaged_although_they_can_be_unpacked():
    stored = encode(Image.fromarray(RGB), "PNG")
    begin = stored.index(b"IDAT") - 4
    length = int.from_bytes(stored[begin : begin + 4])
    content = stored[begin + 8 : begin + 8 + length]
    raw = bytearray(zlib.decompress(content))
    raw[300] ^= 1
    packed = zlib.compress(bytes(raw))
    chunk = len(packed).to_bytes(4) + b"IDAT" + packed + zlib.crc32(b"IDAT" + content).to_bytes(4)
    found = decode(stored[:begin] + chunk + stored[begin + 12 + length :])
    assert found.damage == "its pixels don't have their checksum"
    assert not np.array_equal(np.asarray(found.picture), RGB)


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty file"),
        (b"<html>not found</html>", "no JPEG, PNG, WEBP, TIFF, BMP, GIF, AVIF or HEIF image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no JPEG, PNG"),
    ],
)
def test_other_files_are_named_for_what_they_are_not(data, reason):
    with pytest.raises(UnreadableImage, match=reason):
        decode(data)
    assert size(data) is None


def test_any_damage_gives_pixels_or_an_unreadable_image():
    for format in images.FORMATS:
        data = bytearray(encode(Image.fromarray(RGB), format))
        for _ in range(150):
            damaged = data.copy()
            for at in RNG.integers(0, len(data), 3):
                damaged[at] = RNG.integers(256)
            try:
                assert decode(bytes(damaged)).picture.mode == "RGB"
            except UnreadableImage:
                size(bytes(damaged))


def test_absurdly_large_pictures_are_refused_by_their_header():
    width, height = 100_000, 50_000
    header = (
        b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)
    )
    with pytest.raises(UnreadableImage, match=r"5,000,000,000 pixels, over the limit of 178,956,970"):
        decode(header)
    assert size(header) is None


def test_limit_is_pillows():
    assert Image.MAX_IMAGE_PIXELS is not None
    assert images.MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


def test_size_reads_no_pixels(monkeypatch):
    data = encode(Image.fromarray(RGB), "PNG")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were read"))
    assert size(data) == (30, 20)


def test_compressed_tiff():
    data = encode(Image.fromarray(RGB), "TIFF", compression="tiff_lzw")
    assert TiffImagePlugin.COMPRESSION_INFO  # libtiff decodes it
    assert np.array_equal(pixels(data), RGB)


def with_chunk(data: bytes, kind: bytes, content: bytes, *, sound: bool = True) -> bytes:
    """A PNG with one chunk more, before its pixels."""
    chunk = len(content).to_bytes(4) + kind + content + (zlib.crc32(kind + content) ^ (not sound)).to_bytes(4)
    at = data.index(b"IDAT") - 4
    return data[:at] + chunk + data[at:]


PACKED = zlib.compress(bytes(2**21))
LONG = bytes(2**21)


@pytest.mark.parametrize(
    "kind, content",
    [
        (b"tEXt", b"Comment\0" + 33 * LONG),  # 66 MiB: beyond Pillow's limit of all texts
        (b"zTXt", b"Comment\0\0" + PACKED),
        (b"iTXt", b"Comment\0\1\0\0\0" + PACKED),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + PACKED),
        (b"iCCP", b"profile\0\0" + PACKED),
        (b"vpAg", LONG),
    ],
)
def test_long_texts_and_profiles_keep_no_png_from_being_read(kind, content):
    plain = encode(Image.fromarray(RGB), "PNG")
    for data in (with_chunk(plain, kind, content), plain[:-12] + with_chunk(plain, kind, content)[len(plain) - 12 :]):
        assert size(data) == (30, 20)
    found = decode(with_chunk(plain, kind, content))
    assert np.array_equal(np.asarray(found.picture), RGB) and found.damage == ""
    assert size(with_chunk(plain, kind, content, sound=False)) == (30, 20)
    assert np.array_equal(pixels(with_chunk(plain, kind, content, sound=False)), RGB)


def test_orientation_in_a_text_is_applied_beside_a_long_one():
    xmp = b'<x:xmpmeta tiff:Orientation="6"></x:xmpmeta>'
    data = with_chunk(encode(Image.fromarray(RGB), "PNG"), b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    data = with_chunk(data, b"zTXt", b"Comment\0\0" + PACKED)
    assert np.array_equal(pixels(data), np.rot90(RGB, -1)) and size(data) == (20, 30)


def test_long_texts_and_profiles_in_other_formats():
    image = Image.fromarray(RGB)
    tags = {270: "x" * 3_000_000, 34675: bytes(3_000_000)}
    assert np.array_equal(pixels(encode(image, "TIFF", tiffinfo=tags)), RGB)
    assert np.array_equal(pixels(encode(image, "WEBP", lossless=True, icc_profile=bytes(3_000_000))), RGB)
    assert size(encode(image, "JPEG", icc_profile=bytes(3_000_000))) == (30, 20)


def png_16(samples: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of grey, RGB or RGBA with 16 bits a sample."""
    height, width = samples.shape[:2]
    kind = {2: 0, 3: 2}[samples.ndim] if samples.shape[-1] != 4 or samples.ndim == 2 else 6
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4) for name, content in parts
    )


GREY12 = RNG.integers(0, 4096, (20, 30), dtype=np.uint16)
RGB12 = RNG.integers(0, 4096, (20, 30, 3), dtype=np.uint16)
TWELVE = {
    "PNG": png_16(GREY12),
    "TIFF": encode(Image.fromarray(GREY12), "TIFF"),
    "packed TIFF": encode(Image.fromarray(GREY12), "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("kind", TWELVE)
def test_twelve_bits_in_sixteen_are_said_and_taken_with_depth(kind):
    dark = decode(TWELVE[kind])
    assert np.array_equal(np.asarray(dark.picture), grey_as_rgb(GREY12 >> 8))
    assert f"16-bit samples go up to {GREY12.max():,} of 65,535 only" in dark.note and "--depth 12" in dark.note
    right = decode(TWELVE[kind], 12)
    assert np.array_equal(np.asarray(right.picture), grey_as_rgb(GREY12 >> 4)) and right.note == ""


def test_colour_of_twelve_bits_in_sixteen():
    for samples in (RGB12, np.dstack([RGB12, np.full((20, 30), 4095, np.uint16)])):
        dark, right = decode(png_16(samples)), decode(png_16(samples), 12)
        assert "--depth 12" in dark.note and right.note == ""
        assert np.array_equal(np.asarray(right.picture), RGB12 >> 4)


def test_what_goes_beyond_the_depth_is_white_and_said():
    found = decode(png_16(GREY16), 12)
    assert "over the 4,095 of --depth 12" in found.note
    assert np.array_equal(np.asarray(found.picture), grey_as_rgb(np.minimum(GREY16 >> 4, 255)))


def test_the_depth_that_a_file_says_is_taken():
    said = encode(Image.fromarray(GREY12), "TIFF", tiffinfo={281: 4095})
    unscaled = png_16(GREY12, (b"sBIT", bytes([12])))
    colour = png_16(RGB12, (b"sBIT", bytes([12] * 3)))
    for data, samples in ((said, GREY12), (unscaled, GREY12), (colour, RGB12)):
        for depth in (16, 12, 14):
            found = decode(data, depth)
            expected = samples >> 4
            expected = expected if expected.ndim == 3 else grey_as_rgb(expected)
            assert np.array_equal(np.asarray(found.picture), expected) and found.note == ""


def test_samples_that_were_scaled_up_as_png_wants_it_keep_their_high_byte():
    scaled = (GREY12 << 4) | (GREY12 >> 8)
    found = decode(png_16(scaled, (b"sBIT", bytes([12]))))
    assert np.array_equal(np.asarray(found.picture), grey_as_rgb(scaled >> 8)) and found.note == ""


def test_pictures_of_eight_bits_and_black_ones_have_no_note():
    assert decode(encode(Image.new("RGB", (8, 8)), "PNG"), 12).note == ""
    assert decode(png_16(np.zeros((8, 8), np.uint16))).note == decode(png_16(np.zeros((8, 8, 3), np.uint16))).note == ""


@pytest.mark.parametrize("format", ["AVIF", "HEIF"])
def test_what_phones_and_browsers_write(format):
    image = Image.linear_gradient("L").convert("RGB")
    exif = Image.Exif()
    exif[274] = 6
    data = encode(image.crop((0, 0, 256, 128)), format, exif=exif.tobytes())
    turned = np.asarray(image.crop((0, 0, 256, 128)).transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert size(data) == (128, 256) and header(data).format == format
    assert np.abs(pixels(data) - turned).max() < 12


def test_what_is_not_installed_is_named(monkeypatch):
    heic, avif = encode(Image.fromarray(RGB), "HEIF"), encode(Image.fromarray(RGB), "AVIF")
    monkeypatch.setattr(images, "formats", lambda: images.FORMATS[:6])
    with pytest.raises(
        UnreadableImage, match=r"a HEIC image, which needs pillow-heif: pip install 'backbone-bench\[heif\]'"
    ):
        decode(heic)
    with pytest.raises(
        UnreadableImage, match=r"an AVIF image, which this Pillow can't read: pip install 'pillow>=11.3'"
    ):
        decode(avif)


def smooth(mode: str) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((96, 72), 3).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_off_anywhere_behind_its_first_pixels_is_embedded_and_named(mode, progressive):
    """In a Huffman table, too, where end marks don't become one."""
    data = encode(smooth(mode), "JPEG", progressive=progressive, quality=90)
    first = data.index(b"\xff\xda") + 20
    for end in [*range(first, len(data), 97), *(found.start() + 8 for found in re.finditer(b"\xff\xc4", data[first:]))]:
        found = decode(data[: max(end, first)])
        assert found.damage and found.picture.size == (96, 72), end


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("marker", [0x00, 0x01, 0x4A, 0xC0, 0xC4, 0xC8, 0xCC, 0xD0, 0xD8, 0xDA, 0xDB, 0xDD, 0xE0, 0xFE])
def test_a_jpeg_with_another_marker_for_its_end_has_all_its_pixels_and_is_named(mode, progressive, marker):
    data = encode(smooth(mode), "JPEG", progressive=progressive, quality=90)
    found = decode(data[:-1] + bytes([marker]))
    assert np.array_equal(np.asarray(found.picture), pixels(data)) and found.damage


def test_a_marker_that_no_jpeg_has_ends_the_picture_there():
    data = encode(smooth("RGB"), "JPEG", quality=90)
    middle = len(data) * 2 // 3
    found = decode(data[:middle] + b"\xff\x4a" + data[middle + 2 :])
    assert found.damage == "Unsupported marker type 0x4a"
    assert np.array_equal(np.asarray(found.picture), pixels(data[:middle]))


def test_as_many_markers_as_bytes_are_tried_in_few_steps(monkeypatch):
    data = encode(smooth("RGB"), "JPEG", quality=90)[:-2] + b"\xff\x4a" * 2**17
    opened = []
    monkeypatch.setattr(images, "_open_plain", lambda data, plain=images._open_plain: opened.append(1) or plain(data))
    assert decode(data).damage == "Unsupported marker type 0x4a" and len(opened) < 22


def png_of(height: int, rows: bytes, interlaced: bool = False, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG 8 pixels wide, with whatever rows."""
    header = struct.pack(">IIBBBBB", 8, height, depth, colour, 0, 0, interlaced)
    chunks = [(b"IHDR", header), (b"PLTE", bytes(range(9))), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    made = [len(c).to_bytes(4) + kind + c + zlib.crc32(kind + c).to_bytes(4) for kind, c in chunks]
    return images.PNG_SIGNATURE + b"".join(made)


@pytest.mark.parametrize("bright", [0, 1])
@pytest.mark.parametrize(
    "depth, colour, n", [(1, 0, 1), (8, 0, 8), (16, 0, 16), (8, 2, 24), (4, 3, 4), (8, 4, 16), (16, 6, 64)]
)
def test_a_png_with_fewer_rows_than_its_header_says_is_named(depth, colour, n, bright):
    row = bytes([0]) + bytes([bright]) * n
    assert decode(png_of(6, row * 6, depth=depth, colour=colour)).damage == ""
    for missing in (1, 5):
        found = decode(png_of(6, row * (6 - missing), depth=depth, colour=colour))
        assert found.damage == "its last rows are missing" and found.picture.size == (8, 6)


def test_an_interlaced_png_with_fewer_rows_is_named():
    """8 by 8 pixels in seven passes: 1, 1, 2, 4, 8, 16 and 32 pixels."""
    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]
    rows = b"".join((b"\0" + b"\1" * columns) * lines for columns, lines in passes)
    assert decode(png_of(8, rows, True)).damage == ""
    assert decode(png_of(8, rows[:-9], True)).damage == images.ROWS_MISSING


def test_a_jpeg_that_memory_does_not_suffice_for_is_not_called_damaged(monkeypatch):
    def scarce(*_):
        raise MemoryError

    monkeypatch.setattr("bb.extract.embedding.images.to_rgb", scarce)
    with pytest.raises(UnreadableImage, match="unreadable: MemoryError"):
        decode(encode(smooth("RGB"), "JPEG"))
