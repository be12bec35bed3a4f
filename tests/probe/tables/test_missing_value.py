"""What stands for a missing value, and how names of columns are compared."""

import polars as pl
import pytest

from bb.probe.tables.missing_value import MISSING, are_missing, column_name, is_missing

TYPED = (
    *MISSING,
    "NA",
    "N/A",
    "Null",
    "<NA>",
    "\\N",
    "-",
    "--",
    "---",
    "?",
    "???",
    ".",
    "...",
    "\N{EM DASH}",
    "\N{MINUS SIGN}",
    "\N{NON-BREAKING HYPHEN}",
    "\N{EM SPACE}",
    "\N{IDEOGRAPHIC SPACE}",
    "\N{WORD JOINER}",
    "N\N{ZERO WIDTH SPACE}A",
    " na\t",
    "\N{FULLWIDTH LATIN CAPITAL LETTER N}\N{FULLWIDTH LATIN CAPITAL LETTER A}",
    "\N{FULLWIDTH HYPHEN-MINUS}",
    "#REF!",
    "#N/A",
    "#NV",
    "#BEZUG!",
    "#WERT!",
    "#NOM?",
    "#¿NOMBRE?",
    "#DIV/0!",
    "#SPILL!",
)
NAMES = (
    "x",
    "nana",
    "none of these",
    "unknown",
    "missing",
    "-1",
    "1.5",
    "#1",
    "#Wow!",
    "N A",
    "na.",
    "?owl",
    "A-",
    "ä",
)


def test_texts_and_columns_are_judged_alike():
    texts = [*TYPED, *NAMES]
    found = pl.DataFrame({"label": texts}).select(are_missing(pl.col("label")))["label"].to_list()
    assert found == list(map(is_missing, texts)) == [True] * len(TYPED) + [False] * len(NAMES)


@pytest.mark.parametrize("written", ["espèce", "espe\u0300ce", " espèce\u2003", "es\u200bpèce", "\ufeffespèce"])
def test_a_column_has_one_name_however_it_is_typed(written):
    assert column_name(written) == "espèce"
