"""Backbones by name: which library a name belongs to; only that library is imported."""

from bb.extract.backbones.name import BackboneName
from bb.extract.backbones.suggest import suggesting
from bb.extract.embedding.backbone import Backbone


def check_known(name: BackboneName) -> None:
    """Raises UsageError unless the library knows the architecture and tag. Nothing is built or downloaded."""
    if name.on_hub:
        return
    if name.org == "timm":
        from bb.extract.backbones.load_timm import check_name
    else:
        from bb.extract.backbones.load_open_clip import check_name
    with suggesting(name):
        check_name(name)


def load(name: str | BackboneName, *, seed: int = 0) -> Backbone:
    """The backbone of that name, from whichever library it belongs to; only that library is imported."""
    name = BackboneName.parse(name) if isinstance(name, str) else name
    with suggesting(name):
        if name.org == "timm":
            from bb.extract.backbones import load_timm

            return load_timm.load(name, seed=seed)
        from bb.extract.backbones import load_open_clip

        return load_open_clip.load(name, seed=seed)
