"""timm's networks give what they hand to their classifier, from whatever file their weights come."""

import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from extract.backbone import load
from extract.hub import cache_folder, download_bytes, downloading
from extract.name import BackboneName
from extract.timm import TimmBackbone
from extract.weights import digest
from store.errors import BBError


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
    with pytest.raises(BBError, match=r"2 missing: blocks\.0\.norm1\.bias, norm\.weight\. 1 unexpected: extra\."):
        load(f"timm:test_vit@{tmp_path / 'a.pt'}")
    torch.save(trained("test_resnet").state_dict(), tmp_path / "b.pt")
    with pytest.raises(BBError, match=r"missing: cls_token"):
        load(f"timm:test_vit@{tmp_path / 'b.pt'}")


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
    code = "from extract.backbone import load\nfrom extract.weights import digest\n" + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


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
        from store.errors import BBError
        from extract.hub import download_bytes
        from extract.name import BackboneName
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
        assert line.startswith(f"{name} could not be downloaded. HF_HUB_OFFLINE is set, but {tmp_path}/hub lacks it")
        assert "@PATH" in line


def test_weights_that_timm_finds_unfit_are_refused(tmp_path):
    state = trained("resnet18").state_dict()
    del state["layer1.0.conv1.weight"]
    save_file(state, hub(tmp_path, "timm/resnet18.a1_in1k") / "model.safetensors")
    done = run(tmp_path, 'load("timm:resnet18")')
    assert "BBError: timm:resnet18: timm can't load its weights" in done.stderr
    assert "layer1.0.conv1.weight" in done.stderr


@pytest.mark.parametrize(
    "error, remedy",
    [
        (
            OSError("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get issuer"),
            "SSL_CERT_FILE and REQUESTS_CA_BUNDLE",
        ),
        (ConnectionError("Name or service not known"), "set HTTPS_PROXY, copy a filled HF_HOME"),
        (OSError("401 Client Error. Repository Not Found for url"), "run `hf auth login` or set HF_TOKEN"),
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
