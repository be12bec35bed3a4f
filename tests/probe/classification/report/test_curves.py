"""Learning curves and reliability diagrams: their points are the runs' own numbers, on the page and in the CSV."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bb.probe.classification.board import boards
from bb.probe.classification.report.curves import (
    Curve,
    Point,
    learning_curves,
    most_reliable_first,
    reliability_bins,
)
from bb.probe.classification.report.figures import curves_picture, key_of
from bb.store import Store
from tests.helpers.command_line import call, own_place, run_here  # noqa: F401
from tests.helpers.synthetic import NAME, cluster_store


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Runs of two classifiers, three numbers of shots and two seeds on a table with a split."""
    folder = tmp_path_factory.mktemp("curves")
    _, ids, y, _ = cluster_store(folder / "features.bb", n=160, spread=2.0)
    sides = np.where(np.random.default_rng(0).random(160) < 0.5, "train", "test")
    pl.DataFrame({"file": ids, "species": np.array(["ara", "bat", "cat", "dog"])[y], "split": sides}).write_csv(
        folder / "pets.csv"
    )
    words = ("--classifier", "knn,simpleshot", "--shots", "1,4,all", "--seed", "0,1")
    status, _, err = run_here(folder, "probe", "classify", "--labels", "pets.csv", *words)
    assert status == 0, err
    return folder


def test_a_curve_has_the_mean_of_seeds_in_order_of_shots(place):
    (board,) = boards(list(Store.open(place / "features.bb").runs()))
    curves = learning_curves(board)
    assert [curve.label for curve in curves] == sorted(
        (curve.label for curve in curves),
        key=lambda label: -next(c.points[-1].value for c in curves if c.label == label),
    )
    assert {curve.label for curve in curves} == {f"{NAME}, knn", f"{NAME}, simpleshot"}
    for curve in curves:
        assert [point.shots for point in curve.points] == [1, 4, "all"]
        rows = [row for row in board.rows if curve.label.endswith(f", {row.run.record['classifier']}")]
        for point in curve.points:
            found = [row.metrics[board.metric] for row in rows if row.run.record["n_train"] == point.shots]
            assert point.seeds == len(found) >= 1
            assert point.value == pytest.approx(np.mean([each["value"] for each in found]))
            assert point.low == pytest.approx(np.mean([each["low"] for each in found])) and point.low < point.value


def test_bins_add_up_to_the_ece(place):
    (board,) = boards(list(Store.open(place / "features.bb").runs()))
    row, bins = most_reliable_first(board)
    assert row.run.record["classifier"] == "knn" and sum(each.n for each in bins) == board.n
    ece = sum(each.n * abs(each.accuracy - each.confidence) for each in bins) / board.n
    assert ece == pytest.approx(row.metrics["ece"]["value"], abs=1e-6)
    without = next(row for row in board.rows if row.run.record["classifier"] == "simpleshot")
    assert reliability_bins(board, without) == []
    assert reliability_bins(replace(board, target="values"), row) == []


def test_the_csv_has_the_points(place):
    status, out, err = run_here(place, "report", "classify", "--csv", "-")
    assert status == 0, err
    rows = list(csv.DictReader(io.StringIO(out)))
    points = [row for row in rows if row["figure"] == "learning curve"]
    assert len(points) == 6 and {row["at"] for row in points} == {"1", "4", "all"}
    bins = [row for row in rows if row["figure"] == "reliability"]
    assert bins and all(float(row["low"] or 0) <= float(row["value"]) <= float(row["high"] or 1) for row in bins)
    assert {row["figure"] for row in rows} >= {"", "learning curve", "reliability"}


def test_the_page_draws_both(place):
    status, _, err = run_here(place, "report", "classify", "--html", "page.html")
    assert status == 0, err
    page = (Path(place) / "page.html").read_text(encoding="utf-8")
    assert "<h3>Learning curves</h3>" in page and "<h3>Reliability</h3>" in page and "their mean" in page
    points = re.findall(r'data-tip="lab:clusters, knn, shots (\w+): ([\d.]+)', page)
    assert sorted(shots for shots, _ in points) == ["1", "4", "all"]
    assert "images are right" in page and '<ul class="key narrow">' in page


def test_one_number_of_shots_draws_no_curve(own_place, call):  # noqa: F811
    _, ids, y, _ = cluster_store(own_place / "features.bb")
    pl.DataFrame({"file": ids, "species": y}).write_csv("pets.csv")
    assert call("probe", "classify", "--labels", "pets.csv", "--classifier", "ridge")[0] == 0
    assert call("report", "classify", "--html", "page.html")[0] == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "Learning curves</h3>" not in page and "Reliability</h3>" not in page
    assert json.loads(call("report", "classify", "--json")[1])


def test_a_strangers_record_draws_no_point(place):
    (board,) = boards(list(Store.open(place / "features.bb").runs()))
    for broken in ({"n_train": "<b>"}, {"n_train": 0}, {"n_train": True}):
        rows = [
            replace(row, run=replace(row.run, record={**row.run.record, "train_used": "", **broken}))
            for row in board.rows
        ]
        assert learning_curves(replace(board, rows=tuple(rows))) == []
    rows = [replace(row, run=replace(row.run, record={**row.run.record, "parameters": 3})) for row in board.rows]
    assert len(learning_curves(replace(board, rows=tuple(rows)))) == 2


def test_a_board_names_the_seed_of_a_drawn_split(own_place, call):  # noqa: F811
    _, ids, y, _ = cluster_store(own_place / "features.bb")
    pl.DataFrame({"file": ids, "species": y}).write_csv("pets.csv")
    status, out, _ = call("probe", "classify", "--labels", "pets.csv", "--classifier", "ridge", "--seed", "0,1")
    titles = [line for line in out.splitlines() if "images tested" in line]
    assert status == 0 and sorted(titles) == [
        "pets: 120 images tested, 5 folds, random",
        "pets: 120 images tested, 5 folds, random, seed 1",
    ]


def test_markers_differ_names_are_escaped_and_points_without_an_interval_are_drawn():
    point = Point("all", 0.5, None, None, 1)
    curves = [Curve(f"<b>{place}", (Point(1, 0.4, 0.3, 0.5, 2), point)) for place in range(5)]
    inside, _, _ = curves_picture(curves, "accuracy", [("chance", 0.25)])
    assert "<b>" not in inside and "&lt;b&gt;0" in inside and "band" not in inside and "chance" in inside
    shapes = [re.search(r"><(\w+)", shape)[1] for shape, _ in key_of(curves)]
    assert shapes == ["circle", "rect", "polygon", "polygon", "circle"]
    assert len({shape for shape, _ in key_of(curves)}) == 5
    single, _, _ = curves_picture([Curve("one", (Point(5, 0.5, 0.4, 0.6, 1),))], "accuracy")
    assert "band" in single
