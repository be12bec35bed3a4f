"""`bb search`: the images of a collection that fit a text best."""

from pathlib import Path
from typing import Annotated

import typer

from bb import options
from bb.console import ConsoleReporter, show_json
from bb.labels import with_paths
from bb.probe.labelling.active_learning.sheet import sheet
from bb.probe.text.search import search
from bb.store import UsageError
from bb.stores import backbone_names, one_collection, open_store
from bb.texts.report import check_files, write_file
from bb.texts.text import encoder_for, show_hits
from bb.thumbnails import thumbnails_at_hand


def verb(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help="What the images should show, such as 'a heron with a fish'.")],
    data: options.ImagesOption = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many images.")] = 20,
    ckpt: Annotated[
        str | None, typer.Option("--ckpt", help="The network, one that was trained with text.", callback=options.named)
    ] = None,
    space: options.SpaceOption = None,
    text_space: options.TextSpaceOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="The .csv to write.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with thumbnails; it works offline.")] = None,
    device: options.TextDeviceOption = "auto",
    store: options.StoreOption = options.DEFAULT_STORE,
    cache_size: options.CacheOption = None,
    json_: options.JsonOption = False,
) -> None:
    check_files({option: path for option, path in (("--out", out), ("--html", html)) if path})
    if out and out.suffix != ".csv":
        raise UsageError(f"--out {out} must end in .csv.")
    opened = open_store(store, cache_size=cache_size)
    name, root = one_collection(opened, data, ctx.obj)
    shared = backbone_names([ckpt], opened)[0] if ckpt else None
    with ConsoleReporter("note: ") as reporter:
        found = search(
            opened, query, name, n=n, ckpt=shared, space=space, text_space=text_space,
            encode=encoder_for(ckpt, device), reporter=reporter,
        )  # fmt: skip
    table = with_paths(found.frame, root)
    if out:
        write_file(out, table.write_csv().encode())
    if html:
        ids = found.frame["image_id"].to_list()
        images = [(row["image_id"], "", f"{row['score']:.4f}") for row in found.frame.iter_rows(named=True)]
        facts = f"The nearest of {found.searched} images of {found.collection.name}, by cosine with {found.backbone}."
        small = thumbnails_at_hand(opened, found.collection, root, ids)
        write_file(html, sheet(found.query, facts, images, small).encode())
    if json_:
        show_json({**found.record(), "hits": table.to_dicts()})
    elif not out and not html:
        show_hits(found, table["path"].to_list() if "path" in table.columns else None)
