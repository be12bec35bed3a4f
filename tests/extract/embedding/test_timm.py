"""timm's networks give what they hand to their classifier, from whatever file their weights come."""

import dataclasses
import errno
import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from bb.extract.backbones.hub import cache_folder, download_bytes, downloading
from bb.extract.backbones.name import BackboneName, pool_of
from bb.extract.backbones.registry import load
from bb.extract.embedding.timm import TimmBackbone
from bb.extract.embedding.weights import digest
from bb.extract.weights.lite_networks import raw_file
from bb.store.errors import BBError, UsageError


@pytest.fixture(scope="module")
def batch():
    return torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))


def trained(name, **options):
    """A network with weights and statistics that are not those of a fresh one."""
    torch.manual_seed(7)
    network = timm.create_model(name, **options)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor + 0.01 * torch.rand_like(tensor))
    return network.eval()


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
@pytest.mark.parametrize("classes", [0, 10, 1000])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}])
def test_files_load_with_any_classifier_or_none(name, classes, wrap, batch, tmp_path):
    network = trained(name, num_classes=classes)
    torch.save(wrap(network.state_dict()), tmp_path / "a.pt")
    backbone = load(f"timm:{name}@{tmp_path / 'a.pt'}")
    network.reset_classifier(0)
    with torch.inference_mode():
        assert torch.equal(backbone.extract(batch), network(batch))
    assert digest(backbone.vision_state()) == digest(network.state_dict())


def test_features_are_those_before_the_classifier(batch):
    backbone = load("timm:resnet18/untrained")
    with torch.inference_mode():
        features = backbone.network.forward_features(batch)
        assert torch.equal(backbone.extract(batch), backbone.network.forward_head(features, pre_logits=True))


def test_original_files_go_through_timms_converter(tmp_path):
    """DINOv2's hold a token for masked training, which the network has no use for; timm knows that."""
    backbone = load("timm:vit_small_patch14_dinov2/untrained")
    torch.save({**backbone.vision_state(), "mask_token": torch.zeros(1, 384)}, tmp_path / "dinov2.pt")
    loaded = load(f"timm:vit_small_patch14_dinov2@{tmp_path / 'dinov2.pt'}")
    assert digest(loaded.vision_state()) == digest(backbone.vision_state())


