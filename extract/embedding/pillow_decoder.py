"""Pillow as decoder: the reference, whose pixels are those that the backbones' own transforms give."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from bb.extract.embedding import images
from bb.extract.embedding.decoder import DecodeOptions
from bb.extract.embedding.geometry import Geometry
from bb.extract.embedding.images import DecodedImage, Header

OPTIONS = DecodeOptions("pillow")


@dataclass(frozen=True)
class Pillow:
    """Any file that extract/embedding/images.py reads; a picture is a Pillow image in mode RGB."""

    options: DecodeOptions = OPTIONS

    def decode(self, data: bytes, header: Header | None = None) -> DecodedImage:
        return images.decode(data, self.options.depth)

    def cut(self, picture: Image.Image, geometry: Geometry) -> UInt8[Tensor, "3 h w"]:
        return cut(picture, geometry)


def cut(picture: Image.Image, geometry: Geometry) -> UInt8[Tensor, "3 h w"]:
    """Resized with the geometry's filter and cut out; a view on height × width × RGB."""
    place = geometry.place(picture.height, picture.width)
    height, width = place.resize
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling[geometry.interpolation.upper()])
    if place.padded != place.resize:
        padded = Image.new("RGB", (place.padded[1], place.padded[0]), geometry.fill)
        padded.paste(picture, (place.pad[1], place.pad[0]))
        picture = padded
    (top, left), (height, width) = place.corner, geometry.crop
    picture = picture.crop((left, top, left + width, top + height))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
