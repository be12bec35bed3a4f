"""A pairwise model learned on embeddings, and its file.

Of rows x of length 1,

    z = (x - c) W U, brought to length 1
    forward(x1, x2) = s (1 - cos(z1, z2)) + b

are the log odds that two images have different labels: c is the mean row, W whitens what varies within labels, and U, s
and b are trained (see `bb.probe.heads.pairwise.learn`). The log odds themselves are the distance: negative where the
model takes
two images for the same, were both as frequent.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from bb.probe.retrieval.pairwise_model import Distance
from bb.store.errors import BBError, UsageError
from bb.store.files.canonical_json import sha256_hex
from bb.store.files.limits import MAX_HEAD_BYTES
from bb.store.files.regular_file import open_regular, replace_file

FORMAT = "pairwise 1"


class LearnedDistance(nn.Module):
    """Log odds that two images have different labels, from their embeddings.

    Shapes: centre c (d,), whitening W and turn U (d, d), scale s and bias b (). Only turn, scale and bias are trained.
    """

    centre: torch.Tensor
    whitening: torch.Tensor

    def __init__(self, centre: Float[np.ndarray, " d"], whitening: Float[np.ndarray, "d d"]) -> None:
        super().__init__()
        self.register_buffer("centre", torch.tensor(centre, dtype=torch.float32))
        self.register_buffer("whitening", torch.tensor(whitening, dtype=torch.float32))
        self.turn = nn.Parameter(torch.eye(len(centre)))
        self.scale = nn.Parameter(torch.tensor(5.0))
        self.bias = nn.Parameter(torch.tensor(-2.5))

    def freeze(self) -> None:
        self.requires_grad_(False)

    def unfreeze(self) -> None:
        self.requires_grad_(True)

    def embed(self, x: Float[torch.Tensor, "n d"]) -> Float[torch.Tensor, "n d"]:
        """z, of length 1."""
        return functional.normalize(
            (functional.normalize(x, dim=-1) - self.centre) @ self.whitening @ self.turn, dim=-1
        )

    def forward(self, x1: Float[torch.Tensor, "b d"], x2: Float[torch.Tensor, "b d"]) -> Float[torch.Tensor, " b"]:
        return self.odds(self.embed(x1), self.embed(x2))

    def odds(self, z1: Float[torch.Tensor, "b d"], z2: Float[torch.Tensor, "b d"]) -> Float[torch.Tensor, " b"]:
        """Of pairs that are embedded."""
        return self.scale * (1 - (z1 * z2).sum(-1)) + self.bias

    def predict(self, x1: Float[np.ndarray, "b d"], x2: Float[np.ndarray, "b d"]) -> Float[np.ndarray, " b"]:
        return self.compare(self.project(x1), self.project(x2))

    @torch.no_grad()
    def project(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        return self.embed(torch.from_numpy(np.ascontiguousarray(x, np.float32))).numpy()

    @torch.no_grad()
    def compare(self, z1: Float[np.ndarray, "b d"], z2: Float[np.ndarray, "b d"]) -> Float[np.ndarray, " b"]:
        return self.odds(torch.from_numpy(z1), torch.from_numpy(z2)).numpy()


def save(model: LearnedDistance | Distance, file: Path) -> str:
    """Writes a model and returns its digest. Errors: BBError."""
    data = encode(model)
    replace_file(file, data)
    return sha256_hex(data)


def encode(model: LearnedDistance | Distance) -> bytes:
    """The safetensors file of a model. The same model is the same bytes."""
    from safetensors.torch import save as to_bytes

    if isinstance(model, Distance):
        return bytes(to_bytes({}, {"bb": FORMAT, "distance": model.metric}))
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    return bytes(to_bytes(tensors, {"bb": FORMAT}))


def load(file: Path, dim: int) -> LearnedDistance | Distance:
    """A model out of a file that anybody may have made.

    Errors: UsageError where it is for features of another length; BBError where it holds no such model.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with open_regular(file) as opening:  # the library would wait for a pipe
            size = os.fstat(opening.fileno()).st_size
        if size > MAX_HEAD_BYTES:
            raise _no_model(file, f"it has {size} bytes, a model has at most {MAX_HEAD_BYTES}")
        with safe_open(file, "pt") as opened:
            header = opened.metadata() or {}
            # Shapes first: nothing is read or allocated for tensors that are not those of a model.
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in sorted(opened.keys())}
            if header.get("bb") != FORMAT:
                raise _no_model(file, "it does not say so")
            if (metric := header.get("distance")) is not None:
                if metric not in ("cosine", "euclidean"):
                    raise _no_model(file, f"it has the distance {metric[:40]!r}")
                return Distance(metric)
            d = shapes["centre"][0] if len(shapes.get("centre", ())) == 1 else 0
            wanted = {"centre": (d,), "whitening": (d, d), "turn": (d, d), "scale": (), "bias": ()}
            other = f"its tensors are not {', '.join(wanted)} in float32 for one length of features"
            if d == 0 or shapes != wanted:
                raise _no_model(file, other)
            if d != dim:
                raise UsageError(f"{file} compares features of length {d}; those here have {dim}. Learn one for them.")
            tensors: dict[str, Any] = {name: opened.get_tensor(name) for name in shapes}
    except FileNotFoundError:
        raise UsageError(f"found no model at {file}: `bb probe rerank --save FILE` writes one.") from None
    except OSError as error:
        raise _no_model(file, error.strerror or str(error)) from None
    except SafetensorError as error:
        raise _no_model(file, str(error)) from None
    if any(tensor.dtype != torch.float32 for tensor in tensors.values()):
        raise _no_model(file, other)
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise _no_model(file, "it holds a NaN or an infinity")
    model = LearnedDistance(np.zeros(d), np.eye(d))
    model.load_state_dict(tensors)
    return model


def _no_model(file: Path, why: str) -> BBError:
    return BBError(f"{file} holds no pairwise model ({why[:200]}): `bb probe rerank --save FILE` makes one.")
