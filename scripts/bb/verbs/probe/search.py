"""`bb probe search`: score text queries whose relevant images are known, as INQUIRE does."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from bb import options
from bb.console import ConsoleReporter, show_json
from bb.probe.text.score_search import K, score_search
from bb.store import UsageError
from bb.stores import backbone_names, one_collection, open_store
from bb.texts.report import check_files, write_file
from bb.texts.text import encoder_for, show_scores


def verb(
    ctx: typer.Context,
    queries: Annotated[Path, typer.Option("--queries", help="CSV or Parquet: query_id, query_text.")],
    relevant: Annotated[
        Path, typer.Option("--relevant", help="CSV or Parquet: query_id, image_path of the relevant images.")
    ],
    candidates: Annotated[
        Path | None, typer.Option("--candidates", help="query_id, image_path: rank only these for a query.")
    ] = None,
    data: options.CollectionOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Images that are retrieved for each query.")] = K,
    by: Annotated[
        str | None, typer.Option("--by", help="Means by supercategory, category or iconic_group, too.")
    ] = None,
    ckpt: options.CkptOption = None,
    space: options.ProbedSpacesOption = None,
    text_space: options.TextSpaceOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="The .csv to write: a row for each query.")] = None,
    device: options.TextDeviceOption = "auto",
    store: options.StoreOption = options.DEFAULT_STORE,
    cache_size: options.CacheOption = None,
    json_: options.JsonOption = False,
) -> None:
    check_files({"--out": out} if out else {}, queries, relevant, candidates)
    if out and out.suffix != ".csv":
        raise UsageError(f"--out {out} must end in .csv.")
    opened = open_store(store, cache_size=cache_size)
    name, _ = one_collection(opened, data, ctx.obj)
    named: list[tuple[str | None, str | None]] = [(None, key) for key in space or []]
    named += [(text, None) for text in ckpt or []]
    found = []
    with ConsoleReporter("note: ") as reporter:
        for one, key in named or [(None, None)]:
            shared = backbone_names([one], opened)[0] if one else None
            found.append(
                score_search(
                    opened, queries, relevant, name, candidates=candidates, k=k, ckpt=shared, space=key,
                    text_space=text_space, encode=encoder_for(one, device), reporter=reporter,
                )
            )  # fmt: skip
    if by:
        found[0].by(by)  # a column that is not there is said before anything is written
    if out:
        frames = [one.frame.select(pl.lit(one.backbone).alias("backbone"), pl.all()) for one in found]
        write_file(out, pl.concat(frames).write_csv().encode())
    if json_:
        show_json([one.record() for one in found])
    else:
        show_scores(found, by)
