"""Backbones of timm: any architecture of `timm.list_models()`, its classifier taken off.

An image feature is what the network hands to its classifier: `forward_head` after `reset_classifier(0)`, by
the network's own pooling. A network has patch features where it cuts the picture into a grid and keeps one
token per cell to the end; feature maps of convolutional and of merging networks (Swin, Hiera, MaxViT), and
tokens of another grid than the one that was cut (VOLO, LeViT), are none.
"""

import math
from collections.abc import Sequence
from typing import Any

import timm
import timm.data
from jaxtyping import Float
from torch import Tensor, nn

from bb.extract.embedding import OWN_POOL, POOLS
from bb.extract.embedding.backbone import EncodedImgBatch, Org
from bb.extract.embedding.freeze import encode_shapes, freeze, seeded
from bb.extract.embedding.geometry import ResizeMode
from bb.extract.embedding.view import Transform, View
from bb.store.errors import UsageError

# Parts of language models, which end in a feature map and have no pooling to make a vector of it.
UNPOOLED = (
    "deepseek_vit_412m_enc",
    "gemma4_vit_167m_enc",
    "gemma4_vit_570m_enc",
    "mobilenetv5_300m_enc",
    "qwen3_vit_88m_enc",
    "qwen3_vit_306m_enc",
    "qwen3_vit_416m_enc",
)

_WORDS = {"token": "cls", "fast": "avg", "fastavg": "avg"}
_MODES: dict[str, ResizeMode] = {"center": "shortest", "squash": "squash", "border": "longest"}

Network = Any  # a torch.nn.Module with the methods that all of timm's models have


