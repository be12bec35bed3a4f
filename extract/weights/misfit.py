"""Why tensors are not exactly what a network wants, and what to do about it.

Tensors that the network has no place for may be dropped if they belong to a part that it does not have at all: a
classifier, a text tower, a loss. Tensors of a part that it has (a block too many, a layer scale) show that the weights
are another architecture's.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from bb.extract.weights.candidates import COUNT, Target, TensorGroup
from bb.extract.weights.checkpoint import StateDict, printable, summarize

Faults = dict[str, list[str]]

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_UNUSED = {"mask_token"}  # stands for masked patches in training; embedding an image masks none
_QUANTIZED = {"zero_point", "zero_points", "qweight", "qzeros", "absmax", "weight_scale"}  # names' ends
_POSITIONS = ("pos_embed", "positional_embedding", "pos_emb", "rel_pos", "relative_position", "patch_embed")

MISSING, UNEXPECTED, SHAPE, TYPE = "missing", "unexpected", "of another shape", "of another type"
BROKEN = "with NaN or infinite values"


def faults_of(candidate: TensorGroup, target: Target, own: StateDict) -> Faults:
    """Names of the tensors that do not fit, by kind of fault; empty where all do. `own` is the network's state dict."""
    state = candidate.state
    both = [name for name in own if name in state and name not in candidate.made | candidate.resampled.keys()]
    shapes = {name: state[name].shape for name in both if state[name].shape != own[name].shape}
    shapes.update(candidate.resampled)
    faults = {
        MISSING: [name for name in own if _is_missing(name, candidate)],
        UNEXPECTED: [name for name in state if name not in own and _is_of(name, target)],
        SHAPE: [f"{name} {list(shape)} instead of {list(own[name].shape)}" for name, shape in shapes.items()],
        TYPE: [
            f"{name} {_type(state[name])} instead of {_type(own[name])}"
            for name in both
            if not _is_of_type(state[name], own[name])
        ],
    }
    if not any(faults.values()):
        faults[BROKEN] = [name for name in both if _is_broken(state[name], own[name])]
    return {kind: names for kind, names in faults.items() if names}


def describe_misfit(path: str, candidates: list[TensorGroup], target: Target, own: StateDict) -> str:
    """What keeps the nearest candidate from fitting, and what to try."""

    def nearness(candidate: TensorGroup) -> tuple[int, int]:
        shared = [name for name in candidate.state if name in own]
        return sum(candidate.state[name].shape == own[name].shape for name in shared), len(shared)

    best = max(candidates, key=nearness)
    faults = faults_of(best, target, own)
    listed = ". ".join(f"{len(names)} {kind}: {summarize(names)}" for kind, names in faults.items())
    under = f", taking what is under '{printable(best.part)}'" if best.part else ""
    return (
        f"'{path}' does not fit the architecture of {target.name} ({len(own)} tensors){under}. {listed}. "
        f"{_advise(best, faults, own)}"
    )


def _advise(candidate: TensorGroup, faults: Mapping[str, list[str]], own: StateDict) -> str:
    if BROKEN in faults:
        return "The weights are damaged: take another checkpoint"
    if TYPE in faults or any(name.rpartition(".")[2] in _QUANTIZED for name in candidate.state):
        return "Save the weights as float32, float16 or bfloat16; quantized ones need their scales"
    shaped = faults.get(SHAPE, [])
    if shaped and all(any(word in name for word in _POSITIONS) for name in shaped):
        return (
            "The weights are of another resolution or patch size, and bb does not resample them: name the architecture "
            "of that size (`bb models PATTERN` lists architectures)"
        )
    if MISSING in faults and _is_renamed(candidate, own):
        return (
            "Its tensors have the architecture's shapes, in order, under other names. If both networks are the same, "
            "rename them: torch.save(dict(zip(model.state_dict(), state.values())), NEW), model being the architecture "
            "with its classifier and state the file's tensors; then compare the features of both"
        )
    return "Name the architecture that the weights were made for (`bb models PATTERN` lists architectures)"


def _is_renamed(candidate: TensorGroup, own: StateDict) -> bool:
    shapes = [tensor.shape for tensor in candidate.state.values()]
    return shapes[: len(own)] == [tensor.shape for tensor in own.values()]


def _is_missing(name: str, candidate: TensorGroup) -> bool:
    if name in candidate.resampled or name.endswith(f".{COUNT}"):
        return False
    return name not in candidate.state or name in candidate.made


def _is_of(name: str, target: Target) -> bool:
    """Whether a surplus tensor is of a part that the network has, so that its features would differ without it."""
    first = name.partition(".")[0]
    if first in _UNUSED or name.endswith(f".{COUNT}") or _is_classifier(name, target):
        return False
    parts = [child for child, _ in target.module.named_children()]
    parts += [parameter for parameter, _ in target.module.named_parameters(recurse=False)]
    return _stem(first) in map(_stem, parts) or hasattr(target.module, first)


def _is_classifier(name: str, target: Target) -> bool:
    return any(name.startswith(f"{tensor.rpartition('.')[0]}.") for tensor in target.classifier)


def _stem(name: str) -> str:
    """A name without its number: `layer` for `layer4`."""
    return name.rstrip("0123456789_")


def _is_of_type(given: Tensor, wanted: Tensor) -> bool:
    """Floating point for floating point, of the kinds whose values float32 stands for; integers for integers."""
    if given.layout != torch.strided or given.is_quantized or given.is_meta:
        return False
    if wanted.is_floating_point():
        return given.dtype in _FLOATS
    return (
        not given.is_floating_point()
        and not given.is_complex()
        and (given.dtype is torch.bool) == (wanted.dtype is torch.bool)
    )


def _type(tensor: Tensor) -> str:
    special = "without values, " if tensor.is_meta else "" if tensor.layout == torch.strided else "sparse, "
    return special + str(tensor.dtype).removeprefix("torch.")


def _is_broken(given: Tensor, wanted: Tensor) -> bool:
    """Whether values are NaN or infinite in float32 where those of a fresh network are not; a mask may hold them."""
    return given.is_floating_point() and bool((~given.float().isfinite() & wanted.isfinite()).any())
