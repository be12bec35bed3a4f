"""Arrays, digests, files: the content-addressed feature store. Knows neither models nor labels."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bb.store.errors import BBError as BBError
    from bb.store.errors import UsageError as UsageError
    from bb.store.format.collection import Collection as Collection
    from bb.store.format.collection import Entry as Entry
    from bb.store.format.space import FeatureSpace as FeatureSpace
    from bb.store.segment_writer import SegmentWriter as SegmentWriter
    from bb.store.store import MissingRows as MissingRows
    from bb.store.store import Store as Store

_HOMES = {
    "BBError": "errors",
    "Collection": "format.collection",
    "Entry": "format.collection",
    "FeatureSpace": "format.space",
    "MissingRows": "store",
    "SegmentWriter": "segment_writer",
    "Store": "store",
    "UsageError": "errors",
}


def __getattr__(name: str) -> Any:
    """Loads numpy and the rest when the first of these names is asked for, so that `bb --help` does not."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"bb.store.{_HOMES[name]}"), name)


__all__ = ["BBError", "Collection", "Entry", "FeatureSpace", "MissingRows", "SegmentWriter", "Store", "UsageError"]
