"""`bb store ls`: list feature spaces: backbone, rows, bytes."""

from bb.console import say, show_json, show_table, warn
from bb.options import DEFAULT_STORE, CacheOption, JsonOption, StoreOption
from bb.store.format.space import short
from bb.store.local.choose_version import describe_version, newest_first
from bb.store.text.size import size_text
from bb.store.trained_models import readable_models
from bb.stores import open_store
from bb.texts.store import adopted_lines, revoked_texts, space_record


def verb(store: StoreOption = DEFAULT_STORE, cache_size: CacheOption = None, json_: JsonOption = False) -> None:
    opened = open_store(store, cache_size=cache_size)
    rows = [space_record(opened, space) for space in opened.spaces()]
    if json_:
        show_json(rows)
        return
    show_table(
        ["space", "backbone", "kind", "shape", "compute", "stored", "rows", "segments", "size"],
        [
            [short(r["key"]), ", ".join(r["backbones"]), r["kind"], " x ".join(map(str, r["row_shape"])), r["compute"],
             r["stored"], r["rows"], r["segments"], size_text(r["bytes"])]
            for r in rows
        ],
        right=["rows", "segments", "size"],
    )  # fmt: skip
    say(*(words for r in rows for words in adopted_lines(r)))
    for name in opened.collection_names():
        for version in newest_first(opened.collections(name), opened.recorded):
            say(f"collection {name}@{short(version.digest)}: {describe_version(version, opened.recorded(version))}")
    for tasks in opened.label_families():
        say(*(f"labels {tasks}@{short(table.digest)}: {table.describe()}" for table in opened.labels(tasks)))
    if opened.source:  # their files would have to be fetched
        say(*(f"model {short(digest)} for space {short(owner)}" for digest, owner in opened.models().items()))
    else:
        models, faults = readable_models(opened)
        say(*(f"model {short(model.digest)}: {model.described}" for model in models))
        warn(*(f"warning: {fault}" for fault in faults))
    say(*(f"{part.kind} {part.digest}: {why}" for part, why in revoked_texts(opened).items()))
