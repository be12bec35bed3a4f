"""Images to features. The hashes of the code are taken before any of its modules runs.

`bb.extract.run(…)` does what `bb extract` does, `bb.extract.load_backbone(…)` loads a backbone and its feature spaces;
importing this package imports no torch.
"""

from typing import TYPE_CHECKING

from bb.extract.backbones.code_hash import AT_START as AT_START
from bb.store.lazy_names import lazy_names

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

lazy_names(
    __name__,
    {
        "ExtractOptions": "extract_options",
        "ModuleBackbone": "backbones.module_backbone",
        "Summary": "extract_options",
        "TextEncoder": "embed_texts",
        "View": "embedding.view",
        "embed_texts": "embed_texts",
        "load_backbone": "facade",
        "open_images": "collection_images",
        "run": "extraction",
    },
)
