"""The labelled table: what it means, and a message for whatever is wrong with it."""

import numpy as np
import polars as pl
import pytest

from bb.probe.retrieval.labels import assign, parse_items, read_items
from bb.probe.retrieval.ranking import count_relevant
from bb.store.errors import BBError, UsageError

CSV = """image_id,label,is_query,is_gallery,category,sequence,split,x1,y1,x2,y2,photographer
b.jpg,kiwi,true,false,birds,s1,test,0,0,10,10,A
a.jpg,kiwi,false,TRUE,birds,,test,,,,,B
007,carp,1,1,,s1,test,1.5,2,3,4,C
"""


def table(**columns):
    rows = {"image_id": ["b", "a", "c"], "label": ["x", "x", "y"], **columns}
    return pl.DataFrame({name: values for name, values in rows.items() if values is not None}, strict=False)


def test_a_file_is_read_and_sorted_by_image_id(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text(CSV)
    items = read_items(file)
    assert len(items) == 3 and items.image_ids.tolist() == ["007", "a.jpg", "b.jpg"]
    assert items.labels == ("carp", "kiwi") and items.label_codes.tolist() == [0, 1, 1]
    assert items.queries.tolist() == [0, 2] and items.gallery.tolist() == [0, 1]
    assert items.category.tolist() == ["", "birds", "birds"] and items.sequence.tolist() == [0, -1, 0]
    assert items.boxed and items.frame["x1"].to_list() == [1.5, None, 0.0]
    assert "photographer" not in items.frame.columns
    items.frame.write_parquet(tmp_path / "labels.parquet")
    assert read_items(tmp_path / "labels.parquet").frame.equals(items.frame)


def test_without_roles_every_row_asks_and_answers():
    items = parse_items(table())
    assert items.queries.tolist() == items.gallery.tolist() == [0, 1, 2]
    assert items.category is None and items.sequence is None and not items.boxed


def test_a_split_counts_its_labels_anew():
    items = parse_items(table(split=["test", "train", "test"]))
    part = items.split("test")
    assert part.image_ids.tolist() == ["b", "c"] and part.label_codes.tolist() == [0, 1] and part.labels == ("x", "y")


def test_one_split_against_another():
    items = parse_items(table(split=["test", "train", None])).against("test", "train")
    assert items.image_ids.tolist() == ["a", "b"] and items.queries.tolist() == [1] and items.gallery.tolist() == [0]


def test_folds_keep_sequences_whole_and_are_even():
    n = 40
    ids = [f"{i:02}" for i in range(n)]
    sequence = [f"s{i // 4}" if i < 20 else None for i in range(n)]
    items = parse_items(pl.DataFrame({"image_id": ids, "label": ["x"] * n, "sequence": sequence}))
    folded = items.folded(5, seed=0)
    assert folded.image_ids.tolist() == items.image_ids.tolist() and set(folded.sequence) == {0, 1, 2, 3, 4}
    assert all(len(set(folded.sequence[4 * s : 4 * s + 4])) == 1 for s in range(5))
    units = [folded.sequence[4 * s] for s in range(5)] + folded.sequence[20:].tolist()
    assert np.bincount(units).tolist() == [5] * 5
    assert items.folded(5, seed=0).frame.equals(folded.frame) and not items.folded(5, seed=1).frame.equals(folded.frame)
    other = count_relevant(folded)
    assert other.tolist() == [n - (folded.sequence == fold).sum() for fold in folded.sequence]


def test_relevant_leaves_out_the_query_and_its_sequence():
    rows = {
        "image_id": list("abcdef"),
        "label": ["x", "x", "x", "x", "y", "z"],
        "sequence": ["s", "s", None, "t", "s", None],
        "is_query": [True, False, True, True, True, True],
        "is_gallery": [True, True, True, False, True, False],
    }
    items = parse_items(pl.DataFrame(rows))
    #                                     a: c    c: a b   d: a b c   e: none   f: none
    assert count_relevant(items).tolist() == [1, 2, 3, 0, 0]


def test_assign_warns_of_what_a_reader_should_know():
    items = parse_items(table(split=["test", "train", "train"]))
    _, _, (shared, single) = assign(items, split="all")
    assert shared.startswith("1 label stands in more than one split, 'x': a head trained")
    assert single == "1 label stands on one image only, 'y': nothing can be found for them"
    assert assign(parse_items(pl.DataFrame({"image_id": ["a", "b"], "label": ["x", "x"]})))[2] == []


def test_assign_takes_the_test_split_where_nothing_is_said():
    items = parse_items(table(split=["test", "train", "test"]))
    taken, roles, _ = assign(items)
    assert taken.image_ids.tolist() == ["b", "c"] and roles["split"] == "test"
    assert len(assign(items, split="all")[0]) == 3
    assert assign(items, split="test", against="train")[0].gallery.tolist() == [0]
    folded, roles, _ = assign(items, split="all", folds=3, seed=5)
    assert sorted(folded.sequence) == [0, 1, 2] and roles == {"split": "all", "against": None, "folds": 3, "seed": 5}
    with pytest.raises(UsageError, match="--against train answers which split.*for example --split test"):
        assign(items, against="train", split="all")


WRONG = {
    "missing column": (table(label=None), "table does not have the column label; it has image_id. Rename or add it."),
    "missing columns": (pl.DataFrame({"id": ["a"]}), "does not have the columns image_id, label; it has id"),
    "half the roles": (table(is_query=[True] * 3), "has is_query but not is_gallery; give all of is_query, is_gallery"),
    "half a box": (table(x1=[0] * 3, y1=[0] * 3), "has x1, y1 but not x2, y2; give all of x1, y1, x2, y2, or none"),
    "no rows": (table().clear(), "has a header but no rows"),
    "duplicate": (table(image_id=["a", "b", "a"]), "line 4: image 'a' stands in an earlier row already; keep one"),
    "null label": (table(label=["x", None, ""]), "line 3: label is empty; every row needs one (1 more like it)"),
    "null id": (table(image_id=["a", "b", None]), "line 4: image_id is empty; every row needs one"),
    "role": (
        table(is_query=["true", "maybe", "true"], is_gallery=[True] * 3),
        "line 3: is_query is 'maybe'; it must be true or false",
    ),
    "null role": (
        table(is_query=[True] * 3, is_gallery=[True, None, True]),
        "line 3: is_gallery is None; it must be true or false",
    ),
    "no queries": (
        table(is_query=[False] * 3, is_gallery=[True] * 3),
        "has no queries: is_query is false in all of its 3 rows",
    ),
    "no gallery": (
        table(is_query=[True] * 3, is_gallery=[False] * 3),
        "has no gallery: is_gallery is false in all of its 3 rows",
    ),
    "split": (table(split=["train", "dev", None]), "line 3: split is 'dev'; it must be train, val or test, or empty"),
    "nested": (
        table(label=[["x"], ["y"], ["z"]]),
        "List(String) in the column label; it needs one text or number",
    ),
    "category": (table(category=["a", "overall", None]), "line 3: category is 'overall', as the means over all"),
    "no number": (
        table(x1=["0", "left", "0"], y1=[0] * 3, x2=[1] * 3, y2=[1] * 3),
        "line 3: x1 is 'left'; it must be a number",
    ),
    "incomplete box": (
        table(x1=[0, None, 0], y1=[0] * 3, x2=[1] * 3, y2=[1] * 3),
        "line 3: the box has some of x1, y1, x2, y2 only; give all four or none",
    ),
    "empty box": (
        table(x1=[0, 0, 5], y1=[0] * 3, x2=[1, 1, 5], y2=[1] * 3),
        "line 4: the box [5.0, 0.0, 5.0, 1.0] is empty; x1 < x2 and y1 < y2",
    ),
    "infinite box": (
        table(x1=["0", "0", "0"], y1=[0] * 3, x2=["1", "inf", "1"], y2=[1] * 3),
        "line 3: the box [0.0, 0.0, inf, 1.0] is not finite",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(case):
    wrong, message = WRONG[case]
    with pytest.raises(BBError) as error:
        parse_items(wrong)
    assert message in str(error.value)


def test_a_file_that_is_not_there_or_no_table(tmp_path):
    with pytest.raises(UsageError, match="no labels at .*absent.csv: a CSV or Parquet file with the columns"):
        read_items(tmp_path / "absent.csv")
    for name in ("bad.parquet", "empty.csv"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(BBError, match=f"{name} can't be read as a table: .* Export it again"):
            read_items(tmp_path / name)


def test_splits_and_folds_that_can_not_be():
    items = parse_items(table(split=["train", "test", None]))
    with pytest.raises(UsageError, match="has no rows of split 'val'; it has test, train"):
        items.split("val")
    with pytest.raises(UsageError, match="has no rows of split 'val'"):
        items.against("test", "val")
    with pytest.raises(UsageError, match="has no column split, so split 'test' can't be taken"):
        parse_items(table()).split("test")
    roles = {"is_query": [True, False, True], "is_gallery": [True] * 3}
    with pytest.raises(BBError, match="the table, split 'test' has no queries"):
        parse_items(table(split=["train", "test", None], **roles)).split("test")
    for folds in (1, 4):
        with pytest.raises(UsageError, match=f"{folds} folds of 3 images: choose between 2 and 3"):
            items.folded(folds, 0)
    with pytest.raises(UsageError, match="3 folds of 2 sequences and images outside of any: choose between 2 and 2"):
        parse_items(table(sequence=["s", "s", None])).folded(3, 0)
