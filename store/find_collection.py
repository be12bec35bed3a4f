"""The version of a collection that holds the images of someone's table, however the table writes their IDs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bb.store.format.collection import Collection
from bb.store.text.image_ids import IdMatch, match_ids

if TYPE_CHECKING:
    from bb.store.store import Store


def find_collection(
    store: "Store", name: str, written: Sequence[str], *, tolerated: int = 0
) -> tuple[Collection, IdMatch]:
    """The collection `name` or `name@digest`, as `Store.collection` chooses it, and what it calls the images.

    tolerated  as many of the images may be in no version

    Errors: those of `Store.collection` and `match_ids`.
    """
    plain, _, digest = name.partition("@")
    versions = [version for version in store.collections(plain) if version.digest.startswith(digest)]
    known = frozenset(image_id for version in versions for image_id in version.table["image_id"].to_list())
    match = match_ids(written, known)
    return store.collection(name, match.ids, tolerated=tolerated), match
