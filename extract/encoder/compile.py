"""Compiling a network, where that repays itself within the available images and changes nothing that counts."""

import torch

from bb.extract.encoder.encoder import Encoder
from bb.store.format.tolerance import relative_distance

COST = 20.0  # seconds that torch.compile takes at least, for networks that are worth it
GAIN = 0.5  # of the time, what it saves at most


def compile_if_it_repays(encoder: Encoder, shape: tuple[int, ...], images: int, tolerance: float) -> str:
    """Compiles the network of an encoder, or leaves it as it is; what was done and why, in words.

    shape      of an image's pixels
    images     how many there are to embed
    tolerance  what the features of one image may differ by, as in store/format/tolerance.py
    """
    encoder.to_device()  # others may have had its place
    drawn = torch.Generator().manual_seed(0)
    batch = torch.randint(256, (encoder.size, *shape), dtype=torch.uint8, generator=drawn)
    expected, _ = encoder(batch)
    before = encoder.seconds(batch)
    whole = images / encoder.size * before
    if whole * GAIN < COST:
        return f"not compiled: {images} images take {whole:.0f} s as it is, which a compilation can't repay"
    as_it_was = encoder.run
    try:
        encoder.run = torch.compile(as_it_was)
        made, _ = encoder(batch)
        after = encoder.seconds(batch)
    except Exception as error:  # whatever a compiler and its tools may run into
        encoder.run = as_it_was
        return f"not compiled: torch.compile failed ({' '.join(str(error).split())[:120] or type(error).__name__})"
    distance = float(relative_distance(made, expected).max())
    if distance > tolerance:
        encoder.run = as_it_was
        return f"not compiled: its features would differ by {distance:.2g}, where {tolerance:g} is allowed"
    if after >= before:
        encoder.run = as_it_was
        return f"not compiled: a batch would take {after:.3f} s instead of {before:.3f} s"
    encoder.compiled = True
    return f"compiled: a batch takes {after:.3f} s instead of {before:.3f} s"
