"""Protocols whose classifiers torch trains, and the open set: what reaches the classifier, and what is refused."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from bb import probe
from bb.probe.classification.published.protocol import parse_protocol
from bb.probe.classification.published.registry import PROTOCOLS
from bb.probe.classifiers.estimator import make
from bb.probe.statistics.multiclass.user_loss import user_loss
from bb.store.errors import UsageError
from tests.helpers.synthetic import cluster_store


@pytest.fixture
def labelled(tmp_path):
    store, ids, y, x = cluster_store(tmp_path / "s.bb", n=240)
    side = np.where(np.arange(len(ids)) // 4 % 3 > 0, "train", "test")
    return store, ids, y, x, side


def shorter(monkeypatch, name, **parameters):
    protocol = parse_protocol(name)
    made = replace(protocol, parameters={**protocol.parameters, **parameters})
    monkeypatch.setitem(PROTOCOLS._loaded, name, made)
    return made


def test_biobenchs_linear_probe_has_an_output_for_each_class_number_and_three_seeds(labelled, monkeypatch):
    store, ids, y, x, side = labelled
    shorter(monkeypatch, "biobench-linear", steps=40, lr=1e-2)
    table = pl.DataFrame({"image_id": ids, "label": [f"k{k}" for k in y], "split": side})
    table = table.filter((pl.col("label") != "k1") | (pl.col("split") == "test"))
    runs = list(probe.classify(store, table, protocol="biobench-linear"))
    train = (side == "train") & (y != 1)
    for run, seed in zip(runs, (0, 1, 2), strict=True):
        mine = replace(make("linear-adamw"), steps=40, lr=1e-2, absent_classes=True, seed=seed).fit(x[train], y[train])
        assert mine.classes_.tolist() == [0, 1, 2, 3]
        found = dict(run.predictions().select("image_id", "y_pred").iter_rows())
        assert [found[name] for name in np.array(ids)[side == "test"]] == mine.predict(x[side == "test"]).tolist()
        assert run.record["scores"]["main"] == "macro_f1@biobench" and run.record["seed"] == seed


@pytest.mark.parametrize(
    ("name", "fewer", "metric", "rate"),
    [
        ("bioclip2-fishnet", {"epochs": 2}, "exact_match", 1e-4),
        ("bioclip2-awa2", {"epochs": 2}, "macro_f1", 1e-5),
        ("biobench-fishnet", {"steps": 20}, "macro_f1@biobench", 3e-4),
    ],
)
def test_traits(labelled, monkeypatch, name, fewer, metric, rate):
    store, ids, y, _, side = labelled
    shorter(monkeypatch, name, **fewer)
    table = {"image_id": ids, "label:even": (y % 2 == 0).astype(int), "label:first": (y < 2).astype(int), "split": side}
    runs = list(probe.classify(store, pl.DataFrame(table), protocol=name))
    assert [run.record["parameters"]["estimator"]["seed"] for run in runs] == [0, 1, 2]
    record = runs[0].record
    assert record["scores"]["main"] == metric and record["published"]["faults"]
    assert record["parameters"]["estimator"]["threshold"] == "logit" and record["parameters"]["estimator"]["lr"] == rate
    labels = pl.DataFrame({"image_id": ids, "label": y, "split": side})
    with pytest.raises(UsageError, match=f"--protocol {name} scores traits, and the labels are classes"):
        probe.classify(store, labels, protocol=name)


def test_fungiclef_pools_observations_that_are_tested_and_scores_the_users_loss(labelled, tmp_path):
    store, ids, y, x, side = labelled
    side = np.where(y == 3, "test", side)
    group = np.array([f"{i // 8}-{i % 4}" for i in range(len(ids))])
    labels = ["-1" if k == 3 else str(k) for k in y]
    table = pl.DataFrame({"image_id": ids, "label": labels, "split": side, "group": group})
    path = tmp_path / "poison_status_list.csv"
    path.write_text("class_id,poisonous\n0,0\n1,1\n2,0\n")
    (run,) = probe.classify(store, table, protocol="biobench-fungiclef", poisonous=path)
    mine = make("mahalanobis").fit(x[side == "train"], y[side == "train"])
    units = sorted(set(group[side == "test"]), key=lambda name: (int(name.split("-")[0]), name))
    members = [np.flatnonzero((group == unit) & (side == "test")) for unit in units]
    pooled = np.stack([x[rows].astype(np.float64).mean(axis=0) for rows in members]).astype(np.float32)
    expected = np.where(mine.rejects(pooled), 3, mine.predict(pooled))
    truth = np.array([y[rows[0]] for rows in members])
    found = dict(run.predictions().select("image_id", "y_pred").iter_rows())
    assert [found[ids[rows[0]]] for rows in members] == expected.tolist()
    loss = user_loss(truth, expected, 3, np.array([False, True, False, False]))
    assert run.record["scores"]["main"] == "user_loss_score"
    assert run.record["scores"]["mean"] == pytest.approx(loss.score)
    with pytest.raises(UsageError, match="biobench-fungiclef scores a loss of poisonous species: name the table"):
        probe.classify(store, table, protocol="biobench-fungiclef")
    with pytest.raises(UsageError, match="--pool-group max contradicts --protocol biobench-fungiclef"):
        probe.classify(store, table, protocol="biobench-fungiclef", pool_group="max", poisonous=path)
    with pytest.raises(UsageError, match="biobench-fungiclef and biobench-simpleshot pool groups in different ways"):
        probe.classify(store, table, protocol=["biobench-fungiclef", "biobench-simpleshot"], poisonous=path)


def test_aims_head_reads_patches_and_says_that_it_is_no_replica(labelled):
    store, ids, y, _, side = labelled
    table = pl.DataFrame({"image_id": ids, "label": y, "split": side})
    with pytest.raises(UsageError, match="To make one: bb extract --ckpt CKPT --data pics=DIR --patch --pool-grid 4x4"):
        probe.classify(store, table, protocol="aim-attentive")
    with pytest.raises(UsageError, match="attentive reads patch features and simpleshot image features"):
        probe.classify(store, table, protocol=["aim-attentive", "biobench-simpleshot"])
    assert not parse_protocol("aim-attentive").replica and parse_protocol("biobench-linear").replica
