"""`bb suggest`: which images to label next."""

from pathlib import Path
from typing import Annotated

import typer

from bb import options
from bb.console import ConsoleReporter, say, show_json, show_table
from bb.labels import with_paths
from bb.probe.labelling.active_learning.choose_images import RANDOM_SHARE
from bb.probe.labelling.active_learning.sheet import page
from bb.probe.labelling.active_learning.suggest import suggest
from bb.store import UsageError
from bb.store.text.size import counted
from bb.stores import backbone_names, one_collection, open_store
from bb.texts.report import check_files, write_file
from bb.thumbnails import thumbnails_at_hand


def verb(
    ctx: typer.Context,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="CSV or Parquet of images and labels; none: nothing is labelled.")
    ] = None,
    data: options.ImagesOption = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many images.")] = 50,
    out: Annotated[Path | None, typer.Option("--out", help="The .csv to write: fill in its label column.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with thumbnails; it works offline.")] = None,
    strategy: options.StrategyOption = "margin",
    random_share: options.RandomShareOption = RANDOM_SHARE,
    id_: options.IdOption = None,
    label: options.LabelOption = None,
    not_missing: options.NotMissingOption = None,
    ckpt: options.CkptOption = None,
    space: options.ProbedSpacesOption = None,
    max_missing: options.MaxMissingOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same images.")] = 0,
    store: options.StoreOption = options.DEFAULT_STORE,
    cache_size: options.CacheOption = None,
    json_: options.JsonOption = False,
) -> None:
    check_files({option: path for option, path in (("--out", out), ("--html", html)) if path}, labels)
    if out and out.suffix != ".csv":
        raise UsageError(f"--out {out} must end in .csv.")
    opened = open_store(store, cache_size=cache_size)
    name, root = one_collection(opened, data, ctx.obj)
    with ConsoleReporter("note: ") as reporter:
        found = suggest(
            opened, labels, name, n=n, strategy=strategy, random_share=random_share, id=id_, label=label,
            not_missing=not_missing or (), ckpt=backbone_names(ckpt, opened), space=space or (),
            max_missing=max_missing, seed=seed, reporter=reporter,
        )  # fmt: skip
    if out:
        write_file(out, with_paths(found.frame, root).rename(found.columns).write_csv().encode())
    if html:
        thumbnails = thumbnails_at_hand(opened, found.collection, root, found.frame["image_id"].to_list())
        write_file(html, page(found, thumbnails).encode())
    if json_:
        show_json(found.record())
        return
    drawn = int((found.frame["suggested_by"] == "random").sum())
    say(
        f"{counted(len(found.frame), 'image')} by {found.strategy} with {found.backbone}, from "
        + counted(found.labelled, "label")
        + (f"; {drawn} of them drawn at random" if drawn and str(found.strategy) != "random" else "")
    )
    if not out and not html:
        rows = [[row["image_id"], row["guess"] or ""] for row in found.frame.iter_rows(named=True)]
        show_table(["image", "perhaps"], rows)
