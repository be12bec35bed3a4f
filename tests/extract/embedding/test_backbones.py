"""The contract of extract/backbone.py: one suite that every backbone passes, of whichever library."""

import json

import pytest
import safetensors.torch
import torch
from PIL import Image

from extract.backbone import Backbone, load
from extract.name import BackboneName
from extract.weights import digest, fit
from store.canonical import digest_of

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


@pytest.fixture(scope="module", params=BACKBONES)
def name(request) -> BackboneName:
    return BackboneName.parse(f"{request.param}/untrained")


@pytest.fixture(scope="module")
def backbone(name) -> Backbone:
    return load(name)


@pytest.fixture(scope="module")
def batch(backbone) -> torch.Tensor:
    return torch.randn(3, 3, *backbone.view.crop, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def encoded(backbone, batch):
    with torch.inference_mode():
        return backbone.img_encode(batch)


def test_keeps_the_contract(name, backbone):
    assert isinstance(backbone, Backbone)
    assert backbone.org == name.org
    assert len(digest_of(backbone.architecture)) == 64
    for record in (backbone.architecture, backbone.img_output, backbone.patch_output, backbone.view.record("pillow")):
        assert json.loads(json.dumps(record)) == record


def test_is_frozen_float32_and_in_eval_mode(backbone):
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}


def test_shapes_are_as_announced(backbone, encoded):
    assert encoded.img_features.shape == (3, backbone.feat_dim)
    assert backbone.img_output["kind"] == "img"
    assert backbone.img_output["dim"] == backbone.feat_dim
    assert torch.isfinite(encoded.img_features).all()
    if backbone.patch_output is None:
        assert encoded.patch_features is None
    else:
        output = backbone.patch_output
        assert encoded.patch_features.shape == (3, output["patches"], output["dim"])
        assert output["grid"][0] * output["grid"][1] == output["patches"]


def test_patches_exist_where_there_is_a_grid(name, backbone):
    assert (backbone.patch_output is not None) == BACKBONES[f"{name.org}:{name.architecture}"]


def test_patches_lie_row_by_row(backbone, batch):
    """What changes in one patch of the picture changes that patch's token most."""
    if backbone.patch_output is None:
        pytest.skip("has no patches")
    rows, columns = backbone.patch_output["grid"]
    height, width = backbone.view.crop[0] // rows, backbone.view.crop[1] // columns
    row, column = rows // 3, columns - 2
    changed = batch[:1].clone()
    changed[:, :, row * height : (row + 1) * height, column * width : (column + 1) * width] += 3
    with torch.inference_mode():
        before, after = backbone.img_encode(batch[:1]), backbone.img_encode(changed)
    moved = (after.patch_features - before.patch_features).norm(dim=-1)[0]
    assert moved.argmax() == row * columns + column


def test_extract_and_call_give_the_same(backbone, batch, encoded):
    with torch.inference_mode():
        assert torch.equal(backbone.extract(batch), encoded.img_features)
        assert torch.equal(backbone(batch).img_features, encoded.img_features)


def test_features_do_not_depend_on_batch_mates(backbone, batch, encoded):
    with torch.inference_mode():
        alone = backbone.img_encode(batch[1:2])
        beside = backbone.img_encode(torch.cat([1000 * batch[2:], batch[1:2], 0 * batch[:1]]))
    for found in (alone.img_features[0], beside.img_features[1]):
        torch.testing.assert_close(found, encoded.img_features[1], rtol=1e-3, atol=1e-4)
    if encoded.patch_features is not None:
        torch.testing.assert_close(alone.patch_features[0], encoded.patch_features[1], rtol=1e-3, atol=1e-4)


def test_features_tell_images_apart(encoded):
    assert (encoded.img_features[0] - encoded.img_features[1]).abs().max() > 1e-6


def test_transform_makes_its_input(backbone):
    picture = Image.effect_noise((300, 200), 50).convert("RGB")
    tensor = backbone.make_img_transform()(picture)
    assert tensor.shape == (3, *backbone.view.crop)
    assert tensor.dtype == torch.float32


def test_seed_alone_decides_untrained_weights(name, backbone):
    torch.manual_seed(12345)
    expected = torch.rand(1, generator=torch.Generator().manual_seed(12345))
    assert digest(load(name).vision_state()) == digest(backbone.vision_state())
    assert torch.rand(1) == expected, "the caller's random numbers are disturbed"


def test_another_seed_gives_other_weights(name, backbone):
    assert digest(load(name, seed=1).vision_state()) != digest(backbone.vision_state())


def test_its_own_state_dict_loads_from_a_file(name, backbone, tmp_path):
    path = tmp_path / "tower.safetensors"
    safetensors.torch.save_file({k: v.contiguous() for k, v in backbone.vision_state().items()}, path)
    loaded = load(BackboneName(name.org, name.architecture, path=str(path)), seed=1)
    assert digest(loaded.vision_state()) == digest(backbone.vision_state())
    assert (loaded.architecture, loaded.view) == (backbone.architecture, backbone.view)
    assert (loaded.img_output, loaded.patch_output) == (backbone.img_output, backbone.patch_output)


def test_state_covers_every_tensor(backbone):
    """No parameter stays outside the digest."""
    state = backbone.vision_state()
    covered = {tensor.data_ptr() for tensor in state.values()}
    assert {parameter.data_ptr() for parameter in backbone.parameters()} <= covered
    fit(state, getattr(backbone, "visual", None) or backbone.network, "itself")


@pytest.mark.parametrize("name_", ["timm:resnet18", "timm:test_vit"])
def test_drop_path_and_dropout_are_off(name_):
    import timm

    from extract.timm import TimmBackbone

    network = timm.create_model(name_.removeprefix("timm:"), num_classes=0, drop_path_rate=0.9, drop_rate=0.9)
    backbone = TimmBackbone(network.train())
    batch = torch.randn(4, 3, *backbone.view.crop)
    with torch.inference_mode():
        torch.testing.assert_close(backbone.extract(batch)[2:3], backbone.extract(batch[2:3]), rtol=1e-3, atol=1e-4)
        assert torch.equal(backbone.extract(batch), backbone.extract(batch))
