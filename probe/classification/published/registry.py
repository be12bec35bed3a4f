"""Published protocols by name: bb's own and those of plug-ins. Each is a record of protocol.py."""

from typing import Any

from bb.store.plugins import Registry

_HERE = "bb.probe.classification.published"

PROTOCOLS: Registry[Any] = Registry(
    "bb.protocols",
    "protocol",
    {
        "dinov2-knn": f"{_HERE}.dinov2_knn:PROTOCOL",
    },
    needs=("grid", "draw_split", "record"),
)
