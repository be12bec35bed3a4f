"""`bb status`: what is in this folder and its store, and the next sensible command."""

import re
from collections import Counter
from itertools import filterfalse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bb.console import say, show_json, show_table
from bb.here import TABLES, images_here
from bb.options import DEFAULT_STORE, CacheOption, JsonOption, StoreOption
from bb.store.format.space import short
from bb.store.format.text import is_text_collection
from bb.store.storage.url import is_url
from bb.store.text.command import command, extract_command
from bb.stores import open_store, store_to_name

if TYPE_CHECKING:
    from bb.store import Store

FIRST = "ViT-B-16/openai"  # the backbone that a first command names


def verb(
    ctx: typer.Context, store: StoreOption = DEFAULT_STORE, cache_size: CacheOption = None, json_: JsonOption = False
) -> None:
    opened = None
    if is_url(store) or (Path(store) / "zarr.json").exists():
        opened = open_store(store, cache_size=cache_size)
    found = {**_here(Path()), **_stored(opened)}
    roots = {name: str(root) for name, root in ctx.obj.data.items()}
    found["next"] = next_command(found, store_to_name(ctx, store), roots)
    if json_:
        show_json({"store": store if opened else None, **found})
        return
    say(f"store {store}" if opened else f"no store at {store}")
    if found["images_here"]:
        say(f"image files in this folder and below it: {found['images_here']}")
    rows = [
        [each["name"], each["images"], ", ".join(of["backbones"]), short(of["space"]), _share(of, each["images"])]
        for each in found["collections"]
        for of in each["spaces"] or [{"backbones": ["none yet"], "space": "", "features": 0}]
    ]
    if rows:
        show_table(["collection", "images", "backbone", "space", "features"], rows, right=["images", "features"])
    say(*(f"labels in the store: {name}" for name in found["labels"]))
    say(*(f"table in this folder: {name}" for name in found["tables_here"]))
    say(*(f"runs of {name}: {n}" for name, n in found["runs"].items()))
    say(f"next: {found['next']}")


def _share(of: dict[str, Any], images: int) -> str:
    if of["features"] == images:
        return "all"
    return f"{of['features']} of {images}"


def _here(folder: Path) -> dict[str, Any]:
    """Image files and tables in a folder, as `bb.here` finds them.

    images_in: the folder below that holds all of the images, or "."
    """
    images = Counter(images_here(folder))
    tables = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in TABLES and path.is_file() and not _made_by_bb(path)
    )
    images_in = next(iter(images)) if len(images) == 1 else "."
    return {"images_here": images.total(), "images_in": images_in, "tables_here": tables}


def _made_by_bb(path: Path) -> bool:
    """Whether a table is one that `bb predict`, `bb suggest` or `bb report` wrote, as its columns say."""
    import polars as pl

    from bb.probe.labelling.active_learning.suggest import COLUMNS

    try:
        scan = pl.scan_parquet if path.suffix.lower() == ".parquet" else pl.scan_csv
        columns = scan(path, glob=False).collect_schema().names()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, UnicodeDecodeError):
        return False
    written = ({"accepted", "novelty"}, set(COLUMNS[2:]), {"tasks", "metric", "backbone", "low", "high"})
    return any(each <= set(columns) for each in written)


def _stored(opened: "Store | None") -> dict[str, Any]:
    """Of each collection's newest version how many images have features in which space; labels; runs by table."""
    from bb.store.local.choose_version import newest

    if opened is None:
        return {"collections": [], "labels": [], "runs": {}}
    spaces = [space for space in opened.spaces() if space.kind == "img"]
    collections = []
    for name in filterfalse(is_text_collection, opened.collection_names()):
        version = newest(opened.collections(name), opened.recorded)
        if version is None:
            continue
        digests = version.digests(version.table["image_id"].to_list())
        present = ((space, int(opened.has(space, digests).sum())) for space in spaces)
        of_spaces = [
            {"backbones": opened.backbones(space), "space": space.key, "features": n} for space, n in present if n
        ]
        collections.append({"name": name, "digest": version.digest, "images": len(version), "spaces": of_spaces})
    runs = Counter(str(run.record["tasks"]) for run in opened.runs(on_damage=lambda error: None))
    return {"collections": collections, "labels": opened.label_families(), "runs": dict(sorted(runs.items()))}


def next_command(found: dict[str, Any], store: str | None, roots: dict[str, str]) -> str:
    """What a person would do next with what `bb status` found.

    store  where the store is or would be, where commands have to say it
    roots  folders of collections that bb.toml names
    """
    at = {"store": store}
    collections, kind = found["collections"], "newt" if "newt" in found["runs"] else "classify"
    if not collections and not found["runs"]:
        if found["images_here"]:
            folder = found["images_in"]
            return command("extract", ckpt=FIRST, data=f"{_collection_name(folder)}={folder}", **at)
        if roots:
            return command("extract", ckpt=FIRST, data=next(iter(roots)), **at)
        if found["tables_here"]:  # its images are elsewhere
            return command("extract", ckpt=FIRST, data="photos=DIR", **at)
        return command("demo")
    for each in collections:
        lacking = [of["backbones"][0] for of in each["spaces"] if of["features"] < each["images"] and of["backbones"]]
        if lacking or not each["spaces"]:
            data = each["name"] if each["name"] in roots else f"{each['name']}=DIR"
            return extract_command(lacking[0] if lacking else FIRST, data=data, **at)
    labels = next(iter(found["tables_here"]), None)
    name = collections[0]["name"] if collections else None
    if not found["runs"]:
        if "newt" in found["labels"]:
            return command("probe newt", n_train=10, **at)
        if labels:
            return command("probe classify", labels=labels, data=name, **at)
        return command("suggest", data=name, out="next.csv", **at)
    if labels and name and kind == "classify":
        return command("predict", labels=labels, data=name, out="predictions.csv", **at)
    return command(f"report {kind}", html="report.html", **at)


def _collection_name(folder: str) -> str:
    """A folder's name where it can name a collection."""
    from bb.store.format.collection import NAME

    return folder if re.fullmatch(NAME, folder) and folder != "." else "photos"
