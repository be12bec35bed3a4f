"""`bb report` as a person types it: files, messages, thumbnails, two runs beside each other."""

import csv
import io
import json
import os
import re
import shutil

import pytest
from typer.testing import CliRunner

import bb.cli
from bb.store import Store
from tests.helpers.boards import put, small_store
from tests.helpers.classified import put_classified


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("verb") / "features.bb").root


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "features.bb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(place, monkeypatch, capsys):
    """bb with some words: status, standard output, standard error."""

    def run(*words):
        monkeypatch.setattr("sys.argv", ["bb", *map(str, words)])
        status = 0
        try:
            bb.main()
        except SystemExit as done:
            status = done.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_the_report_alone_is_that_of_newt(call):
    assert call("report") == call("report", "newt")
    assert json.loads(call("report", "--json")[1]) == json.loads(call("report", "newt", "--json")[1])
    message = "bb: unknown report 'cars': the task families are newt, classify, retrieval.\n"
    assert call("report", "cars")[2] == message


def test_files_are_written_whole(call, place):
    names = ("r.html", "r.csv", "r.tex", "r.md", "r.svg")
    options = ("--html", "--csv", "--latex", "--markdown", "--plot")
    status, out, err = call("report", *(word for pair in zip(options, names, strict=True) for word in pair))
    assert status == 0 and out == ""
    assert all(f"wrote {name}" in err for name in names)
    assert sorted(os.listdir(place)) == sorted(["features.bb", *names])
    assert (place / "r.html").read_text().startswith("<!doctype html>") and (place / "r.tex").read_text()


def test_a_dash_is_standard_output(call):
    for option in ("--csv", "--latex", "--markdown"):
        status, out, _ = call("report", option, "-")
        assert status == 0 and "timm:" in out.replace("\\", "")
    rows = list(csv.DictReader(io.StringIO(call("report", "--csv", "-")[1])))
    assert {row["backbone"] for row in rows} == {"timm:good", "timm:alike", "timm:poor"}