class TimmBackbone(nn.Module):
    """See bb.extract.embedding.backbone.Backbone."""

    org: Org = "timm"

    def __init__(self, network: Network, loaded: object = None, pool: str = OWN_POOL) -> None:
        """
        network: one of timm's, without classifier
        loaded: how its weights came from a file
        pool: what makes a vector, OWN_POOL or one of POOLS
        """
        super().__init__()
        self.pool = pool
        self.loaded = loaded
        self.network: Network = network
        freeze(self)
        self.view = view_of(timm.data.resolve_model_data_config(network, use_test_size=False))
        self.architecture = _architecture(network)
        (self.feat_dim,), patches = encode_shapes(self, self.view.crop)
        self.img_output = {
            "kind": "img",
            "pooling": POOLS.get(pool) or pooling(network),
            "projected": False,
            "dim": self.feat_dim,
        }
        self.patch_output = None if patches is None else patch_output(network, self.view.crop, patches)

    def img_encode(self, batch: Float[Tensor, "b 3 h w"]) -> EncodedImgBatch:
        features = self.network.forward_features(batch)
        tokens = patch_tokens(self.network, batch.shape[-2:], features)
        if self.pool == OWN_POOL:
            return EncodedImgBatch(self.network.forward_head(features), tokens)
        return EncodedImgBatch(pool_features(self.network, features, self.pool), tokens)

    forward = img_encode

    def extract(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        return self.img_encode(x).img_features

    def make_img_transform(self) -> Transform:
        return self.view.transform()

    def vision_state(self) -> dict[str, Tensor]:
        return self.network.state_dict()


def view_of(config: dict[str, Any]) -> View:
    """The view for a data configuration as `timm.data.resolve_data_config` gives it."""
    channels, *crop = config["input_size"]
    if channels != 3:
        raise UsageError(f"the network takes {channels} channels; bb has pictures of 3")
    mean = tuple(config["mean"])
    mode = _MODES[config["crop_mode"]]
    return View(
        resize_mode=mode,
        resize=tuple(math.floor(side / config["crop_pct"]) for side in crop),
        crop=tuple(crop),
        interpolation=config["interpolation"],
        mean=mean,
        std=tuple(config["std"]),
        fill=tuple(round(255 * channel) for channel in mean) if mode == "longest" else (0, 0, 0),
    )


def patch_tokens(network: Network, input_size: Sequence[int], features: object) -> Float[Tensor, "b p dp"] | None:
    """One token per patch out of what `forward_features` gave, row by row, or None where they are no patches.

    input_size: (height, width) of the network's input
    """
    grid = patch_grid(network, input_size)
    if grid is None or not isinstance(features, Tensor) or features.ndim != 3:
        return None
    prefix = getattr(network, "num_prefix_tokens", 0)
    return features[:, prefix:] if features.shape[1] - prefix == grid[0] * grid[1] else None


def pool_features(network: Network, features: object, pool: str) -> Float[Tensor, "b d"]:
    """What `forward_features` gave, pooled as biobench does: its first token, or its maximum over all positions.

    Raises UsageError where the features are not of the form that biobench pools so.
    """
    architecture = network.pretrained_cfg["architecture"]
    has_token = getattr(network, "num_prefix_tokens", 0) > 0
    if not isinstance(features, Tensor) or features.ndim not in (3, 4):
        raise UsageError(f"--pool {pool}: {architecture} ends in neither tokens nor a map. Leave out --pool")
    if pool == "token":
        if not has_token or features.ndim != 3:
            raise UsageError(f"--pool token: {architecture} has no class token. Choose --pool max")
        return features[:, 0]
    if has_token and features.ndim == 3:
        raise UsageError(f"--pool max: {architecture} has a class token, which biobench takes. Choose --pool token")
    if features.ndim == 4 and getattr(network, "output_fmt", "NCHW") != "NHWC":
        features = features.permute(0, 2, 3, 1)
    return features.flatten(1, -2).amax(dim=1)


def patch_grid(network: Network, input_size: Sequence[int]) -> tuple[int, int] | None:
    """(rows, columns) of the patches that the network cuts an input of that (height, width) into."""
    for attribute in ("patch_embed", "stem", "pixel_embed", "embeds"):
        embed = getattr(network, attribute, None)
        if (grid := getattr(embed, "grid_size", None)) is not None:
            return grid[0], grid[1]
        if (patch := getattr(embed, "patch_size", None)) is not None:
            height, width = patch if isinstance(patch, tuple) else (patch, patch)
            return input_size[0] // height, input_size[1] // width
    return None


def patch_output(network: Network, input_size: Sequence[int], shape: tuple[int, ...]) -> dict[str, Any]:
    """`Backbone.patch_output` for tokens of shape (p, dp) that a timm network gives."""
    has_norm = not isinstance(getattr(network, "norm", nn.Identity()), nn.Identity)
    stage = "after the final norm" if has_norm else "before the final norm"
    grid = list(patch_grid(network, input_size) or ())
    return {"kind": "patch", "patches": shape[0], "grid": grid, "stage": stage, "dim": shape[1]}


def pooling(network: Network) -> str:
    """How a timm network makes a vector, in a word; "own" where it says nothing of it."""
    for holder in (network, getattr(network, "head", None)):
        pool = getattr(holder, "global_pool", None)
        kind = pool if isinstance(pool, str) else getattr(pool, "pool_type", None)
        if kind == "token" and getattr(network, "head_dist", None) is not None:
            return "cls and distillation token averaged"
        if kind:
            return _WORDS.get(kind, kind)
        if isinstance(pool, nn.AdaptiveAvgPool2d):
            return "avg"
    return "own"


def _architecture(network: Network) -> dict[str, Any]:
    config = network.pretrained_cfg
    arguments = {key: value for key, value in network._model_args.items() if key != "num_classes"}
    described = {"name": config["architecture"], "arguments": arguments, "input_size": list(config["input_size"])}
    return described | ({"resampled": True} if getattr(network, "resampled", False) else {})


def untrained(registered: str, seed: int) -> tuple[Network, set[str]]:
    """The network with seeded weights and no classifier; and the names of a classifier's tensors."""
    with seeded(seed):
        network: Network = timm.create_model(registered, pretrained=False, num_classes=1)
    whole = set(network.state_dict())
    take_classifier_off(network)
    return network, whole - set(network.state_dict())


def take_classifier_off(network: Network) -> None:
    """Raises UsageError for a network that makes no vector of its feature map."""
    if not hasattr(network, "reset_classifier"):
        architecture = network.pretrained_cfg["architecture"]
        raise UsageError(f"{architecture} ends in a feature map and has no pooling, so it has no image feature")
    network.reset_classifier(0)
