"""The contract of extract/embedding/backbone.py: one suite that every backbone passes, of whichever library."""

import pytest
import safetensors.torch
import torch

from bb.extract.backbones.name import BackboneName
from bb.extract.backbones.registry import load
from bb.extract.embedding.backbone import Backbone
from bb.extract.embedding.weights import digest
from tests.contracts.backbone import BackboneSuite

# One of each kind, the smallest with which a rule could break; and whether it keeps a patch grid.
BACKBONES = {
    "open_clip:ViT-S-32-alt": True,  # cls token, projected
    "open_clip:coca_ViT-B-32": False,  # tokens are answers to caption queries
    "open_clip:RN50": False,  # attention pool over a map
    "open_clip:MobileCLIP2-S0": False,  # convolutional tower of timm's
    "open_clip:ViT-B-16-SigLIP": True,  # timm's ViT with attention pooling and no class token
    "timm:resnet18": False,  # batch norm
    "timm:test_vit": True,
    "timm:test_vit3": True,  # class token, pooled by attention
    "timm:deit_tiny_distilled_patch16_224": True,  # two prefix tokens
    "timm:eva02_tiny_patch14_224": True,  # average pooled, rotary positions
    "timm:xcit_nano_12_p16_224": True,  # class token joins late
    "timm:mixer_s32_224": True,  # no transformer, no prefix
    "timm:volo_d1_224": False,  # tokens of another grid than that of the patches
    "timm:swin_tiny_patch4_window7_224": False,  # merges patches
    "timm:convnext_atto": False,
    "timm:mobilenetv3_small_050": False,  # layers between pooling and classifier
    "timm:levit_128s": False,  # distilled, shrinking grid
    "timm:crossvit_9_240": False,  # two token sequences
}


LARGE = {
    "open_clip:coca_ViT-B-32",
    "open_clip:RN50",
    "open_clip:ViT-B-16-SigLIP",
    "open_clip:MobileCLIP2-S0",
    "timm:volo_d1_224",
    "timm:swin_tiny_patch4_window7_224",
}  # seconds


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.e2e] if name in LARGE else []) for name in BACKBONES]
)
def name(request) -> BackboneName:
    return BackboneName.parse(f"{request.param}/untrained")


@pytest.fixture(scope="module")
def backbone(name) -> Backbone:
    return load(name)


class TestBackbone(BackboneSuite):
    pass


def test_a_name_leads_to_its_library(name, backbone):
    assert backbone.org == name.org


def test_patches_exist_where_there_is_a_grid(name, backbone):
    assert (backbone.patch_output is not None) == BACKBONES[f"{name.org}:{name.architecture}"]


def test_seed_alone_decides_untrained_weights(name, backbone):
    torch.manual_seed(12345)
    expected = torch.rand(1, generator=torch.Generator().manual_seed(12345))
    assert digest(load(name).vision_state()) == digest(backbone.vision_state())
    assert torch.rand(1) == expected, "the caller's random numbers are disturbed"


def test_another_seed_gives_other_weights(name, backbone):
    assert digest(load(name, seed=1).vision_state()) != digest(backbone.vision_state())


def first_tag(name: BackboneName) -> str | None:
    """timm's default where an architecture has several, whose views may differ: then one has to be named."""
    if name.org == "open_clip":
        return None
    import timm

    tags = [tagged.partition(".")[2] for tagged in timm.list_pretrained(f"{name.architecture}.*")]
    default = timm.get_pretrained_cfg(name.architecture).tag
    return default if default in tags else None


def test_its_own_state_dict_loads_from_a_file(name, backbone, tmp_path):
    path = tmp_path / "tower.safetensors"
    safetensors.torch.save_file({k: v.contiguous() for k, v in backbone.vision_state().items()}, path)
    loaded = load(BackboneName(name.org, name.architecture, first_tag(name), str(path)), seed=1)
    assert digest(loaded.vision_state()) == digest(backbone.vision_state())
    assert (loaded.architecture, loaded.view) == (backbone.architecture, backbone.view)
    assert (loaded.img_output, loaded.patch_output) == (backbone.img_output, backbone.patch_output)


@pytest.mark.parametrize("name_", ["timm:resnet18", "timm:test_vit"])
def test_drop_path_and_dropout_are_off(name_):
    import timm

    from bb.extract.embedding.timm import TimmBackbone

    network = timm.create_model(name_.removeprefix("timm:"), num_classes=0, drop_path_rate=0.9, drop_rate=0.9)
    backbone = TimmBackbone(network.train())
    batch = torch.randn(4, 3, *backbone.view.crop)
    with torch.inference_mode():
        torch.testing.assert_close(backbone.extract(batch)[2:3], backbone.extract(batch[2:3]), rtol=1e-3, atol=1e-4)
        assert torch.equal(backbone.extract(batch), backbone.extract(batch))
