"""What is asked of an extraction, and the summary of what it did for a backbone and a collection."""

from dataclasses import dataclass, fields
from html import escape
from typing import Any

from bb.extract.backbones.pool_grid import Patches, parse_patches
from bb.extract.embedding.decoder import DecodeOptions
from bb.extract.pipeline.partition import Partition
from bb.store.format.space import short


@dataclass(frozen=True)
class ExtractOptions:
    """How to embed; the words are those of `bb extract`.

    limit    only the first images of each collection, for a try
    strict   stop at the first image that can't be embedded
    adopt    "auto" takes over rows of a space that differs in the code alone, if a sample agrees; "never" does not
    profile  measure where the time goes
    devices  several GPUs, each of which embeds its share
    part     the images of one part alone
    pool_grid  with patch, "4x4": tokens averaged to that many rows and columns
    """

    device: str = "auto"
    precision: str = "auto"
    store_dtype: str = "auto"
    batch_size: str | int = "auto"
    compile: bool = False
    patch: bool = False
    limit: int | None = None
    strict: bool = False
    adopt: str = "auto"
    decode: str = "auto"
    depth: int = 16
    damaged: str = "embed"
    profile: bool = False
    devices: tuple[str, ...] = ()
    part: Partition | None = None
    pool_grid: str | None = None

    def patches(self) -> Patches:
        """Errors: UsageError as `parse_patches`."""
        return parse_patches(self.patch, self.pool_grid)

    def decoding(self) -> DecodeOptions:
        return DecodeOptions.parse(self.decode, self.depth, self.damaged)


@dataclass(frozen=True, repr=False)
class Summary:
    """What was done for one backbone and one collection.

    spaces     keys of the feature spaces; adopted: of those whose rows were taken over
    images     in the collection; present: that had features before; computed: embedded now
    failed     image ID to the reason why it has no features; damaged and notes: remarks on others
    stopped    whether it ended early
    profile    where the time went, if that was asked for
    error      why the backbone was left out
    """

    backbone: str
    collection: str
    spaces: list[str]
    adopted: list[str]
    images: int
    present: int
    computed: int
    failed: dict[str, str]
    damaged: dict[str, str]
    notes: dict[str, str]
    stopped: bool
    seconds: float
    images_per_second: float | None
    store: str
    profile: dict[str, Any] | None = None
    error: str | None = None

    def record(self) -> dict[str, Any]:
        """JSON-ready, without what does not apply."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if name not in ("profile", "error") or value is not None}

    def line(self) -> str:
        """A sentence for a person."""
        rate = f" at {self.images_per_second} images/s" if self.images_per_second else ""
        if self.error is not None:
            return f"{self.backbone} on {self.collection}: left out, {self.error}"
        stopped = "; stopped early" if self.stopped else ""
        if self.stopped and not self.failed:
            stopped += ", the same command goes on"
        damaged = f", {len(self.damaged)} damaged" if self.damaged else ""
        return (
            f"{self.backbone} on {self.collection}: {self.present} were there, "
            f"{self.computed} computed{rate}, {len(self.failed)} failed{stopped}{damaged}; "
            f"space {', '.join(map(short, self.spaces))} in {self.store}"
            + (f"; rows adopted from space {', '.join(map(short, self.adopted))}" if self.adopted else "")
        )

    @property
    def incomplete(self) -> bool:
        return bool(self.failed or self.stopped or self.error is not None)

    def __repr__(self) -> str:
        return f"Summary({self.line()})"

    def _repr_html_(self) -> str:
        return f"<div>{escape(self.line())}</div>"
