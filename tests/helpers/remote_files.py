"""Files elsewhere, of which no test remembers what another read."""

import pytest

from bb.extract.data import byte_range as blob
from bb.extract.data.byte_range import place_at
from bb.extract.data.prefetch_cache import PrefetchCache


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """What another test read of the same URL."""
    place_at.cache_clear()
    monkeypatch.setattr(blob, "_BLOCKS", PrefetchCache(blob.KEPT, len))
    blob._READ_TO.clear()
