"""The task table: every way in which people write one, and every message that a table can cause."""

import datetime
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bb.probe.tasks.task_table import ONE_TASK, parse_task_table, read_task_table, sorted_classes
from bb.store.errors import BBError, UsageError

PLAIN = [("a.jpg", "Käuzchen", "A", "2026-05-31", "train"), ("b.jpg", "Uhu", "B", "2026-06-01", "test")]
UMLAUT = (
    "Dateiname;Art;Standort;Datum;Subset\r\na.jpg;Käuzchen;A;31.05.2026;Training\r\nb.jpg;Uhu;B;01.06.2026;TEST\r\n"
)
ENGLISH = "File name,Species,Site,Date,Split\r\na.jpg,Käuzchen,A,5/31/2026,train\r\nb.jpg,Uhu,B,6/1/2026,test\r\n"
FRENCH = UMLAUT.replace(";", "\t").replace(".2026", "/2026").replace(".05", "/05").replace(".06", "/06")
FRENCH = FRENCH.replace("Dateiname\tArt\tStandort\tDatum\tSubset", "Fichier\tEspèce\tLieu\tDate\tPartition")


def read(tmp_path: Path, data: str | bytes, **options):
    """The table of a CSV file with this text or these bytes."""
    file = tmp_path / "l.csv"
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_task_table(file, **options)


def pairs(table):
    return table.frame.select("image_id", "label").rows()


