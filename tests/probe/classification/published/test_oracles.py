"""Each protocol's predictions are those of its source, from features in a store to the run's file."""

import numpy as np
import polars as pl
import pytest

from bb import probe
from tests.helpers.protocol_oracles import ORACLES, dinov3_few
from tests.helpers.synthetic import cluster_store


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A store, its table, and features, class numbers and sides in the order of image IDs."""
    store, ids, y, x = cluster_store(tmp_path_factory.mktemp("p") / "s.bb", n=900, classes=5, d=8, spread=2.0)
    assert ids == sorted(ids)
    side = np.array(["train", "test", "train", "val"])[(np.arange(len(y)) // 5) % 4]
    return store, pl.DataFrame({"image_id": ids, "label": y, "split": side}), x, y, side


def predictions(labelled, name, **asked):
    """By (shots, seed, setting), image IDs and predicted classes of each run."""
    store, table, *_ = labelled
    if name.startswith("dino"):  # which would choose on the table's side val
        table = table.filter(pl.col("split") != "val")
    found = {}
    for run in probe.classify(store, table, protocol=name, **asked):
        record = run.record
        rows = run.predictions().sort("image_id")
        answers = rows["image_id"].to_list(), rows["y_pred"].to_numpy().astype(int)
        found[record["n_train"], record["seed"], record["published"]["setting"]] = answers
    return found


@pytest.mark.parametrize("name", ORACLES)
def test_predictions_are_those_of_the_source(labelled, name):
    _, table, x, y, side = labelled
    found = predictions(labelled, name)
    expected = {(shots, seed, setting): rest for shots, seed, setting, *rest in ORACLES[name](x, y, side)}
    assert found.keys() == expected.keys()
    for cell, (rows, classes) in expected.items():
        order = np.argsort(rows)
        image_ids, predicted = found[cell]
        assert image_ids == table["image_id"].to_numpy()[rows[order]].tolist()
        np.testing.assert_array_equal(predicted, classes[order], str(cell))


def test_few_shots_of_dinov3_choose_on_images_that_are_not_fitted(labelled):
    _, _, x, y, side = labelled
    found = predictions(labelled, "dinov3-logreg", shots=30, seed=1)
    np.testing.assert_array_equal(found[30, 1, ""][1], dinov3_few(x, y, side, 30, 1))
