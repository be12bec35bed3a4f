"""What a user may have meant by a name that the library does not have: the other library's, a repository, a file."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

from bb.extract.backbones.name import BackboneName, UnknownArchitecture
from bb.store.errors import UsageError

_FILES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar")


@contextmanager
def suggesting(name: BackboneName) -> Iterator[None]:
    """Add to the error for an unknown architecture what would be known."""
    try:
        yield
    except UnknownArchitecture as error:
        meant = _meant(name)
        raise UsageError(f"{name}: {meant}. Otherwise: {error}" if meant else str(error)) from None


def _meant(name: BackboneName) -> str:
    text = str(name).partition(":")[2]
    if PurePath(text).suffix in _FILES and name.path is None:
        return f"for a file of weights, write ARCH@{text}, ARCH being its architecture"
    if (other := _of_the_other_library(name)) is not None:
        return f"write {other}, since {name.architecture} is an architecture of {other.org}"
    if name.org == "open_clip" and name.tag is not None and name.path is None and not name.untrained:
        return f"for the repository {text} on the hub, write open_clip:hf-hub:{text} or timm:hf-hub:{text}"
    return ""


def _of_the_other_library(name: BackboneName) -> BackboneName | None:
    """The same name for the other library, where that has the architecture."""
    org = "timm" if name.org == "open_clip" else "open_clip"
    if org == "timm":
        import timm

        architecture, _, tag = name.architecture.partition(".")
        known = timm.list_models()
    else:
        import open_clip

        architecture, tag, known = name.architecture, "", open_clip.list_models()
    if architecture not in known:
        return None
    return dataclasses.replace(name, org=org, architecture=architecture, tag=tag or name.tag)
