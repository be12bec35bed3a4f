"""Tables as people make them: dialects of CSV, what is missing, what can be read in two ways."""

import datetime
from pathlib import Path

import polars as pl
import pytest

from bb.probe.tables.missing_value import MISSING
from bb.probe.tables.table_file import TableFile, read_table_file
from bb.store.errors import BBError, UsageError

COLUMNS = ("image_id", "label", "split", "x1")
PLAIN = [("1.jpg", "Uhu"), ("2.jpg", "Käuzchen"), ("3.jpg", "a,b;c")]


def read(path, columns=COLUMNS):
    return read_table_file(path, what=f"no labels at {path}", columns=columns, remedy="Export it again.")


def rows(table):
    return table.frame.select("image_id", "label").rows()


def csv_text(separator, end="\n", quote=True):
    lines = [("image_id", "label"), *PLAIN]
    mark = '"' if quote else ""
    return end.join(separator.join(f"{mark}{cell}{mark}" for cell in line) for line in lines) + end


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_every_dialect_gives_the_same_rows(tmp_path, separator, end, encoding):
    (tmp_path / "l.csv").write_bytes((csv_text(separator, end) + end).encode(encoding))
    table = read(tmp_path / "l.csv")
    assert rows(table) == PLAIN
    step = 2 if end == "\n\n" else 1
    assert table.frame["line in the file"].to_list() == [1 + step, 1 + 2 * step, 1 + 3 * step]
    assumed = {"utf-16-le": "UTF-16-LE", "utf-16-be": "UTF-16-BE", "cp1252": "Windows-1252: check that line"}
    assert [assumed.get(encoding, "") in note for note in table.notes] == [True] * (encoding in assumed)


def test_a_blank_may_be_all_that_is_not_utf_8(tmp_path):
    """As French spreadsheets write names and numbers: no break at the blank."""
    (tmp_path / "l.csv").write_bytes("image_id;label\n1.jpg;Parus\xa0major\n".encode("cp1252"))
    table = read(tmp_path / "l.csv")
    assert rows(table) == [("1.jpg", "Parus\xa0major")]
    assert table.notes == ("l.csv: not UTF-8, so taken for Windows-1252: check that line 2 has 'Parus\\xa0major'",)


def test_excels_first_line_blanks_in_the_header_and_empty_rows(tmp_path):
    (tmp_path / "l.csv").write_bytes(
        b'\xef\xbb\xbfsep=;\r\n image_id ;"label ";;x1\r\n1.jpg;a;;1,5\r\n;;;\r\n2.jpg;b;;2\r\n;;;\r\n'
    )
    table = read(tmp_path / "l.csv")
    assert rows(table) == [("1.jpg", "a"), ("2.jpg", "b")]
    assert table.frame["line in the file"].to_list() == [3, 5]
    assert table.numbers("x1").to_list() == [1.5, 2.0]


def test_the_separator_is_the_one_that_finds_the_columns(tmp_path):
    (tmp_path / "l.csv").write_text("image_id;label;a, b, c, and d\n1.jpg;a,b;\n")
    assert rows(read(tmp_path / "l.csv")) == [("1.jpg", "a,b")]


def test_numbers_as_german_spreadsheets_write_small_ones(tmp_path):
    (tmp_path / "l.csv").write_text("image_id;x1\na;1,5E-05\nb;-2,5e3\nc;4E2\nd;\u22122,5\n")
    assert read(tmp_path / "l.csv").numbers("x1").to_list() == [1.5e-5, -2500.0, 400.0, -2.5]


