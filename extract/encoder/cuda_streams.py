"""Two CUDA streams next to the one that computes: batches come on one, features go on the other.

Copies run while kernels do, provided that memory on this side is page-locked and that nobody waits for the device
between batches. PyTorch's allocators know of `record_stream` and of page-locked blocks under way, and give neither out
again too early. See "CUDA semantics" in PyTorch's notes, "Use pinned memory buffers" and "CUDA streams".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TRIES = 3


@dataclass(frozen=True)
class Streams:
    """Of one GPU. `cuda` is torch.cuda, or what stands in for it where there is no GPU."""

    device: torch.device
    there: Any
    back: Any
    cuda: Any

    @classmethod
    def of(cls, device: torch.device, cuda: Any = torch.cuda) -> "Streams":
        return cls(device, cuda.Stream(device), cuda.Stream(device), cuda)

    def bring(self, batch: Tensor) -> Tensor:
        """A batch from page-locked memory on the device, which kernels launched from now on can use."""
        computing = self.cuda.current_stream(self.device)
        with self.cuda.stream(self.there):
            moved = batch.to(self.device, non_blocking=True)
        computing.wait_stream(self.there)
        if moved.is_cuda:
            moved.record_stream(computing)
        return moved

    def fetch(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
        """Page-locked memory in which these tensors will stand, and the event that says when."""
        self.back.wait_stream(self.cuda.current_stream(self.device))
        fetched = []
        with self.cuda.stream(self.back):
            for tensor in tensors:
                pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
                fetched.append(pinned.copy_(tensor, non_blocking=True))
                if tensor.is_cuda:
                    tensor.record_stream(self.back)
            arrived = self.cuda.Event()
            arrived.record(self.back)
        return fetched, arrived

    def mark(self) -> Any:
        """An event in what is being computed, whose time can be read."""
        event = self.cuda.Event(enable_timing=True)
        event.record(self.cuda.current_stream(self.device))
        return event

    def seconds(self, work: Callable[[], object]) -> float:
        """What some work takes the device, once it is warm: the least of three times."""
        work()
        least = float("inf")
        for _ in range(TRIES):
            start = self.mark()
            work()
            end = self.mark()
            end.synchronize()
            least = min(least, start.elapsed_time(end) / 1000)
        return least
