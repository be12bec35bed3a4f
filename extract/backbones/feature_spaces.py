"""From a loaded backbone to the feature spaces that it fills."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bb.extract.backbones.code_hash import AT_START, tree_hash
from bb.extract.backbones.decoders import DECODERS
from bb.extract.backbones.device import Numerics
from bb.extract.backbones.libraries import LIBRARIES
from bb.extract.backbones.pool_grid import Patches, pooled_output
from bb.extract.embedding import weights
from bb.extract.embedding.backbone import Backbone
from bb.extract.embedding.decoder import Decoder
from bb.store import BBError, FeatureSpace, UsageError


@dataclass(frozen=True)
class Spaces:
    """The feature spaces of one pass: image features, and patch features where they are asked for."""

    img: FeatureSpace
    patch: FeatureSpace | None

    def __iter__(self) -> Iterator[FeatureSpace]:
        return iter((self.img,) if self.patch is None else (self.img, self.patch))


def feature_spaces(name: str, backbone: Backbone, decoder: Decoder, numerics: Numerics, *, patch: Patches) -> Spaces:
    """The spaces of a backbone that gets its pixels from a decoder.

    patch  whether there is one of patch features, and of which grid
    Raises UsageError where patch features are asked of a network that has none, BBError where the files of this
    package are no longer those that run.
    """
    if patch and backbone.patch_output is None:
        raise UsageError(f"{name} has no patch features: its tokens form no grid of patches. Leave out --patch.")
    if tree_hash() != AT_START:
        raise BBError("the files of extract/ changed while bb ran, so what it makes has no name: run it again.")
    shared: dict[str, Any] = {
        "org": backbone.org,
        "architecture": backbone.architecture,
        "weights": weights.digest(backbone.vision_state()),
        "view": backbone.view.record(decoder.options),
        "numerics": numerics.record(),
        "code": "+".join([AT_START, *_plugin_hashes(backbone, decoder)]),
    }
    img = FeatureSpace(output=backbone.img_output, **shared)
    if not patch:
        return Spaces(img, None)
    output = backbone.patch_output or {}
    if not isinstance(patch, bool):
        output = pooled_output(name, output, patch)
    return Spaces(img, FeatureSpace(output=output, **shared))


def _plugin_hashes(backbone: Backbone, decoder: Decoder) -> list[str]:
    """Of the plug-ins that made the backbone and the decoder, the hash of each package's files."""
    kinds = (LIBRARIES.plugins.get(backbone.org), DECODERS.plugins.get(decoder.options.name))
    return [plugin.tree_hash() for plugin in kinds if plugin is not None and not plugin.own]
