"""Pictures in every format, sound and damaged."""

import io

import numpy as np
from PIL import Image

from bb.extract.embedding.decoder import Decoder
from bb.extract.embedding.geometry import Geometry
from bb.extract.embedding.images import UnreadableImage

GEOMETRIES = [
    Geometry(mode, resize, crop, interpolation, (1, 2, 3))
    for mode, resize, crop in (
        ("shortest", (64, 64), (64, 64)),
        ("shortest", (73, 73), (64, 64)),
        ("longest", (64, 64), (64, 64)),
        ("squash", (48, 65), (48, 65)),
        ("shortest", (40, 40), (64, 50)),
    )
    for interpolation in ("bicubic", "bilinear", "lanczos", "nearest")
]


def encode(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with some noise: compresses like a photograph, and shows a wrong turn or shift."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((width, height), 3)
    noisy = np.asarray(coarse).astype(int) + rng.integers(-12, 13, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def exif(orientation: int) -> bytes:
    found = Image.Exif()
    found[274] = orientation
    return found.tobytes()


PICTURE = scene(150, 97)


GOOD = {
    "JPEG": encode(PICTURE, "JPEG"),
    "JPEG 4:4:4": encode(PICTURE, "JPEG", subsampling=0, quality=97),
    "JPEG 4:2:2": encode(PICTURE, "JPEG", subsampling=1),
    "progressive JPEG": encode(PICTURE, "JPEG", progressive=True),
    "JPEG with restarts": encode(PICTURE, "JPEG", restart_marker_blocks=3),
    "RGB JPEG": encode(PICTURE, "JPEG", keep_rgb=True),
    "grey JPEG": encode(PICTURE.convert("L"), "JPEG"),
    "CMYK JPEG": encode(PICTURE.convert("CMYK"), "JPEG"),
    "JPEG and more": encode(PICTURE, "JPEG") + b"\0\0more",
    "MPO": encode(PICTURE, "MPO", save_all=True, append_images=[scene(150, 97, 1)]),
    "PNG": encode(PICTURE, "PNG"),
    "PNG with alpha": encode(PICTURE.convert("RGBA").rotate(20), "PNG"),
    "palette GIF": encode(PICTURE.quantize(16), "GIF"),
    "WebP": encode(PICTURE, "WEBP"),
    "16-bit TIFF": encode(Image.fromarray(np.arange(9 * 8, dtype=np.uint16).reshape(9, 8) * 900), "TIFF"),
    **{f"JPEG turned {turn}": encode(PICTURE, "JPEG", exif=exif(turn)) for turn in range(1, 9)},
    "JPEG turned nowhere": encode(PICTURE, "JPEG", exif=exif(9)),
}


BAD = {
    "nothing": b"",
    "a page": b"<html>not found</html>",
    "a JPEG's header": GOOD["JPEG"][:300],
    "half a PNG": GOOD["PNG"][: len(GOOD["PNG"]) // 2],
    "a JPEG beyond the limit": GOOD["JPEG"].replace((97).to_bytes(2) + (150).to_bytes(2), b"\xff\xf0\xff\xf0"),
    "floating point": encode(Image.new("F", (4, 4), 3), "TIFF"),
}


END = b"\xff\xd9"


WARNINGS = "Corrupt JPEG data|Premature end of JPEG file|Inconsistent progression"


def damages(data: bytes) -> dict[str, bytes]:
    """A JPEG damaged in each way of which libjpeg makes a picture all the same."""
    n, half = len(data), len(data) // 2
    block = data[:half] + bytes(512) + data[half + 512 :]
    return {
        **{f"cut at {tenth} tenths": data[: n * tenth // 10] for tenth in range(3, 10)},
        "its end mark is lost": data[:-2],
        "half its end mark is lost": data[:-1],
        "half is lost, the end mark is there": data[:half] + END,
        "the second half is zeros": data[:half] + bytes(n - half - 2) + END,
        "a block of zeros": block,
        "a block is lost": data[:half] + data[half + 512 :],
    }


def pixels(decoder: Decoder, data: bytes) -> np.ndarray:
    """The picture as the view that changes nothing shows it."""
    picture = decoder.decode(data).picture
    size = picture.size[::-1] if isinstance(picture, Image.Image) else tuple(picture.shape[1:])
    return decoder.cut(picture, Geometry("squash", size, size, "bicubic")).cpu().numpy()


def outcome(decoder: Decoder, data: bytes) -> str | np.ndarray:
    try:
        return pixels(decoder, data)
    except UnreadableImage as error:
        return str(error)


DAMAGED = {
    f"{kind}: {what}": data
    for kind in ("JPEG", "progressive JPEG", "JPEG with restarts", "grey JPEG", "CMYK JPEG", "JPEG turned 6")
    for what, data in damages(encode(scene(300, 194), "JPEG") if kind == "JPEG" else GOOD[kind]).items()
}
