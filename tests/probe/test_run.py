"""A run's identity, and what it says of engines that are not identical."""

import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import loguniform
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import bb.probe.classifiers.cuml
import bb.probe.classifiers.exact
import bb.probe.classifiers.svm_fit
from bb.probe.classifiers.choose_engine import SplitEngine, choose
from bb.probe.classifiers.engine import FitResult
from bb.probe.classifiers.protocol import BioBench
from bb.probe.run import FamilySpec, execute, prepare
from bb.probe.tasks.newt import parse_labels
from tests.helpers.newt_runs import N, inputs, labels

__all__ = ["inputs"]  # fixtures


class Wrong:
    """An engine that answers the first class, always."""

    name, version, identical = "wrong", "0", False

    def solve(self, problems, classifier, *, jobs):
        for p in problems:
            yield FitResult(p.task, np.zeros(len(p.x_test), p.y_train.dtype), -np.ones(len(p.x_test)), {}, None, ())


SPEC = FamilySpec(BioBench(), 10, 0, "auto", "exact")


def test_everything_that_decides_the_outcome_is_in_the_id(inputs):
    base = prepare(inputs, SPEC).run_id
    assert prepare(inputs, SPEC).run_id == base
    changed = [
        prepare(inputs, replace(SPEC, seed=1)),
        prepare(inputs, replace(SPEC, n_train=12)),
        prepare(inputs, replace(SPEC, kind="linear")),
        prepare(inputs, replace(SPEC, backend="sklearn")),
        prepare(inputs, replace(SPEC, protocol=replace(BioBench(), search=replace(BioBench().search, n_iter=99)))),
        prepare(replace(inputs, features=inputs.features * 2), SPEC),
        prepare(replace(inputs, features=inputs.features.view(np.float16)), SPEC),
        prepare(replace(inputs, labels=labels(tasks=2)), SPEC),
    ]
    assert len({base, *(other.run_id for other in changed)}) == 1 + len(changed)


@pytest.mark.parametrize(
    ("n_train", "tries"), [(4, 0), (10, 20), pytest.param(10, 100, marks=pytest.mark.e2e), ("all", 0)]
)
def test_biobench_predicts_what_its_source_predicts(inputs, n_train, tries):
    """Written from init_svc and benchmark of src/biobench/newt/__init__.py; n_train -1 there is "all" here."""
    few = replace(BioBench(), search=replace(BioBench().search, n_iter=20))
    spec = replace(SPEC, n_train=n_train, protocol=few if tries == 20 else BioBench())
    run = execute(prepare(inputs, spec), jobs=1)
    for task in inputs.labels.tasks:
        train, test = (frame.filter(pl.col("task") == task.name) for frame in (run.train(), run.predictions()))
        x, x_test = (inputs.rows_of(np.array(frame["image_id"].to_list())) for frame in (train, test))
        x, x_test = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, x_test))
        centred = [rows - x.mean(axis=0, keepdims=True) for rows in (x, x_test)]
        x, x_test = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in centred)
        candidates = {
            "svc__C": loguniform(1e-3, 1e1),
            "svc__kernel": ["rbf", "linear", "sigmoid", "poly"],
            "svc__gamma": loguniform(1e-4, 1e-3),
        }
        svc = SVC(kernel="linear")
        if tries:
            svc = RandomizedSearchCV(make_pipeline(StandardScaler(), SVC()), candidates, n_iter=tries, random_state=42)
        assert svc.fit(x, train["y"]).predict(x_test).tolist() == test["y_pred"].to_list()


def test_a_request_beyond_the_pool_is_the_run_of_all_whatever_its_seed(inputs):
    linear = replace(SPEC, kind="linear")
    every = prepare(inputs, replace(linear, n_train="all"))
    beyond = [prepare(inputs, replace(linear, n_train=100_000, seed=seed)) for seed in (0, 7)]
    assert {each.run_id for each in beyond} == {every.run_id}
    assert {(each.spec.n_train, each.spec.seed) for each in beyond} == {("all", 0)}
    searched = prepare(inputs, replace(SPEC, n_train=100_000))
    assert (searched.spec.n_train, searched.spec.kind) == ("all", "search"), "the protocol searches from 10 on"
    assert prepare(inputs, replace(SPEC, n_train="all")).spec.kind == "auto"
    # task0 has more images, so only the others are used whole:
    record = execute(prepare(inputs, replace(linear, n_train=20)), jobs=1).record
    assert record["n_train"] == 20 and record["n_used"] == [2 * N, 20]


def test_a_run_records_the_pool_that_training_images_are_drawn_from(inputs):
    def pool(table):
        family = parse_labels(table.with_columns(pl.col("label").cast(pl.String)))
        return execute(prepare(replace(inputs, labels=family), SPEC), jobs=1).record["train_pool"]

    table, of_task0 = inputs.labels.table, (pl.col("split") == "train") & (pl.col("task") == "task0")
    turned = table.with_columns(pl.when(of_task0).then(1 - pl.col("label")).otherwise(pl.col("label")).alias("label"))
    fewer = table.filter(~of_task0 | ~pl.col("id").str.ends_with("-7"))
    assert len({pool(table), pool(turned), pool(fewer)}) == 3
    assert pool(table.reverse()) == pool(table)


def test_an_engine_that_is_not_identical_records_how_far_it_agrees(inputs, monkeypatch):
    monkeypatch.setattr(
        sys.modules["bb.probe.run"], "choose", lambda backend, *_: choose("exact") if backend == "exact" else Wrong()
    )
    record = execute(prepare(inputs, replace(SPEC, backend="wrong")), jobs=1).record
    assert record["identical_to_sklearn"] is False
    assert record["agreement"]["tasks"] == ["task0", "task1", "task2"]
    assert record["agreement"]["choices"] == 0
    assert 0.2 < record["agreement"]["predictions"] < 0.8
    assert execute(prepare(inputs, SPEC), jobs=1).record["agreement"] is None


def test_of_two_engines_the_one_for_large_tasks_is_held_against_the_exact_one(inputs, monkeypatch):
    """On small tasks, which the exact engine did: comparing those as they came would compare it with itself."""
    monkeypatch.setattr(bb.probe.classifiers.cuml, "missing", lambda: None)
    monkeypatch.setattr(bb.probe.classifiers.cuml, "CuML", Wrong)
    spec = replace(SPEC, n_train="all", backend="auto")
    needed = bb.probe.classifiers.svm_fit.bytes_a_thread(2 * N, 2 * N, 6)
    monkeypatch.setattr(bb.probe.classifiers.exact, "MEMORY_A_THREAD", needed)
    prepared = prepare(inputs, spec)
    assert isinstance(prepared.engine, SplitEngine) and prepared.engine.name == "exact+wrong"
    record = execute(prepared, jobs=1).record
    assert record["agreement"]["tasks"] == ["task1", "task2"]
    assert record["agreement"]["predictions"] == pytest.approx(0.5, abs=0.3)
    assert record["notes"]["task0"][-1] == "too large for the exact engine, so done by wrong"


def test_scores_are_float64(inputs):
    scores = execute(prepare(inputs, SPEC), jobs=1).record["scores"]
    correct = scores["tasks"]["task0"]["mean"] * 2 * N
    assert correct == round(correct)
