"""Rows made of damaged images: said in their segment's provenance, as `{"damaged": {reason: [row, ...]}}`.

It is optional, and what a stranger's segment says there is read with care: it decides nothing but notes.
"""

from collections.abc import Mapping
from typing import Any

MAX_REASON = 80  # characters; a segment's zarr.json holds a reason of its own for every row


def group_damage(damaged: Mapping[int, str]) -> dict[str, Any]:
    """What a segment's provenance says of its rows, by reason; nothing where none is damaged."""
    by_reason: dict[str, list[int]] = {}
    for row, reason in sorted(damaged.items()):
        by_reason.setdefault(reason[:MAX_REASON], []).append(row)
    return {"damaged": by_reason} if by_reason else {}


def read_damage(provenance: Mapping[str, Any], rows: int) -> dict[int, str]:
    """Row → reason, of a segment with that many rows; what is not of this form is left out."""
    reasons = provenance.get("damaged")
    found: dict[int, str] = {}
    for reason, listed in reasons.items() if isinstance(reasons, dict) else ():
        words = "".join(c if c.isprintable() else "?" for c in str(reason)[:MAX_REASON])
        for row in listed if isinstance(listed, list) else ():
            if type(row) is int and 0 <= row < rows:
                found[row] = words
    return found
