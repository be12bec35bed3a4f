"""A loaded backbone and its decoder, with all that describes what they make: numerics, feature spaces, provenance."""

from dataclasses import dataclass, field
from typing import Any, cast

from torch import nn

from bb.extract.backbones.code_hash import EXTRACT_AT_START
from bb.extract.backbones.device import Numerics
from bb.extract.backbones.feature_spaces import Spaces, feature_spaces
from bb.extract.backbones.name import BackboneName, shared_name
from bb.extract.backbones.pool_grid import GridPooling, Patches
from bb.extract.backbones.registry import load
from bb.extract.embedding.backbone import Backbone
from bb.extract.embedding.decoder import Decoder
from bb.extract.encoder import compile as compiled
from bb.extract.encoder.cost import cost_of
from bb.extract.encoder.encoder import Encoder
from bb.extract.weights.fitting import Loaded
from bb.store.format.space import short
from bb.store.format.tolerance import tolerance_of
from bb.store.versions import versions

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


@dataclass(repr=False)
class Extractor:
    """A backbone with its weights. It goes to the device when it first encodes: finding nothing missing needs no GPU.

    backbone    as in extract/embedding/backbone.py
    spaces      the feature space of `img`, and of `patch` where patch features are asked for
    batch_size  None where it is found
    """

    name: BackboneName
    backbone: Backbone
    decoder: Decoder
    numerics: Numerics
    spaces: Spaces
    batch_size: int | None
    compile: bool
    _encoder: Encoder | None = None
    _cost: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        name: BackboneName,
        decoder: Decoder,
        numerics: Numerics,
        *,
        patch: Patches,
        batch_size: int | None,
        compile: bool,
    ) -> "Extractor":
        """Errors: BBError or UsageError where the backbone can't be had, or has no patches and they are asked for."""
        backbone = load(name)
        spaces = feature_spaces(str(name), backbone, decoder, numerics, patch=patch)
        return cls(name, backbone, decoder, numerics, spaces, batch_size, compile)

    def __repr__(self) -> str:
        spaces = ", ".join(f"{space.kind} space {short(space.key)}" for space in self.spaces)
        return f"Extractor({self.name}, {self.numerics.compute} on {self.numerics.device}, {spaces})"

    def notes(self) -> list[str]:
        """What a user should know of how the weights came into the network."""
        notes = [] if self._loaded is None else self._loaded.describe()
        if self.backbone.architecture.get("resampled"):
            notes.append(f"{self.name}: weights of another resolution, interpolated by timm; the feature space says so")
        return notes

    @property
    def _loaded(self) -> Loaded | None:
        return getattr(self.backbone, "loaded", None)

    def encoder(self) -> Encoder:
        """The network on its device. Its batch size depends on the device alone, never on what is missing."""
        if self._encoder is None:
            self._cost = cost_of(cast(nn.Module, self.backbone), self.backbone.view.crop)
            pooling = GridPooling.of(self.spaces.patch.output) if self.spaces.patch else None
            self._encoder = Encoder.prepare(self.backbone, self.numerics, batch_size=self.batch_size, pooling=pooling)
        return self._encoder

    def offload(self) -> None:
        """Leaves a GPU to others."""
        if self._encoder is not None:
            self._encoder.offload()

    def compile_if_it_repays(self, images: int) -> str:
        """Compiles the network where that saves time over that many images; what was done, in words."""
        shape = (3, *self.backbone.view.crop)
        return compiled.compile_if_it_repays(self.encoder(), shape, images, tolerance_of(self.spaces.img))

    @property
    def provenance(self) -> dict[str, Any]:
        """What each segment says of how it was made, once the encoder is ready. It names no person, host or path."""
        encoder = self.encoder()
        return {
            "backbone": shared_name(self.name),
            **({} if self._loaded is None else {"weights": self._loaded.record()}),
            "device": self.numerics.device_name(),
            "compile": encoder.compiled,
            "batch_size": encoder.size,
            **self._cost,
            "extract": EXTRACT_AT_START,
            "versions": versions(VERSIONS),
        }