@pytest.mark.parametrize(
    "text", [UMLAUT, ENGLISH, FRENCH, "sep=;\r\n" + UMLAUT, UMLAUT.replace("\r\n", "\r"), UMLAUT + ";;;;\r\n"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_what_spreadsheets_of_three_countries_export(tmp_path, text, encoding):
    table = read(tmp_path, text.encode(encoding))
    assert table.frame.select("image_id", "label", "site", "date", "split").rows() == PLAIN
    assert table.target == "classes" and table.tasks == (ONE_TASK,) and table.classes(ONE_TASK) == ("Käuzchen", "Uhu")
    header = text.removeprefix("sep=;\r\n").splitlines()[0]
    assert list(table.columns.values()) == [re.split("[;,\t]", header)[i] for i in (0, 1, 4, 2, 3)]


def test_what_was_taken_is_said(tmp_path):
    table = read(tmp_path, "id,File,Species,task\n7,a,x,t\n8,b,y,t\n", id="File")
    assert table.taken == f"{tmp_path}/l.csv: image_id from 'File', label from 'Species', task"
    assert table.image_ids == ["a", "b"] and table.tasks == ("t",)


@pytest.mark.parametrize(
    ("text", "options", "rows"),
    [
        ("image_id,label\na,1\nb,10\nc,2\n", {}, [("a", "1"), ("b", "10"), ("c", "2")]),
        ('"image_id","label"\n"a","say ""x"""\n"b","y, z"\n', {}, [("a", 'say "x"'), ("b", "y, z")]),
        ("id,species,note\na,x,\"two\nlines\"\nb,y,\n", {}, [("a", "x"), ("b", "y")]),
        ("id,species,formula\na,x,=SUM(A1)\nb,y,\n", {}, [("a", "x"), ("b", "y")]),
        (",id,species\n0,a,x\n1,b,y\n", {}, [("a", "x"), ("b", "y")]),
        ("\n\n id , Species \n\na,x\n,\nb,y\n", {}, [("a", "x"), ("b", "y")]),
        ("id,class,species\na,Aves,x\nb,Aves,y\n", {"label": "species"}, [("a", "x"), ("b", "y")]),
        ("id,image_id,species,label\n1,a,p,x\n2,b,p,y\n", {}, [("a", "x"), ("b", "y")]),
        ("id,species\na,x\nb,y\nc,\nd,NA\n", {}, [("a", "x"), ("b", "y"), ("c", None), ("d", None)]),
        ("id,species\na,NA\nb,none\n", {"not_missing": ["NA", "none"]}, [("a", "NA"), ("b", "none")]),
        ("id,species,split\na,x,2021\nb,y,2022\n", {"split": ""}, [("a", "x"), ("b", "y")]),
        ("id,species\n" + "a,x\nb,y\n" * 3, {}, [("a", "x"), ("b", "y")]),
    ],
)  # fmt: skip
def test_awkward_tables_that_have_one_reading(tmp_path, text, options, rows):
    assert pairs(read(tmp_path, text, **options)) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,filename,species\n1,a,x\n", "'id' and 'filename', each of which could be the image_id. Choose with --id"),
        ("id,kingdom,class,species\n1,a,b,x\n", "'class' and 'species', each of which could be the label. Choose"),
        ("id,label,Label\na,x,y\n", "has 'label' and 'Label', each of which could be the label"),
        ("id,label,subset,partition\na,x,y,z\n", "'subset' and 'partition'.*--split subset, or --split '' for none"),
        ("id,label,individual,Seq ID\na,x,y,z\n", "has 'individual' and 'Seq ID', each of which could be the group"),
        ("name,art\na,x\n", "has no column for the image_id; its columns are 'name', 'art'. Choose with --id COLUMN"),
        ("file,colour\na,x\n", "has no column for the label; .* Choose with --label COLUMN"),
        ("id,label,label:a\na,x,1\n", "has both 'label' and 'label:a': is it one class an image, or several traits"),
        ("id,label,label\na,x,y\n", "line 1: 2 columns are called 'label'"),
        (",,\na,x,y\n", "has no column for the image_id; its columns are 'a', 'x', 'y'"),
        ("id,label\n", "has a header but no rows"),
        ("", "it is empty"),
        ("id,label\na,\nb,\n", "every cell of 'label' is empty. Add labels, or choose another column with --label"),
        ("id,label\na,x\n,y\n", "line 3: image_id is empty; every row needs one"),
        ("id,label\na,x\nb,x\n", r"every label of task 'classify' is 'x'; a classifier needs two classes"),
        ("id,task,label\na,t,x\nb,t,y\nc,u,y\n", r"every label of task 'u' is 'y'"),
        ("id,label\na,x\nb\n", "line 3: it has 1 cell, where the header has 2"),
        ("id,label\na,x,y\n", "line 2: it has 3 cells, where the header has 2"),
        ('id,label\na,"x\nb,y\n', "line 2: its quotation marks do not pair up"),
        ('id,label\na,"x\ny"\n', "line 2: a quotation mark opens a cell of label"),
        ("id,label\na,x\0\n", "line 2: it holds NUL characters"),
        (f"id,label,text\na,x,{'y' * 1_000_000}\n", "line 2: it has a cell of more than 131,072 characters"),
        ('id,label\n"=""007""",x\n', r"line 2: image_id is '=\"007\"'; it is a spreadsheet's formula; export"),
        ("id,label\na,=B2\nb,x\n", "line 2: label is '=B2'; it is a spreadsheet's formula"),
        ("id,label\na,1.5\nb,2\n", "'label' holds measurements such as '1.5', not classes. Fit them with `bb probe"),
        ("id,label\na,x\nb,y\na,z\nb,z\n", r"line 4: image 'a' has label 'x' and 'z' \(line 2\); .*: line 5"),
        ("id,label,site\na,x,A\nb,y,A\na,x,\n", r"line 4: image 'a' has site 'A' and empty \(line 2\)"),
        ("id,label,split\na,x,train\nb,y,trian\n", "line 3: split is 'trian'; it must be train, val or test; choose"),
        ("id,label,weight\na,x,1\nb,y,-1\n", "line 3: weight is '-1'; it must be 0 or more"),
        ("id,label,weight\na,x,1\nb,y,inf\n", "line 3: weight is 'inf'; it must be a finite number"),
        ("id,label:a,label: a\na,1,0\n", "'label:a' and 'label: a' are both the trait 'a'. Keep one of them"),
        ("id,label:a,Label:a\na,1,0\n", "'label:a' and 'Label:a' are both the trait 'a'"),
        ("id,label:,label:b\na,1,0\n", "the column 'label:' names no trait: call it label:NAME"),
        ("id,esp\u00e8ce,espe\u0300ce\na,x,y\n", "2 columns are called 'esp\u00e8ce'"),
        ("id,label:a,label:b\na,1,0\nb,2,0\n", "line 3: label:a is '2'; a trait is 0 or 1, or empty"),
        ("id,label:a,label:b\na,,\nb,,\n", "every cell of 'label:a', 'label:b' is empty"),
        ('id,label,crop\na,x,"1,2,3"\nb,y,\n', "line 2: crop is '1,2,3'; a crop is four numbers"),
        ('id,label,crop\na,x,"1,2,0,4"\nb,y,\n', "line 2: crop is '1,2,0,4'; it is empty"),
        ("id,label,x1,y1,x2,y2\na,x,1,1,1,2\nb,y,,,,\n", "line 2: the box is empty"),
        ("id,label,x1,y1,x2,y2\na,x,1,1,,2\nb,y,,,,\n", "line 2: the box has some of x1, y1, x2, y2 only"),
        ("id,label\na,x\tb\n\x1b[31m,y\n\x85\x85,\x81\n".encode("latin-1"), "neither UTF-8 nor Windows-1252"),
    ],
)  # fmt: skip
def test_a_table_that_can_not_be_read_says_why_and_what_to_do(tmp_path, text, message):
    with pytest.raises(BBError, match=message) as caught:
        read(tmp_path, text)
    assert "l.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "Species"}, "has no column 'Species', which is asked for as the label; did you mean 'species'?"),
        ({"group": "site"}, "has no column 'site', which is asked for as the group; its columns are 'id', 'species'"),
        ({"id": "species"}, "has no column for the label"),
        ({"label": "species", "group": "species"}, "the column 'species' can't be both the label and the group"),
        ({"label": "species", "regression": True}, "line 2: label is 'x'; it must be a number"),
    ],
)
def test_a_column_named_wrongly(tmp_path, options, message):
    with pytest.raises(BBError, match=re.escape(message)):
        read(tmp_path, "id,species\na,x\nb,y\n", **options)
    with pytest.raises(UsageError, match="no labels at .*nowhere.csv: a CSV or Parquet file"):
        read_task_table(tmp_path / "nowhere.csv")


