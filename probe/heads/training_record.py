"""How a head was trained: what the rows of its derived space say of it, and read there without trust."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from bb.store import FeatureSpace, Store


@dataclass(frozen=True)
class Training:
    """Provenance; of what others wrote, nothing else is believed than that it has these types.

    id            SHA-256 of all that decided the outcome, see `bb.probe.heads.derive.prepare`
    labels        the labels' name; images and classes: how many trained
    held_out      how many images of how many labels validated, and how they were chosen, in words
    parent, start, best    MAP@R there: of the parent's features, of the head before training, of its best epoch
    epochs        how many were trained, of which the best is kept
    recipe        as JSON, numbers that are not whole as text
    validated     the best less the parent: mean, low, high (None for too few labels) and from how many labels; None in
                  what older versions wrote
    """

    id: str
    labels: str
    images: int
    classes: int
    held_out: str
    parent: float
    start: float
    best: float
    best_epoch: int
    epochs: int
    recipe: dict[str, Any]
    validated: dict[str, Any] | None = None

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: object) -> "Training | None":
        """Reads what `record` wrote, numbers as text where canonical JSON has them so; None where it is another."""
        names = {field.name for field in fields(cls)}
        if not isinstance(record, dict) or {"validated", *record} != names:
            return None
        found: dict[str, Any] = {"validated": None, **record}
        if found["validated"] is not None:
            found["validated"] = _validated(found["validated"])
            if found["validated"] is None:
                return None
        for name in ("parent", "start", "best"):
            try:
                found[name] = float(found[name])
            except (TypeError, ValueError):
                return None
            if not math.isfinite(found[name]):
                return None
        kinds: dict[str, object] = {"id": str, "labels": str, "held_out": str, "recipe": dict}
        kinds |= {name: int for name in ("images", "classes", "best_epoch", "epochs")}
        return cls(**found) if all(type(found[name]) is kind for name, kind in kinds.items()) else None


def _validated(record: object) -> dict[str, Any] | None:
    if not isinstance(record, dict) or record.keys() != {"mean", "low", "high", "labels"}:
        return None
    try:
        bounds = {name: None if record[name] is None else float(record[name]) for name in ("mean", "low", "high")}
    except (TypeError, ValueError):
        return None
    numbers = [value for value in bounds.values() if value is not None]
    known = bounds["mean"] is not None and (bounds["low"] is None) == (bounds["high"] is None)
    fine = known and all(map(math.isfinite, numbers)) and type(record["labels"]) is int
    return {**bounds, "labels": record["labels"]} if fine else None


def training_of(store: Store, space: FeatureSpace) -> Training | None:
    """What the rows of a derived space say of how its head was trained; None where they say nothing."""
    origins = (origin for segment in store.segments(space) for origin in segment.origins)
    return next((training for origin in origins if (training := Training.from_record(origin.get("training")))), None)
