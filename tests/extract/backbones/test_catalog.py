"""What `bb models` lists can be typed, is complete, and says what can't be built."""

import open_clip
import timm
import torch

from bb.extract.backbones.catalog import entries
from bb.extract.backbones.name import BackboneName
from bb.extract.embedding.timm import UNPOOLED


def test_every_name_parses_to_itself():
    names = [entry["name"] for entry in entries()]
    assert len(names) == len(set(names))
    assert [str(BackboneName.parse(name)) for name in names] == names


def test_nothing_is_left_out():
    parsed = [BackboneName.parse(entry["name"]) for entry in entries()]
    tagged = {(name.architecture, name.tag) for name in parsed if name.org == "open_clip" and name.tag}
    assert tagged == set(open_clip.list_pretrained())
    assert {name.architecture for name in parsed if name.org == "open_clip"} == set(open_clip.list_models())
    dotted = {f"{name.architecture}.{name.tag}" for name in parsed if name.org == "timm" and name.tag}
    assert dotted == set(timm.list_pretrained())
    assert {name.architecture for name in parsed if name.org == "timm"} == set(timm.list_models())


def test_pattern_is_a_part_or_a_wildcard():
    assert [entry["name"] for entry in entries("VIT-B-16/OPENAI")] == ["open_clip:ViT-B-16/openai"]
    dinov2 = [entry["name"] for entry in entries("timm:*dinov2*")]
    assert "timm:vit_base_patch14_dinov2.lvd142m" in dinov2
    assert all(name.startswith("timm:") and "dinov2" in name for name in dinov2)
    assert entries("no such thing") == []


def test_what_cannot_be_built_says_why():
    lacking = {BackboneName.parse(entry["name"]).architecture for entry in entries() if entry["lacks"]}
    assert lacking == set(UNPOOLED)


def test_an_older_timm_is_named_as_what_is_lacking(monkeypatch):
    known = timm.list_models()
    monkeypatch.setattr(timm, "list_models", lambda: [name for name in known if "siglip" not in name])
    [entry] = entries("open_clip:ViT-B-16-SigLIP/webli")
    assert entry["lacks"] == "a version of timm that has vit_base_patch16_siglip_224"


def test_listing_builds_nothing(monkeypatch):
    def built(*_, **__):
        raise AssertionError("a network is built")

    monkeypatch.setattr(torch.nn.Module, "__init__", built)
    assert entries()
