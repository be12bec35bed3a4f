"""What libtiff says of a damaged TIFF is in the reason, and not on the terminal."""

import io

import numpy as np
import pytest
from PIL import Image

from bb.extract.embedding import images
from bb.extract.embedding.images import UnreadableImage
from bb.extract.embedding.pillow_decoder import Pillow
from bb.extract.pipeline import libtiff_messages
from bb.extract.pipeline.reading import make_all_pixels


@pytest.mark.parametrize(
    "compression, message", [("tiff_lzw", "Not enough data"), ("tiff_adobe_deflate", "Decoding error at scanline 0")]
)
def test_the_reason_names_what_libtiff_said_and_the_terminal_does_not(compression, message, capfd):
    if not libtiff_messages.keep_messages():
        pytest.skip("this Pillow's libtiff can't be reached")
    libtiff_messages.forget()
    with pytest.raises(UnreadableImage) as caught:
        images.decode(_damaged(compression))
    reason = str(libtiff_messages.with_message(caught.value))
    assert reason.startswith("unreadable: decoder error") and message in reason
    assert libtiff_messages.with_message(caught.value) is caught.value, "a message belongs to one file"
    assert capfd.readouterr() == ("", "")


def test_an_error_after_which_there_is_a_picture_is_its_damage(capfd):
    if not libtiff_messages.keep_messages():
        pytest.skip("this Pillow's libtiff can't be reached")
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "TIFF", compression="jpeg")
    data = bytearray(file.getvalue())
    (whole,) = make_all_pixels(Pillow(), [bytes(data)], [[]])
    data[len(data) // 2 : len(data) // 2 + 2] = b"\xff\x4a"  # a marker that no JPEG has
    (damaged,) = make_all_pixels(Pillow(), [bytes(data)], [[]])
    assert (whole.damage, damaged.damage) == ("", "Unsupported marker type 0x4a")
    assert capfd.readouterr() == ("", "")


def _damaged(compression):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "TIFF", compression=compression)
    data = bytearray(file.getvalue())
    data[3000:3400] = bytes(400)
    return bytes(data)
