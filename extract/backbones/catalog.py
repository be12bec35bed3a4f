"""What can be extracted, for `bb models [PATTERN]`: names as --ckpt takes them. Nothing is built to list
them."""

import fnmatch
from typing import TypedDict

from bb.extract.backbones.libraries import LIBRARIES


class CatalogEntry(TypedDict):
    """A backbone that the installed libraries know.

    name: as --ckpt takes it
    `lacks`: what is missing to build it; empty where it builds
    """

    name: str
    lacks: str


def entries(pattern: str = "") -> list[CatalogEntry]:
    """Every pretrained backbone of open_clip, timm and the plug-ins that can be imported, and as untrained every
    architecture that has no weights.

    pattern: part of a name, or with any of * ? [ a pattern for the whole of it; case does not matter

    Each architecture of open_clip and timm can be had as ARCH/untrained and ARCH@PATH as well.
    """
    libraries = LIBRARIES.usable().values()
    return [
        CatalogEntry(name=name, lacks=lacks)
        for library in libraries
        for name, lacks in library.names().items()
        if _matches(name, pattern)
    ]


def _matches(name: str, pattern: str) -> bool:
    name, pattern = name.lower(), pattern.lower()
    return fnmatch.fnmatchcase(name, pattern) if set("*?[") & set(pattern) else pattern in name
