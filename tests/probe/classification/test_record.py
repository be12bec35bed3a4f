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
        lambda record: each_metric(record, lambda metric: metric.pop("value")),
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
    "target": [lambda record: record.update(target="sounds")],
    "collection": [lambda record: record.update(collection=7)],
    "parameters": [
        lambda record: record.update(parameters=7),
        lambda record: record["parameters"].update(preprocessing=[[]]),
        lambda record: record["parameters"].update(estimator="x"),
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


def forge_tables(folder, change):
    """The run with another table of predictions, under digests that fit it; the folder."""
    record = json.loads((folder / "run.json").read_text())
    change(pl.read_parquet(folder / "predictions.parquet")).write_parquet(folder / "predictions.parquet")
    record["digests"]["predictions.parquet"] = sha256_hex((folder / "predictions.parquet").read_bytes())
    content = json.dumps(record, sort_keys=True).encode()
    (folder / "run.json").write_bytes(content)
    return folder.rename(folder.parent / sha256_hex(content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop("task"), "task"),
        (lambda table: table.drop("score"), "score"),
        (lambda table: table.with_columns(group=pl.struct(a="y_true")), "its column group is of type Struct"),
        (lambda table: table.with_columns(y_pred=pl.lit(float("nan"))), "its column y_pred is missing"),
        (lambda table: pl.concat([table, table]), "two answers for one image"),
    ],
)
def test_a_forged_table_is_an_error_by_name(place, call, change, said):  # noqa: F811
    assert call("probe", "classify", "--labels", "birds.csv", "--folds", 2, "--classifier", "simpleshot")[0] == 0
    (folder,) = Path("features.bb/runs").glob("*/*/")
    folder = forge_tables(folder, change)
    verbs = ("classify", "--html", "page.html"), ("diff", folder.name, folder.name)
    ends = [(status, err) for status, _, err in (call("report", *verb) for verb in verbs)]
    assert all(status == (f"run {folder.parent.name[:12]}" in err and "is damaged" in err) for status, err in ends)
    assert any(said in err for _, err in ends)


def test_a_forged_run_is_not_taken_for_the_one_that_is_asked_for(place, call):  # noqa: F811
    words = ("probe", "classify", "--labels", "birds.csv", "--folds", 2, "--classifier", "simpleshot")
    assert "1 run computed, 0 were there" in call(*words)[1]
    file = next(Path("features.bb/runs").glob("*/*/run.json"))
    content = json.dumps({**json.loads(file.read_text()), "scores": 5}, sort_keys=True).encode()
    file.write_bytes(content)
    file.parent.rename(file.parent.parent / sha256_hex(content))
    assert "1 run computed, 0 were there" in call(*words)[1]
    assert "0 runs computed, 1 were there" in call(*words)[1]
