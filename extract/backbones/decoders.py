"""Decoders by name, bb's own and those of plug-ins (entry points `bb.decoders`), and why one can't work here."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import torch

from bb.extract.embedding.decoder import DecodeOptions, Decoder
from bb.store.errors import BBError, UsageError
from bb.store.plugins import Registry


def pillow(options: DecodeOptions, device: torch.device) -> Decoder:
    from bb.extract.embedding.pillow_decoder import Pillow

    return Pillow(options)


def simplejpeg(options: DecodeOptions, device: torch.device) -> Decoder:
    from bb.extract.embedding.simplejpeg_decoder import SimpleJpeg

    return SimpleJpeg(options)


def nvjpeg(options: DecodeOptions, device: torch.device) -> Decoder:
    if device.type != "cuda":
        raise UsageError(
            f"--decode nvjpeg works on an NVIDIA GPU, and the device is {device.type}: choose auto, or --device cuda."
        )
    from bb.extract.embedding.nvjpeg_decoder import NvJpeg

    return NvJpeg(device, options)


DECODERS: Registry[Callable[[DecodeOptions, torch.device], Decoder]] = Registry(
    "bb.decoders",
    "decoder",
    {name: f"bb.extract.backbones.decoders:{name}" for name in ("simplejpeg", "pillow", "nvjpeg")},
)
DEFAULT = "simplejpeg"


def find_decoder(options: DecodeOptions, device: torch.device) -> Decoder:
    """The decoder that is asked for; `device` is where the networks run.

    Raises UsageError for a name that is unknown or a decoder that can't work there.
    """
    name = DEFAULT if options.name == "auto" else options.name
    if name not in DECODERS:
        raise UsageError(f"--decode {name} is unknown: choose auto, {', '.join(DECODERS)}.")
    if find_spec("simplejpeg") is None:  # which finds damage for all of them
        raise UsageError(f"--decode {name} needs simplejpeg: pip install 'backbone-bench[extract]'.")
    return DECODERS[name](replace(options, name=name), device)


def usable(device: torch.device) -> dict[str, str]:
    """All decoders by name, each with the reason why it can't work here; empty where it can."""
    reasons = {}
    for name in DECODERS:
        try:
            find_decoder(DecodeOptions(name), device)
            reasons[name] = ""
        except BBError as error:
            reasons[name] = str(error)
    return reasons
