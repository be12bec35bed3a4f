"""Runs a backbone over batches of one constant size, which it finds on a GPU and lowers when memory runs out.

On a GPU nothing waits for anything else: batches come from page-locked memory on a stream of their own, kernels are
launched ahead, features go back on a third stream, and only who writes them waits for them.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from bb.extract.backbones.device import Numerics
from bb.extract.backbones.pool_grid import GridPooling
from bb.extract.embedding.backbone import Backbone, EncodedImgBatch
from bb.extract.embedding.forward import forward, is_convolutional, memory_format, out_of_memory, stack
from bb.extract.encoder import batch_size as sizes
from bb.extract.encoder.cuda_streams import Streams
from bb.store import BBError, UsageError

Features = tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n p dp"] | None]


def parse_batch_size(size: str | int) -> int | None:
    """`--batch-size` as a number, None for auto. Raises UsageError for anything else."""
    text = str(size)
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) == 0:
        raise UsageError(f"--batch-size {text} is not a number of images: give one from 1 up, or auto.")
    return int(text)


@dataclass(frozen=True)
class PendingFeatures:
    """Features of a batch, which the device may still be computing.

    parts    img and patch features, each of a forward pass
    arrived  the events after which they are there
    spans    events before and after each forward pass
    pooling  of patch features, once they are on the CPU
    """

    parts: list[tuple[Tensor, Tensor | None]]
    arrived: list[Any]
    spans: list[tuple[Any, Any]]
    pooling: GridPooling | None = None

    def wait(self) -> Features:
        """Image and patch features, float32, on the CPU."""
        for event in self.arrived:
            event.synchronize()
        img = [img.float().numpy() for img, _ in self.parts]
        patch = [patch.float().numpy() for _, patch in self.parts if patch is not None]
        patch = [self.pooling(tokens) for tokens in patch] if self.pooling else patch
        if len(img) == 1:
            return img[0], patch[0] if patch else None
        return np.concatenate(img), np.concatenate(patch) if patch else None

    def seconds(self) -> float:
        """What the forward passes took a GPU, once they are over; 0 elsewhere."""
        return sum(start.elapsed_time(end) for start, end in self.spans) / 1000


@dataclass
class Encoder:
    """`size` is what every forward pass gets: a short batch is filled up with zeros.

    One constant shape means that a compiled network is compiled once, and that an image's feature does not depend on
    how many images happened to be left, since kernels are chosen by shape. Several threads may call it.

    run            normalised pixels on the device, to features
    normalise      pixels from 0 to 255, to what the network takes
    convolutional  whether a pixel's channels should lie side by side
    streams        of a GPU
    weights, work  bytes that the network takes on a GPU, and that it takes in addition to work
    pooling        of patch features
    """

    run: Callable[[Tensor], EncodedImgBatch]
    normalise: Callable[[Tensor], Tensor]
    numerics: Numerics
    size: int
    auto: bool
    convolutional: bool = False
    streams: Streams | None = None
    network: nn.Module | None = None
    weights: int = 0
    work: int = 0
    pooling: GridPooling | None = None
    compiled: bool = False
    _first: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _ran: bool = False

    @classmethod
    def prepare(
        cls, backbone: Backbone, numerics: Numerics, *, batch_size: int | None, pooling: GridPooling | None = None
    ) -> "Encoder":
        """Moves the backbone to the device and settles the batch size (None: found on a GPU, of the view elsewhere)."""
        network = cast(nn.Module, backbone)
        convolutional = is_convolutional(network)
        if convolutional:
            network.to(memory_format=torch.channels_last)
        streams = Streams.of(numerics.device) if numerics.device.type == "cuda" else None
        size, auto = batch_size or sizes.on_cpu(*backbone.view.crop), batch_size is None
        encoder = cls(
            backbone.img_encode, backbone.view.normalise, numerics, size, auto, convolutional, streams, network,
            pooling=pooling,
        )  # fmt: skip
        encoder.to_device()
        if streams:
            shape = (3, *backbone.view.crop)
            if auto:
                encoder.search(shape)
            before = torch.cuda.memory_allocated(numerics.device)
            torch.cuda.reset_peak_memory_stats(numerics.device)
            encoder(torch.zeros(encoder.size, *shape, dtype=torch.uint8))
            encoder.work = torch.cuda.max_memory_allocated(numerics.device) - before
            encoder.weights = sum(t.numel() * t.element_size() for t in network.state_dict().values())
            torch.cuda.empty_cache()
        return encoder

    def search(self, shape: tuple[int, ...]) -> None:
        """Finds the size for images of this shape. Raises BBError where not even one fits."""

        def seconds(size: int) -> float:
            return self.seconds(torch.zeros(size, *shape, dtype=torch.uint8))

        self.size = sizes.search(seconds) or sizes.search(seconds, smallest=1, largest=sizes.SMALLEST // 2)
        if not self.size:
            self._shrink(torch.OutOfMemoryError("out of memory"), 1)

    def seconds(self, batch: UInt8[Tensor, "n 3 h w"]) -> float:
        """What a forward pass over this batch takes the device."""
        timed = self.streams.seconds if self.streams else sizes.seconds
        return timed(lambda: self._forward(batch))

    def room(self) -> int:
        """Bytes of the device that networks can have, those which this process has among them; 0 where any can."""
        if not self.streams:
            return 0
        return torch.cuda.mem_get_info(self.numerics.device)[0] + torch.cuda.memory_reserved(self.numerics.device)

    def offload(self) -> None:
        """Leaves a GPU to others; elsewhere nothing is to be gained."""
        if self.streams and self.network is not None:
            self.network.to("cpu")
            torch.cuda.empty_cache()

    def to_device(self) -> None:
        """Comes to the device. Raises BBError where the weights don't fit it."""
        if self.network is None:
            return
        try:
            self.network.to(self.numerics.device)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise BBError(
                f"{self.numerics.device_name()} has not enough memory for the weights of a network: "
                f"free some, or choose another --device."
            ) from None

    @property
    def memory_format(self) -> torch.memory_format:
        """How pixels are arranged in a batch: always alike, since kernels are chosen by it as well."""
        return memory_format(convolutional=self.convolutional)

    def stack(self, pixels: Sequence[UInt8[Tensor, "3 h w"]]) -> UInt8[Tensor, "n 3 h w"]:
        """Images to a batch, in page-locked memory where a GPU will fetch it from; there, where they are there."""
        return stack(pixels, self.memory_format, pin=self.streams is not None)

    def start(self, pixels: UInt8[Tensor, "n 3 h w"]) -> PendingFeatures:
        """Begins to compute. Raises BBError where not even one image fits the device."""
        if self._ran:
            return self._start(pixels)
        with self._first:  # some networks fill a cache of theirs in the first pass
            pending = self._start(pixels)
            self._ran = True
            return pending

    def __call__(self, pixels: UInt8[Tensor, "n 3 h w"]) -> Features:
        """Image and patch features, float32, on the CPU; what `start` begins and `PendingFeatures.wait` ends."""
        return self.start(pixels).wait()

    def _start(self, pixels: Tensor) -> PendingFeatures:
        pending, done = PendingFeatures([], [], [], self.pooling), 0
        while done < len(pixels):
            size = self.size
            try:
                self._forward(pixels[done : done + size], size, pending)
            except RuntimeError as error:
                self._shrink(error, size)
                continue
            done += size
        return pending

    def _forward(self, batch: Tensor, size: int = 0, pending: PendingFeatures | None = None) -> None:
        """One forward pass, the batch filled up to `size`; its outcome is added to `pending`."""
        spans = []

        def to_device(pixels: Tensor) -> Tensor:
            moved = self.streams.bring(pixels) if self.streams else pixels.to(self.numerics.device)
            if self.streams and pending:
                spans.append(self.streams.mark())  # after the copy, which it waits for
            return moved

        with torch.inference_mode():
            made = forward(
                self.run,
                self.normalise,
                batch,
                size=size,
                layout=self.memory_format,
                compute=self.numerics.compute,
                to_device=to_device,
            )
            if pending is None:
                return
            if self.streams:
                pending.spans.append((spans[0], self.streams.mark()))
                made, arrived = self.streams.fetch(made)
                pending.arrived.append(arrived)
            else:
                made = [rows.cpu() for rows in made]
        pending.parts.append((made[0], made[1] if len(made) > 1 else None))

    def _shrink(self, error: RuntimeError, tried: int) -> None:
        if not out_of_memory(error):
            raise error
        if not self.auto:
            raise BBError(
                f"{self.numerics.device_name()} has not enough memory for --batch-size {tried}: "
                f"give a smaller one, or auto."
            ) from None
        if tried == 1:
            raise BBError(
                f"{self.numerics.device_name()} has not enough memory for a single image: "
                f"free some, choose another --device, or try --precision bf16."
            ) from None
        self.size = min(self.size, tried // 2)  # another thread may have found the same
        if self.streams:
            torch.cuda.empty_cache()
