"""Runs a backbone over batches of one constant size, which it finds on a GPU and lowers when memory runs out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from extract.backbone import Backbone, EncodedImgBatch
from extract.device import Numerics
from store import BBError, UsageError

LARGEST_BATCH = 1024
CPU_BATCH = 16


def parse_batch_size(text: str) -> int | None:
    """`--batch-size` as a number, None for auto. Raises UsageError for anything else."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) == 0:
        raise UsageError(f"--batch-size {text} is no number of images: give one from 1 up, or auto.")
    return int(text)


@dataclass
class Encoder:
    """`size` is what every forward pass gets: a short batch is filled up with zeros.

    One constant shape means that a compiled network is compiled once, and that an image's feature does not hang on
    how many images happened to be left, since kernels are chosen by shape.
    """

    run: Callable[[Tensor], EncodedImgBatch]
    normalise: Callable[[Tensor], Tensor]
    numerics: Numerics
    size: int
    auto: bool

    @classmethod
    def prepare(cls, backbone: Backbone, numerics: Numerics, *, batch_size: int | None, compile: bool) -> "Encoder":
        """Moves the backbone to the device and settles the batch size (None: found on a GPU, 16 elsewhere)."""
        cast(nn.Module, backbone).to(numerics.device)
        run = torch.compile(backbone.img_encode) if compile else backbone.img_encode
        on_gpu = numerics.device.type == "cuda"
        encoder = cls(
            run,
            backbone.view.normalise,
            numerics,
            batch_size or (LARGEST_BATCH if on_gpu else CPU_BATCH),
            batch_size is None,
        )
        if encoder.auto and on_gpu:
            encoder.probe((3, *backbone.view.crop))
        return encoder

    def probe(self, shape: tuple[int, ...]) -> None:
        """Halves the size until a batch of images of this shape fits."""
        self(torch.zeros(1, *shape, dtype=torch.uint8))

    def __call__(
        self, pixels: UInt8[Tensor, "n 3 h w"]
    ) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n p dp"] | None]:
        """Image and patch features, float32, on the CPU; the pixels are normalised on the device.

        Raises BBError where not even one image fits the device.
        """
        img, patch = [], []
        start = 0
        while start < len(pixels):
            batch = pixels[start : start + self.size]
            try:
                img_rows, patch_rows = self._forward(batch)
            except RuntimeError as error:
                self._shrink(error)
                continue
            img.append(img_rows)
            patch.append(patch_rows)
            start += len(batch)
        patches = [rows for rows in patch if rows is not None]
        return np.concatenate(img), np.concatenate(patches) if patches else None

    def _forward(self, batch: Tensor) -> tuple[np.ndarray, np.ndarray | None]:
        n = len(batch)
        if n < self.size:
            batch = torch.cat([batch, batch.new_zeros(self.size - n, *batch.shape[1:])])
        with torch.inference_mode():
            pixels = self.normalise(batch.to(self.numerics.device, non_blocking=True))
            with self.numerics.autocast():
                encoded = self.run(pixels)
        img, patch = encoded.img_features, encoded.patch_features
        return img[:n].float().cpu().numpy(), None if patch is None else patch[:n].float().cpu().numpy()

    def _shrink(self, error: RuntimeError) -> None:
        if not (isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)):
            raise error
        if not self.auto:
            raise BBError(
                f"{self.numerics.device_name()} has not enough memory for --batch-size {self.size}: "
                f"give a smaller one, or auto."
            ) from None
        if self.size == 1:
            raise BBError(
                f"{self.numerics.device_name()} has not enough memory for a single image: "
                f"free some, choose another --device, or try --precision bf16."
            ) from None
        self.size //= 2
        if self.numerics.device.type == "cuda":
            torch.cuda.empty_cache()


def stack(pixels: Sequence[Tensor]) -> UInt8[Tensor, "n 3 h w"]:
    """Images to a batch, in page-locked memory where a GPU will fetch it from."""
    batch = torch.stack(list(pixels))
    return batch.pin_memory() if torch.cuda.is_available() else batch
