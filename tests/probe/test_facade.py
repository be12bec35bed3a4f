"""`bb.probe.run` and `bb.probe.report`, as a user calls them."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from bb import probe
from bb.store import Store, UsageError
from tests.helpers.labelled import labelled

SHOTS = {"n_train": [6, "all"], "backend": "exact"}


class Told:
    def __init__(self):
        self.messages, self.steps = [], []

    def info(self, message):
        self.messages.append(message)

    def progress(self, task, done, total, unit):
        self.steps.append((task, done, total, unit))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("facade")
    labelled(folder)
    return folder


def test_run_and_report_in_one_call_each_that_print_nothing(folder, capfd):
    store, told = Store.open(folder / "features.bb"), Told()
    runs = probe.run(store, folder / "newt2021_labels.csv", ckpt="timm:made_up/x", reporter=told, **SHOTS)
    assert [run.record["n_train"] for run in runs] == [6, "all"] and runs.fresh == {run.run_id for run in runs}
    assert [step[1:] for step in told.steps] == [(1, 2, "tasks"), (2, 2, "tasks")] * 2
    assert repr(runs) == "Runs(2 runs, 2 computed now)" and runs[0].run_id[:12] not in repr(runs)
    assert runs.frame().select("backbone", "classifier", "n_train").rows() == [
        ("timm:made_up/x", "linear", "6"),
        ("timm:made_up/x", "linear", "all"),
    ]
    again = probe.run(str(folder / "features.bb"), folder / "newt2021_labels.csv", **SHOTS)
    assert [run.run_id for run in again] == [run.run_id for run in runs] and not again.fresh

    report = probe.report(store, resamples=100)
    assert report.frame()["score"].to_list() == [run.record["scores"]["mean"] for run in runs]
    assert repr(report) == "Report(newt on newt: 1 backbones)"
    shown = report._repr_html_()
    assert shown.startswith("<iframe ") and "timm:made_up/x" in shown and "<script" not in shown
    assert report.page().startswith("<!doctype html>") and "<table>" in runs._repr_html_()
    assert capfd.readouterr() == ("", "")


def test_labels_may_be_a_frame_and_names_are_those_of_the_store(folder):
    frame = pl.read_csv(folder / "newt2021_labels.csv", infer_schema=False)
    runs = probe.run(folder / "features.bb", frame, ckpt=["timm:made_up/x"], n_train=4, seed=[0, 1])
    assert [run.record["seed"] for run in runs] == [0, 1]
    with pytest.raises(UsageError, match="has no features of lab:net"):
        probe.run(folder / "features.bb", frame, ckpt="lab:net")
    with pytest.raises(UsageError, match="has no labels of newt: give labels="):
        probe.run(folder / "features.bb")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"over": "runs"}, "--over runs is unknown: choose images, draws, tasks."),
        ({"average": "all"}, "--average all is unknown: choose images, tasks."),
        ({"correction": "none"}, "--correction none is unknown: choose holm, bh."),
        ({"kinds": "image"}, "--by image is unknown: choose cluster, subcluster, task."),
        ({"resamples": 0}, "resamples=0 makes no sense: choose 1 or more, such as 10000."),
        ({"resamples": 100.0}, "resamples=100.0 is of type float: give a whole number."),
        ({"n_train": 9}, "found no runs at n_train 9: choose from"),
        ({"groups": "groups.csv"}, "groups='groups.csv' is of type str: give a Callable."),
        ({"tasks": "birds"}, "has no runs of NeWT's protocols on 'birds': they are on newt."),
    ],
)
def test_reports_refuse_what_they_do_not_know(folder, asked, said):
    probe.run(folder / "features.bb", folder / "newt2021_labels.csv", ckpt="timm:made_up/x", **SHOTS)
    with pytest.raises(UsageError, match=said):
        probe.report(folder / "features.bb", **asked)


def test_a_column_may_stand_alone_in_a_report(folder):
    probe.run(folder / "features.bb", folder / "newt2021_labels.csv", ckpt="timm:made_up/x", **SHOTS)
    report = probe.report(folder / "features.bb", n_train=(n for n in [np.int64(6)]), kinds="task", resamples=100)
    assert report[0].columns == (6,)


def test_values_that_can_not_be_are_refused_before_anything_is_computed(folder):
    for jobs in (0, -1):
        with pytest.raises(UsageError, match=f"--jobs {jobs} makes no sense: choose 1 or more, or leave it out"):
            probe.run(folder / "features.bb", folder / "newt2021_labels.csv", jobs=jobs, n_train=6, seed=7)
    with pytest.raises(UsageError, match="'xyz' names no feature space"):
        probe.run(folder / "features.bb", folder / "newt2021_labels.csv", missing="skip", same_images_as="xyz")


def test_the_names_are_functions_whatever_was_imported_before(folder):
    code = (
        "import bb.probe.run, bb.probe.report.build; from bb.probe.run import prepare; import bb.probe; "
        "from bb.probe import report, run; "
        "print(bb.probe.run is run, callable(bb.probe.report), run.__module__, prepare.__module__)"
    )
    printed = subprocess.run([sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert printed.stdout.split() == ["True", "True", "bb.probe", "bb.probe.run"] and printed.stderr == ""