def test_several_labels_an_image_are_traits(tmp_path):
    table = read(tmp_path, "file;label:fur;Label: wings;date\na;WAHR;FALSCH;\nb;falsch;;\nc;VRAI;1.0;\nd;;;\n")
    assert table.target == "traits" and table.traits == ("fur", "wings") and table.classes(ONE_TASK) == ()
    assert table.frame.select("label:fur", "label:wings").rows() == [(1, 0), (0, None), (1, 1), (None, None)]
    assert table.frame["label:fur"].dtype == pl.Int8
    assert "1 of 4 rows have no label: neither trained on nor scored" in table.notes
    named = read(tmp_path, "id,fur,wings\na,1,0\nb,0,0\n", label=["fur", "wings"])
    assert named.traits == ("fur", "wings") and named.notes == ("'label:wings' is the same for every image",)
    with pytest.raises(UsageError, match="has columns of traits, which are yes or no; a regression needs one column"):
        read(tmp_path, "id,label:a\na,1\nb,0\n", regression=True)


def test_numbers_are_values_only_when_asked(tmp_path):
    text = "id;label;weight\na;1,5;0,25\nb;-2;1\nc;;1\n"
    values = read(tmp_path, text, regression=True)
    assert values.target == "values" and pairs(values) == [("a", 1.5), ("b", -2.0), ("c", None)]
    assert values.frame["weight"].to_list() == [0.25, 1.0, 1.0]
    whole = read(tmp_path, "id,label\na,2\nb,10\nc,2\n")
    assert whole.target == "classes" and whole.classes(ONE_TASK) == ("2", "10")


def test_classes_are_in_the_order_of_their_names():
    assert sorted_classes(["b", "Ä", "a", "10", "9"]) == ("10", "9", "a", "b", "Ä")
    assert sorted_classes(["10", "9", "0"]) == ("0", "9", "10")
    assert sorted_classes(["10", "09", "9"]) == ("09", "10", "9"), "leading zeros are names"


def test_tasks_are_apart_and_an_unlabelled_image_makes_no_class(tmp_path):
    table = read(tmp_path, "image_id,task,label\nb,u,x\na,u,y\na,t,1\nb,t,2\nc,t,\n")
    assert table.frame["task"].to_list() == ["t", "t", "t", "u", "u"] and table.image_ids == ["a", "b", "c"]
    assert table.classes("t") == ("1", "2") and table.classes("u") == ("x", "y")
    assert table.notes == ("1 of 5 rows have no label: neither trained on nor scored",)


def test_labels_that_look_alike_stay_apart_and_are_pointed_out(tmp_path):
    table = read(tmp_path, "id,species\na,Uhu\nb,Uhu \nc,uhu\nd,Käuzchen\ne,Ka\u0308uzchen\n")
    assert len(table.classes(ONE_TASK)) == 5
    notes = "\n".join(table.notes)
    assert "look alike" in notes and "trailing or leading whitespace" in notes and "Unicode normalization" in notes


def test_a_site_that_two_columns_could_be_is_not_guessed(tmp_path):
    table = read(tmp_path, "id,species,camera,location\na,x,1,2\nb,y,1,2\n")
    assert "site" not in table.frame.columns
    assert table.notes == ("'camera' and 'location' could be the site, so none is taken: call one of them 'site'",)


def test_boxes(tmp_path):
    corners = read(tmp_path, "id,species,x1,y1,x2,y2\na,x,1,2,4,6.5\nb,y,,,,\n")
    assert corners.frame["crop"].to_list() == [[1, 2, 3, 4.5], None]
    boxes = read(tmp_path, 'id,species,bbox\na,x,"[1, 2, 3, 4.5]"\nb,y,1 2 3 4\nc,y,\n')
    assert boxes.frame["crop"].to_list() == [[1, 2, 3, 4.5], [1, 2, 3, 4], None]


