"""`bb.probe.run` and `bb.probe.report`, as a user calls them."""

import subprocess
import sys

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


def test_the_names_are_functions_whatever_was_imported_before(folder):
    code = (
        "import bb.probe.run, bb.probe.report.build; from bb.probe.run import prepare; import bb.probe; "
        "from bb.probe import report, run; "
        "print(bb.probe.run is run, callable(bb.probe.report), run.__module__, prepare.__module__)"
    )
    printed = subprocess.run([sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert printed.stdout.split() == ["True", "True", "bb.probe.facade", "bb.probe.run"] and printed.stderr == ""
