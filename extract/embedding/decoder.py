"""What a decoder is: the contract that extract/pillow.py and others fulfil, from a file's bytes to a network's pixels.

Decoders that are not bit-equal make different features of one file, so the name is part of the feature space. All of
them refuse the same files in the same words.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from extract.geometry import Geometry
from extract.images import UnreadableImage
from store import UsageError

Picture = Any  # whatever form a decoder keeps it in


@runtime_checkable
class Decoder(Protocol):
    """Turns files into pictures, and pictures into pixels. Safe in threads, and quick in them: both methods let the
    interpreter lock go where they work.

    name: as `--decode` takes it and the feature space's view records it
    """

    @property
    def name(self) -> str: ...

    def decode(self, data: bytes) -> Picture:
        """The picture in an image file, upright, in a form of the decoder's own; once per image.

        Raises UnreadableImage (extract/images.py), and nothing else, whatever the bytes are.
        """
        ...

    def cut(self, picture: Picture, geometry: Geometry) -> UInt8[Tensor, "3 h w"]:
        """The pixels that a view of this geometry normalises, in any memory format; once per distinct geometry.

        It leaves the picture as it was. Raises UnreadableImage for a picture so elongated that resizing it would fill
        the memory.
        """
        ...


@runtime_checkable
class BatchDecoder(Protocol):
    """A decoder that is quicker at many files in one call than at one in each; its pictures lie on a device.

    batch: files in a call that pay
    """

    @property
    def batch(self) -> int: ...

    def decode_batch(self, files: Sequence[bytes]) -> list[Picture | UnreadableImage]:
        """For each file what `decode` would return or raise."""
        ...


def _pillow(device: torch.device) -> Decoder:
    from extract.pillow import Pillow

    return Pillow()


def _simplejpeg(device: torch.device) -> Decoder:
    _require_simplejpeg("simplejpeg")
    from extract.simplejpeg import SimpleJpeg

    return SimpleJpeg()


def _nvjpeg(device: torch.device) -> Decoder:
    if device.type != "cuda":
        raise UsageError(
            f"--decode nvjpeg works on an NVIDIA GPU, and the device is {device.type}: choose auto, or --device cuda."
        )
    _require_simplejpeg("nvjpeg")
    from extract.nvjpeg import NvJpeg

    return NvJpeg(device)


def _require_simplejpeg(name: str) -> None:
    if find_spec("simplejpeg") is None:
        raise UsageError(
            f"--decode {name} needs simplejpeg: pip install 'backbone-bench[extract]'. --decode pillow does without, "
            f"and makes a feature space of its own."
        )


DECODERS: dict[str, Callable[[torch.device], Decoder]] = {
    "simplejpeg": _simplejpeg,
    "pillow": _pillow,
    "nvjpeg": _nvjpeg,
}
DEFAULT = "simplejpeg"


def find_decoder(name: str, device: torch.device) -> Decoder:
    """The decoder of that name, "auto" for the default; `device` is where the networks run.

    Raises UsageError for a name that is unknown or a decoder that can't work there.
    """
    make = DECODERS.get(DEFAULT if name == "auto" else name)
    if make is None:
        raise UsageError(f"--decode {name} is unknown: choose auto, {', '.join(DECODERS)}.")
    return make(device)


def usable(device: torch.device) -> dict[str, str]:
    """All decoders by name, each with the reason why it can't work here; empty where it can."""
    reasons = {}
    for name in DECODERS:
        try:
            find_decoder(name, device)
            reasons[name] = ""
        except UsageError as error:
            reasons[name] = str(error)
    return reasons
