"""The rows of a task table among a collection's images; the ways themselves are tested with `store.text.image_ids`."""

import polars as pl
import pytest

from bb.probe.tasks.match_ids import match_table
from bb.probe.tasks.task_table import parse_task_table
from bb.store.errors import BBError


def table(*ids, labels=None, **columns):
    labels = labels or ["x", "y"] * len(ids)
    return parse_task_table(pl.DataFrame({"image_id": ids, "label": labels[: len(ids)], **columns}))


def test_equal_ids_need_no_words():
    match = match_table(table("a.jpg", "b.jpg"), ["a.jpg", "b.jpg"])
    assert match.notes == [] and match.table.image_ids == ["a.jpg", "b.jpg"]


def test_every_way_is_counted_and_both_sides_leftovers_are_listed():
    written = ("a.jpg", "u\u0308.jpg", ".\\d\\c.jpg", "e", "g.jpg", "z.jpg", "y.jpg")
    known = ["a.jpg", "\u00fc.jpg", "d/c.jpg", "e.png", "deep/g.jpg", "rest.jpg"]
    match = match_table(table(*written), known)
    assert match.table.image_ids == sorted(known[:5])
    assert dict(match.table.frame.select("image_id", "label").rows()) == dict(zip(known[:5], "xyxyx", strict=True))
    assert list(match.match.ways.values()) == [1, 1, 1, 1] and len(match.match.ways) == 4
    assert match.rows_without_image == ("y.jpg", "z.jpg") and match.images_without_row == ("rest.jpg",)
    assert match.notes[0].startswith("image IDs matched to the collection: 1 as written, 1 in another Unicode")
    assert match.notes[1:] == [
        "2 rows with no image, such as 'y.jpg'; `bb probe classify -v` lists all",
        "1 image with no row, such as 'rest.jpg'; `bb probe classify -v` lists all",
    ]


@pytest.mark.parametrize(
    ("ids", "known", "message"),
    [
        (["a.jpg", "b.jpg"], ["1/a.jpg", "2/a.jpg"], "'a.jpg' could be any of 2 images of the pond, such as '1/a.jpg'"),
        (["a.jpg", "a"], ["a.jpg"], "image IDs 'a' and 'a.jpg' both stand for image 'a.jpg' of the pond"),
        (["a.jpg", "b.jpg"], ["A.jpg", "c.jpg"], "none of 2 image IDs is in the pond. Asked for 'a.jpg', .* 'A.jpg'"),
        (["a.jpg", "b.jpg"], ["q.png"], "none of 2 image IDs is in the pond. Asked for 'a.jpg', .* has 'q.png'"),
        (["a.jpg", "b.jpg"], [], "none of 2 image IDs is in the pond. It is empty"),
    ],
)
def test_what_can_not_be_matched_is_refused_with_examples(ids, known, message):
    with pytest.raises(BBError, match=message):
        match_table(table(*ids), known, "the pond")


def test_a_task_without_images_is_named():
    two = table("a", "b", "c", "d", labels=["x", "y", "x", "y"], task=["t", "t", "u", "u"])
    with pytest.raises(BBError, match="no labelled image of task 'u' is in the collection. Leave the task out"):
        match_table(two, ["a", "b"])