def test_what_does_not_fit_is_named(tmp_path):
    state = trained("test_vit").state_dict()
    del state["norm.weight"], state["blocks.0.norm1.bias"]
    torch.save({**state, "extra": torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(BBError, match=r"2 missing: blocks\.0\.norm1\.bias, norm\.weight\. Name the architecture"):
        load(f"timm:test_vit@{tmp_path / 'a.pt'}")
    torch.save(trained("test_resnet").state_dict(), tmp_path / "b.pt")
    with pytest.raises(BBError, match=r"missing: cls_token"):
        load(f"timm:test_vit@{tmp_path / 'b.pt'}")


@pytest.mark.parametrize("beside", [{}, {"mask_token": torch.zeros(1, 1, 64)}], ids=["plain", "with mask_token"])
def test_positions_of_another_resolution_are_refused_whatever_stands_beside(beside, tmp_path):
    """timm's converter, which only some names set off, would interpolate them."""
    torch.save(timm.create_model("test_vit", img_size=224).state_dict() | beside, tmp_path / "a.pt")
    with pytest.raises(BBError, match=r"pos_embed \[1, 197, 64\] instead of \[1, 101, 64\].*another resolution"):
        load(f"timm:test_vit@{tmp_path / 'a.pt'}")


def test_positions_in_another_layout_are_refused_too(tmp_path):
    """OpenAI's names, whose positions are flat."""
    name = "vit_base_patch32_clip_224"
    visual = open_clip.create_model("ViT-B-32", force_image_size=256).visual
    torch.save({f"visual.{k}": v for k, v in visual.state_dict().items()}, tmp_path / "a.pt")
    with pytest.raises(BBError, match=r"pos_embed \[65, 768\] instead of \[1, 50, 768\].*another resolution"):
        load(f"timm:{name}.laion2b@{tmp_path / 'a.pt'}")


def test_a_file_needs_a_tag_where_tags_differ_in_view(tmp_path):
    torch.save(trained("vit_small_patch16_224").state_dict(), tmp_path / "dino.pt")
    with pytest.raises(UsageError) as error:
        load(f"timm:vit_small_patch16_224@{tmp_path / 'dino.pt'}")
    assert str(error.value).splitlines() == [
        f"timm:vit_small_patch16_224@{tmp_path}/dino.pt: the pretrained tags of vit_small_patch16_224 differ in mean, "
        "std, and a file does not say which of them it needs. Add the tag that was trained as the file was, for "
        f"example timm:vit_small_patch16_224.augreg_in1k@{tmp_path}/dino.pt",
        "  augreg_in1k, augreg_in21k, augreg_in21k_ft_in1k: mean (0.5, 0.5, 0.5), std (0.5, 0.5, 0.5)",
        "  dino: mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225)",
    ]
    backbone = load(f"timm:vit_small_patch16_224.dino@{tmp_path / 'dino.pt'}")
    assert backbone.view.mean == (0.485, 0.456, 0.406)
    assert backbone.loaded.dropped == ("head.weight", "head.bias")


@pytest.mark.e2e
def test_openais_own_file_needs_the_architecture_with_quick_gelu(tmp_path):
    visual = open_clip.create_model("ViT-B-32").visual
    state = {f"visual.{k}": v for k, v in visual.state_dict().items()}
    torch.save(state | {"input_resolution": torch.tensor(224)}, tmp_path / "a.pt")
    with pytest.raises(BBError, match=r"QuickGELU.*write timm:vit_base_patch32_clip_quickgelu_224\.openai@"):
        load(f"timm:vit_base_patch32_clip_224.openai@{tmp_path / 'a.pt'}")
    load(f"timm:vit_base_patch32_clip_quickgelu_224.openai@{tmp_path / 'a.pt'}")


def test_a_raw_efficientnet_lite_gets_a_hint_how_to_rename_it():
    with pytest.raises(BBError, match=r"in order, under other names.*rename them: torch\.save\(dict\(zip\("):
        load(f"timm:tf_efficientnet_lite0@{raw_file(0)}")


def test_a_tag_decides_the_view():
    by_tag = load("timm:convnext_atto.d2_in1k/untrained").view
    plain = load("timm:convnext_atto/untrained").view
    assert by_tag == plain  # d2_in1k is the default
    inception = load("timm:inception_v3.tv_in1k/untrained").view
    assert (inception.crop, inception.interpolation) == ((299, 299), "bicubic")


def test_pooling_is_named():
    words = {
        "test_vit": "cls",
        "test_vit3": "map",
        "resnet18": "avg",
        "test_convnext": "avg",
        "deit_tiny_distilled_patch16_224": "cls and distillation token averaged",
        "eva02_tiny_patch14_224": "avg",
        "efficientnet_b0": "avg",
    }
    for name, word in words.items():
        assert load(f"timm:{name}/untrained").img_output["pooling"] == word, name


def biobench(network, batch):
    """The rule of biobench's Timm.img_encode, written down once more."""
    features = network.forward_features(batch)
    if features.ndim == 4:
        b, first, second, last = features.shape
        flat = features.reshape(b, -1, last) if first == second else features.reshape(b, first, -1).transpose(1, 2)
        return flat.max(dim=1).values
    return features[:, 0] if getattr(network, "num_prefix_tokens", 0) else features.max(dim=1).values


@pytest.mark.parametrize(
    "name, pool, other",
    [
        ("resnet18", "max", "token"),
        ("test_convnext", "max", "token"),
        pytest.param("swin_tiny_patch4_window7_224", "max", "token", marks=pytest.mark.e2e),  # a second
        ("mixer_s32_224", "max", "token"),
        ("deit_tiny_distilled_patch16_224", "token", "max"),
        ("test_vit", "token", "max"),
    ],
)
def test_pool_is_biobenchs_rule(name, pool, other):
    parsed = BackboneName.parse(f"timm:{name}/untrained")
    backbone = load(dataclasses.replace(parsed, pool=pool))
    batch = torch.randn(2, 3, *backbone.view.crop, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(backbone.extract(batch), biobench(backbone.network, batch))
    assert backbone.img_output["pooling"] == {"max": "max over positions", "token": "first token"}[pool]
    assert pool_of(backbone.img_output["pooling"]) == pool
    assert backbone.img_output["dim"] == backbone.feat_dim
    with pytest.raises(UsageError, match=f"--pool {other}: {name} has .* class token.*Choose --pool {pool}"):
        load(dataclasses.replace(parsed, pool=other))


def test_pool_is_for_timm_alone():
    with pytest.raises(UsageError, match="--pool max is for networks of timm, and .*RN50/untrained is of open_clip"):
        load(dataclasses.replace(BackboneName.parse("RN50/untrained"), pool="max"))


def test_stage_of_patches_is_named():
    assert load("timm:test_vit/untrained").patch_output["stage"] == "after the final norm"
    # Its norm follows the average that is the image feature, so that its tokens go without.
    assert load("timm:eva02_tiny_patch14_224/untrained").patch_output["stage"] == "before the final norm"


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(BBError, match="takes 1 channels"):
        TimmBackbone(timm.create_model("test_resnet", pretrained_cfg_overlay={"input_size": (1, 160, 160)}, in_chans=1))


def test_a_warning_that_weights_stay_random_is_an_error(monkeypatch):
    network = trained("test_resnet")

    def create(name, **options):
        logging.getLogger("timm.models._builder").warning("No pretrained weights exist for this model.")
        return network

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr("bb.extract.backbones.load_timm.fetch", lambda name: None)
    with pytest.raises(BBError, match=r"timm:resnet18: timm warns: No pretrained weights exist"):
        load("timm:resnet18")


def hub(tmp_path, repository):
    """A cache as huggingface_hub lays it out."""
    folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("0" * 40)
    (folder / f"snapshots/{'0' * 40}").mkdir(parents=True)
    return folder / f"snapshots/{'0' * 40}"


def run(tmp_path, code, **environment):
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", **environment}
    code = (
        "from bb.extract.backbones.registry import load\nfrom bb.extract.embedding.weights import digest\n"
        + textwrap.dedent(code)
    )
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


@pytest.mark.e2e
def test_tags_come_from_a_warm_cache_offline(tmp_path):
    """The real way of loading, for a tag of timm's and a name on the hub; and the word on what is missing."""
    network = trained("resnet18")
    save_file(network.state_dict(), hub(tmp_path, "timm/resnet18.a1_in1k") / "model.safetensors")
    private = hub(tmp_path, "lab/birds")
    save_file(trained("test_vit", num_classes=3).state_dict(), private / "model.safetensors")
    config = {
        "num_classes": 3,
        "mean": [0.1, 0.2, 0.3],
        "input_size": [3, 160, 160],
        "fixed_input_size": True,
    }
    (private / "config.json").write_text(json.dumps({"architecture": "test_vit", "pretrained_cfg": config}))
    done = run(
        tmp_path,
        """
        from bb.store.errors import BBError
        from bb.extract.backbones.hub import download_bytes
        from bb.extract.backbones.name import BackboneName, pool_of
        print(digest(load("timm:resnet18").vision_state()))
        print(digest(load("timm:hf-hub:lab/birds").vision_state()), load("timm:hf-hub:lab/birds").view.mean)
        print(download_bytes(BackboneName.parse("timm:resnet18.a1_in1k")))
        print(download_bytes(BackboneName.parse("timm:resnet50.a1_in1k")))
        for name in ("timm:resnet50.a1_in1k", "ViT-B-16/openai", "hf-hub:lab/no", "timm:hf-hub:lab/no"):
            try:
                load(name)
            except BBError as error:
                print(error)
        """,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    network.reset_classifier(0)
    birds = trained("test_vit", num_classes=3)
    birds.reset_classifier(0)
    assert lines[0] == digest(network.state_dict())
    assert lines[1] == f"{digest(birds.state_dict())} (0.1, 0.2, 0.3)"
    assert lines[2:4] == ["0", "None"]
    for line, name in zip(
        lines[4:],
        (
            "timm:resnet50.a1_in1k",
            "open_clip:ViT-B-16/openai",
            "open_clip:hf-hub:lab/no",
            "timm:hf-hub:lab/no",
        ),
        strict=True,
    ):
        offline = f"HF_HUB_OFFLINE is set, but {tmp_path}/hub does not have it"
        assert line.startswith(f"{name} could not be downloaded. {offline}")
        assert "@PATH" in line


@pytest.mark.e2e
def test_weights_that_timm_finds_unfit_are_refused(tmp_path):
    state = trained("resnet18").state_dict()
    del state["layer1.0.conv1.weight"]
    save_file(state, hub(tmp_path, "timm/resnet18.a1_in1k") / "model.safetensors")
    done = run(tmp_path, 'load("timm:resnet18")')
    assert "BBError: timm:resnet18: timm can't load the weights in " in done.stderr
    assert "layer1.0.conv1.weight" in done.stderr


@pytest.mark.parametrize(
    "error, remedy",
    [
        (
            OSError("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get issuer"),
            "SSL_CERT_FILE and REQUESTS_CA_BUNDLE",
        ),
        (ConnectionError("Name or service not known"), "set HTTPS_PROXY, copy a filled HF_HOME"),
        (PermissionError(errno.EACCES, "Permission denied"), "can't be written: set HF_HOME"),
        (OSError(errno.ENOSPC, "No space left on device"), "is full: make room, or set HF_HOME"),
        (FileNotFoundError("Failed to download file"), "Connect to the internet"),
    ],
)
def test_failed_downloads_name_a_remedy(error, remedy, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    name = BackboneName.parse("timm:resnet18.a1_in1k")
    with pytest.raises(BBError, match=remedy) as raised, downloading(name):
        raise error
    assert "timm:resnet18.a1_in1k could not be downloaded" in str(raised.value)
    assert "write timm:resnet18.a1_in1k@PATH" in str(raised.value)


def test_other_errors_pass_unchanged():
    with pytest.raises(ZeroDivisionError), downloading(BackboneName.parse("timm:resnet18")):
        raise ZeroDivisionError


def test_downloads_are_estimated_without_building():
    for name in ("timm:resnet18/untrained", "RN50@w.pt"):
        assert download_bytes(BackboneName.parse(name)) == 0
    for name in ("timm:nothing", "timm:resnet18.nothing", "RN50/nothing", "nothing/openai", "RN50"):
        assert download_bytes(BackboneName.parse(name)) is None


def test_downloads_go_to_the_cache_of_where_they_come_from():
    assert cache_folder() == cache_folder(BackboneName.parse("timm:resnet18")) == Path(constants.HF_HUB_CACHE)
    elsewhere = BackboneName.parse("timm:vit_huge_patch16_gap_448.in1k_ijepa")
    assert cache_folder(elsewhere) == Path(torch.hub.get_dir()) / "checkpoints"
