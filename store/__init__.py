"""Arrays, digests, files: the content-addressed feature store. Knows neither models nor labels."""

from store.collection import Collection, Entry
from store.errors import BBError, UsageError
from store.space import FeatureSpace
from store.store import MissingRows, Store
from store.writer import SegmentWriter

__all__ = ["BBError", "Collection", "Entry", "FeatureSpace", "MissingRows", "SegmentWriter", "Store", "UsageError"]
