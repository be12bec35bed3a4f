"""Images to features. The hashes of the code are taken before any of its modules runs.

`bb.extract.run(…)` does what `bb extract` does, `bb.extract.load_backbone(…)` loads a backbone and its feature spaces;
importing this package imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bb.extract.backbones.code_hash import AT_START as AT_START

if TYPE_CHECKING:
    from bb.extract.backbones.module_backbone import ModuleBackbone as ModuleBackbone
    from bb.extract.collection_images import open_images as open_images
    from bb.extract.embed_texts import TextEncoder as TextEncoder
    from bb.extract.embed_texts import embed_texts as embed_texts
    from bb.extract.embedding.view import View as View
    from bb.extract.extract_options import ExtractOptions as ExtractOptions
    from bb.extract.extract_options import Summary as Summary
    from bb.extract.extraction import run as run
    from bb.extract.facade import load_backbone as load_backbone

_HOMES = {
    **{
        "ExtractOptions": "extract_options",
        "Summary": "extract_options",
        "run": "extraction",
        "load_backbone": "facade",
    },
    **{"TextEncoder": "embed_texts", "embed_texts": "embed_texts"},
    "open_images": "collection_images",
    **{"ModuleBackbone": "backbones.module_backbone", "View": "embedding.view"},
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"bb.extract.{_HOMES[name]}"), name)