@pytest.mark.parametrize("words", [("report", "classify"), ("report", "retrieval", "--labels", "l.csv"), ("suggest",)])
def test_a_page_is_not_written_to_a_file_called_dash(call, place, words):
    status, out, err = call(*words, "--html", "-")
    assert status == 2 and not out and "--html - names no file" in err and not (place / "-").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--html", "no/r.html"], "--html no/r.html: the folder"),
        (["--csv", "features.bb"], "--csv features.bb is a folder: name a file."),
        (["--plot", "r.gif"], "--plot draws .svg, .png, .pdf, not .gif."),
        (["--plot", "picture"], "--plot draws .svg, .png, .pdf, not a file without a suffix."),
        (["--plot", "-"], "--plot - names no file, and only --csv, --latex, --markdown print with -: name a file."),
        (["--html", "-"], "--html - names no file, and only --csv, --latex, --markdown print with -: name a file."),
        (["--over", "runs"], "--over runs is unknown: choose images, draws, tasks."),
        (["--average", "all"], "--average all is unknown: choose images, tasks."),
        (["--correction", "none"], "--correction none is unknown: choose holm, bh."),
        (["--by", "image"], "--by image is unknown: choose cluster, subcluster, task."),
        (["--metric", "f1"], "no metric is called 'f1': choose accuracy, balanced_accuracy"),
        (["--metric", "macro-f1", "--average", "images"], "macro_f1 is a number of a whole task"),
        (["--baseline", "ViT-B-16/openai"], "--baseline open_clip:ViT-B-16/openai has no runs"),
        (["--n-train", "5"], "found no runs at n_train 5: choose from 4, 10."),
        (["--sort", "5"], "--sort 5 is not a column: write score, name, or one of 4, 10."),
        (["--reference", "none.csv"], "--reference none.csv: the file does not exist."),
        (["--cluster", "site"], "--cluster site is read from the labels of pics: give --data pics=DIR"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_and_nothing_is_written(call, place, words, message):
    before = sorted(os.listdir(place))
    status, out, err = call("report", *words)
    assert status in (1, 2) and out == "" and f"bb: {message}" in err
    assert sorted(os.listdir(place)) == before


def test_a_page_without_images_names_the_hardest(call, place):
    err = call("report", "--html", "r.html")[2]
    assert "no images are available, so the page names the hardest ones: --data NAME=DIR shows them" in err
    assert "<img" not in (place / "r.html").read_text()


def test_groups_come_from_a_column_of_the_labels(call, place):
    lines = ["id,task_cluster,task_subcluster,task,label,split,site"]
    for t in range(4):
        cluster = "cd"[t % 2]
        lines += [f"t{t:02}-{i:03},{cluster},,t{t:02},{i % 2},test,{i % 5}" for i in range(40)]
        lines += [f"train-{t}-{i},{cluster},,t{t:02},{i},train,9" for i in range(2)]
    (place / "labels.csv").write_text("\n".join(lines) + "\n")
    status, out, _ = call("report", "--cluster", "site", "--labels", "labels.csv")
    assert status == 0 and "95% intervals for further groups of test images (site)" in out
    status, _, err = call("report", "--labels", "labels.csv")
    assert status == 2 and "--labels labels.csv is read for a column of groups: name it with --cluster" in err
    status, _, err = call("report", "--cluster", "date", "--labels", "labels.csv")
    assert status == 2 and "labels.csv has no column 'date' to group images by" in err
    (place / "labels.csv").write_text("\n".join(re.sub(",[0-4]$", ",1", line) for line in lines) + "\n")
    status, out, _ = call("report", "--cluster", "site", "--labels", "labels.csv")
    assert status == 0 and "no interval" in out and not re.search(r"\d\.\d{3} \[", out), out


# Two runs


def test_two_runs_beside_each_other(call, place):
    store = Store.open("features.bb")
    runs = {(run.record["backbones"][0], run.record["n_train"], run.record["seed"]): run for run in store.runs()}
    a, b = runs["timm:good", 4, 0], runs["timm:good", 4, 1]
    status, out, _ = call("report", "diff", a.run_id[:10], b.run_id[:10])
    assert status == 0 and "inputs: 1 differ\n  seed: 0 against 1\n" in out
    assert "training rows: 1 in the first only, 1 in the second only" in out
    record = json.loads(call("report", "diff", a.run_id, b.run_id, "--json")[1])
    changed = a.predictions()["y_pred"] != b.predictions()["y_pred"]
    assert len(record["images"]) == changed.sum() == sum(task["changed"] for task in record["tasks"])
    assert f"outcomes differ on {changed.sum()} rows" in out and record["test_common"] == 160
    out = call("report", "diff", a.run_id[:10], a.run_id[:10])[1]
    assert "they are the same file" in out and "inputs: no field differs" in out
    assert "outcomes: the same on all; decisions differ by 0 at most" in out


def test_a_run_that_is_not_one_is_said(call):
    status, _, err = call("report", "diff", "zz", "zz")
    assert status == 2 and "bb: 'zz' begins no run's ID: `bb report -v` shows them." in err
    put(Store.open("features.bb"), "timm:x", 0.8)
    runs = {run.run_id for run in Store.open("features.bb").runs()}
    first = next(c for c in "0123456789abcdef" if sum(run.startswith(c) for run in runs) > 1)
    status, _, err = call("report", "diff", first, first)
    assert status == 2 and re.search(rf"'{first}' begins the IDs of \d+ runs", err)


def test_help_names_the_verbs():
    shown = CliRunner().invoke(bb.cli.app, ["report", "--help"]).output
    assert "newt" in shown and "diff" in shown


def test_open_shows_the_page_of_a_table(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put_classified(Store.create("features.bb"), "timm:a", 0.8, ["ant", "bee"], images=40)
    opened = []
    monkeypatch.setattr("typer.launch", lambda path: opened.append(path) or 0)
    monkeypatch.setenv("BROWSER", "firefox")
    assert call("report", "classify", "--open")[0] == 0 and opened == ["report.html"]
    assert "In short" in (tmp_path / "report.html").read_text()
    assert call("report", "classify", "--open", "--html", "c.html")[0] == 0 and opened[1:] == ["c.html"]


def test_open_shows_the_page(call, place, monkeypatch):
    opened = []
    monkeypatch.setattr("typer.launch", lambda path: opened.append(path) or 0)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("DISPLAY", ":0")
    assert call("report", "--open")[0] == 0 and opened == ["report.html"]
    assert "be told apart from" in (place / "report.html").read_text()
    monkeypatch.setattr("typer.launch", lambda path: 1)
    assert "no browser could be started; open r.html yourself" in call("report", "--open", "--html", "r.html")[2]
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    opened.clear()
    monkeypatch.setattr("typer.launch", lambda path: opened.append(path) or 0)
    status, _, err = call("report", "--open")
    assert status == 0 and opened == [] and "no browser could be started; open report.html yourself" in err
