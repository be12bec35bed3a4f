"""The view: how an image becomes a network's input, resolved once into a recipe that is part of the features'
identity.

The recipe covers what open_clip (`image_transform_v2`) and timm (`create_transform`) do for evaluation; the
tests hold it equal to both, bit for bit. It works on pictures as `extract.images.decode` gives them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from extract.images import MAX_PIXELS, UnreadableImage

ResizeMode = Literal["shortest", "longest", "squash"]
Transform = Callable[[Image.Image], Float[Tensor, "3 h w"]]


@dataclasses.dataclass(frozen=True)
class View:
    """Resize, then cut the centre out (or pad to it), then normalise.

    resize_mode: "shortest" covers `resize`, "longest" fits into it, "squash" alone changes the proportions
    resize, crop: (height, width) in pixels
    interpolation: one of Pillow's filters, lower case ("bicubic", "bilinear", …), antialiased
    mean, std: per channel, of values in [0, 1]
    fill: RGB, 0 to 255, for what a picture smaller than `crop` leaves empty
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

    def record(self) -> dict[str, Any]:
        """The view as JSON, with what holds for every view: it stands in the feature space."""
        return {
            "decoder": "pillow",
            "exif_orientation": "applied",
            "alpha": "over white",
            "depth_16_bit": "high byte",
            **{key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()},
        }

    def transform(self) -> Transform:
        """A picture in mode RGB -> float32 (3, crop height, crop width), ready for the network; safe in
        threads.

        It raises UnreadableImage for a picture so elongated that resizing it would fill the memory.
        """
        resample = Image.Resampling[self.interpolation.upper()]
        mean, std = list(self.mean), list(self.std)

        def apply(image: Image.Image) -> Float[Tensor, "3 h w"]:
            height, width = self.resized(image.height, image.width)
            if height * width > MAX_PIXELS:
                raise UnreadableImage(f"{image.width:,} by {image.height:,} pixels: too elongated to resize")
            if (width, height) != image.size:
                image = image.resize((width, height), resample)
            tensor = functional.to_tensor(_centre(image, self.crop, self.fill))
            return functional.normalize(tensor, mean, std, inplace=True)

        return apply

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a picture of that size after the resize and before the crop."""
        if self.resize_mode == "squash":
            return self.resize
        target_height, target_width = self.resize
        if self.resize_mode == "shortest" and target_height == target_width:
            # torchvision's Resize(int), which both libraries use for a square, rounds the long side down …
            short, long = sorted((height, width))
            long = int(target_height * long / short)
            return (target_height, long) if height <= width else (long, target_height)
        # … and their own ResizeKeepRatio, used for all else, to the nearest.
        ratios = height / target_height, width / target_width
        ratio = max(ratios) if self.resize_mode == "longest" else min(ratios)
        return max(1, round(height / ratio)), max(1, round(width / ratio))


def _centre(image: Image.Image, crop: tuple[int, int], fill: tuple[int, int, int]) -> Image.Image:
    """The middle (height, width) of the picture, filled up where it is smaller.

    An odd pixel of padding goes right and below; one of surplus goes where Python rounds it, half to even:
    what torchvision's `center_crop` does.
    """
    height, width = crop
    spare_x, spare_y = max(0, width - image.width), max(0, height - image.height)
    if spare_x or spare_y:
        padded = Image.new("RGB", (image.width + spare_x, image.height + spare_y), fill)
        padded.paste(image, (spare_x // 2, spare_y // 2))
        image = padded
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
