"""`bb store keygen`: make a key to sign stores with, and trust it yourself."""

from pathlib import Path
from typing import Annotated

import typer

from bb.console import say, warn
from bb.store.signing.key import make_key, public_file
from bb.store.signing.trust import Trust
from bb.store.text.command import command
from bb.stores import key_file, trust_file


def verb(
    to: Annotated[
        Path | None, typer.Option("--to", help="The new file; default: key.pem in the folder of your bb.toml.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The name to sign with, such as your lab's; default: none.")
    ] = None,
) -> None:
    path, trust = to or key_file(), Trust.load(trust_file())
    key = make_key(path, name)
    trust.with_key(key.public, name or "").save(trust_file())
    say(key.public)
    warn(
        f"The private key is {path} (mode 600): give it to nobody, and keep a copy where it can't be lost.",
        f"The public key is above and in {public_file(path)}. You trust it already; others do by either of:",
        f"  {command('store trust', key.public, name=name)}",
        f"  {command('store trust', public_file(path).name)}",
        "Publish it in a place of its own, such as your web page, not in the store that it signs.",
    )
