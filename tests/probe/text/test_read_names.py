"""Names of classes from text files and tables of any encoding, and what is refused."""

import pytest

from bb.probe import read_names
from bb.store import BBError, UsageError

TABLE = "name,common,scientific,taxon\nheron,grey heron,Ardea cinerea,Animalia Aves Ardea cinerea\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_lines_of_any_encoding_are_names(tmp_path, encoding):
    path = tmp_path / "names.txt"
    path.write_bytes("Bär\r\n\r\n  Ara macao \r\n".encode(encoding))
    names = read_names(path)
    assert names.texts == {"Bär": "Bär", "Ara macao": "Ara macao"}
    assert bool(names.notes) == (encoding == "cp1252")


@pytest.mark.parametrize(
    ("text_type", "text"),
    [
        ("asis", "heron"),
        ("common", "grey heron"),
        ("sci", "Ardea cinerea"),
        ("taxon", "Animalia Aves Ardea cinerea"),
        ("sci_com", "Ardea cinerea with common name grey heron"),
        ("taxon_com", "Animalia Aves Ardea cinerea with common name grey heron"),
    ],
)
def test_a_table_has_a_text_for_each_kind_of_name(tmp_path, text_type, text):
    path = tmp_path / "names.csv"
    path.write_text(TABLE)
    assert read_names(path, text_type).texts == {"heron": text}


def test_columns_may_have_their_usual_names(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("label;common_name\nx;heron\n")
    assert read_names(path, "common").texts == {"x": "heron"}
    path.write_text("query_id,query_text\n1,a heron with a fish\n")
    assert read_names(path).texts == {"a heron with a fish": "a heron with a fish"}


@pytest.mark.parametrize(
    ("name", "content", "text_type", "error", "message"),
    [
        ("absent.txt", None, "asis", UsageError, "found no names at .*absent.txt: give a text file with a name"),
        ("names.txt", b"", "asis", BBError, "names.txt has no names: write one on each line"),
        ("names.txt", b" \n\n", "asis", BBError, "names.txt has no names"),
        ("names.txt", b"a\nb\n a\n", "asis", BBError, "line 3: the name 'a' is on line 1 too"),
        ("names.txt", b"a\n\x81\x8d\n", "asis", BBError, "line 2 is neither UTF-8 nor Windows-1252"),
        ("names.txt", b"PK\x03\x04", "asis", BBError, "can't be read as names: it is"),
        ("names.txt", b"a\n", "sci", UsageError, "--text-type sci needs a table with a header"),
        ("names.csv", b"name\na\n", "latin", UsageError, "--text-type 'latin' is unknown: choose asis, common"),
        ("names.csv", b"name\na\n", "sci", UsageError, "no column scientific or .* for --text-type sci; it has name"),
        ("names.csv", b"id\n1\n", "asis", UsageError, "has no column name or label or class"),
        ("names.csv", b"name,common\na,\n", "common", BBError, "line 2: common is empty"),
        ("names.csv", b"name,common\na,NA\n", "common", BBError, "line 2: common is 'NA', which stands for a missing"),
        ("names.csv", b"name\na\nnan\n", "asis", BBError, "line 3: name is 'nan', which stands for a missing value"),
        ("names.txt", "a\n\ufeffb\n".encode(), "asis", BBError, "line 2: a second file begins here"),
        ("names.csv", b"name\na\na\n", "asis", BBError, "line 3: the name 'a' is on line 2 too"),
    ],
)
def test_what_is_refused(tmp_path, name, content, text_type, error, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        read_names(tmp_path / name, text_type)