def test_a_decimal_comma_is_a_number_where_commas_do_not_separate(tmp_path):
    (tmp_path / "mixed.csv").write_text("image_id;x1\na;1,5\nb;2.5\n")
    with pytest.raises(BBError, match="line 2: x1 is '1,5'; other rows have a decimal point"):
        read(tmp_path / "mixed.csv").numbers("x1")
    (tmp_path / "comma.csv").write_text('image_id,x1\na,"1,5"\n')
    with pytest.raises(BBError, match="line 2: x1 is '1,5'; it must be a number"):
        read(tmp_path / "comma.csv").numbers("x1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('image_id,label\n1,a\n2,"b\n3,c\n4,d\n', r"line 3: its quotation marks do not pair up"),
        ('image_id,label\n1,"a"x\n', "line 2: its quotation marks do not pair up"),
        ('image_id,label\n1,"a\n2,b\n3,c"\n', "line 2: a quotation mark opens a cell of label that ends on line 4"),
        ('image_id,label,note\n1,a,"x\n2,b,y"\n3,c,z\n', "line 2: a quotation mark opens a cell of note that ends on"),
        ('image_id,label\n1,"a\nb"\n', "line 2: a quotation mark opens a cell of label that ends on line 3"),
        ('image_id,label\r1,"a\rb"\r', "line 2: a quotation mark opens a cell of label that ends on line 3"),
        ('image_id,label\n1,a\n2,b"\n', r"line 3: label is 'b\"', with a stray quotation mark"),
        ('image_id,label\n1, "a"\n', "line 2: label is ' \"a\"', with a stray quotation mark"),
        ("image_id,label\n1,a\n\n2,b,c\n", "line 4: it has 3 cells, where the header has 2"),
        ("image_id,label\n1\n", "line 2: it has 1 cell, where the header has 2"),
        (
            "My owls\nimage_id,label\n1,a\n",
            "line 2: it has 2 cells, .*; if 'My owls' is a title above the header, take",
        ),
        ("image_id;label;note\n1;a;x\n2;b\n", r"line 3: .*; add separators at its end, which Excel leaves out"),
        ("image_id;label\n1;a\n2,b\n", r"line 3: it has 1 cell, .* \(separated by semicolons\)"),
        ("image_id,label\n1,a\0b\n", "line 2: it holds NUL characters"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "l.csv").write_bytes(text.encode())
    with pytest.raises(BBError, match=message) as caught:
        read(tmp_path / "l.csv")
    assert str(caught.value).startswith(f"{tmp_path}/l.csv, line ") and caught.value.exit_status == 1


def test_a_line_break_in_a_column_that_is_not_used_is_read(tmp_path):
    (tmp_path / "l.csv").write_text('image_id,label,note\n1,"say ""a""","seen twice\nat dusk"\n2,b,\n')
    table = read(tmp_path / "l.csv")
    assert rows(table) == [("1", 'say "a"'), ("2", "b")] and table.frame["line in the file"].to_list() == [2, 4]


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "l.csv").write_text("image_id,label, label \n1,a,b\n")
    with pytest.raises(UsageError, match="line 1: 2 columns are called 'label'. Rename all but one") as caught:
        read(tmp_path / "l.csv")
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b"\n \n", "it is empty"),
        (b"PK\x03\x04", "it is an Excel workbook or a zip archive; in Excel, save it as CSV UTF-8"),
        (b"\x1f\x8b\x08", "it is packed; unpack it with gunzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a pointer of git-lfs"),
        (b"<!DOCTYPE html>\n<html>", "it is a web page or XML, not the table"),
        (b'[{"image_id": 1}]', "it is JSON"),
        (b"image_id,label\n1,\x81\xff\n", "line 2 is neither UTF-8 nor Windows-1252; save it as CSV UTF-8"),
        (b"\xff\xfei\x00d", "is not UTF-16; save it as CSV UTF-8"),
        (b"PAR1 and no more", "can't be read as a table"),
    ],
)
def test_what_is_no_table_is_called_what_it_is(tmp_path, data, message):
    (tmp_path / "l.csv").write_bytes(data)
    with pytest.raises(BBError, match=message):
        read(tmp_path / "l.csv")


