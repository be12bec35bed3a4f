"""Runs to a table: items are found by task and image, never by their place."""

import numpy as np
import polars as pl
import pytest

from bb.probe.statistics.predictions import groups_of, read_table
from bb.store import Store
from bb.store.errors import BBError
from tests.helpers.tables import by_chance, predictions, put_run

TASKS, IMAGES = ["b", "b", "a", "a", "a"], ["x", "y", "z", "x", "w"]


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "s.bb")


def test_row_order_changes_nothing(store):
    rows = predictions([1, 0, 0, 1, 1], tasks=TASKS, images=IMAGES)
    runs = [put_run(store, rows.sample(fraction=1, shuffle=True, seed=seed), run_id=f"{seed:064}") for seed in range(4)]
    table = read_table({str(i): [run] for i, run in enumerate(runs)}, ("score", "y_pred", "decision"))
    assert table.tasks == ("a", "b") and table.starts.tolist() == [0, 3, 5]
    assert table.image_ids.tolist() == ["w", "x", "z", "x", "y"]
    assert table.units == ("w", "x", "y", "z") and table.unit.tolist() == [0, 1, 3, 1, 2]
    assert (table.fields["score"] == [1, 1, 0, 1, 0]).all()
    assert (table.fields["decision"] == [0.5, 0.5, -0.5, 0.5, -0.5]).all()
    assert (table.fields["y_pred"] == [0, 0, 1, 0, 1]).all()


def test_models_have_a_column_for_each_draw(store):
    ones, zeros = (predictions([value] * 5, tasks=TASKS, images=IMAGES) for value in (1, 0))
    runs = [put_run(store, rows, seed=s, run_id=f"{s:064}") for rows, s in ((ones, 10), (zeros, 9), (zeros, 2))]
    every = put_run(store, ones, seed=None, run_id="f" * 64)
    table = read_table({"few": runs, "all": [every], "none": []})
    assert table.models == ("few", "all") and table.model.tolist() == [0, 0, 0, 1]
    assert table.seeds == (2, 9, 10, None)
    assert table.fields["score"][:, 0].tolist() == [0, 0, 1, 1]
    assert table.averaged().fields["score"][:, 0].tolist() == [1 / 3, 1]


def test_some_tasks_and_groups():
    table = by_chance(0, 2, tasks=3, images=4)
    only = table.only(["t02", "t00"])
    assert only.tasks == ("t00", "t02") and only.starts.tolist() == [0, 4, 8]
    assert (only.fields["score"] == table.fields["score"][:, [0, 1, 2, 3, 8, 9, 10, 11]]).all()
    assert only.units == tuple(only.image_ids) and only.unit.tolist() == list(range(8))
    with pytest.raises(KeyError, match="t9"):
        table.only(["t9"])
    grouped = table.grouped({image_id: f"site {int(image_id) % 2}" for image_id in table.image_ids})
    assert grouped.units == ("site 0", "site 1") and grouped.unit.tolist() == [0, 1] * 6
    with pytest.raises(BBError, match="11 test images belong to no group, the first is '00001': the labels file must"):
        table.grouped({"00000": "a"})


def test_groups_are_read_from_the_labels():
    labels = pl.DataFrame(
        {"id": ["x", "y", "x"], "site": ["1", "2", "1"], "date": ["a", "b", "c"], "who": ["", "u", ""]}
    )
    assert groups_of(labels, "site") == {"x": "1", "y": "2"}
    with pytest.raises(BBError, match="no column 'sex' to group images by \\(there: id, site, date, who\\)"):
        groups_of(labels, "sex")
    with pytest.raises(
        BBError, match="image 'x' has two values of 'date', 'a' and 'c': it can belong to one group only"
    ):
        groups_of(labels, "date")
    with pytest.raises(BBError, match="image 'x' has no 'who' in the labels: each image must belong to a group"):
        groups_of(labels, "who")


def test_what_cannot_be_compared_is_refused(store):
    rows = predictions([1, 0, 0, 1, 1], tasks=TASKS, images=IMAGES)
    one = put_run(store, rows)
    apart = [
        rows[1:],
        rows.with_columns(image_id=pl.Series(["x", "y", "z", "x", "v"])),
        rows.with_columns(y_true=pl.Series([0, 0, 0, 0, 1], dtype=pl.UInt8)),
    ]
    for other in apart:
        with pytest.raises(BBError, match="runs [ab]{12}/.* and [ab]{12}/.* were tested on different images"):
            read_table({"one": [one], "other": [put_run(store, other, run_id="b" * 64)]})
    with pytest.raises(BBError, match="found no runs to compare: `bb probe` makes them"):
        read_table({"one": []})
    twice = put_run(store, pl.concat([rows, rows[:1]]), run_id="c" * 64)
    with pytest.raises(BBError, match="task 'b' has more than one prediction for image 'x'; it needs exactly one"):
        read_table({"twice": [twice]})
    with pytest.raises(ValueError, match="no such fields: \\['scores'\\]"):
        read_table({"one": [one]}, ["scores"])
    (one.folder / "predictions.parquet").write_bytes(b"")
    with pytest.raises(BBError, match="run aaaaaaaaaaaa is damaged"):
        read_table({"one": [one]})


def test_unseeded_columns_keep_their_order(store):
    rows = predictions([1, 0, 0, 1, 1], tasks=TASKS, images=IMAGES)
    models = {name: [put_run(store, rows, run_id=name * 64)] for name in "cab"}
    assert read_table(models).models == ("c", "a", "b")
    assert np.array_equal(read_table(models).model, [0, 1, 2])
