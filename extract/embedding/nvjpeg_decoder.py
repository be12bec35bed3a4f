"""nvJPEG as decoder: JPEGs are decoded and resized on the GPU, many in a call. Its pixels are another decoder's, so
its features are a space of their own.

It takes the JPEGs that extract/embedding/simplejpeg_decoder.py takes, if libjpeg finds no damage in them: nvJPEG
would fill it up in
silence. All else, and what nvJPEG finds a fault in, that decoder decodes on the CPU; resizing is on the GPU for all.
Which way a file goes never hangs on the state of the machine: where nvJPEG does not work at all, or memory runs out,
that is an error. torchvision raises one and the same RuntimeError for all of these, so a file of which nvJPEG makes
nothing is held against one that it has to know.
"""

import functools
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.io import ImageReadMode, decode_jpeg

from bb.extract.embedding import images
from bb.extract.embedding.damage import jpeg_damage
from bb.extract.embedding.decoder import DecodeOptions
from bb.extract.embedding.forward import out_of_memory
from bb.extract.embedding.geometry import Geometry
from bb.extract.embedding.images import DecodedImage, Header, UnreadableImage
from bb.extract.embedding.simplejpeg_decoder import FILTERS, SimpleJpeg, centre, upright
from bb.store.errors import BBError

_JUDGES = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="libjpeg")


OPTIONS = DecodeOptions("nvjpeg")


@dataclass(frozen=True)
class NvJpeg:
    """A picture is a uint8 tensor, 3 × height × width, on the device."""

    device: torch.device
    options: DecodeOptions = OPTIONS
    batch: int = 64

    def decode(self, data: bytes, header: Header | None = None) -> DecodedImage:
        (decoded,) = self.decode_batch([data])
        if isinstance(decoded, UnreadableImage):
            raise decoded
        return decoded

    def decode_batch(self, files: Sequence[bytes]) -> list[DecodedImage | UnreadableImage]:
        headers = list(_JUDGES.map(_header_for_gpu, files))
        chosen = [i for i, header in enumerate(headers) if header is not None]
        on_gpu = dict(zip(chosen, self._decode([files[i] for i in chosen]), strict=True))
        made: list[DecodedImage | UnreadableImage] = []
        for i, (data, header) in enumerate(zip(files, headers, strict=True)):
            picture = on_gpu.get(i)
            if picture is not None and header is not None:
                made.append(DecodedImage(upright(picture, header.orientation)))
                continue
            try:
                decoded = self._on_cpu.decode(data)
                made.append(decoded._replace(picture=decoded.picture.to(self.device)))
            except UnreadableImage as error:
                made.append(error)
        return made

    @property
    def _on_cpu(self) -> SimpleJpeg:
        return SimpleJpeg(self.options)

    def _decode(self, files: Sequence[bytes]) -> Sequence[Tensor | None]:
        """None where nvJPEG found a fault. One bad file fails its whole batch, which is then halved until it stands
        alone. Raises BBError where nvJPEG does not work here, or the GPU's memory is too small for one picture."""
        if not files:
            return []
        try:
            return self._on_gpu(files)
        except RuntimeError as error:
            if len(files) > 1:
                half = len(files) // 2
                return [*self._decode(files[:half]), *self._decode(files[half:])]
            if out_of_memory(error):
                raise BBError(
                    "the GPU has not enough memory to decode an image: free some, or choose --decode auto, which makes "
                    "a feature space of its own."
                ) from None
        self._require_sound()
        return [None]

    def _require_sound(self) -> None:
        try:
            self._on_gpu([_simplest()])
        except RuntimeError as error:
            raise BBError(
                f"--decode nvjpeg does not work here: {str(error).partition(chr(10))[0]}. Choose auto, which makes a "
                f"feature space of its own, or see `bb doctor`."
            ) from None

    def _on_gpu(self, files: Sequence[bytes]) -> list[Tensor]:
        if self.device.type == "cuda":
            # It writes on a stream of its own, maybe where a picture lay whose cutting is still queued on ours.
            torch.cuda.current_stream(self.device).synchronize()
        encoded = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
        pictures: list[Tensor] = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=self.device)
        return pictures

    def cut(self, picture: UInt8[Tensor, "3 h w"], geometry: Geometry) -> UInt8[Tensor, "3 h2 w2"]:
        if geometry.interpolation not in FILTERS:
            return self._on_cpu.cut(picture.cpu(), geometry).to(self.device)
        place = geometry.place(*picture.shape[1:])
        if place.resize != picture.shape[1:]:
            # CUDA's kernels know no uint8; the round trip through float32 rounds to the nearest grey level, like them.
            wide = picture[None].to(torch.float32)
            wide = functional.interpolate(wide, place.resize, mode=geometry.interpolation, antialias=True)
            picture = wide.round_().clamp_(0, 255).to(torch.uint8)[0]
        return centre(picture, place, geometry)


def _header_for_gpu(data: bytes) -> Header | None:
    try:
        header = images.header(data)
    except UnreadableImage:
        return None
    return header if header.is_plain_jpeg and not jpeg_damage(data) else None


@functools.cache
def _simplest() -> bytes:
    """A JPEG that every decoder takes."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "gray").save(buffer, "JPEG")
    return buffer.getvalue()
