"""What verbs about texts do and print: `bb extract --text`, `bb search`, `bb probe search`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb.console import ConsoleReporter, say, show_json, show_table, warn
from bb.store.text.command import command
from bb.stores import open_store, require_extract

if TYPE_CHECKING:
    from bb.extract.embed_texts import TextEncoder
    from bb.probe.text.score_search import SearchScores
    from bb.probe.text.search import Hits


def extract_texts(
    given: str, ckpt: Sequence[str], store: str, *, templates: str, text_type: str, device: str, json_: bool
) -> None:
    """`bb extract --text [NAME=]FILE`."""
    from bb.probe.text.read_names import read_names

    name, equals, file = given.rpartition("=")
    path = Path(file) if equals and not Path(given).is_file() else Path(given)
    name = name if path != Path(given) else path.stem + ("" if text_type == "asis" else f"-{text_type}")
    names = read_names(path, text_type)
    warn(*(f"note: {note}" for note in names.notes))
    require_extract("bb extract --text")
    from bb.extract.embed_texts import embed_texts, parse_templates

    chosen = parse_templates(templates)
    opened = open_store(store, create=True)
    opened.check_writable("spaces", "collections", "local")
    with ConsoleReporter("note: ") as reporter:
        made = embed_texts(opened, ckpt, names.texts, name, templates=chosen, device=device, reporter=reporter)
    if json_:
        show_json([summary.record() for summary in made])
        return
    say(*(summary.line() for summary in made))
    say("Next:", f"  {command('probe zeroshot', labels='LABELS.csv', text=name, store=store)}")


def encoder_for(ckpt: str | None, device: str) -> "Callable[[str], TextEncoder]":
    """Loads what encodes a text that is not stored: the text tower of `ckpt`, or of the backbone that is searched."""

    def load(backbone: str) -> "TextEncoder":
        require_extract("The text is not stored, and to encode it bb")
        from bb.extract.backbones.name import BackboneName
        from bb.extract.embed_texts import TextEncoder
        from bb.store import UsageError

        name = BackboneName.parse(ckpt or backbone)
        if name.path is not None and not ckpt:
            raise UsageError(f"the features are of a file, {backbone}: give --ckpt with its path on this machine.")
        return TextEncoder.load(name, "plain", device)

    return load


def show_hits(found: "Hits", paths: "Sequence[str] | None") -> None:
    """A table of what was found for a text."""
    name = found.collection.name
    say(f"{len(found)} of {found.searched} images of {name} nearest to {found.query!r}, {found.backbone}")
    columns = ["rank", "image", "cosine", *(["path"] if paths else [])]
    rows = [
        [row["rank"], row["image_id"], f"{row['score']:.4f}", *([paths[number]] if paths else [])]
        for number, row in enumerate(found.frame.iter_rows(named=True))
    ]
    show_table(columns, rows, right=["rank", "cosine"])
    if found.absent:
        warn(f"note: {found.absent} images of {name} have no features and were not searched")


def show_scores(found: "Sequence[SearchScores]", by: str | None) -> None:
    """A row for each space of images, with 95% intervals over queries."""

    def bounded(mean: Any) -> str:
        if mean.low is None:
            return f"{mean.value:.3f} (no interval)"
        return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"

    from bb.probe.retrieval.statistics.clustered import MIN_UNITS

    metrics = list(found[0].means)
    at = "" if found[0].k is None else f"@{found[0].k}"
    say(f"{len(found[0].frame)} queries" + (", fixed candidates" if not at else ""))
    headers = [name if name == "mrr" else f"{name}{at}" for name in metrics]
    show_table(["backbone", *headers], [[one.backbone, *(bounded(one.means[m]) for m in metrics)] for one in found])
    n = len(found[0].frame)
    bounds = found[0].means[metrics[0]].low is not None
    say(
        "intervals: 95%, of the mean over further queries of this kind on these images"
        if bounds
        else f"no interval: {n} queries, and an interval needs {MIN_UNITS}"
    )
    for one in found:
        if by:
            rows = one.by(by).iter_rows()
            say("", one.backbone)
            cells = [[row[0] or "", row[1], *(f"{value:.3f}" for value in row[2:])] for row in rows]
            show_table([by, "queries", *headers], cells, right=["queries"])
        warn(*(f"note: {one.backbone}: {note}" for note in one.notes))
