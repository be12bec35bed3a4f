"""Names of backbones: one way to write each, and a way out of every mistake."""

import subprocess
import sys

import pytest

from bb.extract.backbones.name import BackboneName, parse_pool, shared_name
from bb.extract.backbones.registry import check_known, load
from bb.store.errors import UsageError


@pytest.mark.parametrize(
    "text, canonical, name",
    [
        ("ViT-B-16/openai", "open_clip:ViT-B-16/openai", BackboneName("open_clip", "ViT-B-16", "openai")),
        ("open_clip:RN50/cc12m", "open_clip:RN50/cc12m", BackboneName("open_clip", "RN50", "cc12m")),
        (" RN50 ", "open_clip:RN50", BackboneName("open_clip", "RN50")),
        ("RN50/untrained", "open_clip:RN50/untrained", BackboneName("open_clip", "RN50", untrained=True)),
        ("RN50@w.pt", "open_clip:RN50@w.pt", BackboneName("open_clip", "RN50", path="w.pt")),
        (
            "RN50@/a:b/c@d.pt",
            "open_clip:RN50@/a:b/c@d.pt",
            BackboneName("open_clip", "RN50", path="/a:b/c@d.pt"),
        ),
        (
            "ViT-B-16/openai@w.pt",
            "open_clip:ViT-B-16/openai@w.pt",
            BackboneName("open_clip", "ViT-B-16", "openai", path="w.pt"),
        ),
        ("timm:resnet18", "timm:resnet18", BackboneName("timm", "resnet18")),
        ("timm:resnet18.a1_in1k", "timm:resnet18.a1_in1k", BackboneName("timm", "resnet18", "a1_in1k")),
        (
            "timm-vit:vit_base_patch14_dinov2.lvd142m",
            "timm:vit_base_patch14_dinov2.lvd142m",
            BackboneName("timm", "vit_base_patch14_dinov2", "lvd142m"),
        ),
        (
            "timm:resnet18/untrained",
            "timm:resnet18/untrained",
            BackboneName("timm", "resnet18", untrained=True),
        ),
        ("timm:resnet18@w.pt", "timm:resnet18@w.pt", BackboneName("timm", "resnet18", path="w.pt")),
        ("hf-hub:a/b.c-d", "open_clip:hf-hub:a/b.c-d", BackboneName("open_clip", "hf-hub:a/b.c-d")),
        ("timm:hf-hub:a/b@v1", "timm:hf-hub:a/b@v1", BackboneName("timm", "hf-hub:a/b@v1")),
    ],
)
def test_parse(text, canonical, name):
    assert BackboneName.parse(text) == name
    assert str(name) == canonical
    assert BackboneName.parse(canonical) == name


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is not the name of a backbone: write ViT-B-16/openai"),
        ("timm:", "is not the name of a backbone"),
        ("a b", "is not the name of a backbone"),
        ("ViT-B-16/", "is not the name of a backbone"),
        ("ViT-B-16/a/b", "is not the name of a backbone"),
        ("torchvision:resnet18", "unknown library 'torchvision'; use open_clip:, timm:"),
        ("RN50@", "ends in @ without a path: write RN50@PATH"),
        ("RN50/untrained@w.pt", "write RN50@w.pt or RN50/untrained"),
        ("timm:resnet18/a1_in1k", "so write timm:resnet18.a1_in1k"),
        ("hf-hub:repo", r"write hf-hub:OWNER/REPO\[@REVISION\]"),
        ("hf-hub:a/b/untrained", r"write hf-hub:OWNER/REPO\[@REVISION\]"),
    ],
)
def test_parse_errors_name_the_value_and_the_remedy(text, message):
    with pytest.raises(UsageError, match=message) as error:
        BackboneName.parse(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "ViT-B-61/openai",
            "open_clip has no architecture 'ViT-B-61'; the closest: ViT-B-16.*bb models PATTERN",
        ),
        ("ViT-B-16/openay", "has no weights of ViT-B-16 called 'openay'; the closest: openai"),
        ("ViT-B-16", "names no weights: add one of its tags: openai, laion400m_e31.*/untrained, or @PATH"),
        ("ViT-S-32", "names no weights: add /untrained, or @PATH of a state dict"),
        ("timm:resnet81", "timm has no architecture 'resnet81'; the closest: resnet18"),
        ("timm:resnet18.a1_ink1", "has no weights of resnet18 called 'a1_ink1'; the closest: a1_in1k"),
        ("timm:xyzzy", "nothing comes close"),
        ("timm:vit_small_patch16_18x2_224", "write timm:vit_small_patch16_18x2_224@PATH or .*/untrained"),
        pytest.param(  # builds 300 million weights
            "timm:mobilenetv5_300m_enc/untrained", "ends in a feature map and has no pooling", marks=pytest.mark.e2e
        ),
    ],
)
def test_unknown_names_lead_to_known_ones(text, message):
    with pytest.raises(UsageError, match=message):
        load(text)


def test_a_shared_name_has_the_digest_of_a_file_and_nothing_of_its_path(tmp_path):
    file = tmp_path / "alice-weights.pth"
    file.write_bytes(b"abc")
    name = shared_name(BackboneName.parse(f"timm:resnet18@{file}"))
    assert name == "timm:resnet18@ba7816bf8f01"  # SHA-256 of abc, FIPS 180-4
    assert shared_name(BackboneName.parse(name)) == name, "which finds what was shared"
    assert shared_name(BackboneName.parse(f"timm:resnet18@{file}#teacher")) == f"{name}#teacher"
    file.write_bytes(b"abcd")
    assert shared_name(BackboneName.parse(f"timm:resnet18@{file}")) == "timm:resnet18@88d4266fd4e6"


@pytest.mark.parametrize(
    "text, message",
    [
        ("resnet18", "open_clip:resnet18: write timm:resnet18, since resnet18 is an architecture of timm"),
        ("resnet18.a1_in1k", "write timm:resnet18.a1_in1k, since"),
        ("resnet18/untrained", "write timm:resnet18/untrained, since"),
        ("resnet18@w.pt", "write timm:resnet18@w.pt, since"),
        ("timm:ViT-B-16", "write open_clip:ViT-B-16, since ViT-B-16 is an architecture of open_clip"),
        ("timm:RN50@w.pt", "write open_clip:RN50@w.pt, since"),
        ("facebook/dinov2-base", "write open_clip:hf-hub:facebook/dinov2-base or timm:hf-hub:facebook/dinov2-base"),
        ("best.pth", "for a file of weights, write ARCH@best.pth"),
    ],
)
def test_names_of_another_kind_lead_to_how_they_are_written(text, message):
    for ask in (load, lambda name: check_known(BackboneName.parse(name))):
        with pytest.raises(UsageError, match=message):
            ask(text)


def test_pool_is_one_of_three():
    assert [parse_pool(pool) for pool in ("own", "max", "token")] == ["own", "max", "token"]
    with pytest.raises(UsageError, match="--pool 'mean' is unknown: choose own, max or token"):
        parse_pool("mean")


def test_shared_names_hold_no_folders():
    assert shared_name(BackboneName.parse("RN50@/home/me/w.pt")) == "open_clip:RN50@w.pt"
    assert shared_name(BackboneName.parse("RN50/openai")) == "open_clip:RN50/openai"


def test_parsing_imports_no_library():
    code = "import sys, bb.extract.backbones.name; assert not {'torch', 'timm', 'open_clip', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
