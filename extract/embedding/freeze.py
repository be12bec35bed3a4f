"""What the backbones of both libraries share: seeding, freezing, and learning a network's shapes without
running it."""

import contextlib
import itertools
from collections.abc import Iterator

import torch
from torch import nn

from bb.extract.embedding.backbone import EncodedImgBatch


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random initialisation inside depends on `seed` alone and leaves torch's generator as it was outside."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        yield


def freeze(module: nn.Module) -> None:
    """Put a module in eval mode and float32, with no parameter asking for a gradient."""
    module.float().eval().requires_grad_(False)


def encode_shapes(network: nn.Module, crop: tuple[int, int]) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Shapes of one image's features and patch features, for an input of that (height, width).

    network: one whose forward gives an EncodedImgBatch. It runs on the meta device, which computes nothing.
    """
    tensors = itertools.chain(network.named_parameters(), network.named_buffers())
    meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    batch = torch.empty(2, 3, *crop, device="meta")
    with torch.inference_mode():
        encoded: EncodedImgBatch = torch.func.functional_call(network, meta, (batch,))
    patches = encoded.patch_features
    return tuple(encoded.img_features.shape[1:]), None if patches is None else tuple(patches.shape[1:])
