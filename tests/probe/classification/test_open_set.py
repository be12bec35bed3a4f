"""`--classifier mahalanobis`: test images of classes that nothing is trained on are of one class, unknown."""

import json

import numpy as np
import polars as pl
import pytest

from bb.probe.classification.open_set import read_poisonous
from bb.probe.classifiers.estimator import make
from bb.probe.statistics.multiclass.user_loss import user_loss
from bb.store import Store
from bb.store.errors import BBError, UsageError
from tests.helpers.command_line import call, own_place  # noqa: F401
from tests.helpers.synthetic import cluster_store


@pytest.fixture
def place(own_place):  # noqa: F811
    """Of classes 0, 1 and 2 two in three images are trained on; 3 is tested alone, some of it without a label."""
    _, ids, y, x = cluster_store(own_place / "features.bb", n=240)
    side = np.where((np.arange(len(ids)) // 4 % 3 > 0) & (y < 3), "train", "test")
    label = [None if k == 3 and i % 8 == 3 else f"{k}" for i, k in enumerate(y)]
    group = [f"observation {i // 8}-{i % 4}" for i in range(len(ids))]
    pl.DataFrame({"image_id": ids, "label": label, "split": side, "observation": group}).write_csv("fungi.csv")
    pl.DataFrame({"class_id": [0, 1, 2, 77], "poisonous": [0, 1, 0, 1]}).write_csv("poison_status_list.csv")
    return ids, y, x, side


WORDS = ("probe", "classify", "--labels", "fungi.csv", "--poisonous", "poison_status_list.csv", "--group", "")


def test_unknown_images_are_a_class_and_fungiclefs_loss_is_recorded(place, call):  # noqa: F811
    ids, y, x, side = place
    status, out, err = call(*WORDS, "--classifier", "mahalanobis,simpleshot", "--json")
    assert status == 0, err
    record, closed = json.loads(out)
    tested = side == "test"
    truth = np.where(y < 3, y, 3)[tested]
    mine = make("mahalanobis").fit(x[~tested], y[~tested])
    expected = np.where(mine.rejects(x[tested]), 3, mine.predict(x[tested]))
    (run,) = [run for run in Store.open("features.bb").runs() if run.run_id == record["run_id"]]
    predictions = dict(run.predictions().select("image_id", "y_pred").iter_rows())
    assert [predictions[name] for name in np.array(ids)[tested]] == expected.tolist() and (expected == 3).any()
    assert record["class_names"] == {"classify": ["0", "1", "2", "(unknown)"]}
    found = record["scores"]["tasks"]["classify"]["test"]
    loss = user_loss(truth, expected, 3, np.array([False, True, False, False]))
    assert found["metrics"]["user_loss_score"]["value"] == pytest.approx(loss.score)
    assert found["metrics"]["accuracy"]["value"] == pytest.approx((truth == expected).mean())
    assert found["user_loss"]["worst"] == pytest.approx(loss.worst) and found["user_loss"]["poisonous_classes"] == 1
    assert "images without a label count as (unknown)" in " ".join(record["labels_notes"])
    named = closed["scores"]["tasks"]["classify"]["test"]["metrics"]["user_loss_score"]
    assert record["test_set"] == closed["test_set"] and named["value"] < loss.score and named["low"] is None
    status, out, _ = call("report", "classify")
    assert "user_loss_score" in out and "no interval" in out


def test_observations_are_pooled_on_the_test_side(place, call):  # noqa: F811
    words = ("--classifier", "mahalanobis", "--group", "observation", "--pool-group", "test-mean", "--json")
    status, out, err = call(*WORDS[:-2], *words)
    assert status == 0, err
    (record,) = json.loads(out)
    assert record["parameters"]["pool_group"] == "test-mean" and record["parameters"]["poisonous"] == ["1", "77"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classifier", "ridge"], "--poisonous is of open sets, which no classifier here is for: add --classifier"),
        (["--classifier", "mahalanobis", "--split-by", "random"], "task 'classify' is of classes, split by random."),
        (["--classifier", "mahalanobis", "--poisonous", "none.csv"], "no list of poisonous classes at none.csv"),
    ],
)
def test_messages(place, call, words, message):  # noqa: F811
    status, _, err = call(*WORDS, *words)
    assert status == 2 and message in err


def test_a_class_that_is_called_unknown_may_be_tested_but_not_trained_on(place, call):  # noqa: F811
    table = pl.read_csv("fungi.csv", schema_overrides={"label": pl.String})
    table.with_columns(label=pl.col("label").replace("0", "(unknown)")).write_csv("fungi.csv")
    status, _, err = call(*WORDS, "--classifier", "mahalanobis")
    assert status == 1 and "trains on a class '(unknown)', which stands for unknown ones: rename it." in err


def test_a_list_of_other_classes_is_refused_and_one_of_some_is_said(place, call):  # noqa: F811
    """Else the loss is that of a set without a poisonous species."""
    list_ = pl.DataFrame({"class_id": ["Amanita", "Boletus"], "poisonous": [1, 0]})
    list_.write_csv("poison_status_list.csv")
    status, _, err = call(*WORDS, "--classifier", "mahalanobis")
    assert status == 1
    assert "has none of the 3 classes that are trained on, such as '0'; it has 'Amanita'. Write class_id as" in err
    pl.concat([list_, pl.DataFrame({"class_id": ["1"], "poisonous": [1]})]).write_csv("poison_status_list.csv")
    status, out, err = call(*WORDS, "--classifier", "mahalanobis", "--json")
    (run,) = json.loads(out)
    assert "2 of 3 classes are not in poison_status_list.csv and count as not poisonous: 0, 2" in run["labels_notes"]
    assert not [note for note in run["labels_notes"] if "neither trained on nor scored" in note]


def test_lists_of_poisonous_classes(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("class_id,poisonous\n3,1\n11,0\n2,1\n")
    assert read_poisonous(path) == {"3": True, "11": False, "2": True}
    path.write_text("class_id,poisonous\n3,yes\n")
    with pytest.raises(BBError, match="poisonous is 'yes' for class '3'; it must be 0 or 1"):
        read_poisonous(path)
    path.write_text("class_id,poisonous\n3,1\n 3,0\n")
    with pytest.raises(BBError, match="class '3' is both poisonous and not; keep one of its rows"):
        read_poisonous(path)
    path.write_text("class_id,poisonous\n,1\n")
    with pytest.raises(BBError, match="poisonous is '1' for class ''"):
        read_poisonous(path)
    path.write_text("class,deadly\n3,1\n")
    with pytest.raises(UsageError, match="does not have the columns class_id, poisonous"):
        read_poisonous(path)
