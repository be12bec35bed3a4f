"""Copies of a photograph as they are found on the web: encoded again, resized, cropped."""

import io
import random

from PIL import Image

COPIES = 6


def copies(image: Image.Image, seed: int) -> list[Image.Image]:
    """Re-encoded, resized and cropped versions of a picture."""
    rng = random.Random(seed)

    def encoded(picture: Image.Image, quality: int) -> Image.Image:
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality)
        return Image.open(data).convert("RGB")

    def cropped(part: float) -> Image.Image:
        width, height = (round(side * part) for side in image.size)
        left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
        return image.crop((left, top, left + width, top + height))

    half = image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.LANCZOS)
    crops = [encoded(cropped(part), 85) for part in (0.95, 0.9, 0.8)]
    return [encoded(image, 75), encoded(image, 50), encoded(half, 80), *crops]


def midway(same: list[float], other: list[float]) -> float:
    """A threshold from photographs that are not tested: between the cosines of 99.5 % of their pairs of one photograph
    and the highest of two photographs.
    """
    lowest = sorted(same)[len(same) // 200]
    return (lowest + max(other)) / 2
