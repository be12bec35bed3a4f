"""`bb store revoke`: take back, for good, what is wrong; read, pull and merge leave it out from then on."""

from typing import Annotated

import typer

from bb.console import say, show_json, warn
from bb.options import DEFAULT_STORE, JsonOption, KeyOption, StoreOption
from bb.store.maintenance.sign import resolve, revoke
from bb.store.signing.key import read_key
from bb.stores import key_file, open_store


def verb(
    digest: Annotated[
        list[str], typer.Argument(help="Segments, collections, labels, runs, heads: digests, or their beginnings.")
    ],
    reason: Annotated[str | None, typer.Option("--reason", help="Why, in a line that all readers see.")] = None,
    key: KeyOption = None,
    store: StoreOption = DEFAULT_STORE,
    json_: JsonOption = False,
) -> None:
    opened, signer = open_store(store, write=True), read_key(key or key_file())
    opened.check_writable("signatures")
    path, fresh = revoke(opened, signer, resolve(opened, digest), reason)
    unheeded = sorted(set(fresh) - opened.revoked().keys())
    if json_:
        show_json(
            {"public_key": signer.public, "file": path.name if path else None, "revoked": fresh, "unheeded": unheeded}
        )
    elif path is None:
        say(f"nothing new: {signer.public} has revoked that already")
    else:
        say(*(f"revoked {found}" for found in fresh), f"  {path}")
    if unheeded:
        warn(
            f"note: {len(unheeded)} of them are still read here, since you don't trust the key: "
            f"bb store trust {signer.public}"
        )
