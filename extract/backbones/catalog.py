"""What can be extracted, for `bb models [PATTERN]`: names as --ckpt takes them. Nothing is built to list
them."""

import fnmatch
from collections.abc import Iterator
from typing import TypedDict

from bb.extract.backbones.name import BackboneName


class Entry(TypedDict):
    """A backbone that the installed libraries know.

    name: as --ckpt takes it
    lacks: what is missing to build it; empty where it builds
    """

    name: str
    lacks: str


def entries(pattern: str = "") -> list[Entry]:
    """Every pretrained backbone of open_clip and timm, and as untrained every architecture that has no
    weights.

    pattern: part of a name, or with any of * ? [ a pattern for the whole of it; case does not matter

    Each architecture can be had as ARCH/untrained and ARCH@PATH as well.
    """
    return [
        Entry(name=str(name), lacks=lacks) for name, lacks in (*_open_clip(), *_timm()) if _matches(str(name), pattern)
    ]


def _matches(name: str, pattern: str) -> bool:
    name, pattern = name.lower(), pattern.lower()
    return fnmatch.fnmatchcase(name, pattern) if set("*?[") & set(pattern) else pattern in name


def _open_clip() -> Iterator[tuple[BackboneName, str]]:
    import open_clip
    import timm

    trunks = set(timm.list_models())
    for architecture in open_clip.list_models():
        trunk = open_clip.get_model_config(architecture)["vision_cfg"].get("timm_model_name")
        lacks = "" if trunk is None or trunk in trunks else f"a version of timm that has {trunk}"
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        for tag in tags:
            yield BackboneName("open_clip", architecture, tag), lacks
        if not tags:
            yield BackboneName("open_clip", architecture, untrained=True), lacks


def _timm() -> Iterator[tuple[BackboneName, str]]:
    import timm

    from bb.extract.embedding.timm import UNPOOLED

    tags: dict[str, list[str]] = {}
    for name in timm.list_pretrained():
        architecture, _, tag = name.partition(".")
        tags.setdefault(architecture, []).append(tag)
    for architecture in timm.list_models():
        lacks = "a pooling of its own: it ends in a feature map" if architecture in UNPOOLED else ""
        for tag in tags.get(architecture, []):
            yield BackboneName("timm", architecture, tag or None), lacks
        if architecture not in tags:
            yield BackboneName("timm", architecture, untrained=True), lacks
