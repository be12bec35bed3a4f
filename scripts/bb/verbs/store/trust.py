"""`bb store trust`: list the public keys that you trust, add one, or remove one."""

from pathlib import Path
from typing import Annotated

import typer

from bb.console import say, show_json
from bb.options import JsonOption
from bb.store import UsageError
from bb.store.signing.key import check_public, check_signer, read_public
from bb.store.signing.trust import Trust
from bb.stores import trust_file


def verb(
    key: Annotated[str | None, typer.Argument(help="A public key or a .pub file; without one, all are listed.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="What you call its owner.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Trust it no longer.")] = False,
    json_: JsonOption = False,
) -> None:
    path = trust_file()
    trust = Trust.load(path)
    if key is None:
        if remove or name:
            raise UsageError(f"{'--remove' if remove else '--name'} of which key? bb store trust KEY …")
    elif remove:
        trust = trust.without(key)
        trust.save(path)
    else:
        is_file = key.endswith(".pub") or Path(key).is_file()
        public, own_name = read_public(Path(key)) if is_file else (check_public(key), None)
        trust = trust.with_key(public, check_signer(name) if name else own_name or trust.keys.get(public, ""))
        trust.save(path)
    if json_:
        show_json(dict(trust.keys))
    elif not trust.keys:
        say("no key is trusted; `bb store trust KEY` trusts one, `bb store keygen` makes one")
    else:
        say(*(f"{public}  {known}".rstrip() for public, known in sorted(trust.keys.items())))
