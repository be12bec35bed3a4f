"""`bb.extract.load_backbone`: what `bb extract` does before it embeds, as a call that prints nothing."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from bb.extract.backbones.decoders import find_decoder
from bb.extract.backbones.device import Numerics
from bb.extract.backbones.name import OWN_POOL, BackboneName, parse_pool
from bb.extract.backbones.pool_grid import parse_patches
from bb.extract.embedding.decoder import DecodeOptions
from bb.extract.pipeline.extractor import Extractor
from bb.store.reporter import Reporter, Silent


def load_backbone(
    ckpt: str,
    *,
    pool: str = OWN_POOL,
    patch: bool = False,
    pool_grid: str | None = None,
    decode: str = "auto",
    depth: int = DecodeOptions.depth,
    damaged: str = "embed",
    device: str = "auto",
    precision: str = "auto",
    store_dtype: str = "auto",
    batch_size: int | None = None,
    compile: bool = False,
    reporter: Reporter | None = None,
) -> Extractor:
    """A frozen backbone with its weights, and the feature spaces that `bb extract` would fill with it.

    The arguments are the options of that verb; a batch size of None is its `auto`. Weights that are not in the cache
    are downloaded. Nothing goes to the device before images are embedded.

    Raises UsageError for a name or a value that is unknown, BBError where weights can't be fetched or don't fit.
    """
    name = replace(BackboneName.parse(ckpt), pool=parse_pool(pool))
    numerics = Numerics.resolve(device, precision, store_dtype)
    decoder = find_decoder(DecodeOptions.parse(decode, depth, damaged), numerics.device)
    with _no_bars():
        patches = parse_patches(patch, pool_grid)
        loaded = Extractor.load(name, decoder, numerics, patch=patches, batch_size=batch_size, compile=compile)
    for note in loaded.notes():
        (reporter or Silent()).info(note)
    return loaded


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Downloads draw no progress bars."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()
