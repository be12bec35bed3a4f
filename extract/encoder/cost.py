"""How large a network is: what its features cost, for those who choose between networks of like scores."""

import itertools
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def cost_of(network: nn.Module, crop: tuple[int, int]) -> dict[str, Any]:
    """`parameters`, and `gflops` of one image of that (height, width); without these where they can't be counted.

    A multiplication with its addition counts as two operations; matrix products, convolutions and attention count. The
    network runs on the meta device, which computes nothing, and must not be in use by another thread meanwhile.
    """
    found: dict[str, Any] = {"parameters": sum(parameter.numel() for parameter in network.parameters())}
    tensors = itertools.chain(network.named_parameters(), network.named_buffers())
    meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    counter = FlopCounterMode(display=False)
    try:
        with torch.inference_mode(), counter:
            torch.func.functional_call(network, meta, (torch.empty(1, 3, *crop, device="meta"),))
    except Exception:  # a plug-in's network may look at its pixels, of which there are none here
        return found
    return {**found, "gflops": float(f"{counter.get_total_flops() / 1e9:.4g}")}
