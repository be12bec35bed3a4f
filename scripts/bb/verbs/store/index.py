"""`bb store index`"""

from typing import Annotated

import typer

from bb.console import say
from bb.options import DEFAULT_STORE, StoreOption
from bb.store import BBError, UsageError
from bb.store.files.limits import MAX_JSON_BYTES
from bb.store.files.writable import check_writable
from bb.store.storage.index_json import INDEX, read_index, write_index
from bb.store.storage.local import Folder
from bb.store.storage.url import open_place


def verb(
    url: Annotated[str | None, typer.Argument(help="Where the store is: a URL or a folder; default: --store.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    place = open_place(url or store)
    if not place.writable:
        raise UsageError(f"{place.url} can only be read: run `bb store index` where the store's files lie.")
    try:
        place.read("zarr.json", MAX_JSON_BYTES)
    except FileNotFoundError:
        raise BBError(f"found no store at {place.url}: give its URL or folder.") from None
    if isinstance(place, Folder):
        check_writable(place.root, [""], naming="as the URL" if url else "with --store")
    write_index(place)
    say(f"{place.url}/{INDEX}: {sum(1 for _ in read_index(place))} files")
