"""`bb store pull`: copy from another place what is missing here, all of it checked."""

from pathlib import Path
from typing import Annotated

import typer

from bb import options
from bb.probe.tasks.newt import read_labels
from bb.store import UsageError
from bb.store.files.writable import check_writable
from bb.store.signing.trust import Trust
from bb.store.storage.url import open_place
from bb.store.sync.plan import plan_pull
from bb.store.sync.selection import Selection
from bb.store.sync.transfer import pull
from bb.stores import local_folder, trust_file
from bb.transfer import backbone_globs, transfer


def verb(
    url: Annotated[str, typer.Argument(help="Where from: a folder, s3://…, hf://datasets/…, https://…")],
    ckpt: options.GlobOption = None,
    space: options.SpacesOption = None,
    data: options.CollectionsOption = None,
    runs: options.RunsOption = False,
    model: options.ModelsOption = None,
    for_: Annotated[
        str | None, typer.Option("--for", help="Just what one probe needs: newt; --data names another collection.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="With --for: labels of yours, where the store has none.")
    ] = None,
    replicates: Annotated[bool, typer.Option("--replicates", help="Segments all of whose rows are here, too.")] = False,
    require_signed: Annotated[
        bool, typer.Option("--require-signed", help="Only what a key that you trust has signed.")
    ] = False,
    dry_run: options.DryRunOption = False,
    jobs: options.TransfersOption = 8,
    store: options.StoreOption = options.DEFAULT_STORE,
    json_: options.JsonOption = False,
) -> None:
    if for_ not in (None, "newt"):
        raise UsageError(f"--for {for_}: unknown task family, choose newt.")
    if for_ and runs:
        raise UsageError("--for newt brings rows, --runs brings runs: give one of them.")
    if labels and not for_:
        raise UsageError("--labels says which images a probe needs: give --for newt with it.")
    selection = Selection(
        backbone_globs(ckpt), tuple(space or ()), tuple(data or ()), runs, for_,
        tuple(read_labels(labels).image_ids) if labels else (), tuple(model or ()),
    )  # fmt: skip
    trusted = Trust.load(trust_file()).keys
    if require_signed and not trusted:
        raise UsageError(
            "--require-signed takes what keys have signed that you trust, and you trust none: `bb store trust KEY` "
            "with a public key that you have from its owner."
        )
    target = local_folder(store)
    if not dry_run:
        check_writable(target, ("spaces", "collections", "runs"))
    plan = plan_pull(
        open_place(url),
        target,
        selection,
        replicates=replicates,
        trusted=trusted,
        require_signed=require_signed,
        jobs=jobs,
    )
    transfer(plan, None if dry_run else pull, jobs, json_)
