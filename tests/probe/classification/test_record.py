"""A stranger's run record may hold anything under a right digest: it is left out by name, and the others are shown."""

import json
from pathlib import Path

import polars as pl
import pytest

from bb.store.files.canonical_json import sha256_hex
from tests.helpers.command_line import call, own_place  # noqa: F401
from tests.helpers.synthetic import cluster_store


@pytest.fixture
def place(own_place):  # noqa: F811
    _, ids, y, _ = cluster_store(own_place / "features.bb")
    pl.DataFrame({"id": ids, "species": [f"kind {each}" for each in y]}).write_csv("birds.csv")


def each_metric(record, change):
    for sides in record["scores"]["tasks"].values():
        for facts in sides.values():
            for metric in facts["metrics"].values():
                change(metric)


FORGED = {
    "scores": [
        lambda record: record.update(scores=5),
        lambda record: record["scores"].update(tasks=[]),
        lambda record: each_metric(record, lambda metric: metric.update(low="x")),
        lambda record: each_metric(record, lambda metric: metric.update(value=[1])),
        lambda record: each_metric(record, lambda metric: metric.update(value=0.5, low=0.1, high=None)),
    ],
    "class_names": [
        lambda record: record.update(class_names=7),
        lambda record: record.update(class_names={"classify": 7}),
    ],
    "backbones": [lambda record: record.update(backbones=7)],
    "notes": [lambda record: record.update(notes={"classify": 7})],
    "train_pool": [lambda record: record.update(train_pool={})],
    "published": [
        lambda record: record.update(published="dinov2-knn"),
        lambda record: record.update(published={"name": "dinov2-knn"}),
    ],
    "n_train": [lambda record: record.update(n_train={"x": 1})],
}


@pytest.mark.parametrize(("key", "forge"), [(key, forge) for key, each in FORGED.items() for forge in each])
def test_a_forged_record_is_left_out_by_name(place, call, key, forge):  # noqa: F811
    words = ("probe", "classify", "--labels", "birds.csv", "--folds", 2)
    assert call(*words, "--classifier", "simpleshot")[0] == call(*words, "--classifier", "ridge")[0] == 0
    file = next(Path("features.bb/runs").glob("*/*/run.json"))
    record = json.loads(file.read_text())
    forge(record)
    content = json.dumps(record, sort_keys=True).encode()
    file.write_bytes(content)
    file.parent.rename(file.parent.parent / sha256_hex(content))
    for form in ((), ("--html", "page.html"), ("--json",)):
        status, _, err = call("report", "classify", *form)
        assert status == 0, err
        assert f"left out: run {record['run_id'][:12]} is damaged: its run.json has the {key}" in err
