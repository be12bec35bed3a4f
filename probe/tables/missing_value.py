"""Texts that stand for a missing value in people's tables, however they are typed."""

import re
import unicodedata

import polars as pl

from bb.store.text.image_ids import AROUND

# Without regard to case: pandas' list, R's, SAS's, MySQL's, Excel's errors, and empty brackets of databases.
MISSING = {
    *("", "na", "n/a", "n.a.", "n.a", "n/d", "#n/a", "#na", "#n/a n/a", "<na>", "(na)", "nan", "-nan", "nat", "\\n"),
    *("null", "<null>", "(null)", "[null]", "none", "<none>", "(none)", "nil", "(blank)", "#nv", "#n/d"),
    *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
}
# Dashes, dots and question marks alone, and spreadsheets' errors in any language: #REF!, #BEZUG!, #¿NOMBRE?.
_SIGNS = "^[-?.\u2010-\u2015\u2212]+$"
_ERROR = r"^#[¡¿]?[A-ZÀ-ÖØ-Þ/0]+[!?]$"


def is_missing(text: str) -> bool:
    """Whether a cell's text stands for a missing value."""
    plain = _seen(unicodedata.normalize("NFKC", text.strip(AROUND)))
    return plain.lower() in MISSING or bool(re.search(_SIGNS, plain) or re.search(_ERROR, plain))


def are_missing(column: pl.Expr) -> pl.Expr:
    """`is_missing` of each text of a column; null where it is null."""
    plain = column.str.strip_chars(AROUND).str.normalize("NFKC").str.replace_all(r"\p{Cf}", "")
    return plain.str.to_lowercase().is_in(list(MISSING)) | plain.str.contains(_SIGNS) | plain.str.contains(_ERROR)


def column_name(text: str) -> str:
    """A header's cell as it is compared: in NFC, without blanks around it and characters that can't be seen."""
    return _seen(unicodedata.normalize("NFC", text.strip(AROUND)))


def _seen(text: str) -> str:
    return text if text.isascii() else "".join(c for c in text if unicodedata.category(c) != "Cf")
