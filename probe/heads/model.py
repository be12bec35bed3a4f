"""A head: a small network over features that are in a store, its file, and how it begins.

Its file is safetensors: the tensors, and in the metadata under "bb" the canonical JSON of

    {"format": "head 1", "parent": <space key>, "layers": [<layer>, ...]}

so the file's SHA-256, by which it is named, covers what it is made for, what it does and its weights. The layers:

    {"kind": "unit"}                           x / |x|
    {"kind": "linear", "from": d, "to": k}     x W^T + b; W (k, d) and b (k,) are "<place>.weight" and "<place>.bias"
    {"kind": "relu"}                           max(0, x)
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional

from bb.store.errors import BBError, UsageError
from bb.store.files.canonical_json import canonical_json, sha256_hex
from bb.store.files.limits import MAX_HEAD_BYTES
from bb.store.format.derived import head_name
from bb.store.format.layout import is_digest
from bb.store.trained_heads import find_head

FORMAT = "head 1"
MAX_LAYERS = 32
MAX_WIDTH = 65536
ROWS = 8192  # projected at a time
Layer = dict[str, Any]


class Unit(nn.Module):
    """Rows brought to length 1; a row of zeros stays."""

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return functional.normalize(x, dim=-1)


class Linear(nn.Linear):
    """A stage that can be frozen by itself."""

    def freeze(self) -> None:
        self.requires_grad_(False)

    def unfreeze(self) -> None:
        self.requires_grad_(True)


class Head(nn.Module):
    """Features of one feature space in, features of a derived one out. Frozen as a whole, or stage by stage.

    layers    as above
    parent    key of the space that it is for
    """

    def __init__(self, layers: Sequence[Layer], parent: str) -> None:
        super().__init__()
        _check_layers(layers)
        self.layers, self.parent = [dict(layer) for layer in layers], parent
        self.network = nn.Sequential(*map(_module, self.layers))
        self.in_dim = self.stages[0].in_features
        self.feat_dim = self.stages[-1].out_features

    @property
    def stages(self) -> list[Linear]:
        """What has parameters, in order."""
        return [module for module in self.network if isinstance(module, Linear)]

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        found: Tensor = self.network(x)
        return found

    def freeze(self) -> None:
        for stage in self.stages:
            stage.freeze()

    def unfreeze(self) -> None:
        for stage in self.stages:
            stage.unfreeze()

    @torch.no_grad()
    def extract(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Features of features, float32, without gradients."""
        return self(x.float())

    def project(self, features: Num[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """The same from and to arrays, on the CPU, in blocks that bound the memory."""
        out = np.empty((len(features), self.feat_dim), np.float32)
        for start in range(0, len(features), ROWS):
            block = np.array(features[start : start + ROWS], np.float32)
            out[start : start + ROWS] = self.extract(torch.from_numpy(block)).numpy()
        return out

    # Files

    def encode(self) -> bytes:
        """Its file. The same layers, parent and weights are the same bytes."""
        from safetensors.torch import save

        header = canonical_json({"format": FORMAT, "parent": self.parent, "layers": self.layers})
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        return bytes(save(tensors, {"bb": header.decode()}))

    @property
    def digest(self) -> str:
        """SHA-256 of its file."""
        return sha256_hex(self.encode())

    @property
    def name(self) -> str:
        """As --ckpt takes it."""
        return head_name(self.digest)

    @classmethod
    def from_pretrained(cls, weights: str) -> "Head":
        """The head of a file, or "head:DIGITS@STORE" of a store, the digits being the first of its digest.

        Errors: UsageError, listing the heads that there are, for one that is unknown; BBError for a damaged file.
        """
        name, at, place = weights.partition("@")
        if name.startswith("head:") and at:
            from bb.store import Store

            store = Store.open(place)
            return cls.decode(store.head(find_head(store, name)), weights)
        path = Path(weights)
        if not path.is_file():
            there = ", ".join(sorted(file.name for file in path.parent.glob("*.safetensors"))) or "none"
            raise UsageError(
                f"unknown head {weights!r}: give a .safetensors file (in {path.parent}: {there[:500]}), or "
                "head:DIGITS@STORE (`bb store ls` lists them)."
            )
        if path.stat().st_size > MAX_HEAD_BYTES:
            raise BBError(f"{weights!r} has {path.stat().st_size} bytes; a head has at most {MAX_HEAD_BYTES}.")
        return cls.decode(path.read_bytes(), weights)

    @classmethod
    def decode(cls, data: bytes, source: str) -> "Head":
        """The head of a file's bytes, which anybody may have made. Errors: BBError where they are none."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            header = _header_of(data)
            tensors = load(data)
            with torch.device("meta"):  # no memory for layers that the file may merely claim
                head = cls(header["layers"], header["parent"])
        except (SafetensorError, ValueError) as error:
            raise BBError(f"{source} is not a head: {str(error)[:200]}. `bb probe head` makes one.") from None
        wanted = {name: (tuple(t.shape), t.dtype) for name, t in head.network.state_dict().items()}
        if {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()} != wanted:
            raise BBError(
                f"{source} is not a head: its tensors are not those of its layers. `bb probe head` makes one."
            )
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise BBError(f"{source} holds a NaN or an infinity: train it again with `bb probe head`.")
        head.network.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, assign=True)
        return head


def linear_layers(in_dim: int, dim: int, hidden: int | None = None) -> list[Layer]:
    """Of a linear head, or of one with a hidden layer; both take and give rows of length 1."""
    widths = [in_dim, dim] if hidden is None else [in_dim, hidden, dim]
    steps: list[Layer] = [{"kind": "linear", "from": a, "to": b} for a, b in pairwise(widths)]
    inner = [layer for step in steps for layer in (step, {"kind": "relu"})][:-1]
    return [{"kind": "unit"}, *inner, {"kind": "unit"}]


def _module(layer: Layer) -> nn.Module:
    if layer["kind"] == "linear":
        return Linear(layer["from"], layer["to"])
    return Unit() if layer["kind"] == "unit" else nn.ReLU()


def _check_layers(layers: object) -> None:
    """Raises ValueError unless they are a list of layers that fit each other, of sizes that can be."""
    if not isinstance(layers, list) or not 0 < len(layers) <= MAX_LAYERS:
        raise ValueError("it has no list of layers")
    width = None
    for layer in layers:
        kind = layer.get("kind") if isinstance(layer, dict) else None
        if kind == "linear" and layer.keys() == {"kind", "from", "to"}:
            sizes = layer["from"], layer["to"]
            if not all(type(size) is int and 0 < size <= MAX_WIDTH for size in sizes) or width not in (None, sizes[0]):
                raise ValueError(f"its layer {layer} does not fit")
            width = sizes[1]
        elif kind not in ("unit", "relu") or layer.keys() != {"kind"}:
            raise ValueError(f"it has a layer {str(layer)[:80]}, which this bb does not know")
    if width is None:
        raise ValueError("it has no linear layer")


def metadata(data: bytes) -> Any:
    """What bb wrote into the metadata of a safetensors file. Raises ValueError where there is nothing of the kind."""
    size = int.from_bytes(data[:8], "little")
    if not 0 < size < min(len(data), 2**20):
        raise ValueError("its header is cut off")
    try:
        return json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["bb"])
    except (KeyError, TypeError, RecursionError):
        raise ValueError("it does not say so") from None


def _header_of(data: bytes) -> dict[str, Any]:
    """What a file's metadata says of the head. Raises ValueError where it says nothing of one."""
    header = metadata(data)
    if not isinstance(header, dict) or header.get("format") != FORMAT or not is_digest(header.get("parent")):
        raise ValueError("it does not say so")
    _check_layers(header.get("layers"))
    return header
