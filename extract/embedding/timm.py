"""Backbones of timm: any architecture of `timm.list_models()`, its classifier taken off.

An image feature is what the network hands to its classifier: `forward_head` after `reset_classifier(0)`, by
the network's own pooling. A network has patch features where it cuts the picture into a grid and keeps one
token per cell to the end; feature maps of convolutional and of merging networks (Swin, Hiera, MaxViT), and
tokens of another grid than the one that was cut (VOLO, LeViT), are none.
"""

import contextlib
import importlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import timm
import timm.data
from jaxtyping import Float
from torch import Tensor, nn

from extract import weights as files
from extract.backbone import EncodedImgBatch
from extract.frozen import encode_shapes, freeze, seeded
from extract.geometry import ResizeMode
from extract.hub import downloading
from extract.name import BackboneName, Org, unknown
from extract.view import Transform, View
from store.errors import BBError, UsageError

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
    """See extract.backbone.Backbone."""

    org: Org = "timm"

    def __init__(self, network: Network) -> None:
        """network: one of timm's, without classifier"""
        super().__init__()
        self.network: Network = network
        freeze(self)
        self.view = view_of(timm.data.resolve_model_data_config(network, use_test_size=False))
        self.architecture = _architecture(network)
        (self.feat_dim,), patches = encode_shapes(self, self.view.crop)
        self.img_output = {
            "kind": "img",
            "pooling": pooling(network),
            "projected": False,
            "dim": self.feat_dim,
        }
        self.patch_output = None if patches is None else patch_output(network, self.view.crop, patches)

    @classmethod
    def from_pretrained(cls, weights: str | BackboneName, *, seed: int = 0) -> "TimmBackbone":
        name = BackboneName.parse(weights) if isinstance(weights, str) else weights
        check_name(name)
        if name.untrained or name.path is not None:
            network, classifier = _untrained(_registered(name), seed)
            if name.path is not None:
                _load(network, classifier, name.path)
        else:
            network = _pretrained(name)
        return cls(network)

    def img_encode(self, batch: Float[Tensor, "b 3 h w"]) -> EncodedImgBatch:
        features = self.network.forward_features(batch)
        tokens = patch_tokens(self.network, batch.shape[-2:], features)
        return EncodedImgBatch(self.network.forward_head(features), tokens)

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
    return {"name": config["architecture"], "arguments": arguments, "input_size": list(config["input_size"])}


def _registered(name: BackboneName) -> str:
    return name.architecture if name.tag is None else f"{name.architecture}.{name.tag}"


def check_name(name: BackboneName) -> None:
    """That timm has that architecture and tag."""
    if name.on_hub:
        return
    architectures = timm.list_models()
    if name.architecture not in architectures:
        raise unknown(name, "architecture", name.architecture, architectures)
    tags = [tagged.partition(".")[2] for tagged in timm.list_pretrained(f"{name.architecture}.*")]
    if name.tag is not None and name.tag not in tags:
        raise unknown(name, f"weights of {name.architecture} called", name.tag, tags)
    if not tags and name.path is None and not name.untrained:
        raise UsageError(f"timm has no weights for {name.architecture}: write {name}@PATH or {name}/untrained")


def _untrained(registered: str, seed: int) -> tuple[Network, set[str]]:
    """The network with seeded weights and no classifier; and the names of a classifier's tensors."""
    with seeded(seed):
        network: Network = timm.create_model(registered, pretrained=False, num_classes=1)
    whole = set(network.state_dict())
    _take_classifier_off(network)
    return network, whole - set(network.state_dict())


def _pretrained(name: BackboneName) -> Network:
    """Loaded by timm, which is strict as long as the network has the classifier that its weights have."""
    with seeded(0), downloading(name), _warnings_as_errors(name):
        try:
            network: Network = timm.create_model(_registered(name), pretrained=True)
        except RuntimeError as error:
            raise BBError(f"{name}: timm can't load its weights: {error}") from error
    _take_classifier_off(network)
    return network


def _take_classifier_off(network: Network) -> None:
    if not hasattr(network, "reset_classifier"):
        architecture = network.pretrained_cfg["architecture"]
        raise UsageError(f"{architecture} ends in a feature map and has no pooling, so it has no image feature")
    network.reset_classifier(0)


@contextlib.contextmanager
def _warnings_as_errors(name: BackboneName) -> Iterator[None]:
    """timm only logs it where it goes on with weights that are random."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, listener = logging.getLogger("timm.models._builder"), Listener(logging.WARNING)
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
    # Surplus tensors are named in a warning where timm knows of them (DLA); strict loading has raised where
    # it doesn't.
    if faults := [message for message in said if not message.startswith("Unexpected keys")]:
        raise BBError(f"{name}: timm warns: {faults[0]}")


def _load(network: Network, classifier: set[str], path: str) -> None:
    state = {key: value for key, value in files.load_state_dict(path).items() if key not in classifier}
    own = network.state_dict()
    if state.keys() != own.keys() and (convert := _converter(network)) is not None:
        with contextlib.suppress(Exception):  # a file that timm can't convert is judged as it is
            converted = convert(dict(state), network)
            state = {key: value for key, value in converted.items() if key not in classifier}
    files.fit(state, network, str(path))


def _converter(network: Network) -> Callable[[dict[str, Tensor], Network], dict[str, Tensor]] | None:
    """What timm's module for this family uses to read the original authors' files."""
    module = importlib.import_module(type(network).__module__)
    return getattr(module, "checkpoint_filter_fn", None)
