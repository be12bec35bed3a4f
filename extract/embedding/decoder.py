"""What a decoder is: the contract from a file's bytes to a network's pixels, with one implementation per file.

Decoders that are not bit-equal make different features of one file, so the name is part of the feature space. All of
them refuse the same files, and name the same ones as damaged, in the same words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from bb.extract.embedding.geometry import Geometry
from bb.extract.embedding.images import DecodedImage, Header, UnreadableImage
from bb.extract.embedding.rgb import SMALLEST, WHOLE
from bb.store.errors import UsageError

Picture = Any  # whatever form a decoder keeps it in


@dataclass(frozen=True)
class DecodeOptions:
    """How files become pixels, as a person asks for it; parsed once.

    name            of a decoder; "auto" is the default
    depth           bits of a 16-bit sample that are in use, where a file does not say
    refuse_damaged  whether a picture that is damaged counts as unreadable

    Name and depth decide features and stand in the feature space.
    """

    name: str = "auto"
    depth: int = WHOLE
    refuse_damaged: bool = False

    @classmethod
    def parse(cls, name: str, depth: int, damaged: str) -> "DecodeOptions":
        """Raises UsageError for a depth that can't be, or another word than embed and refuse."""
        if not SMALLEST <= depth <= WHOLE:
            raise UsageError(f"--depth '{depth}' is not from {SMALLEST} to {WHOLE}: give the bits in use, such as 12.")
        if damaged not in ("embed", "refuse"):
            raise UsageError(f"--damaged {damaged!r} is unknown: choose embed or refuse.")
        return cls(name, depth, damaged == "refuse")

    @classmethod
    def of_view(cls, view: Mapping[str, Any]) -> "DecodeOptions":
        """Those that a feature space's view records."""
        words = str(view.get("depth_16_bit", "")).split()
        depth = int(words[0]) if words and words[0].isdecimal() else WHOLE
        return cls(str(view.get("decoder", "auto")), min(max(depth, SMALLEST), WHOLE))

    def record(self) -> dict[str, str]:
        """What of it belongs to a feature space's view."""
        return {"decoder": self.name, "depth_16_bit": "high byte" if self.depth == WHOLE else f"{self.depth} bits"}


@runtime_checkable
class Decoder(Protocol):
    """Turns files into pictures, and pictures into pixels. Safe in threads, and quick in them: both methods let the
    interpreter lock go where they work.

    options: its name is as `--decode` takes it and the feature space's view records it, never "auto"
    """

    @property
    def options(self) -> DecodeOptions: ...

    def decode(self, data: bytes, header: Header | None = None) -> DecodedImage:
        """The picture in an image file, upright, in a form of the decoder's own; once per image.

        header: what extract/embedding/images.py reads from the file, where the caller has it already

        Raises UnreadableImage (extract/embedding/images.py), and nothing else, whatever the bytes are.
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

    def decode_batch(self, files: Sequence[bytes]) -> list[DecodedImage | UnreadableImage]:
        """For each file what `decode` would return or raise."""
        ...
