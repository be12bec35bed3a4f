"""The forward pass: from the pixels of a batch to its features, and to the numbers that are stored.

Kernels are chosen by shape, memory format and precision, so all three are the same for every batch: then an image's
features don't depend on how many images happened to be left.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from bb.extract.embedding.backbone import EncodedImgBatch

COMPUTE = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CONVOLUTIONS = 4  # layers of more than one pixel that make a network convolutional


def is_convolutional(network: nn.Module) -> bool:
    """Whether most of its work is convolution; a transformer has one or two, to cut patches."""
    spatial = (layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1)
    return sum(1 for _ in spatial) >= CONVOLUTIONS


def memory_format(*, convolutional: bool) -> torch.memory_format:
    """How pixels are arranged in a batch."""
    return torch.channels_last if convolutional else torch.contiguous_format


def stack(
    pixels: Sequence[UInt8[Tensor, "3 h w"]], layout: torch.memory_format, *, pin: bool = False
) -> UInt8[Tensor, "n 3 h w"]:
    """Images to a batch, on the device that they are on; with `pin` in page-locked memory if that is the CPU."""
    device = next((image.device for image in pixels if image.is_cuda), torch.device("cpu"))
    batch = torch.empty(
        (len(pixels), *pixels[0].shape),
        dtype=torch.uint8,
        device=device,
        memory_format=layout,
        pin_memory=pin and device.type == "cpu" and torch.cuda.is_available(),
    )
    return torch.stack([image.to(device) for image in pixels], out=batch)


def autocast(device: torch.device, compute: str) -> AbstractContextManager[Any]:
    """The context that a forward pass runs in; `compute` is one of COMPUTE."""
    if compute == "fp32":
        # cuDNN would otherwise round the inputs of convolutions to TF32, which is not fp32.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    return torch.autocast(device.type, COMPUTE[compute], enabled=compute != "fp32")


def forward(
    run: Callable[[Tensor], EncodedImgBatch],
    normalise: Callable[[Tensor], Tensor],
    batch: UInt8[Tensor, "n 3 h w"],
    *,
    size: int,
    layout: torch.memory_format,
    compute: str,
    to_device: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """One forward pass over a batch that is filled up to `size` with zeros; img features, and patch features if any."""
    n = len(batch)
    if n < size:
        batch = torch.cat([batch, torch.zeros_like(batch[:1]).expand(size - n, -1, -1, -1)])
    moved = to_device(batch.contiguous(memory_format=layout))
    with autocast(moved.device, compute):
        encoded = run(normalise(moved))
    return [rows[:n] for rows in (encoded.img_features, encoded.patch_features) if rows is not None]


def to_stored(rows: Float[np.ndarray, "n ..."], dtype: np.dtype[Any]) -> Float[np.ndarray, "n ..."]:
    """Rows in the dtype that a feature space stores; infinite where it can't hold them."""
    with np.errstate(over="ignore"):
        return rows.astype(dtype)


def out_of_memory(error: BaseException) -> bool:
    """Whether a device had too little memory."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)
