"""A run's identity, and what it says of engines that are not identical."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import probe.cuml
import probe.exact
import probe.run
import probe.svm
from probe.engine import Outcome, Split, choose
from probe.newt import parse_labels
from probe.protocol import BioBench
from probe.run import Inputs, Spec, execute, prepare
from store import Collection, Entry, FeatureSpace, SegmentWriter, Store

N = 8


def labels(tasks=3, shift=0):
    rows = [
        (f"{t}-{split}-{y}-{i}", "c", None, f"task{t}", str(y), split)
        for t in range(tasks)
        for split in ("train", "test")
        for y in (0, 1)
        for i in range(N + (shift if split == "train" and t == 0 else 0))
    ]
    columns = ["id", "task_cluster", "task_subcluster", "task", "label", "split"]
    return parse_labels(pl.DataFrame(rows, schema=columns, orient="row"))


@pytest.fixture
def inputs(tmp_path):
    store, family = Store.create(tmp_path / "s.bb"), labels(shift=4)
    space = FeatureSpace(
        "timm", {}, "0" * 64, {}, {"kind": "img", "dim": 6}, {"compute": "fp32", "stored": "float32"}, "1" * 40
    )
    rng = np.random.default_rng(0)
    entries = [Entry(i, rng.bytes(32), 1, 1, 1) for i in family.image_ids]
    collection = Collection.from_entries("pics", entries)
    ids = collection.table["image_id"].to_list()
    x = rng.normal(size=(len(ids), 6)) + np.array([[int(i.split("-")[2])] for i in ids])
    writer = SegmentWriter(store, space, {"backbone": "timm:toy"})
    writer.add(collection.all_digests(), ids, x.astype(np.float32))
    writer.close()
    return Inputs.read(store, space, store.put_collection(collection), family, "newt")


class Wrong:
    """An engine that answers the first class, always."""

    name, version, identical = "wrong", "0", False

    def solve(self, problems, classifier, *, jobs):
        for p in problems:
            yield Outcome(p.task, np.zeros(len(p.x_test), p.y_train.dtype), -np.ones(len(p.x_test)), {}, None, ())


SPEC = Spec(BioBench(), 10, 0, "auto", "exact")


def test_everything_that_decides_the_outcome_is_in_the_id(inputs):
    base = prepare(inputs, SPEC).run_id
    assert prepare(inputs, SPEC).run_id == base
    changed = [
        prepare(inputs, replace(SPEC, seed=1)),
        prepare(inputs, replace(SPEC, n_train=12)),
        prepare(inputs, replace(SPEC, svm="linear")),
        prepare(inputs, replace(SPEC, backend="sklearn")),
        prepare(inputs, replace(SPEC, protocol=replace(BioBench(), search=replace(BioBench().search, n_iter=99)))),
        prepare(replace(inputs, features=inputs.features * 2), SPEC),
        prepare(replace(inputs, features=inputs.features.view(np.float16)), SPEC),
        prepare(replace(inputs, labels=labels(tasks=2)), SPEC),
    ]
    assert len({base, *(other.run_id for other in changed)}) == 1 + len(changed)


def test_an_engine_that_is_not_identical_records_how_far_it_agrees(inputs, monkeypatch):
    monkeypatch.setattr(probe.run, "choose", lambda backend, *_: choose("exact") if backend == "exact" else Wrong())
    record = execute(prepare(inputs, replace(SPEC, backend="wrong")), jobs=1).record
    assert record["identical_to_sklearn"] is False
    assert record["agreement"]["tasks"] == ["task0", "task1", "task2"]
    assert record["agreement"]["choices"] == 0
    assert 0.2 < record["agreement"]["predictions"] < 0.8
    assert execute(prepare(inputs, SPEC), jobs=1).record["agreement"] is None


def test_of_two_engines_the_one_for_large_tasks_is_held_against_the_exact_one(inputs, monkeypatch):
    """On small tasks, which the exact engine did: comparing those as they came would compare it with itself."""
    monkeypatch.setattr(probe.cuml, "missing", lambda: None)
    monkeypatch.setattr(probe.cuml, "CuML", Wrong)
    spec = replace(SPEC, n_train="all", backend="auto")
    monkeypatch.setattr(probe.exact, "MEMORY_A_THREAD", probe.svm.bytes_a_thread(2 * N, 2 * N, 6))
    prepared = prepare(inputs, spec)
    assert isinstance(prepared.engine, Split) and prepared.engine.name == "exact+wrong"
    record = execute(prepared, jobs=1).record
    assert record["agreement"]["tasks"] == ["task1", "task2"]
    assert record["agreement"]["predictions"] == pytest.approx(0.5, abs=0.3)
    assert record["notes"]["task0"][-1] == "too large for the exact engine, so done by wrong"


def test_scores_are_float64(inputs):
    scores = execute(prepare(inputs, SPEC), jobs=1).record["scores"]
    correct = scores["tasks"]["task0"]["mean"] * 2 * N
    assert correct == round(correct)
