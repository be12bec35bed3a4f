"""Backbones of open_clip: the vision tower of any of its architectures; no text tower is ever built.

An image feature is what `encode_image` gives, before normalisation: pooled, and projected into the space
shared with text. Patch features are the tokens that are pooled, not projected. CoCa's tokens are answers to
learnt queries, and ResNets and convolutional timm towers have feature maps: those are no patches.

open_clip's factory builds both towers and only warns where a tag's activation is not its architecture's. Here
the tag decides, and the tower is built from the resolved configuration.
"""

import dataclasses
import json
from typing import Any

import open_clip
import open_clip.model
import open_clip.transform
from jaxtyping import Float
from torch import Tensor, nn

from bb.extract.embedding import timm as trunks
from bb.extract.embedding.backbone import EncodedImgBatch, Org
from bb.extract.embedding.freeze import encode_shapes, freeze
from bb.extract.embedding.view import Transform, View

Visual = Any  # one of open_clip's vision towers, a torch.nn.Module

_POOLING = {"tok": "cls", "avg": "avg"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that decides a tower but its weights.

    embed_dim: length of the projected feature
    vision: open_clip's configuration of the tower, all defaults filled in
    quick_gelu: whether OpenAI's approximation of GELU is the activation; False where the tower has its own
    preprocess: open_clip's configuration of the view, without its size
    """

    embed_dim: int
    vision: open_clip.CLIPVisionCfg
    quick_gelu: bool
    preprocess: dict[str, Any]


class OpenClipBackbone(nn.Module):
    """See bb.extract.embedding.backbone.Backbone."""

    org: Org = "open_clip"

    def __init__(self, visual: Visual, recipe: Recipe, loaded: object = None) -> None:
        """visual: the tower built from `recipe`, with its weights; loaded: how they came from a file"""
        super().__init__()
        self.loaded = loaded
        if isinstance(visual, open_clip.model.VisionTransformer):
            visual.output_tokens = True
        self.visual: Visual = visual
        freeze(self)
        self.view = view_of(recipe.preprocess, visual.image_size)
        self.architecture = _architecture(recipe)
        (self.feat_dim,), patches = encode_shapes(self, self.view.crop)
        self.img_output = {"kind": "img", **_img_output(visual), "dim": self.feat_dim}
        self.patch_output = None if patches is None else _patch_output(visual, self.view.crop, patches)

    def img_encode(self, batch: Float[Tensor, "b 3 h w"]) -> EncodedImgBatch:
        visual = self.visual
        if isinstance(visual, open_clip.model.TimmModel):
            features = visual.trunk.forward_features(batch)
            pooled = visual.head(visual.trunk.forward_head(features))
            return EncodedImgBatch(pooled, trunks.patch_tokens(visual.trunk, batch.shape[-2:], features))
        if isinstance(visual, open_clip.model.VisionTransformer):
            pooled, tokens = visual(batch)
            rows, columns = visual.grid_size
            is_grid = visual.attn_pool is None and tokens.ndim == 3 and tokens.shape[1] == rows * columns
            return EncodedImgBatch(pooled, tokens if is_grid else None)
        return EncodedImgBatch(visual(batch), None)

    forward = img_encode

    def extract(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        return self.img_encode(x).img_features

    def make_img_transform(self) -> Transform:
        return self.view.transform()

    def vision_state(self) -> dict[str, Tensor]:
        return self.visual.state_dict()


def build(recipe: Recipe) -> Visual:
    """The vision tower, with random weights."""
    return open_clip.model._build_vision_tower(recipe.embed_dim, recipe.vision, recipe.quick_gelu)


def view_of(preprocess: dict[str, Any], image_size: int | tuple[int, int]) -> View:
    """The view for open_clip's preprocessing configuration and the input size of the tower."""
    config = open_clip.transform.PreprocessCfg(**open_clip.transform.merge_preprocess_dict({}, preprocess))
    size = (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
    # Where the size is not square, open_clip's shortest mode is bicubic whatever the configuration says.
    oblong = config.resize_mode == "shortest" and size[0] != size[1]
    return View(
        resize_mode=config.resize_mode,
        resize=size,
        crop=size,
        interpolation="bilinear" if config.interpolation == "bilinear" and not oblong else "bicubic",
        mean=tuple(config.mean),
        std=tuple(config.std),
        fill=(config.fill_color,) * 3 if config.resize_mode == "longest" else (0, 0, 0),
    )


def make_recipe(config: dict[str, Any], quick_gelu: bool, preprocess: dict[str, Any] | None) -> Recipe:
    """From open_clip's configurations of an architecture and of a view."""
    # Weights of the tower alone, which some configurations would have timm download, are not what the name
    # says.
    vision = open_clip.CLIPVisionCfg(**{**config["vision_cfg"], "timm_model_pretrained": False})
    return Recipe(config["embed_dim"], vision, bool(quick_gelu) and is_transformer(vision), dict(preprocess or {}))


def is_transformer(vision: open_clip.CLIPVisionCfg) -> bool:
    """Whether the tower is open_clip's own VisionTransformer: the choice of GELU concerns no other kind."""
    return vision.timm_model_name is None and isinstance(vision.layers, int)


def _architecture(recipe: Recipe) -> dict[str, Any]:
    vision = dataclasses.asdict(recipe.vision)
    del vision["timm_model_pretrained"], vision["output_tokens"]  # neither changes a feature
    return json.loads(json.dumps({"embed_dim": recipe.embed_dim, "quick_gelu": recipe.quick_gelu, "vision": vision}))


def _img_output(visual: Visual) -> dict[str, Any]:
    if isinstance(visual, open_clip.model.VisionTransformer):
        pooling = "attentional" if visual.attn_pool is not None else _POOLING[visual.pool_type]
        return {"pooling": pooling, "projected": visual.proj is not None}
    if isinstance(visual, open_clip.model.TimmModel):
        projected = len(visual.head) > 0 or visual.trunk.num_classes > 0
        pooling = "attentional" if hasattr(visual.head, "pool") else trunks.pooling(visual.trunk)
        return {"pooling": pooling, "projected": projected}
    return {"pooling": "attentional", "projected": True}


def _patch_output(visual: Visual, input_size: tuple[int, int], shape: tuple[int, ...]) -> dict[str, Any]:
    if isinstance(visual, open_clip.model.TimmModel):
        output = trunks.patch_output(visual.trunk, input_size, shape)
    else:
        stage = "before the final norm" if visual.final_ln_after_pool else "after the final norm"
        output = {
            "kind": "patch",
            "patches": shape[0],
            "grid": list(visual.grid_size),
            "stage": stage,
            "dim": shape[1],
        }
    if _img_output(visual)["projected"]:
        output["stage"] += ", before the projection"
    return output