def test_boxes_of_parquet_are_lists(tmp_path):
    for kind in (pl.List(pl.Int64), pl.Array(pl.Float32, 4)):
        box = pl.Series("bbox", [[1, 2, 3, 4], None], dtype=kind)
        pl.DataFrame([pl.Series("id", ["a", "b"]), pl.Series("species", ["x", "y"]), box]).write_parquet(
            tmp_path / "l.parquet"
        )
        assert read_task_table(tmp_path / "l.parquet").frame["crop"].to_list() == [[1, 2, 3, 4], None]
    frame = pl.DataFrame({"id": ["a", "b"], "species": ["x", "y"], "bbox": [[1, 2], [1, 2, 3, 4]]})
    with pytest.raises(BBError, match="line 2: crop is '1.0 2.0'; a crop is four numbers"):
        parse_task_table(frame)


def test_numbers_whose_squares_are_none_are_refused(tmp_path):
    for text in ("1e308", "-1e30"):
        with pytest.raises(BBError, match=r"line 3: label is '-?1e3.*'; numbers to predict must be below 1e\+30"):
            read(tmp_path, f"id,value\na,1.5\nb,{text}\n", label="value", regression=True)


def test_traits_that_look_alike_are_pointed_out(tmp_path):
    notes = read(tmp_path, "id,label:fur,label:Fur\na,1,0\nb,0,1\n").notes
    assert notes[0].startswith("trait 'Fur', 'fur' look alike: they differ only in upper and lower case")


def test_parquet_of_many_kinds(tmp_path):
    frame = pl.DataFrame(
        {
            "image_id": pl.Series(["a", "b", "c"], dtype=pl.Categorical),
            "species": [1.0, float("nan"), 2.0],
            "date": [datetime.datetime(2026, 5, 31, 13, 45), None, datetime.datetime(2026, 1, 2)],
            "label:odd": [True, False, None],
            "split": pl.Series(["train", "test", "test"], dtype=pl.Enum(["train", "test"])),
            "bytes": [b"x", b"", b"y"],
            "lists": [[1], [], [2]],
        }
    )
    frame.write_parquet(tmp_path / "l.parquet")
    table = read_task_table(tmp_path / "l.parquet", label="species")
    assert pairs(table) == [("a", "1"), ("b", None), ("c", "2")] and table.classes(ONE_TASK) == ("1", "2")
    assert table.frame["date"].to_list() == ["2026-05-31T13:45:00", None, "2026-01-02T00:00:00"]
    traits = read_task_table(tmp_path / "l.parquet", label="label:odd")
    assert traits.frame["label:odd"].to_list() == [1, 0, None]
    for column in ("bytes", "lists"):
        with pytest.raises(BBError, match=r"in the column label; it needs one text or number a row"):
            read_task_table(tmp_path / "l.parquet", label=column)
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "l.parquet").read_bytes()[:-9])
    with pytest.raises(BBError, match="can't be read as a table"):
        read_task_table(tmp_path / "cut.parquet")


def test_a_table_in_memory_is_read_alike():
    table = parse_task_table(pl.DataFrame({"file": ["b", "a"], "class": ["x", "y"], "day": [1, 2]}))
    assert pairs(table) == [("a", "y"), ("b", "x")]
    kept = table.with_frame(table.frame.filter(pl.col("image_id") == "a"), "less")
    assert len(kept) == 1 and kept.notes == ("less",)


def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("bb.probe.tables.table_file.MAX_TABLE_BYTES", 10)
    with pytest.raises(BBError, match="it has 16 bytes, and at most 10 are read"):
        read(tmp_path, "id,label\na,x\nb,y\n"[:16])


def test_random_tables_read_as_a_csv_writer_wrote_them(tmp_path):
    """polars writes, in every separator and quoting; what is read is what was written."""
    rng = np.random.default_rng(0)
    letters = list("abß,;\t|\"'x")
    for trial in range(20):
        texts = {"".join(rng.choice(letters, 6)) for _ in range(30)}
        labels = ["u" + text + "v" for text in sorted(texts)]
        frame = pl.DataFrame({"image_id": [f"{i:02}" for i in range(len(labels))], "label": labels})
        frame.write_csv(
            tmp_path / "r.csv", separator=";,\t|"[trial % 4], quote_style="always" if trial % 3 else "necessary"
        )
        assert pairs(read_task_table(tmp_path / "r.csv")) == frame.rows()
