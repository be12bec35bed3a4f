"""What a decoder is: the contract that extract/pillow.py and others fulfil, from a file's bytes to a network's pixels.

Decoders that are not bit-equal make different features of one file, so the name is part of the feature space. All of
them refuse the same files in the same words.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from extract.geometry import Geometry
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


def _pillow(device: torch.device) -> Decoder:
    from extract.pillow import Pillow

    return Pillow()


DECODERS: dict[str, Callable[[torch.device], Decoder]] = {"pillow": _pillow}
DEFAULT = "pillow"


def find_decoder(name: str, device: torch.device) -> Decoder:
    """The decoder of that name, "auto" for the default; `device` is where the networks run.

    Raises UsageError for a name that is unknown or a decoder that can't work there.
    """
    make = DECODERS.get(DEFAULT if name == "auto" else name)
    if make is None:
        raise UsageError(f"--decode {name} is unknown: choose auto, {', '.join(DECODERS)}.")
    return make(device)
