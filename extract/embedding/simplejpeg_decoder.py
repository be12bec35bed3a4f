"""simplejpeg as decoder, the default: JPEGs by libjpeg-turbo, resized by torch's vectorised antialiased kernels.

Which way a file goes hangs on its bytes alone: a JPEG of grey or three-channel colour is decoded here; all else (PNG,
WebP, TIFF, BMP, GIF, AVIF, HEIF, CMYK), and a JPEG of which libjpeg makes no picture, by extract/embedding/images.py.
So both
decoders refuse the same files in the same words. libjpeg-turbo's defaults (the accurate integer DCT, smooth upsampling
of colour) are Pillow's too, and so are decoded JPEGs, bit for bit. It is the resizing that rounds otherwise, and always
makes the width right before the height, as Pillow did up to 12; Pillow 13 turns that round where the height shrinks far
more.
torch has the bilinear and the bicubic filter; views of another are cut by Pillow.
"""

from dataclasses import dataclass

import numpy as np
import simplejpeg
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional

from bb.extract.embedding import images
from bb.extract.embedding import pillow_decoder as pillow
from bb.extract.embedding.damage import is_recoverable, jpeg_warning
from bb.extract.embedding.decoder import DecodeOptions
from bb.extract.embedding.geometry import Geometry, Placement
from bb.extract.embedding.images import DecodedImage, Header
from bb.extract.embedding.rgb import to_array

FILTERS = ("bilinear", "bicubic")

# EXIF orientation → whether rows and columns change places, and which axes of (channel, row, column) are then flipped.
_TURNS: dict[int, tuple[bool, tuple[int, ...]]] = {
    2: (False, (2,)),
    3: (False, (1, 2)),
    4: (False, (1,)),
    5: (True, ()),
    6: (True, (2,)),
    7: (True, (1, 2)),
    8: (True, (1,)),
}


OPTIONS = DecodeOptions("simplejpeg")


@dataclass(frozen=True)
class SimpleJpeg:
    """A picture is a uint8 tensor, 3 × height × width, in which the three values of a pixel are neighbours."""

    options: DecodeOptions = OPTIONS

    def decode(self, data: bytes, header: Header | None = None) -> DecodedImage:
        header = header or images.header(data)
        damage = ""
        if header.is_plain_jpeg:
            try:
                try:
                    pixels_HWC = simplejpeg.decode_jpeg(data)
                except ValueError as error:
                    if not is_recoverable(error):
                        raise
                    damage = jpeg_warning(error)
                    pixels_HWC = simplejpeg.decode_jpeg(data, strict=False)
                return DecodedImage(upright(_as_tensor(pixels_HWC), header.orientation), damage)
            except ValueError:
                pass  # libjpeg makes no picture; Pillow says why, or makes one all the same
        picture, damage, note = images.decode(data, self.options.depth)
        return DecodedImage(_as_tensor(to_array(picture)), damage, note)

    def cut(self, picture: UInt8[Tensor, "3 h w"], geometry: Geometry) -> UInt8[Tensor, "3 h2 w2"]:
        if geometry.interpolation not in FILTERS:
            return pillow.cut(Image.fromarray(picture.permute(1, 2, 0).numpy()), geometry)
        place = geometry.place(*picture.shape[1:])
        if place.resize != picture.shape[1:]:
            picture = functional.interpolate(picture[None], place.resize, mode=geometry.interpolation, antialias=True)[
                0
            ]
        return centre(picture, place, geometry)


def upright(picture: UInt8[Tensor, "3 h w"], orientation: int) -> UInt8[Tensor, "3 h2 w2"]:
    """Turned as the EXIF orientation says."""
    if orientation not in _TURNS:
        return picture
    transposed, flipped = _TURNS[orientation]
    turned = (picture.transpose(1, 2) if transposed else picture).flip(flipped)
    return turned[None].contiguous(memory_format=torch.channels_last)[0]


def centre(picture: UInt8[Tensor, "3 h w"], place: Placement, geometry: Geometry) -> UInt8[Tensor, "3 h2 w2"]:
    """The crop of a picture that is resized already, filled up where it is smaller."""
    if place.padded != place.resize:
        fill = torch.tensor(geometry.fill, dtype=torch.uint8, device=picture.device)
        padded = fill.view(3, 1, 1).repeat(1, *place.padded)
        (top, left), (height, width) = place.pad, place.resize
        padded[:, top : top + height, left : left + width] = picture
        picture = padded
    (top, left), (height, width) = place.corner, geometry.crop
    return picture[:, top : top + height, left : left + width]


def _as_tensor(pixels_HWC: UInt8[np.ndarray, "h w 3"]) -> UInt8[Tensor, "3 h w"]:
    return torch.from_numpy(pixels_HWC).permute(2, 0, 1)
