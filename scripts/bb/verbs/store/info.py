"""`bb store info`: show a feature space whole, and where its rows come from."""

import json
import shlex
from typing import Annotated, Any

import typer

from bb.console import say, show_json
from bb.options import DEFAULT_STORE, CacheOption, JsonOption, StoreOption
from bb.store.format.space import short
from bb.store.text.size import size_text
from bb.stores import open_store
from bb.texts.store import adopted_lines, space_record


def verb(
    space: Annotated[str, typer.Argument(help="A feature space's key, or its beginning.")],
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    json_: JsonOption = False,
) -> None:
    opened = open_store(store, cache_size=cache_size)
    found = opened.space(space)
    segments: list[dict[str, Any]] = [
        {
            "digest": s.digest,
            "rows": s.rows,
            "bytes": s.n_bytes,
            "provenance": s.provenance,
            "local": opened.local(s.digest),
        }
        for s in opened.segments(found)
    ]
    record = {**space_record(opened, found), "space": found.record(), "parts": segments}
    if json_:
        show_json(record)
        return
    say(
        f"space {found.key}", f"  {', '.join(record['backbones'])}: {record['rows']} rows, {size_text(record['bytes'])}"
    )
    say(*(f"  {words}" for words in adopted_lines(record)))
    for name, value in found.record().items():
        say(f"  {name}: {json.dumps(value, ensure_ascii=False)}")
    for part in segments:
        local = part["local"]
        for made in part["provenance"].get("merged", [part["provenance"]]):
            versions = ", ".join(f"{name} {v}" for name, v in made.get("versions", {}).items())
            say(
                f"segment {short(part['digest'])}: {part['rows']} rows, {size_text(part['bytes'])}, "
                f"{made.get('made', '')}, {made.get('device', '')}; {versions}"
            )
        if local:
            say(f"  made here by {local['user']} on {local['host']}: {shlex.join(local['argv'])}")
    say(*(f"segment {digest}: {why}" for digest, why in record["revoked"].items()))
