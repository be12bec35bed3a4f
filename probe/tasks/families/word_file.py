"""Files of lines of words with blanks between, without or with a header, as lists of images and frames often are."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from bb.probe.tables.csv_text import decode
from bb.probe.tables.table_file import LINE, TableFile
from bb.store.errors import BBError
from bb.store.files.regular_file import open_regular

MOST = 2**30  # bytes


def read_words(path: Path, columns: Sequence[str], *, header: bool = False) -> TableFile:
    """A table of these columns, text, whose last may hold blanks; quotation marks around a word are taken off.

    Errors: BBError where the file can't be read or is empty, and naming a line of fewer words.
    """
    try:
        with open_regular(path) as file:
            data = file.read(MOST + 1)
        text, _ = decode(data)
    except OSError as error:
        raise BBError(f"{path} can't be read: {error.strerror or error}. Fetch it again.") from None
    except ValueError as error:
        raise BBError(f"{path} can't be read: {error}.") from None
    if len(data) > MOST:
        raise BBError(f"{path} has more than {MOST:,} bytes, which are not read.")
    if "\0" in text:
        raise BBError(f"{path} holds NUL characters, so it is not a list. Fetch it again.")
    rows, lines = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or (header and number == 1):
            continue
        words = line.split(maxsplit=len(columns) - 1)
        if len(words) < len(columns):
            raise BBError(f"{path}, line {number}: it has {len(words)} words, where it needs {', '.join(columns)}. "
                          "Fetch it again.")  # fmt: skip
        rows.append([word.strip().strip('"') for word in words])
        lines.append(number)
    if not rows:
        raise BBError(f"{path} has no lines{' below its header' * header}. Fetch it again.")
    cells = [pl.Series(name, cells, pl.String) for name, cells in zip(columns, zip(*rows, strict=True), strict=True)]
    return TableFile(str(path), tuple(columns), pl.DataFrame([pl.Series(LINE, lines, pl.Int64), *cells]))
