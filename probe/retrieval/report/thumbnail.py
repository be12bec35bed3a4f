"""A small picture of an image, with the bounding box that the labels give it: as SVG, for the page and the figures."""

from base64 import b64encode
from dataclasses import dataclass, replace

Box = tuple[float, float, float, float]  # x1, y1, x2, y2


@dataclass(frozen=True)
class Thumbnail:
    """The whole image, made small.

    jpeg    a JPEG file of width × height pixels
    box     in pixels of this file; None where the labels give none
    """

    jpeg: bytes
    width: int
    height: int
    box: Box | None = None

    def framed(self, box: Box, width: int, height: int) -> "Thumbnail":
        """With a box in pixels of the image, of width × height. Errors: ValueError where it reaches out of that."""
        x1, y1, x2, y2 = box
        if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
            raise ValueError(f"the box {x1:g}, {y1:g}, {x2:g}, {y2:g} reaches out of {width} x {height} pixels")
        a, b = self.width / width, self.height / height
        return replace(self, box=(a * x1, b * y1, a * x2, b * y2))

    @property
    def base64(self) -> str:
        return b64encode(self.jpeg).decode()

    def svg(self) -> str:
        """Elements in a system of coordinates of width × height: the picture, and a yellow frame, edged in black."""
        picture = f'<image width="{self.width}" height="{self.height}" href="data:image/jpeg;base64,{self.base64}"/>'
        if self.box is None:
            return picture
        x1, y1, x2, y2 = self.box
        place = f'x="{x1:.2f}" y="{y1:.2f}" width="{x2 - x1:.2f}" height="{y2 - y1:.2f}" fill="none"'
        thin = max(self.width, self.height) / 64  # as wide whatever the picture's size, for it is drawn to fit
        return picture + "".join(
            f'<rect {place} stroke="{colour}" stroke-width="{stroke:.2f}"/>'
            for colour, stroke in (("#000", 2 * thin), ("#ffd60a", thin))
        )
