"""A network of one's own as a backbone, in one line: for plug-ins."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from bb.extract.embedding.backbone import EncodedImgBatch
from bb.extract.embedding.freeze import freeze
from bb.extract.embedding.view import View
from bb.store.errors import BBError


class ModuleBackbone(nn.Module):
    """Fulfils `bb.extract.embedding.backbone.Backbone` with a network that gives one vector for each picture.

    org           the plug-in's name in `bb.backbones`
    network       maps (b, 3, h, w) float32 to (b, d); it is frozen in place
    view          how a picture becomes its input
    architecture  what decides the network apart from its weights, as JSON: part of the features' identity
    pooling       a word for how tokens or maps became the vector

    Raises BBError where the network gives something other than one vector for each picture.
    """

    patch_output = None

    def __init__(
        self, org: str, network: nn.Module, view: View, architecture: dict[str, Any], *, pooling: str = "own"
    ) -> None:
        super().__init__()
        self.org, self.network, self.view, self.architecture = org, network, view, architecture
        freeze(self)
        with torch.inference_mode():
            x = network(torch.zeros(2, 3, *view.crop))
        if not isinstance(x, Tensor) or x.ndim != 2 or len(x) != 2:
            found = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise BBError(f"{org}: the network gives {found} for 2 pictures; it must give a tensor of shape [2, d].")
        self.feat_dim = x.shape[1]
        self.img_output = {"kind": "img", "pooling": pooling, "projected": False, "dim": self.feat_dim}

    def img_encode(self, batch: Float[Tensor, "b 3 h w"]) -> EncodedImgBatch:
        """See `Backbone`."""
        return EncodedImgBatch(self.network(batch), None)

    forward = img_encode

    def extract(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """See `Backbone`."""
        return self.img_encode(x).img_features

    def make_img_transform(self) -> Callable[[Image.Image], Float[Tensor, "3 h w"]]:
        """See `Backbone`."""
        return self.view.transform()

    def vision_state(self) -> dict[str, Tensor]:
        """See `Backbone`."""
        return self.network.state_dict()
