"""`--pool-group`: images of a group become one unit, whatever the order of the table."""

import json

import numpy as np
import polars as pl
import pytest

from bb.probe.classification import pool_groups
from bb.probe.classification.pool_groups import pool_table
from bb.probe.tasks.task_table import parse_task_table
from bb.store import Store
from bb.store.errors import BBError, UsageError
from tests.helpers.command_line import call, own_place  # noqa: F401
from tests.helpers.synthetic import cluster_store


def table(**columns):
    return parse_task_table(pl.DataFrame({"image_id": list("abcdefg"), **columns}))


def test_a_unit_is_its_first_image_with_the_commonest_label():
    labels = ["x", "y", "y", "x", "y", "x", None]
    pooled, pooling = pool_table(table(label=labels, group=["p", "p", "p", "q", "q", None, "p"]), "mean")
    assert pooling.members == {"a": ("a", "b", "c"), "d": ("d", "e"), "f": ("f",)}
    assert pooled.frame.select("image_id", "label", "group").rows() == [
        ("a", "y", "p"), ("d", "x", "q"), ("f", "x", None),
    ]  # fmt: skip
    assert pooled.notes[-3:] == (
        "6 images are pooled to 3 units (mean), as their groups say",
        "2 units have images of several labels: the commonest counts",
        "1 images without a label are in no unit",
    )


def test_traits_and_numbers():
    traits = {"label:big": [1, 1, 0, 1, 0, None, 0], "label:wet": [0, 1, None, 1, 1, 1, 0]}
    pooled, _ = pool_table(table(**traits, group=list("pppqqrr")), "max")
    assert pooled.frame.select("label:big", "label:wet").rows() == [(1, 0), (0, 1), (0, 0)]
    values = parse_task_table(
        pl.DataFrame({"image_id": list("abc"), "label": [1.0, 2, 4], "group": list("ppq")}), regression=True
    )
    assert pool_table(values, "mean")[0].frame["label"].to_list() == [1.5, 4.0]


def test_sides_are_pooled_apart_and_training_images_may_stay():
    columns = {"label": list("xyxyxyx"), "group": list("ppppqqq"), "split": ["train"] * 4 + ["val", "test", "test"]}
    assert set(pool_table(table(**columns), "mean")[1].members.values()) == {tuple("abcd"), ("e",), ("f", "g")}
    assert set(pool_table(table(**columns), "test-mean")[1].members) == set("abcdef")


def test_features_are_pooled_some_at_once(monkeypatch):
    _, pooling = pool_table(table(label=list("xyxyxyx"), group=list("ppqqqrs")), "mean")
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float16)
    asked = []

    def read(ids):
        asked.append(len(ids))
        return x[["abcdefg".index(i) for i in ids]]

    units = sorted(pooling.members)
    expected = [x[rows].astype(np.float64).mean(axis=0) for rows in ([0, 1], [2, 3, 4], [5], [6])]
    np.testing.assert_array_equal(pooling.features(units, read), np.float32(expected))
    monkeypatch.setattr(pool_groups, "_AT_ONCE", 3)
    np.testing.assert_array_equal(pooling.features(units, read), np.float32(expected))
    assert asked == [7, 5, 2]
    largest = pool_groups.Pooling("max", pooling.members).features(units, read)
    np.testing.assert_array_equal(largest, np.float32([x[rows].max(axis=0) for rows in ([0, 1], [2, 3, 4], [5], [6])]))


def test_what_can_not_be_pooled_is_refused():
    with pytest.raises(UsageError, match="no column for the group, so nothing can be pooled.*--group COLUMN"):
        pool_table(table(label=list("xyxyxyx")), "mean")
    with pytest.raises(UsageError, match="--pool-group test-max pools what isn't trained on.*--split COLUMN"):
        pool_table(table(label=list("xyxyxyx"), group=list("ppppqqq")), "test-max")
    rows = {"image_id": list("abab"), "task": list("1122"), "label": list("xyxy"), "group": ["p", "p", "p", "q"]}
    with pytest.raises(BBError, match="tasks put image 'a' into groups of other images; give each task a table"):
        pool_table(parse_task_table(pl.DataFrame(rows)), "mean")


def test_a_run_on_clips(own_place, call):  # noqa: F811
    _, ids, y, x = cluster_store(own_place / "features.bb", twins=((0, 4), (1, 5)))
    clips = [f"clip {i // 8}-{i % 4}" for i in range(len(ids))]  # images i and i + 4: one class
    frames = {"image_id": ids, "label": [f"k{k}" for k in y], "group": clips}
    sides = {"split": ["test" if i // 8 % 3 == 0 else "train" for i in range(len(ids))]}
    pl.DataFrame(frames | sides).sample(fraction=1, shuffle=True, seed=0).write_csv("clips.csv")

    def runs(*words):
        status, out, err = call("probe", "classify", "--labels", "clips.csv", "--classifier", "simpleshot",
                                "--preprocessing", "none", *words, "--json")  # fmt: skip
        assert status == 0, err
        return json.loads(out), err

    (mean,), err = runs("--pool-group", "mean")
    assert "120 images are pooled to 60 units (mean), as their groups say" in err
    assert mean["parameters"]["pool_group"] == "mean" and mean["scores"]["n"] == 20
    (run,) = Store.open("features.bb").runs()
    pooled, first = x.reshape(15, 2, 4, -1).mean(axis=1).reshape(60, -1), np.array(ids).reshape(15, 2, 4)[:, 0].ravel()
    side = np.arange(60) // 4 % 3 == 0
    from sklearn.neighbors import NearestCentroid
    from sklearn.preprocessing import normalize

    centre = pooled[~side].mean(axis=0)
    oracle = NearestCentroid().fit(normalize(pooled[~side] - centre), (np.arange(60) % 4)[~side])
    found = dict(run.predictions().select("image_id", "y_pred").iter_rows())
    assert [found[i] for i in first[side]] == oracle.predict(normalize(pooled[side] - centre)).tolist()
    again = [runs("--pool-group", how)[0][0] for how in ("mean", "max", "test-mean")]
    apart = runs()[0][0]
    assert not again[0]["fresh"] and len({run["run_id"] for run in (*again, apart)}) == 4
    assert "pool_group" not in apart["parameters"] and apart["scores"]["n"] == 40
    status, _, err = call("probe", "classify", "--labels", "clips.csv", "--pool-group", "median")
    assert status == 2 and "--pool-group 'median' is unknown: choose mean, max, test-mean, test-max." in err
    status, _, err = call("probe", "classify", "--labels", "clips.csv", "--pool-group", "mean", "--group", "")
    assert status == 2 and "--group '' leaves the column out" in err


def test_an_equal_image_anywhere_in_a_unit_is_a_leak(own_place, call):  # noqa: F811
    _, ids, y, _ = cluster_store(own_place / "features.bb", twins=((5, 13),))
    frame = {"image_id": ids, "label": [f"k{k}" for k in y], "group": [f"{i // 8}-{i % 4}" for i in range(len(ids))]}
    sides = {"split": ["test" if i // 8 % 2 == 0 else "train" for i in range(len(ids))]}
    pl.DataFrame(frame | sides).write_csv("clips.csv")
    words = ("--labels", "clips.csv", "--classifier", "ridge", "--pool-group", "max", "--json")
    (record,) = json.loads(call("probe", "classify", *words)[1])
    assert record["leaks"]["classify"]["example"] == [ids[1], ids[9]]
    (kept,) = json.loads(call("probe", "classify", *words, "--drop-leaks")[1])
    assert kept["scores"]["n"] == record["scores"]["n"] - 1
