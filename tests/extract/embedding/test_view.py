"""The view transforms as open_clip and timm do, bit for bit, photographs and pictures of awkward sizes."""

import json
import os
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import timm.data
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from bb.extract.embedding.decoder import DecodeOptions
from bb.extract.embedding.images import UnreadableImage, decode
from bb.extract.embedding.open_clip import view_of as open_clip_view
from bb.extract.embedding.timm import view_of as timm_view
from bb.extract.embedding.view import View

PHOTOS = Path(os.environ.get("BB_PHOTOS", Path(__file__).parents[3] / "../shared/data/newt-mini"))

TIMM_MODELS = [
    "resnet18.a1_in1k",  # center, 0.95
    "vit_base_patch16_224.augreg_in21k",  # mean 0.5
    "vit_base_patch14_dinov2.lvd142m",  # 518
    "vit_base_patch16_siglip_224.webli",  # squash
    "swin_base_patch4_window7_224.ms_in22k",
    "convnext_base.fb_in22k_ft_in1k_384",  # squash, 1.0
    "efficientnet_b3.ra2_in1k",  # bicubic, 288 with a larger test size
    "tf_efficientnet_b0.ns_jft_in1k",
    "inception_v3.tv_in1k",  # bilinear
    "mixer_b16_224.goog_in21k",
    "regnety_160.swag_ft_in1k",  # 384
    "davit_base_fl.msft_florence2",
    "vit_huge_patch14_clip_378.dfn5b",
]
OPEN_CLIP_TAGS = [
    ("ViT-B-16", "openai"),
    ("RN50", "cc12m"),
    ("ViT-B-16-SigLIP", "webli"),
    ("ViT-B-16-SigLIP-i18n-256", "webli"),
    ("ViT-L-14-336", "openai"),
    ("ViT-L-14-CLIPA", "datacomp1b"),
    ("MobileCLIP-S1", "datacompdr"),
    ("MobileCLIP2-S0", "dfndr2b"),
    ("PE-Core-B-16", "meta"),
    ("EVA02-B-16", "merged2b_s8b_b131k"),
    ("convnext_base_w_320", "laion_aesthetic_s13b_b82k"),
    ("coca_ViT-B-32", "laion2b_s13b_b90k"),
    ("nllb-clip-base-siglip", "v1"),
]
SIZES = [(1, 1), (7, 300), (301, 8), (224, 224), (223, 225), (500, 333), (333, 501), (250, 248), (1000, 400)]


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    files = sorted((PHOTOS / "newt2021_images").glob("*"))[:8]
    if not files:
        pytest.skip(f"no photographs in {PHOTOS / 'newt2021_images'}; BB_PHOTOS names another folder")
    return [decode(file.read_bytes()).picture for file in files]


@pytest.fixture(scope="module")
def awkward() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


def assert_same(view: View, reference, pictures: list[Image.Image]) -> None:
    transform = view.transform()
    for picture in pictures:
        ours, theirs = transform(picture), reference(picture)
        assert ours.dtype == torch.float32
        assert ours.shape == (3, *view.crop)
        assert torch.equal(ours, theirs), f"{view} on {picture.size}"


def timm_pair(config):
    return timm_view(config), timm.data.create_transform(**config, is_training=False)


@pytest.mark.parametrize("name", TIMM_MODELS)
def test_timms_models_on_photographs(name, photographs):
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    assert_same(*timm_pair(config), photographs)


@pytest.mark.parametrize("architecture, tag", OPEN_CLIP_TAGS)
def test_open_clips_tags_on_photographs(architecture, tag, photographs):
    size = open_clip.get_model_config(architecture)["vision_cfg"].get("image_size", 224)
    config = open_clip.get_pretrained_cfg(architecture, tag)
    assert config
    reference = PreprocessCfg(**open_clip.transform.merge_preprocess_dict({"size": size}, config))
    assert_same(open_clip_view(config, size), image_transform_v2(reference, is_train=False), photographs[:4])


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "nearest"])
@pytest.mark.parametrize("crop_pct", [0.875, 1.0, 1.1])
@pytest.mark.parametrize("input_size", [(3, 224, 224), (3, 96, 225)])
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_timms_modes(crop_mode, input_size, crop_pct, interpolation, awkward):
    config = {
        "input_size": input_size,
        "interpolation": interpolation,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
    }
    pictures = [p for p in awkward if survives(crop_mode, p)]
    assert_same(*timm_pair(config), pictures)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [64, (64, 64), (48, 65)])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
def test_open_clips_modes(resize_mode, size, interpolation, awkward):
    config = {"interpolation": interpolation, "resize_mode": resize_mode, "fill_color": 77}
    reference = image_transform_v2(PreprocessCfg(size=size, **config), is_train=False)
    view = open_clip_view(config, size)
    assert_same(view, reference, [p for p in awkward if survives(resize_mode, p)])


def survives(mode: str, picture: Image.Image) -> bool:
    """Where a thin picture has to fit, the libraries divide its short side down to no pixels at all."""
    return mode not in ("border", "longest") or min(picture.size) > 8 or max(picture.size) <= 8


def test_thin_pictures_keep_a_pixel():
    view = View("longest", (32, 32), (32, 32), "bicubic", (0.5,) * 3, (0.5,) * 3, (9, 9, 9))
    assert view.transform()(Image.new("RGB", (1000, 1))).shape == (3, 32, 32)


def test_absurdly_elongated_pictures_are_refused():
    view = View("shortest", (224, 224), (224, 224), "bicubic", (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(UnreadableImage, match="1 by 60,000 pixels: too elongated"):
        view.transform()(Image.new("RGB", (1, 60_000)))


def test_record_holds_every_choice_and_is_json():
    view = View("longest", (32, 48), (30, 40), "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (1, 2, 3))
    assert (
        json.loads(json.dumps(view.record(DecodeOptions("pillow"))))
        == view.record(DecodeOptions("pillow"))
        == {
            "decoder": "pillow",
            "exif_orientation": "applied",
            "alpha": "over white",
            "depth_16_bit": "high byte",
            "resize_mode": "longest",
            "resize": [32, 48],
            "crop": [30, 40],
            "interpolation": "bilinear",
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "fill": [1, 2, 3],
        }
    )


def test_unknown_filters_are_an_error():
    with pytest.raises(ValueError, match="'random' is none of Pillow's filters"):
        View("squash", (8, 8), (8, 8), "random", (0.5,) * 3, (0.5,) * 3)
