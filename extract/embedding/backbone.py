"""What a backbone is: the contract that open_clip.py and timm.py beside this file fulfil, for others to implement.

A backbone is a frozen `torch.nn.Module`: in eval mode, no parameter asking for a gradient, all parameters
float32 on the CPU until somebody moves them. What an image's features are depends on that image alone, never
on its batch-mates. The module's `forward` is `img_encode`, so that what is compiled is what is called.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from bb.extract.embedding.view import View

Org = str  # the library whose code runs: "open_clip", "timm", or a plug-in's


class EncodedImgBatch(NamedTuple):
    """Features of a batch of b images.

    img_features: one vector of `feat_dim` numbers per image
    patch_features: one vector per patch, row by row from the top left; None where no patch grid is kept
    """

    img_features: Float[Tensor, "b d"]
    patch_features: Float[Tensor, "b p dp"] | None


@runtime_checkable
class Backbone(Protocol):
    """A frozen vision model. The attributes but `feat_dim` are JSON and part of the features' identity.

    org: the library whose code runs
    feat_dim: length of an image feature
    view: how a picture becomes the network's input
    architecture: the library's resolved configuration of the network, without names of tags or files
    img_output: {"kind": "img", "pooling": words, "projected": bool, "dim": feat_dim}; pooling says how tokens
        or maps became a vector ("cls", "avg", "map", "attentional", …), projected whether it then went
        through a projection learnt for comparison with text
    patch_output: {"kind": "patch", "patches": p, "grid": [rows, columns], "stage": words, "dim": dp}, or None
        where there are no patch features
    It may have an attribute `loaded`, what extract/weights/fitting.py says of a file of weights: that is provenance.
    """

    org: Org
    feat_dim: int
    view: View
    architecture: dict[str, Any]
    img_output: dict[str, Any]
    patch_output: dict[str, Any] | None

    def img_encode(self, batch: Float[Tensor, "b 3 h w"]) -> EncodedImgBatch:
        """Features of a batch that went through `make_img_transform()`; h and w are the view's crop."""
        ...

    def extract(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """The image features of `img_encode`."""
        ...

    def make_img_transform(self) -> Callable[[Image.Image], Float[Tensor, "3 h w"]]:
        """From a picture in mode RGB to the network's input in float32; safe to call from several threads."""
        ...

    def vision_state(self) -> dict[str, Tensor]:
        """All tensors that decide the features, by name: what `bb.extract.embedding.weights.digest` is taken of."""
        ...
