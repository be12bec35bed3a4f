"""`bb store import`: take in features that were made elsewhere, in a feature space of their own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from bb.console import ConsoleReporter, say, show_json, warn
from bb.options import DEFAULT_STORE, JsonOption, StoreOption
from bb.probe.tables.table_file import read_table_file
from bb.store import Collection, UsageError
from bb.store.find_collection import find_collection
from bb.store.format.space import short
from bb.store.imported import check_import_name, check_rows, import_features, read_array
from bb.store.text.command import command
from bb.stores import one_collection, open_store, parse_data, require_images

if TYPE_CHECKING:
    from bb.extract.data.source_spec import Root
    from bb.store import Store

ID = "image_id"


def verb(
    ctx: typer.Context,
    array: Annotated[Path, typer.Argument(help="A .npy file: a row of features for each image.")],
    ids: Annotated[
        Path, typer.Option("--ids", help="CSV or Parquet with the column image_id: the images of the rows.")
    ],
    name: Annotated[str, typer.Option("--name", help="What --ckpt will call the features: LAB:NETWORK.")],
    data: Annotated[
        str | None, typer.Option("--data", help="The collection: NAME=DIR, or a NAME that the store has.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    json_: JsonOption = False,
) -> None:
    check_import_name(name)
    features = read_array(array)
    table = read_table_file(
        ids, what=f"found no IDs at {ids}: --ids names a table.", columns=[ID], remedy="Export it again as CSV."
    )
    table.require([ID], "Its rows name the images of the array's rows, in that order.")
    written = table.select(ids=[ID]).frame[ID].to_list()
    check_rows(features, written)
    opened = open_store(store, create=True)
    opened.check_writable("spaces", "collections", "local")
    root = next(iter(parse_data([data], ctx.obj).values())) if data else None
    collection = _publish(opened, data.partition("=")[0], root) if data and root else None
    plain = collection.name if collection else one_collection(opened, data, ctx.obj)[0]
    found, match = find_collection(opened, plain, written)
    if match.note:
        warn(f"note: {match.note}")
    image_ids = match.ids
    space = import_features(
        opened, features, np.asarray(found.digests(image_ids)), image_ids, name=name, collection=found.name
    )
    if json_:
        show_json({"space": space.key, "name": name, "rows": len(image_ids), "collection": found.name})
        return
    say(f"{len(image_ids)} rows of {name} are in space {short(space.key)} of {opened.name}; bb can't recompute them.")
    say("Next:", f"  {command('probe retrieval', labels='LABELS.csv', ckpt=name, store=store)}")


def _publish(opened: "Store", name: str, root: "Root") -> Collection:
    """Hashes the available images, so that the rows are known by their bytes."""
    require_images("bb store import --data NAME=DIR")
    from bb.extract.scan_collection import find_files, hash_images

    with ConsoleReporter() as reporter:
        scan = hash_images(name, find_files(root), reporter=reporter)
    if not scan.entries:
        raise UsageError(f"{root} has no images: --data {name}=DIR names the folder that holds them.")
    return opened.put_collection(Collection.from_entries(name, scan.entries))
