"""Which device and which number formats an extraction computes with."""

import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from store import UsageError

COMPUTE = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
STORED = ("float16", "float32")


@dataclass(frozen=True)
class Numerics:
    """Device, compute precision ("fp32", "bf16", "fp16") and stored dtype ("float16", "float32")."""

    device: torch.device
    compute: str
    stored: str

    @classmethod
    def resolve(cls, device: str = "auto", precision: str = "auto", store_dtype: str = "auto") -> "Numerics":
        """Fills in what is "auto". Raises UsageError for a device that is not there or an unknown number format."""
        where = _find_device(device)
        compute = precision
        if compute == "auto":
            compute = "bf16" if where.type == "cuda" else "fp32"
        stored = store_dtype
        if stored == "auto":
            stored = "float32" if compute == "fp32" else "float16"
        if compute not in COMPUTE:
            raise UsageError(f"--precision {precision} is unknown: choose auto, {', '.join(COMPUTE)}.")
        if stored not in STORED:
            raise UsageError(f"--store-dtype {store_dtype} is unknown: choose auto, {', '.join(STORED)}.")
        return cls(where, compute, stored)

    def record(self) -> dict[str, str]:
        """What of this belongs to the feature space; the device is provenance."""
        return {"compute": self.compute, "stored": self.stored}

    def autocast(self) -> AbstractContextManager[Any]:
        """The context a forward pass runs in."""
        if self.compute == "fp32":
            # cuDNN would otherwise round the inputs of convolutions to TF32, which is not fp32.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        return torch.autocast(self.device.type, COMPUTE[self.compute], enabled=self.compute != "fp32")

    def device_name(self) -> str:
        """The device in words, for provenance."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.device.type} ({platform.machine()})"


def _find_device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name} is unknown: choose auto, cpu, cuda, cuda:N or mps.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices. See `bb doctor`.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: this torch has no Metal. See `bb doctor`.")
    if device.type not in ("cuda", "mps", "cpu"):
        raise UsageError(f"--device {name} is unknown: choose auto, cpu, cuda, cuda:N or mps.")
    return device
