"""Weights: read from a file without running anything in it, fitted into a network whole or not at all, and
digested.

A state dict is a mapping from dotted names to tensors. Files are safetensors, or what `torch.save` writes,
read with `weights_only=True`; training checkpoints of open_clip and timm that hold one among other things do
as well.
"""

import argparse
import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from store.errors import BBError

StateDict = dict[str, Tensor]

# Where training scripts put it, in timm's order: averaged weights, which are the ones evaluated, come first.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (64 hex) of a state dict, whatever file it came from and whatever order it is in.

    It covers, for each tensor by name: the name, the kind, the shape, and the values in C order and
    little-endian, as float32 if they are floating-point (kind "f") and as int64 if integers or booleans (kind
    "i").
    """
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        if tensor.is_complex():
            raise TypeError(f"{name} is {tensor.dtype}; only real tensors have a digest")
        kind = "f" if tensor.is_floating_point() else "i"
        values = tensor.to(torch.float32 if kind == "f" else torch.int64).contiguous().numpy()
        # A name can't hold a newline or look like numbers that follow one, so no two states give the same
        # bytes.
        total.update(f"{len(name)}:{name}\n{kind}{list(values.shape)}\n".encode())
        total.update(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data)
    return total.hexdigest()


def load_state_dict(path: str | Path) -> StateDict:
    """The state dict in a file, on the CPU, its names freed of the wrappers that training puts around a
    network.

    It raises BBError, saying what to do, for a file that is missing, damaged, no state dict, or a program.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise BBError(f"there is no file of weights at {path}")
    content = _read(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise BBError(f"{path} holds a {type(content).__name__}, no state dict: save model.state_dict() instead")
    state = {_unwrapped(str(name)): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise BBError(f"{path} holds no tensors under its keys {_some(map(str, content))}: save model.state_dict()")
    return state


def fit(state: Mapping[str, Tensor], module: nn.Module, source: str) -> None:
    """Copy all of `state` into all of `module`, casting to the module's dtypes; `source` names it in a
    message.

    It raises BBError, and leaves the module as it was, unless the tensors have the same names and shapes.
    """
    own = module.state_dict()
    # Batch norms count their batches in a tensor that old files lack and that no feature depends on.
    missing = [name for name in own if name not in state and not name.endswith(".num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    reshaped = [
        f"{name} {list(state[name].shape)} instead of {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    faults = [
        f"{len(names)} {what}: {_some(names)}"
        for names, what in ((missing, "missing"), (unexpected, "unexpected"), (reshaped, "of another shape"))
        if names
    ]
    if faults:
        raise BBError(f"{source} does not fit the architecture ({len(own)} tensors). {'. '.join(faults)}.")
    module.load_state_dict(dict(state), strict=False)


def _read(path: Path) -> object:
    if path.suffix in (".npz", ".npy", ".h5", ".msgpack", ".onnx"):
        raise BBError(f"{path} is no file of PyTorch: convert it to safetensors, with the library's own names")
    with path.open("rb") as file:
        start = file.read(10)
    # A safetensors file begins with the length of its header, which is JSON; one of torch.save is a zip or a
    # pickle.
    if start[8:9] == b"{":
        try:
            return safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise BBError(f"{path} is a damaged safetensors file ({error}): fetch it again") from error
    if _is_torchscript(path):
        raise BBError(
            f"{path} is a TorchScript program, which bb does not run: "
            "if you trust it, save torch.jit.load(PATH).state_dict() with torch.save and give that file"
        )
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm's checkpoints keep their options in one
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            raise BBError(
                f"{path} is a pickle that would run code when read, so bb refuses it: "
                "save the state dict alone, best as safetensors (safetensors.torch.save_file)"
            ) from error
        raise BBError(f"{path} is no state dict that can be read (safetensors or torch.save)") from error
    except Exception as error:  # reading damaged bytes fails in many ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BBError(f"{path} is damaged or no state dict ({reason}): fetch it again") from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _unwrapped(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return name


def _some(names: object, at_most: int = 3) -> str:
    first = list(names)  # type: ignore[call-overload]
    return ", ".join(first[:at_most]) + (", …" if len(first) > at_most else "")
