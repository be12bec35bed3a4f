"""From a file's bytes to text: which encoding it is in, and what it is where it is not a text of a table."""

import codecs
import re

_BOMS = (  # UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_KINDS = (
    (b"PK\x03\x04", "it is an Excel workbook or a zip archive; in Excel, save it as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "it is an old Excel workbook; in Excel, save it as CSV UTF-8"),
    (b"\x1f\x8b", "it is packed; unpack it with gunzip"),
    (b"BZh", "it is packed; unpack it with bunzip2"),
    (b"\xfd7zXZ", "it is packed; unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "it is packed; unpack it with unzstd"),
    (b"ARROW1", "it is an Arrow file; write it as Parquet"),
    (b"SQLite format 3", "it is an SQLite database; export the table as CSV"),
    (b"version https://git-lfs", "it is a pointer of git-lfs; fetch the file with git lfs pull"),
    (b"%PDF", "it is a PDF"),
    *((bytes([0x80, n]), "it is a pickle, which is never loaded, since that can run any code") for n in range(2, 6)),
)

_APART = r"[\t\n\r ,;|]"  # no blank that is not ASCII, which may be all that is strange


def not_a_table(data: bytes) -> str | None:
    """What a file is that is neither CSV nor Parquet; None where it may be a table."""
    for start, words in _KINDS:
        if data.startswith(start):
            return words
    start = data[:512].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page or XML, not the table; download the table itself"
    if start.startswith((b"{", b"[")):
        return "it is JSON; write the table as CSV"
    return None if start else "it is empty"


def decode(data: bytes) -> tuple[str, str | None]:
    """The text, without a byte order mark, and what was assumed where the bytes do not say.

    Raises ValueError with a short reason for bytes in no encoding known here.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _decoded(data, encoding), None
    start = data[:4096]
    for zeros, encoding in ((start[1::2], "utf-16-le"), (start[::2], "utf-16-be")):
        if len(zeros) > 4 and zeros.count(0) > 0.6 * len(zeros):
            return _decoded(data, encoding), f"taken for {encoding.upper()}"
    try:
        return data.decode(), None
    except UnicodeDecodeError as error:
        at, line = error.start, data[: error.start].count(b"\n") + 1
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        raise ValueError(f"line {line} is neither UTF-8 nor Windows-1252; save it as CSV UTF-8") from None
    word = re.split(_APART, text[max(at - 40, 0) : at])[-1] + re.split(_APART, text[at : at + 40])[0]
    return text, f"not UTF-8, so taken for Windows-1252: check that line {line} has {word!r}"


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding).lstrip("\N{ZERO WIDTH NO-BREAK SPACE}")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not {encoding.upper()}; save it as CSV UTF-8") from None
