"""A loaded backbone and its decoder, with all that describes what they make: numerics, feature spaces, provenance."""

from dataclasses import dataclass
from typing import Any

from extract import compiled
from extract.backbone import Backbone, load
from extract.decoder import Decoder
from extract.device import Numerics
from extract.encoder import Encoder
from extract.name import BackboneName, shared_name
from extract.space import Spaces, feature_spaces
from store.tolerance import tolerance_of
from store.versions import versions

VERSIONS = (
    "backbone-bench",
    "torch",
    "torchvision",
    "timm",
    "open_clip_torch",
    "pillow",
    "simplejpeg",
    "numpy",
    "zarr",
)


@dataclass
class Extractor:
    """Goes to the device when it is first asked to encode: finding that nothing is missing needs no GPU."""

    name: BackboneName
    backbone: Backbone
    decoder: Decoder
    numerics: Numerics
    spaces: Spaces
    batch_size: int | None
    compile: bool
    _encoder: Encoder | None = None

    @classmethod
    def load(
        cls,
        name: BackboneName,
        decoder: Decoder,
        numerics: Numerics,
        *,
        patch: bool,
        batch_size: int | None,
        compile: bool,
    ) -> "Extractor":
        """Errors: BBError or UsageError where the backbone can't be had, or has no patches and they are asked for."""
        backbone = load(name)
        spaces = feature_spaces(str(name), backbone, decoder, numerics, patch=patch)
        return cls(name, backbone, decoder, numerics, spaces, batch_size, compile)

    def encoder(self) -> Encoder:
        """The network on its device. Its batch size hangs on the device alone, never on what is missing."""
        if self._encoder is None:
            self._encoder = Encoder.prepare(self.backbone, self.numerics, batch_size=self.batch_size)
        return self._encoder

    def rest(self) -> None:
        """Leaves a GPU to others."""
        if self._encoder is not None:
            self._encoder.leave()

    def compile_if_it_repays(self, images: int) -> str:
        """Compiles the network where that saves time over so many images; what was done, in words."""
        shape = (3, *self.backbone.view.crop)
        return compiled.compile_if_it_repays(self.encoder(), shape, images, tolerance_of(self.spaces.img))

    @property
    def provenance(self) -> dict[str, Any]:
        """What each segment says of its making. It names no person, host or path.

        batch_size  null where nothing was computed yet
        """
        return {
            "backbone": shared_name(self.name),
            "device": self.numerics.device_name(),
            "compile": self._encoder is not None and self._encoder.compiled,
            "batch_size": self._encoder and self._encoder.size,
            "versions": versions(VERSIONS),
        }
