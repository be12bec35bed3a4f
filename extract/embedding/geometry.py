"""The geometry of a view: which pixels of a picture the network sees, whatever they are then normalised by."""

from dataclasses import dataclass
from typing import Literal

from bb.extract.embedding.images import MAX_PIXELS, UnreadableImage

ResizeMode = Literal["shortest", "longest", "squash"]


@dataclass(frozen=True)
class Placement:
    """What to do with one picture, in pixels: resize it, pad it, cut a crop out. Offsets are (top, left).

    resize: (height, width)
    padded: (height, width), no smaller than `resize`; the resized picture lies in it at `pad`
    corner: where in it the crop begins
    """

    resize: tuple[int, int]
    padded: tuple[int, int]
    pad: tuple[int, int]
    corner: tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """Resize, then cut the centre out (or pad to it). Networks whose views share it share the pixels.

    resize_mode: "shortest" covers `resize`, "longest" fits into it, "squash" alone changes the proportions
    resize, crop: (height, width) in pixels
    interpolation: one of Pillow's filters, lower case ("bicubic", "bilinear", …), antialiased
    fill: RGB, 0 to 255, for what a picture smaller than `crop` leaves empty
    """

    resize_mode: ResizeMode
    resize: tuple[int, int]
    crop: tuple[int, int]
    interpolation: str
    fill: tuple[int, int, int] = (0, 0, 0)

    def place(self, height: int, width: int) -> Placement:
        """For a picture of that size.

        An odd pixel of padding goes right and below; one of surplus goes where Python rounds it, half to even: what
        torchvision's `center_crop` does. Raises UnreadableImage for a picture so elongated that resizing it would
        fill the memory.
        """
        resize = self.resized(height, width)
        if resize[0] * resize[1] > MAX_PIXELS:
            raise UnreadableImage(f"{width:,} by {height:,} pixels: too elongated to resize")
        spare = tuple(max(0, wanted - there) for wanted, there in zip(self.crop, resize, strict=True))
        padded = (resize[0] + spare[0], resize[1] + spare[1])
        corner = tuple(round((there - wanted) / 2) for wanted, there in zip(self.crop, padded, strict=True))
        return Placement(resize, padded, (spare[0] // 2, spare[1] // 2), (corner[0], corner[1]))

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
