"""A feature space: everything that decides an embedding except the image, and the key made of it."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bb.store.errors import BBError
from bb.store.files.canonical_json import digest_of

STORED_DTYPES: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}

MAX_LENGTH = 2**24  # of an axis of a row


@dataclass(frozen=True)
class FeatureSpace:
    """The identity of features. Names of tags and files, library versions and devices are provenance, not identity.

    org           the library whose code runs: "open_clip", "timm" or a plug-in's name; "head" of a derived space (see
                  store/format/derived.py)
    architecture  its resolved architecture configuration
    weights       SHA-256 of the vision tower's tensors as loaded, in float32
    view          the resolved evaluation transform
    output        {"kind": "img", "pooling": …, "dim": D} or {"kind": "patch", "patches": P, "dim": Dp, …}
    numerics      {"compute": "fp32" | "bf16" | "fp16", "stored": "float32" | "float16"}
    code          git tree hash of extract/embedding/; "+" and a SHA-256 follow for each plug-in that takes part
    """

    org: str
    architecture: dict[str, Any]
    weights: str
    view: dict[str, Any]
    output: dict[str, Any]
    numerics: dict[str, str]
    code: str

    def record(self) -> dict[str, Any]:
        """The fields as a JSON object, as it stands in the space's group."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "FeatureSpace":
        """Reads what `record` wrote. Raises BBError where fields are missing or unknown."""
        try:
            space = cls(**record)
        except TypeError as error:
            raise BBError(f"not a feature space of format 1: {error}") from None
        kinds = (("org", str), ("architecture", dict), ("weights", str), ("view", dict), ("code", str))
        for name, kind in (*kinds, ("output", dict), ("numerics", dict)):
            if not isinstance(getattr(space, name), kind):
                raise BBError(f"not a feature space of format 1: {name} is {str(getattr(space, name))[:80]!r}")
        lengths = [space.output.get(name) for name in (("dim",) if space.kind == "img" else ("patches", "dim"))]
        whole = all(isinstance(n, int) and not isinstance(n, bool) and 0 < n <= MAX_LENGTH for n in lengths)
        known = space.numerics.get("stored") in list(STORED_DTYPES) and "compute" in space.numerics
        if space.kind not in ("img", "patch") or not whole or not known:
            shown = f"output {space.output}, numerics {space.numerics}"
            raise BBError(f"not a feature space of format 1: {shown[:400]}")
        return space

    @cached_property
    def key(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""
        return digest_of(self.record())

    @property
    def kind(self) -> str:
        return str(self.output.get("kind"))

    @property
    def array(self) -> str:
        """Name of the array in each segment that holds the features."""
        return f"{self.kind}_features"

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row: (D,) of image features, (P, Dp) of patch features."""
        if self.kind == "img":
            return (self.output["dim"],)
        return (self.output["patches"], self.output["dim"])

    @property
    def pool_grid(self) -> tuple[int, int] | None:
        """Rows and columns of the grid that patch tokens were averaged to; None where they were not."""
        grid = self.output.get("grid")
        if self.kind != "patch" or not isinstance(self.output.get("reduced"), dict) or not isinstance(grid, list):
            return None
        whole = len(grid) == 2 and all(type(n) is int and n > 0 for n in grid)
        return (grid[0], grid[1]) if whole and grid[0] * grid[1] == self.output["patches"] else None

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the stored features, little-endian."""
        return STORED_DTYPES[self.numerics["stored"]]


def short(digest: str) -> str:
    """The first 12 digits, as digests are shown to people."""
    return digest[:12]
