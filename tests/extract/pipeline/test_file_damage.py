"""Damage that decoders pass over is found in the file: of a GIF to its end, of a TIFF in its strips."""

import io
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from bb.extract.embedding.damage import ROWS_MISSING, jpeg_damage
from bb.extract.embedding.images import UnreadableImage
from bb.extract.embedding.nvjpeg_decoder import NvJpeg
from bb.extract.embedding.pillow_decoder import Pillow
from bb.extract.embedding.simplejpeg_decoder import SimpleJpeg
from bb.extract.pipeline.file_damage import CHECKSUM, CUT, MIXED, file_damage
from bb.extract.pipeline.reading import make_all_pixels

COARSE = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
PICTURE = Image.fromarray(COARSE).resize((160, 120), Image.Resampling.BICUBIC)


def encode(format, picture=PICTURE, **how):
    file = io.BytesIO()
    picture.save(file, format, **how)
    return file.getvalue()


GIF = encode("GIF", PICTURE.quantize(64))
MOVING = encode("GIF", PICTURE.quantize(64), save_all=True, append_images=[PICTURE.rotate(90).quantize(64)])
TIFFS = {
    "jpeg": encode("TIFF", compression="jpeg"),
    "jpeg in strips": encode("TIFF", compression="jpeg", strip_size=16 * 160 * 3),
    "grey jpeg": encode("TIFF", PICTURE.convert("L"), compression="jpeg"),
    "deflate": encode("TIFF", compression="tiff_adobe_deflate"),
    "lzw": encode("TIFF", compression="tiff_lzw"),
    "none": encode("TIFF"),
}


def zeroed(data, share, n=64):
    at = int(share * len(data))
    return data[:at] + bytes(n) + data[at + n :]


def damage(data, decoder=None):
    (made,) = make_all_pixels(decoder or SimpleJpeg(), [data], [[]])
    return str(made) if isinstance(made, UnreadableImage) else made.damage


@pytest.mark.parametrize("data", [GIF, MOVING, GIF + b"more", *TIFFS.values(), encode("PNG"), encode("WEBP")])
def test_a_sound_file_has_none(data):
    assert damage(data) == damage(data, Pillow()) == ""


@pytest.mark.parametrize("lost", [1, 2])
def test_a_gif_with_all_its_pixels_and_no_end(lost):
    assert damage(GIF[:-lost]) == damage(GIF[:-lost], Pillow()) == CUT


@pytest.mark.parametrize("lost", [1, 2, 100, len(MOVING) // 3])
def test_a_gif_that_lacks_something_behind_its_first_picture(lost):
    assert damage(MOVING[:-lost]) == CUT


def test_a_gif_with_foreign_bytes_between_its_blocks():
    assert damage(GIF[:-1] + b"\x07\x07;") == MIXED
    assert damage(GIF[:-1] + b"\0\0;") == "", "zeros are common there"


@pytest.mark.parametrize("name", ["jpeg", "jpeg in strips", "grey jpeg"])
def test_zeros_in_a_jpeg_in_a_tiff_are_found_as_they_would_be_in_a_jpeg(name):
    """libjpeg finds something left over in each, of which libtiff does not hear."""
    for share in np.linspace(0.3, 0.8, 6):
        assert damage(zeroed(TIFFS[name], share)).startswith("Corrupt JPEG data: "), share


@pytest.mark.parametrize("decoder", [SimpleJpeg(), Pillow()])
def test_zeros_in_a_tiff_that_zlib_packed(decoder):
    """libtiff has its pixels before it comes to the checksum."""
    for share in np.linspace(0.3, 0.8, 6):
        assert damage(zeroed(TIFFS["deflate"], share), decoder) == CHECKSUM, share


def test_a_decoder_of_batches_names_the_same():
    """Several files are decoded in one call, and what libtiff says of one is not another's."""
    marker = bytearray(TIFFS["jpeg"])
    marker[len(marker) // 2 : len(marker) // 2 + 2] = b"\xff\x4a"  # a marker that no JPEG has
    files = [encode("JPEG"), bytes(marker), TIFFS["deflate"], zeroed(TIFFS["deflate"], 0.5), GIF[:-1], encode("PNG")]
    made = make_all_pixels(NvJpeg(torch.device("cpu")), files, [[]] * len(files))
    assert [each.damage for each in made] == ["", damage(bytes(marker)), "", CHECKSUM, CUT, ""]
    assert made[1].damage


def test_the_strips_that_a_file_claims_are_looked_at_once():
    """Ten thousand that are all the same one would take minutes."""
    strip = zlib.compress(b"")[:-1] + b"\0"  # with a wrong checksum
    tags = [(256, 8), (257, 8), (258, 8), (259, 8), (262, 1), (277, 1), (278, 1)]
    many = 10_000
    head = b"II*\0" + (8).to_bytes(4, "little") + (len(tags) + 2).to_bytes(2, "little")
    lists = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = [tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + value.to_bytes(4, "little") for tag, value in tags]
    for place, tag in enumerate((273, 279)):
        entries.append(
            tag.to_bytes(2, "little")
            + b"\4\0"
            + b"".join(n.to_bytes(4, "little") for n in (many, lists + 4 * many * place))
        )
    start = lists + 8 * many
    entries = [entries[i] for i in np.argsort([int.from_bytes(each[:2], "little") for each in entries])]

    def made(size):
        return (
            head + b"".join(entries) + bytes(4)
            + start.to_bytes(4, "little") * many + size.to_bytes(4, "little") * many + strip + bytes(1000)
        )  # fmt: skip

    assert file_damage(made(len(strip))) == CHECKSUM
    assert file_damage(made(2**31)) == "", "more than the file has"


def test_a_strip_with_many_more_pixels_than_its_picture_is_not_decoded(monkeypatch):
    """libjpeg would fill the memory."""
    monkeypatch.setattr("bb.extract.pipeline.file_damage._FEW", 100)
    monkeypatch.setattr("bb.extract.pipeline.file_damage.jpeg_damage", lambda *_, **__: pytest.fail("decoded"))
    with Image.open(io.BytesIO(TIFFS["jpeg"])) as image:
        width = image.width
    data = bytearray(TIFFS["jpeg"])
    at = next(
        i
        for i in range(len(data))
        if data[i : i + 4] == b"\0\1\3\0" and data[i + 8 : i + 10] == width.to_bytes(2, "little")
    )
    data[at + 8 : at + 10] = (16).to_bytes(2, "little")  # of a tenth of the width
    assert file_damage(bytes(data)) == ""
    assert jpeg_damage(encode("JPEG")) == ""


def taller(tiff, rows):
    """The same file with so many more rows in its header."""
    data = bytearray(tiff)
    at = tiff.index(b"\1\1\4\0\1\0\0\0") if b"\1\1\4\0\1\0\0\0" in tiff else tiff.index(b"\1\1\3\0\1\0\0\0")
    data[at + 8 : at + 10] = (120 + rows).to_bytes(2, "little")
    return bytes(data)


@pytest.mark.parametrize("decoder", [SimpleJpeg(), Pillow()])
@pytest.mark.parametrize(
    "name, rows, words",
    [("none", 1, ROWS_MISSING), ("none", 50, ROWS_MISSING), ("jpeg in strips", 1, ROWS_MISSING)],
)
def test_a_tiff_with_fewer_rows_than_its_header_says(name, rows, words, decoder):
    assert damage(taller(TIFFS[name], rows), decoder).startswith(words)
