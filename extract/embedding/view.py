"""The view: how an image becomes a network's input, resolved once into a recipe that is part of the features'
identity.

The recipe covers what open_clip (`image_transform_v2`) and timm (`create_transform`) do for evaluation; the
tests hold it equal to both, bit for bit, where Pillow is the decoder. Which decoder turns files into pictures and
cuts them (`extract/embedding/decoder.py`) is not the network's affair: its name stands beside the view in the feature
space.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from bb.extract.embedding import pillow_decoder as pillow
from bb.extract.embedding.decoder import DecodeOptions
from bb.extract.embedding.geometry import Geometry, ResizeMode

Transform = Callable[[Image.Image], Float[Tensor, "3 h w"]]


@dataclasses.dataclass(frozen=True)
class View:
    """Resize, then cut the centre out (or pad to it), then normalise.

    resize_mode, resize, crop, interpolation, fill: as in Geometry
    mean, std: per channel, of values in [0, 1]
    """

    resize_mode: ResizeMode
    resize: tuple[int, int]
    crop: tuple[int, int]
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fill: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        if self.interpolation.upper() not in Image.Resampling.__members__:
            raise ValueError(f"{self.interpolation!r} is none of Pillow's filters")

    def record(self, options: DecodeOptions) -> dict[str, Any]:
        """The view as JSON, with what holds for every view: it stands in the feature space.

        options: of what decodes and cuts
        """
        return {
            **options.record(),
            "exif_orientation": "applied",
            "alpha": "over white",
            **{key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()},
        }

    def geometry(self) -> Geometry:
        """What decides the pixels: the view without mean and std."""
        return Geometry(self.resize_mode, self.resize, self.crop, self.interpolation, self.fill)

    def normalise(self, batch: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Pixels to the network's input, float32, on the device and in the memory format of the batch.

        On the CPU it is bit-equal to torchvision's `to_tensor` and `normalize`.
        """
        mean, std = (_per_channel(values, batch.device) for values in (self.mean, self.std))
        return batch.to(torch.float32).div_(255).sub_(mean).div_(std)

    def transform(self) -> Transform:
        """A picture in mode RGB -> float32 (3, crop height, crop width), ready for the network; safe in
        threads.

        It raises UnreadableImage for a picture so elongated that resizing it would fill the memory.
        """
        geometry = self.geometry()

        def apply(image: Image.Image) -> Float[Tensor, "3 h w"]:
            return self.normalise(pillow.cut(image, geometry)[None])[0].contiguous()

        return apply


@functools.cache
def _per_channel(values: tuple[float, float, float], device: torch.device) -> Float[Tensor, "3 1 1"]:
    """Kept, since sending it to a GPU would wait for the GPU in every batch."""
    return torch.tensor(values, dtype=torch.float32, device=device).view(3, 1, 1)
