"""What every decoder keeps: it refuses, names damage and cuts as Pillow does."""

import dataclasses
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from bb.extract.backbones.decoders import DECODERS
from bb.extract.embedding import images
from bb.extract.embedding.decoder import Decoder
from bb.extract.embedding.geometry import Geometry
from bb.extract.embedding.images import UnreadableImage
from bb.extract.embedding.pillow_decoder import Pillow
from bb.extract.embedding.view import View
from bb.extract.pipeline.reading import make_pixels
from tests.helpers.pictures import BAD, DAMAGED, GEOMETRIES, GOOD, WARNINGS, encode, pixels


class DecoderSuite:
    """Argument: `decoder`."""

    def test_the_contract(self, decoder):
        assert isinstance(decoder, Decoder) and decoder.options.name in DECODERS
        for data in GOOD.values():
            cut = decoder.cut(decoder.decode(data).picture, Geometry("shortest", (40, 40), (32, 36), "bicubic"))
            assert cut.dtype == torch.uint8 and cut.shape == (3, 32, 36)

    @pytest.mark.parametrize("kind", BAD)
    def test_what_is_refused_is_refused_in_the_same_words(self, decoder, kind):
        with pytest.raises(UnreadableImage) as reference:
            images.decode(BAD[kind])
        with pytest.raises(UnreadableImage) as error:
            decoder.decode(BAD[kind])
        assert str(error.value) == str(reference.value)

    def test_damage_is_named_in_libjpegs_words_and_what_decodes_is_a_picture(self, decoder):
        for name, data in DAMAGED.items():
            found, reference = decoder.decode(data), images.decode(data)
            assert re.match(WARNINGS, found.damage), name
            assert found.damage == reference.damage, name
            assert np.array_equal(pixels(decoder, data), pixels(Pillow(), data)), name

    def test_only_the_end_mark_lost_every_pixel_is_there(self, decoder):
        if decoder.options.name == "nvjpeg" and decoder.device.type == "cuda":
            pytest.skip("damaged files are decoded on the CPU, sound ones by nvJPEG")
        for kind in ("JPEG", "progressive JPEG", "CMYK JPEG"):
            assert np.array_equal(pixels(decoder, GOOD[kind][:-2]), pixels(decoder, GOOD[kind]))
            assert decoder.decode(GOOD[kind][:-2]).damage == "Premature end of JPEG file"

    def test_sound_files_and_what_stands_behind_them_are_no_damage(self, decoder):
        for kind, data in GOOD.items():
            assert decoder.decode(data).damage == "", kind
            if "JPEG" in kind:
                for more in (bytes(3000), b"\0more", b"\xff\xd8\xff"):
                    assert decoder.decode(data + more).damage == "", kind

    def test_an_unknown_jfif_version_is_no_damage(self, decoder):
        odd = bytearray(GOOD["JPEG"])
        odd[odd.index(b"JFIF\0") + 5] = 9
        assert decoder.decode(bytes(odd)).damage == ""

    def test_damaged_images_can_be_refused(self, decoder):
        strict = dataclasses.replace(decoder, options=dataclasses.replace(decoder.options, refuse_damaged=True))
        geometry = GEOMETRIES[0]
        assert make_pixels(decoder, GOOD["JPEG"][:-2], [geometry]).damage == "Premature end of JPEG file"
        with pytest.raises(UnreadableImage, match="damaged: Premature end of JPEG file"):
            make_pixels(strict, GOOD["JPEG"][:-2], [geometry])
        assert make_pixels(strict, GOOD["JPEG"], [geometry]).damage == ""

    def test_a_picture_can_be_cut_again_and_again(self, decoder):
        picture = decoder.decode(GOOD["JPEG"]).picture
        wide, same = (
            Geometry("squash", (200, 300), (200, 300), "bicubic"),
            Geometry("squash", (97, 150), (90, 90), "bicubic"),
        )
        first = [decoder.cut(picture, geometry) for geometry in (wide, same)]
        View("squash", (97, 150), (90, 90), "bicubic", (0.5,) * 3, (0.5,) * 3).normalise(first[1][None])
        assert all(torch.equal(a, decoder.cut(picture, g)) for a, g in zip(first, (wide, same), strict=True))

    def test_absurdly_elongated_pictures_are_refused(self, decoder):
        data = encode(Image.new("RGB", (1, 60_000)), "JPEG")
        with pytest.raises(UnreadableImage, match="1 by 60,000 pixels: too elongated to resize"):
            decoder.cut(decoder.decode(data).picture, Geometry("shortest", (224, 224), (224, 224), "bicubic"))

    def test_threads_see_what_one_sees(self, decoder):
        geometry = GEOMETRIES[0]

        def see(data: bytes) -> torch.Tensor:
            return decoder.cut(decoder.decode(data).picture, geometry)

        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(see, list(GOOD.values()) * 4))
        alone = [see(data) for data in GOOD.values()] * 4
        assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))
