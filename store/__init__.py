"""Arrays, digests, files: the content-addressed feature store. Knows neither models nor labels."""

from typing import TYPE_CHECKING

from bb.store.lazy_names import lazy_names

if TYPE_CHECKING:
    from bb.store.errors import BBError as BBError
    from bb.store.errors import UsageError as UsageError
    from bb.store.format.collection import Collection as Collection
    from bb.store.format.collection import Entry as Entry
    from bb.store.format.space import FeatureSpace as FeatureSpace
    from bb.store.segment_writer import SegmentWriter as SegmentWriter
    from bb.store.store import MissingRows as MissingRows
    from bb.store.store import Store as Store

lazy_names(
    __name__,
    {
        "BBError": "errors",
        "Collection": "format.collection",
        "Entry": "format.collection",
        "FeatureSpace": "format.space",
        "MissingRows": "store",
        "SegmentWriter": "segment_writer",
        "Store": "store",
        "UsageError": "errors",
    },
)

__all__ = ["BBError", "Collection", "Entry", "FeatureSpace", "MissingRows", "SegmentWriter", "Store", "UsageError"]
