"""Names of classes, or other texts, from a file: one on each line, or a table with a column for each kind of name."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bb.probe.tables.csv_text import decode, not_a_table
from bb.probe.tables.table_file import BYTE_ORDER_MARK, LINE, read_table_file
from bb.store.errors import BBError, UsageError
from bb.store.files.limits import MAX_TABLE_BYTES
from bb.store.format.text import normalised

# What a table may call them, the first that is there.
COLUMNS = {
    "name": ("name", "label", "class", "text", "query_text"),
    "common": ("common", "common_name"),
    "scientific": ("scientific", "scientific_name", "species"),
    "taxon": ("taxon", "taxonomy"),
}
# As BioCLIP's evaluation names them: the columns that are needed, and the text made of them.
TEXT_TYPES: dict[str, tuple[tuple[str, ...], Callable[..., str]]] = {
    "asis": ((), lambda: ""),
    "common": (("common",), lambda common: common),
    "sci": (("scientific",), lambda scientific: scientific),
    "taxon": (("taxon",), lambda taxon: taxon),
    "sci_com": (("scientific", "common"), lambda scientific, common: f"{scientific} with common name {common}"),
    "taxon_com": (("taxon", "common"), lambda taxon, common: f"{taxon} with common name {common}"),
}
_TABLES = (".csv", ".tsv", ".parquet", ".pq")


@dataclass(frozen=True)
class Names:
    """texts: the text of each name, in the file's order. notes: what was assumed in reading the file."""

    texts: dict[str, str]
    notes: tuple[str, ...] = ()


def read_names(path: str | Path, text_type: str = "asis") -> Names:
    """Names in NFC, without white space around them.

    text_type  "asis": the text is the name. Of a table: "common", "sci", "taxon", "sci_com" ("Ardea cinerea with common
               name grey heron") or "taxon_com"
    Errors: UsageError where there is no such file, no such type of text, or no column for it; BBError naming the
    line of a name that is empty or stands twice, and for a file that can't be read.
    """
    path = Path(path)
    if text_type not in TEXT_TYPES:
        raise UsageError(f"--text-type {text_type!r} is unknown: choose {', '.join(TEXT_TYPES)}.")
    if path.suffix.lower() in _TABLES:
        return _from_table(path, text_type)
    if text_type != "asis":
        raise UsageError(f"--text-type {text_type} needs a table with a header, and {path} is not called .csv.")
    if not path.is_file():
        raise UsageError(f"found no names at {path}: give a text file with a name on each line, or a CSV.")
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise BBError(f"{path} has {path.stat().st_size:,} bytes, and at most {MAX_TABLE_BYTES:,} are read.")
    data = path.read_bytes()
    try:
        if (why := not_a_table(data)) and data.strip():
            raise ValueError(why)
        text, assumed = decode(data)
    except ValueError as error:
        raise BBError(f"{path} can't be read as names: {error}. Save it as UTF-8 text.") from None
    lines = enumerate(re.split(r"\r\n|\r|\n", text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")), 1)
    pairs = [(number, line, line) for number, line in lines if line.strip()]
    return _checked(path, pairs, (f"{path.name}: {assumed}",) if assumed else ())


def _from_table(path: Path, text_type: str) -> Names:
    wanted, make = TEXT_TYPES[text_type]
    table = read_table_file(
        path,
        what=f"found no names at {path}: give a text file with a name on each line, or a CSV.",
        columns=[name for names in COLUMNS.values() for name in names],
        remedy="Export it again as CSV.",
    )
    found = {}
    for kind in ("name", *wanted):
        found[kind] = next((column for column in COLUMNS[kind] if column in table.columns), None)
        if found[kind] is None:
            needs = f" for --text-type {text_type}" if kind != "name" else ""
            raise UsageError(
                f"{path} has no column {' or '.join(COLUMNS[kind])}{needs}; it has {', '.join(table.columns)}."
            )
    columns = [str(column) for column in found.values()]
    table.require(columns[:1], "Its rows are the names.")
    frame = table.select(required=list(dict.fromkeys(columns))).frame
    texts = (
        [make(*map(normalised, row)) for row in frame.select(columns[1:]).iter_rows()] if wanted else frame[columns[0]]
    )
    return _checked(path, list(zip(frame[LINE], frame[columns[0]], texts, strict=True)), table.notes)


def _checked(path: Path, rows: list[tuple[int, str, str]], notes: tuple[str, ...]) -> Names:
    if not rows:
        raise BBError(f"{path} has no names: write one on each line.")
    texts: dict[str, str] = {}
    first: dict[str, int] = {}
    for line, name, text in rows:
        if name.startswith(BYTE_ORDER_MARK):
            raise BBError(f"{path}, line {line}: a second file begins here; join the names without its first mark.")
        key = normalised(name)
        if key in first:
            raise BBError(
                f"{path}, line {line}: the name {key!r} is on line {first[key]} too; give each class one line."
            )
        first[key], texts[key] = line, normalised(text)
    return Names(texts, notes)
