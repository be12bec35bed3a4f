"""`bb data list`: list collections, which folders and versions they have, and task families, which need what."""

from itertools import filterfalse
from pathlib import Path
from typing import Annotated, Any

import typer

from bb.console import say, show_json, show_table
from bb.options import DEFAULT_STORE, JsonOption, StoreOption
from bb.store.format.text import is_text_collection
from bb.store.storage.url import is_url
from bb.stores import open_store
from bb.texts.families import family_rows, show_families


def verb(
    ctx: typer.Context,
    families: Annotated[
        bool, typer.Option("--families", help="Task families alone, with all that is known of them, BibTeX included.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    json_: JsonOption = False,
) -> None:
    opened = open_store(store) if is_url(store) or (Path(store) / "zarr.json").exists() else None
    stored = list(filterfalse(is_text_collection, opened.collection_names())) if opened else []
    if families:
        known = family_rows(ctx.obj.data, stored)
        if json_:
            show_json(known)
        else:
            show_families(known, whole=True)
        return
    names = sorted({*ctx.obj.data, *stored})
    rows = []
    for name in names:
        root = ctx.obj.data.get(name)
        versions = opened.collections(name) if opened else []
        rows.append(
            {"name": name, "root": str(root) if root else None,
             "versions": [
                 {"digest": version.digest, "images": len(version), "recorded": when.isoformat() if when else None}
                 for version in versions for when in [opened.recorded(version) if opened else None]
             ]}
        )  # fmt: skip
    if json_:
        show_json(rows)
        return
    if not rows:
        say('no collections: put [data.NAME] root = "DIR" into bb.toml, or run bb extract --data NAME=DIR')
    else:
        show_table(
            ["name", "folder", "versions in the store"],
            [[row["name"], row["root"] or "", _versions_text(row["versions"])] for row in rows],
        )
    say("")
    show_families(family_rows(ctx.obj.data, stored), whole=False)
    say("bb data list --families says what each needs on disk and how to cite it")


def _versions_text(versions: list[dict[str, Any]]) -> str:
    dated = sorted(versions, key=lambda version: version["recorded"] or "", reverse=True)
    return ", ".join(
        f"{version['digest'][:12]} ({version['images']} images)"
        + (f" of {version['recorded'][:10]}" if version["recorded"] else "")
        for version in dated
    )
