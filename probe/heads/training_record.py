"""How a head was trained: what the rows of its derived space say of it, and read there without trust."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from store import FeatureSpace, Store


@dataclass(frozen=True)
class Training:
    """Provenance; of what others wrote, nothing else is believed than that it has these types.

    id            SHA-256 of all that decided the outcome, see `probe.heads.derive.prepare`
    labels        the labels' name; images and classes: how many trained
    held_out      how many images of how many labels validated, and how they were chosen, in words
    parent, start, best    MAP@R there: of the parent's features, of the head before training, of its best epoch
    epochs        how many were trained, of which the best is kept
    recipe        as JSON, numbers that are not whole as text
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

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: object) -> "Training | None":
        """Reads what `record` wrote, numbers as text where canonical JSON has them so; None where it is another."""
        names = {field.name: field.type for field in fields(cls)}
        if not isinstance(record, dict) or record.keys() != names.keys():
            return None
        found: dict[str, Any] = dict(record)
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


def training_of(store: Store, space: FeatureSpace) -> Training | None:
    """What the rows of a derived space say of how its head was trained; None where they say nothing."""
    origins = (origin for segment in store.segments(space) for origin in segment.origins)
    return next((said for origin in origins if (said := Training.from_record(origin.get("training")))), None)
