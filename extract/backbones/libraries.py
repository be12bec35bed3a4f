"""The libraries whose backbones --ckpt names: bb's own two, and those of plug-ins (entry points `bb.backbones`)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from bb.store.plugins import Registry

if TYPE_CHECKING:  # names are parsed without torch
    from bb.extract.embedding.backbone import Backbone


class Library(Protocol):
    """A module or an object that loads backbones by name. `name` is the parsed `--ckpt`, a `BackboneName`."""

    def check_name(self, name: Any) -> None:
        """Raises UsageError for an architecture or tag that is unknown. Builds and downloads nothing."""
        ...

    def load(self, name: Any, *, seed: int = 0) -> "Backbone":
        """The frozen backbone on the CPU; its `org` is the library's name in the registry.

        seed  decides the weights of an untrained one

        Raises UsageError for a name that is unknown, BBError where weights can't be fetched or don't fit.
        """
        ...

    def names(self) -> Mapping[str, str]:
        """What can be extracted, as --ckpt takes it, each with what is missing to build it; empty where it builds."""
        ...


LIBRARIES: Registry[Library] = Registry(
    "bb.backbones",
    "library of backbones",
    {"open_clip": "bb.extract.backbones.load_open_clip", "timm": "bb.extract.backbones.load_timm"},
    needs=("check_name", "load", "names"),
)
