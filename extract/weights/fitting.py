"""Weights from a file into a network: all that it wants, exactly as it wants them, or none."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bb.extract.weights.candidates import Target, TensorGroup, converted, find_candidates
from bb.extract.weights.checkpoint import WeightsFile, locate, printable, read_checkpoint, summarize
from bb.extract.weights.misfit import describe_misfit, faults_of
from bb.store.errors import BBError

_LISTED = 20  # names, where all matter but can be thousands


@dataclass(frozen=True)
class Loaded:
    """How a file's tensors came into a network.

    source: the file
    part: the key and prefix that they stood under, joined with dots; "" for the file's top level
    others: the file's other keys that hold tensors
    dropped: names of the tensors next to them that the network does not have
    rounded: names of the tensors whose values float32 can't hold exactly
    ignored: types of objects in the file that were left out
    """

    source: str
    part: str
    others: tuple[str, ...]
    dropped: tuple[str, ...]
    rounded: tuple[str, ...]
    ignored: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Provenance, as JSON that names no file."""
        counted = {"dropped": self.dropped, "rounded": self.rounded, "ignored": self.ignored}
        return {"part": printable(self.part)} | {
            what: {"count": len(names), "names": [printable(name) for name in names[:_LISTED]]}
            for what, names in counted.items()
            if names
        }

    def describe(self) -> list[str]:
        """What a user should know, a sentence each."""
        sentences = []
        if self.part:
            others = f", not {summarize(self.others)}" if self.others else ""
            sentences.append(f"took the weights under '{printable(self.part)}'{others}")
        if self.dropped:
            sentences.append(f"dropped {len(self.dropped)} other tensors: {summarize(self.dropped, _LISTED)}")
        if self.rounded:
            sentences.append(f"rounded {len(self.rounded)} tensors to float32: {summarize(self.rounded)}")
        if self.ignored:
            sentences.append(
                f"ignored objects of type {summarize(self.ignored, _LISTED)} next to the weights; "
                "to save without them, save model.state_dict() alone"
            )
        return [f"{self.source}: {sentence}" for sentence in sentences]


def load_file(path: str, target: Target) -> Loaded:
    """Load a file, or with PATH#PART the part of it that PART names, into the network.

    Raises BBError, and leaves the network as it was, unless the file holds one set of tensors that fits.
    """
    file, part = locate(path)
    checkpoint = read_checkpoint(file)
    own = target.module.state_dict()
    candidates = list(find_candidates(checkpoint, len(own)))
    if part is not None and not (candidates := [c for c in candidates if c.is_in(part)]):
        raise BBError(f"'{file}' has no part '{part}'. It has {summarize(_parts(checkpoint), _LISTED)}")
    fitting = [candidate for candidate in candidates if not faults_of(candidate, target, own)]
    if not fitting and target.convert is not None:
        more = [c for each in candidates if (c := converted(each, target.convert, own)) is not None]
        fitting = [candidate for candidate in more if not faults_of(candidate, target, own)]
        candidates += more
    if not fitting:
        raise BBError(describe_misfit(path, candidates, target, own))
    chosen = _choose(fitting, path, target, own)
    state = {name: chosen.state[name] for name in own if name in chosen.state}
    target.module.load_state_dict(state, strict=False)
    surplus = (chosen.prefix + name for name in chosen.state if name not in own and name not in chosen.made)
    return Loaded(
        source=str(file),
        part=chosen.part,
        others=tuple(key for key in checkpoint.parts if key not in ("", chosen.key)),
        dropped=tuple(dict.fromkeys((*surplus, *chosen.dropped))),
        rounded=tuple(name for name, tensor in state.items() if _is_rounded(tensor)),
        ignored=checkpoint.ignored,
    )


def is_openais(loaded: Loaded) -> bool:
    """Whether a file is OpenAI's own of CLIP, which holds its input size. No tensor shows that it needs QuickGELU."""
    return any(name.rpartition(".")[2] == "input_resolution" for name in loaded.dropped)


def _choose(fitting: list[TensorGroup], path: str, target: Target, own: Iterable[str]) -> TensorGroup:
    """The first that fits, where all that fit are equal."""
    first, *others = fitting
    if all(_are_equal(first, other, own) for other in others):
        return first
    parts = [printable(candidate.part) or "." for candidate in fitting]
    raise BBError(
        f"'{path}' holds {len(parts)} sets of weights that fit {target.name} and differ: {', '.join(parts)}. "
        f"Choose one with # after the path, for example {path}#{parts[0]}"
    )


def _are_equal(a: TensorGroup, b: TensorGroup, own: Iterable[str]) -> bool:
    pairs = [(a.state.get(name), b.state.get(name)) for name in own]
    return all(x is y or (x is not None and y is not None and torch.equal(x.double(), y.double())) for x, y in pairs)


def _is_rounded(tensor: Tensor) -> bool:
    return tensor.dtype is torch.float64 and bool((tensor.float().double() != tensor).any())


def _parts(checkpoint: WeightsFile) -> list[str]:
    """Keys, and the first names below them."""
    names = ((key, name.partition(".")[0]) for key, state in checkpoint.parts.items() for name in state)
    return list(dict.fromkeys(".".join(filter(None, each)) for each in names))
