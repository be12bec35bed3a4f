"""How features were made and what that costs, as runs record it and reports read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bb.store import FeatureSpace, Store


def extraction(store: Store, space: FeatureSpace) -> list[dict[str, Any]]:
    """Library versions, devices and sizes of the segments, each distinct set once, with the median of their speeds."""
    distinct: list[dict[str, Any]] = []
    speeds: list[list[float]] = []
    origins = [origin for segment in store.readable(space) for origin in segment.origins]
    for origin in origins:
        facts = {key: value for key, value in sorted(origin.items()) if key not in ("made", "images_per_second")}
        if facts not in distinct:
            distinct.append(facts)
            speeds.append([])
        if (speed := _number(origin.get("images_per_second"))) is not None:
            speeds[distinct.index(facts)].append(speed)
    return [
        {**facts, **({"images_per_second": float(np.median(found))} if found else {})}
        for facts, found in zip(distinct, speeds, strict=True)
    ]


@dataclass(frozen=True)
class Cost:
    """What one image costs, each None where runs do not record it.

    parameters         of the network
    gflops             10⁹ operations of the network for an image; a multiplication with its addition counts as two
    pixels             height and width of the network's input
    width              numbers in a feature
    images_per_second  measured while the features were made, the most of its devices; device: that one
    """

    parameters: int | None = None
    gflops: float | None = None
    pixels: tuple[int, int] | None = None
    width: int | None = None
    images_per_second: float | None = None
    device: str | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Cost":
        """Of a run's record, which is untrusted: what is not a number counts as not recorded, and so do several."""
        provenance = record.get("provenance")
        found = provenance.get("extraction") if isinstance(provenance, dict) else None
        made = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
        parameters, gflops = (
            {number for each in made if (number := _number(each.get(key))) is not None}
            for key in ("parameters", "gflops")
        )
        view = record.get("view")
        crop = view.get("crop") if isinstance(view, dict) else None
        sides = [_number(side) for side in crop] if isinstance(crop, list) else []
        width = _number(record.get("width"))
        speeds = {
            number: str(each.get("device", "")) for each in made if (number := _number(each.get("images_per_second")))
        }
        best = max(speeds, default=None)
        return cls(
            int(parameters.pop()) if len(parameters) == 1 else None,
            gflops.pop() if len(gflops) == 1 else None,
            (int(sides[0]), int(sides[1])) if len(sides) == 2 and sides[0] and sides[1] else None,
            None if width is None else int(width),
            best,
            None if best is None else speeds[best],
        )

    def describe(self) -> list[str]:
        """Each figure in words, and that its size is not where it is not."""
        sentences = [
            f"{count_text(self.parameters)} parameters" if self.parameters is not None else "size not recorded",
            f"{self.gflops:.3g} GFLOPs" if self.gflops is not None else "",
            f"{self.pixels[0]}x{self.pixels[1]} pixels" if self.pixels else "",
            f"{self.width} features" if self.width is not None else "",
            f"{self.images_per_second:.3g} images/s on {self.device or 'a device'}" if self.images_per_second else "",
        ]
        return list(filter(None, sentences))


def count_text(n: int | float) -> str:
    """A count in three digits: 306 k, 85.8 M, 1.01 G."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= 0.9995 * size:
            return f"{float(f'{n / size:.3g}'):g}{unit}"
    return f"{n:g}"


def _number(value: Any) -> float | None:
    """A finite positive number, or None. Manifests of segments have floats as text."""
    if type(value) not in (int, float, str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 < number < 1e18 else None
