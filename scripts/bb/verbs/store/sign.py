"""`bb store sign`: verify the store, and vouch with your key for what is in it."""

from collections import Counter
from typing import Annotated

import typer

from bb.console import Progress, say, show_json
from bb.options import DEFAULT_STORE, JsonOption, KeyOption, StoreOption, named
from bb.store import UsageError
from bb.store.maintenance.sign import sign
from bb.store.signing.key import read_key
from bb.stores import backbone_names, key_file, open_store


def verb(
    key: KeyOption = None,
    space: Annotated[
        list[str] | None, typer.Option("--space", help="Only this space's rows and runs.", callback=named)
    ] = None,
    ckpt: Annotated[
        list[str] | None, typer.Option("--ckpt", help="Only this backbone's rows and runs.", callback=named)
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    json_: JsonOption = False,
) -> None:
    opened, signer = open_store(store, write=True), read_key(key or key_file())
    opened.check_writable("signatures")
    spaces = None
    if space or ckpt:
        names = backbone_names(ckpt, opened)
        by_name = {name: [s for s in opened.spaces() if name in opened.backbones(s)] for name in names}
        if lacking := [name for name, found in by_name.items() if not found]:
            raise UsageError(f"{opened.root} has no features of {', '.join(lacking)}: see `bb store ls`.")
        spaces = [*map(opened.space, space or []), *(s for found in by_name.values() for s in found)]
    total = opened.count_segments()
    with Progress("verifying", total, "segments") as meter:
        files, parts = sign(opened, signer, spaces, progress=meter)
    counts = dict(Counter(str(part.kind) for part in parts))
    if json_:
        show_json({"public_key": signer.public, "files": [path.name for path in files], "signed": counts})
    elif not files:
        say(f"nothing new: all of it is signed by {signer.public}")
    else:
        counted = ", ".join(_counted(count, kind) for kind, count in counts.items())
        say(f"signed by {signer.public}: {counted}", *(f"  {path}" for path in files))


def _counted(count: int, kind: str) -> str:
    """That many parts of a kind, in words."""
    name = {"labels": "label table", "adopted": "adopted record"}.get(kind, kind)
    return f"{count} {name}" + ("" if count == 1 else "s")
