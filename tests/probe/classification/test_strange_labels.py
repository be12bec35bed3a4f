"""Label files as strangers bring them: each is read in the one way that it can be, or refused with what to do."""

import json

import numpy as np
import polars as pl
import pytest

from tests.helpers.command_line import call, own_place  # noqa: F401
from tests.helpers.synthetic import cluster_store

NAMES = np.array(["ara", "bat", "cat", "dog"])


@pytest.fixture
def place(own_place):  # noqa: F811
    _, ids, y, _ = cluster_store(own_place / "features.bb")
    return own_place, ids, y


def table(ids, labels, separator=",", line="\n", header="file,species"):
    rows = [header.replace(",", separator), *(f"{i}{separator}{name}" for i, name in zip(ids, labels, strict=True))]
    return line.join(rows) + line


def probe(call, *options, classifier="ridge"):  # noqa: F811
    status, out, err = call("probe", "classify", "--labels", "t.csv", "--classifier", classifier, "--json", *options)
    return status, json.loads(out) if out else [], err


@pytest.mark.parametrize(
    ("written", "classes"),
    [
        (lambda ids, y: table(ids, [f"Bär {n}" for n in NAMES[y]], ";").encode("utf-16"), "Bär ara"),
        (lambda ids, y: table(ids, NAMES[y], ";").encode("utf-16-be"), "ara"),
        (lambda ids, y: table(ids, NAMES[y], line="\r").encode(), "ara"),
        (lambda ids, y: table(ids, [f'"{n}; spotted ""x"""' for n in NAMES[y]], ";").encode(), 'ara; spotted "x"'),
        (lambda ids, y: table(ids, np.array(["species", "file", "label", "split"])[y]).encode(), "file"),
        (lambda ids, y: table(ids, [f"{k:03d}" for k in y]).encode(), "000"),
        (lambda ids, y: table(ids, [n * 5000 for n in NAMES[y]]).encode(), "ara" * 5000),
        (lambda ids, y: table(ids, [f"{n} \N{FOX FACE}" for n in NAMES[y]]).encode(), "ara \N{FOX FACE}"),
    ],
    ids=["utf-16", "utf-16-be", "cr", "quoted-semicolons", "header-words", "zeros", "long", "emoji"],
)
def test_what_can_be_read_in_one_way_is(place, call, written, classes):  # noqa: F811
    folder, ids, y = place
    (folder / "t.csv").write_bytes(written(ids, y))
    status, (run,), err = probe(call)
    assert status == 0, err
    names = run["class_names"]["classify"]
    assert len(names) == 4 and names[0] == classes and run["scores"]["mean"] > 0.9


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["NaN", "None", "null", "dog"],
            "Column label: 90 cells of 'NaN', 'None', 'null' are taken as empty: --not-miss",
        ),
        (
            ["NA", "NA", "na", "N/A"],
            "every cell of 'species' is empty. Add labels, or choose another column with --label.",
        ),
        (["ara"] * 4, "every label of task 'classify' is 'ara'; a classifier needs two classes"),
        (["a\x00b"] * 4, "it holds NUL characters"),
    ],
)
def test_labels_that_are_none(place, call, labels, message):  # noqa: F811
    folder, ids, y = place
    (folder / "t.csv").write_text(table(ids, np.array(labels)[y]))
    status, _, err = probe(call)
    assert status in (1, 2) and message in err, err


def test_labels_like_nan_are_names_where_that_is_said(place, call):  # noqa: F811
    folder, ids, y = place
    (folder / "t.csv").write_text(table(ids, np.array(["NaN", "None", "null", "dog"])[y]))
    status, (run,), err = probe(call, "--not-missing", "NaN", "--not-missing", "None", "--not-missing", "null")
    assert status == 0, err
    assert run["class_names"]["classify"] == ["NaN", "None", "dog", "null"]


def test_a_table_without_a_header(place, call):  # noqa: F811
    folder, ids, y = place
    (folder / "t.csv").write_text(table(ids[1:], NAMES[y][1:], header=f"{ids[0]},ara"))
    status, _, err = probe(call)
    assert status == 2 and "'pics/000.jpg' looks like an image: is a header such as image_id,label missing?" in err


def test_two_images(place, call):  # noqa: F811
    folder, ids, y = place
    (folder / "t.csv").write_text(table(ids[:2], NAMES[y][:2]))
    status, _, err = probe(call)
    assert status == 1 and "2 labelled images can't fill 5 folds. Give fewer with --folds." in err
    status, _, err = probe(call, "--folds", 2)
    assert status == 1 and "task 'classify': all 2 labelled images are in one fold, so none is left to train on" in err
    (folder / "t.csv").write_text(table(ids[:8], NAMES[y][:8]))  # two of each class
    assert probe(call, "--folds", 2)[0] == 0


@pytest.mark.parametrize("classifier", ["logistic", "svm", "svm-balanced", "linear-svc", "knn", "simpleshot", "ridge"])
def test_a_class_of_one_image_is_an_error_where_it_is_tested(place, call, classifier):  # noqa: F811
    folder, ids, y = place
    (folder / "t.csv").write_text(table(ids, ["yeti" if i == 7 else n for i, n in enumerate(NAMES[y])]))
    status, (run,), err = probe(call, classifier=classifier)
    assert status == 0, err
    facts = run["scores"]["tasks"]["classify"]["5 folds"]
    assert facts["classes"] == 5 and 0.5 < facts["metrics"]["balanced_accuracy"]["value"] <= 0.8
    assert any("the only image of a class is tested without training on it: 'yeti' has 1" in note
               for note in run["notes"]["classify"])  # fmt: skip


@pytest.mark.e2e
@pytest.mark.parametrize("classifier", ["svm", "knn", "simpleshot", "ridge"])
def test_a_thousand_classes(own_place, call, classifier):  # noqa: F811
    _, ids, y, _ = cluster_store(own_place / "features.bb", n=2000, classes=1000, d=16, spread=0.3)
    side = np.where(np.arange(2000) < 1000, "train", "test")
    pl.DataFrame({"file": ids, "species": [f"s{k:04}" for k in y], "split": side}).write_csv("t.csv")
    status, (run,), err = probe(call, classifier=classifier)
    assert status == 0, err
    facts = run["scores"]["tasks"]["classify"]["test"]
    assert facts["classes"] == 1000 and facts["metrics"]["accuracy"]["value"] > 0.5
