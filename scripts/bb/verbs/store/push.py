"""`bb store push`: copy to another place what it does not have."""

from typing import Annotated

import typer

from bb import options
from bb.console import warn
from bb.store.files.regular_file import refuse_in_store
from bb.store.files.writable import check_writable
from bb.store.format.collection import check_name
from bb.store.format.text import is_text_collection
from bb.store.storage.index_json import write_index
from bb.store.storage.local import Folder
from bb.store.storage.url import open_place
from bb.store.sync.plan import plan_push
from bb.store.sync.selection import Selection
from bb.store.sync.transfer import push
from bb.store.sync.unshared_labels import unshared
from bb.stores import open_store
from bb.transfer import backbone_globs, transfer


def verb(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(help="Where to: a folder, s3://…, hf://datasets/…")],
    ckpt: options.GlobOption = None,
    space: options.SpacesOption = None,
    data: options.CollectionsOption = None,
    runs: options.RunsOption = False,
    model: options.ModelsOption = None,
    dry_run: options.DryRunOption = False,
    jobs: options.TransfersOption = 8,
    store: options.StoreOption = options.DEFAULT_STORE,
    json_: options.JsonOption = False,
) -> None:
    target, opened = open_place(url), open_store(store, write=True)
    if isinstance(target, Folder):
        refuse_in_store(target.root.absolute().parent, f"the store {url}")
    if isinstance(target, Folder) and not dry_run:
        check_writable(target.root, ("", "spaces", "collections", "runs"), naming="to push to")
    for text in data or []:
        check_name(text.partition("@")[0])
    selection = Selection(backbone_globs(ckpt), tuple(space or ()), tuple(data or ()), runs, models=tuple(model or ()))
    if not (runs or model):
        names = [text.partition("@")[0] for text in data or opened.collection_names()]
        of_images = [name for name in names if not is_text_collection(name)]
        warn(*(f"note: {text}" for text in unshared(opened, of_images, ctx.obj.licences)))
    plan = plan_push(opened.root, target, selection, trusted=opened.trusted, jobs=jobs)
    transfer(plan, None if dry_run else push, jobs, json_, then=lambda: write_index(target))
