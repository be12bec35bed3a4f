"""`bb data download`: fetch a task family's images and labels from their publishers; resumes, checks and unpacks."""

from pathlib import Path
from typing import Annotated

import typer

from bb.console import Progress, say, warn
from bb.probe.tasks.family import about
from bb.probe.tasks.registry import TASKS
from bb.store import UsageError
from bb.store.files.regular_file import refuse_in_store
from bb.store.storage.download import download, is_unpacked, unpack
from bb.store.text.command import command


def verb(
    name: Annotated[str, typer.Argument(help="What to fetch: newt, or a plug-in's task family.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to put it in; 9 GB are needed for newt.")],
) -> None:
    if name not in TASKS:
        known = ", ".join(other for other, each in TASKS.plugins.items() if not each.own or TASKS.load(other).archives)
        raise UsageError(f"bb can't download {name!r}, only {known}. For images of yours: --data {name}=DIR")
    family = TASKS.load(name)
    archives = family.archives
    if not archives:
        where = about(family)
        if where.home:
            raise UsageError(f"bb can't download {name}: get it from {where.home}. It needs {where.needs}; then "
                             f"{command('data check', f'{name}=DIR')}")  # fmt: skip
        raise UsageError(f"bb can't download {name}: its plug-in names no archive. Its documentation says where it is.")
    refuse_in_store(to, f"--to {to}")
    for archive in archives:
        if is_unpacked(to / archive.name, to):
            warn(f"{archive.name} was unpacked into {to} before")
            continue
        warn(f"{archive.name} from {archive.url}")
        with Progress(archive.name, archive.bytes or 0, "bytes") as meter:
            path = download(archive, to, progress=meter)
        with Progress(f"unpacking {archive.name}", path.stat().st_size, "bytes") as meter:
            unpack(path, to, progress=meter)
    title = "NeWT" if name == "newt" else name
    say(f"{title} is in {to}. Next: {command('extract', ckpt='ViT-B-16/openai', data=f'{name}={to}')}")
