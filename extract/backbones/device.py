"""Which device and which number formats an extraction computes with."""

import platform
from dataclasses import dataclass

import torch

from bb.extract.embedding.forward import COMPUTE
from bb.store import UsageError

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
