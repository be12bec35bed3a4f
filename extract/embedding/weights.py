"""The digest of weights, by which a feature space knows them."""

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (64 hex) of a state dict, whatever file it came from and whatever order it is in.

    It covers, for each tensor by name: the name, the kind, the shape, and the values in C order and
    little-endian, as float32 if they are floating-point (kind "f") and as int64 if integers or booleans (kind
    "i").
    """
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        if tensor.is_complex():
            raise TypeError(f"{name} is {tensor.dtype}; only real tensors have a digest")
        kind = "f" if tensor.is_floating_point() else "i"
        values = tensor.to(torch.float32 if kind == "f" else torch.int64).contiguous().numpy()
        # A name can't hold a newline or look like numbers that follow one, so no two states give the same
        # bytes.
        total.update(f"{len(name)}:{name}\n{kind}{list(values.shape)}\n".encode())
        total.update(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data)
    return total.hexdigest()