@pytest.mark.parametrize(
    "name", ["l[1].csv", "l*.csv", "l?.csv", "~", "hf:", "a%20b#c.csv", "{a,b}.csv", "l[1].parquet"]
)
def test_a_name_is_no_pattern(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for other in ("l1.csv", "lx.csv", "a.csv", "a b", "l1.parquet"):
        (tmp_path / other).write_text("image_id,label\n1,wrong\n")
    frame = pl.DataFrame({"image_id": ["1"], "label": ["right"]})
    frame.write_parquet(tmp_path / "t") if name.endswith("parquet") else frame.write_csv(tmp_path / "t")
    (tmp_path / "t").rename(tmp_path / name)
    assert rows(read(Path(name))) == [("1", "right")]


def labels_of(values, **options):
    table = TableFile.from_frame(
        pl.DataFrame({"image_id": list(map(str, range(len(values)))), "label": values}), "t", COLUMNS
    )
    return table.select(ids=["image_id"], required=["label"], **options).frame["label"].to_list()


@pytest.mark.parametrize(
    "text", sorted(MISSING | {"NaN", "NA", "N/A", "NULL", "None", "NaT", " nan ", "\u00a0", "\\N", "#N/A"})
)
def test_a_missing_label_is_no_class(text):
    with pytest.raises(BBError, match=r"t, line 3: label is .*every row needs one.*\(2 more like it\): lines 4, 5"):
        labels_of(["a", text, text, text])


@pytest.mark.parametrize(
    "second",
    ["\ufeffimage_id,label\n3,c\n", "\ufeff3,c\n", "image_id,label\n3,c\n", " Image_ID ,label\n".lower() + "3,c\n"],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_joined_files_are_refused_with_the_line(tmp_path, second, encoding):
    """Else the second header is a class called "label", and marks stand in IDs."""
    (tmp_path / "l.csv").write_bytes(("image_id,label\n1,a\n2,b\n" + second).encode(encoding))
    with pytest.raises(BBError, match="line 4: a second table begins here, so files were joined"):
        read(tmp_path / "l.csv")


@pytest.mark.parametrize("other", ["la\u200bbel", "label\u2003", "\u00adlabel"])
def test_two_columns_that_look_the_same_are_refused(tmp_path, other):
    (tmp_path / "l.csv").write_text(f"image_id,label,{other}\n1,a,b\n")
    with pytest.raises(UsageError, match="line 1: 2 columns are called 'label'. Rename all but one"):
        read(tmp_path / "l.csv")
    frame = pl.DataFrame({"image_id": ["1"], "label": ["a"], other: ["b"]})
    frame.write_parquet(tmp_path / "l.parquet")
    with pytest.raises(UsageError, match="2 columns are called 'label'"):
        read(tmp_path / "l.parquet")
    with pytest.raises(UsageError, match="2 columns are called 'label'"):
        TableFile.from_frame(frame, "t", COLUMNS)
    frame.drop("label").write_parquet(tmp_path / "l.parquet")
    assert read(tmp_path / "l.parquet").frame["label"].to_list() == ["b"]


def test_nul_in_a_label_is_refused():
    """NumPy takes it off the end of a text, so that two labels would be one."""
    with pytest.raises(BBError, match=r"line 3: label is 'a\\x00'; it holds a line break or NUL"):
        labels_of(["a", "a\0"])


def test_a_kept_name_that_ends_in_a_full_stop_is_quoted():
    with pytest.raises(BBError, match=r"keep it with --not-missing 'n\.a\.'\."):
        labels_of(["a", "n.a."], not_missing=[])


@pytest.mark.parametrize("values", [["a", None], [1.0, float("nan")], [1, None]])
def test_null_and_nan_are_missing(values):
    with pytest.raises(BBError, match="line 3: label is empty; every row needs one"):
        labels_of(values)


def test_a_name_that_stands_for_a_missing_value_can_be_kept():
    with pytest.raises(BBError, match="label is 'NA', which stands .* keep it with --not-missing NA"):
        labels_of(["a", "NA"], not_missing=())
    assert labels_of(["a", "NA", "None"], not_missing=["NA", "None"]) == ["a", "NA", "None"]
    with pytest.raises(BBError, match="line 3: label is 'nan'"):
        labels_of(["NA", "nan"], not_missing=["NA"])


def test_values_of_parquet_are_written_as_people_write_them():
    assert labels_of([1.0, 2.0]) == labels_of([1, 2]) == ["1", "2"]
    assert labels_of([1.5, 2.0]) == ["1.5", "2.0"] and labels_of([True, False]) == ["true", "false"]
    assert labels_of([datetime.date(2026, 5, 1)]) == ["2026-05-01"]
    assert labels_of(pl.Series(["a", "b"], dtype=pl.Categorical)) == ["a", "b"]
    for text in ("a\nb", "a\rb", "a\x0bb", "a\x85b", "a\u2028b"):
        with pytest.raises(BBError, match="t, line 3: label is .*; it holds a line break"):
            labels_of(["a", text])
    for nested in ([["a"]], [{"a": 1}], [b"a"]):
        with pytest.raises(BBError, match="in the column label; it needs one text or number a row"):
            labels_of(nested)


def test_missing_cells_of_an_optional_column_are_said():
    frame = pl.DataFrame({"image_id": ["1", "2", "3"], "label": ["a"] * 3, "split": ["NA", "", "test"]})
    table = TableFile.from_frame(frame, "t", COLUMNS).select(required=["label"], optional=["split"])
    assert table.frame["split"].to_list() == [None, None, "test"]
    assert table.notes == ("column split: 1 cells of 'NA' are taken as empty",)
    lost = TableFile.from_frame(frame.with_columns(label=pl.lit("M\ufffdller")), "t", COLUMNS).select(
        required=["label"]
    )
    assert lost.notes == ("column label: 3 cells hold U+FFFD, letters that an earlier conversion lost",)
