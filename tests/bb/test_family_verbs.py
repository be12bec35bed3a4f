"""Task families on the command line: listed, checked, extracted once, probed from stored features."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize

from bb import probe
from bb.probe.tasks.family import as_task_table
from bb.probe.tasks.registry import OWN, TASKS
from bb.store import Store
from tests.helpers.command_line import VIT, call, own_place, run_here  # noqa: F401
from tests.helpers.families import MADE, beluga, fishnet, fungiclef, iwildcam, kabr, picture
from tests.helpers.synthetic import store_of


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """A folder with copies of three families and their features, embedded by an untrained network."""
    place = tmp_path_factory.mktemp("families")
    data = {"inat21": "inat21", "imagenet1k": "imagenet1k/data/*.parquet", "plankton": "plankton"}
    for name in data:
        MADE[name](place / name)
    words = [word for name, root in data.items() for word in ("--data", f"{name}={root}")]
    status, _, err = run_here(place, "extract", "--ckpt", VIT, "--device", "cpu", *words)
    assert status == 0, err
    return place


def store_with(name, root, **options):
    """features.bb with synthetic features of a family's images, by class or first trait."""
    table = as_task_table(TASKS.load(name).labels(root), name)
    frame = table.frame.unique("image_id").sort("image_id")
    _, y = np.unique(frame[table.label_columns[0]].fill_null(0 if table.traits else "?"), return_inverse=True)
    return store_of("features.bb", name, frame["image_id"].to_list(), y, **options)[0]


def test_families_are_listed_with_what_they_need(call, own_place):  # noqa: F811
    (own_place / "bb.toml").write_text(f'[data.inat21]\nroot = "{own_place}"\n[data.cct]\nroot = "/nowhere"\n')
    status, out, _ = call("data", "list")
    lines = {line.split()[0]: line for line in out.splitlines() if line.split()}
    assert status == 0 and set(OWN) <= set(lines)
    assert str(own_place) in lines["inat21"] and "ask the publisher" in lines["inat21"]
    status, out, _ = call("data", "list", "--families")
    assert "needs     train_mini/CLASS/*.jpg (or train/)" in out and "@inproceedings{koh2021wilds," in out
    rows = {row["name"]: row for row in json.loads(call("data", "list", "--families", "--json")[1])}
    assert list(rows) == list(OWN) and all(row["needs"] and row["title"] for row in rows.values())
    assert rows["inat21"]["found"] and not rows["cct"]["found"] and rows["cct"]["root"] == "/nowhere"
    assert rows["iwildcam"]["licence"] == "CDLA-Permissive-1.0" and rows["beluga"]["probe"] == "retrieval"


def test_a_layout_is_checked(call, own_place):  # noqa: F811
    MADE["inat21"](own_place / "data")
    status, out, _ = call("data", "check", "inat21=data")
    assert status == 0 and "inat21: 3 classes; train 12 images, val 6 images\n" in out and "0 problems" in out
    (own_place / "data" / "val" / "Ara" / "splits.pkl").write_bytes(b"\x80\x04.")
    shutil.copy(own_place / "data" / "val" / "Ara" / "splits.pkl", own_place / "data" / "splits.pkl")
    status, _, err = call("data", "check", "inat21=data")
    assert status == 0 and "splits.pkl: a pickle can run any code when it is loaded, so bb does not" in err
    shutil.rmtree(own_place / "data" / "val")
    status, out, _ = call("data", "check", "inat21=data")
    assert status == 1 and out.splitlines() == [
        "inat21: data does not have its layout",
        "  it has train_mini/ but no val/ (a folder for each class)",
    ]
    store_of("features.bb", "inat21", ["a.jpg", "b.jpg"], [0, 1])
    status, _, err = call("probe", "inat21", "--data", "inat21=data")
    assert status == 2 and "data does not have the layout of inat21: it has train_mini/ but no val/" in err


def test_what_a_download_that_stopped_early_does_not_have_is_said(call, own_place):  # noqa: F811
    MADE["inat21"](own_place / "data")
    shutil.rmtree(own_place / "data" / "val" / "Ara")
    shutil.rmtree(own_place / "data" / "train_mini" / "Corvus")
    status, _, err = call("data", "check", "inat21=data")
    assert status == 0 and "note: 1 of 3 classes are not on side train: Corvus" in err
    assert "note: 1 of 3 classes are on side train alone: Ara" in err
    fungiclef(own_place / "fungi")
    table = own_place / "fungi" / "FungiCLEF2023_train_metadata_PRODUCTION.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-2]))
    status, out, _ = call("data", "check", "fungiclef=fungi")
    assert status == 0 and "note: 2 images that the labels do not name, such as 'DF20_300/2-2.JPG'" in out
    MADE["awa2"](own_place / "awa2")
    shutil.rmtree(next(own_place.rglob("JPEGImages")) / "kind1")
    status, _, err = call("data", "check", "awa2=awa2")
    assert status == 0 and "note: 1 of 10 classes have no folder in JPEGImages/: kind1" in err


def test_images_that_labels_name_are_looked_for(call, own_place):  # noqa: F811
    iwildcam(own_place / "data")
    next((own_place / "data" / "iwildcam_v2.0" / "train").iterdir()).unlink()
    status, out, _ = call("data", "check", "iwildcam=data")
    assert status == 1 and "named by the labels, but not there" in out and "; 10 groups" in out


def test_a_pickle_is_not_a_table(call, own_place):  # noqa: F811
    store_of("features.bb", "inat21", ["a", "b"], [0, 1])
    (own_place / "splits.pkl").write_bytes(b"\x80\x04K\x01.")
    status, _, err = call("probe", "inat21", "--labels", "splits.pkl")
    assert status == 1 and "it is a pickle, which is never loaded, since that can run any code" in err


def test_folders_and_tables_of_images_from_pixels_to_a_board(extracted, call, monkeypatch):  # noqa: F811
    monkeypatch.chdir(extracted)
    status, out, err = call("probe", "inat21", "--data", "inat21=inat21", "--classifier", "simpleshot,ridge")
    assert status == 0 and "inat21: 6 images tested, side val" in out, err
    first = sorted(run.run_id for run in Store.open("features.bb").runs())
    assert call("probe", "inat21", "--classifier", "simpleshot,ridge")[0] == 0  # by the names in the store alone
    assert sorted(run.run_id for run in Store.open("features.bb").runs()) == first
    shards = "imagenet1k=imagenet1k/data/*.parquet"
    status, out, err = call("data", "check", shards)
    assert status == 0 and "imagenet1k: 3 classes; train 12 images, val 6 images" in out, err
    status, out, err = call("probe", "imagenet1k", "--data", shards, "--classifier", "ridge")
    assert status == 0 and "imagenet1k: 6 images tested, side val" in out, err
    status, out, err = call("probe", "plankton", "--data", "plankton=plankton", "--classifier", "ridge")
    assert status == 0 and "rows have no label" in err and "macro_f1@wilds" in out.splitlines()[1], err
    assert out.splitlines()[1].split()[3:5] == ["macro_f1@wilds", "macro_f1@biobench"]
    status, out, _ = call("report", "plankton")
    assert status == 0 and out.splitlines()[1].split()[3:5] == ["macro_f1@wilds", "macro_f1@biobench"]


def test_seen_and_unseen_locations_side_by_side(call, own_place):  # noqa: F811
    iwildcam(own_place / "data")
    store_with("iwildcam", own_place / "data", spread=3.0)
    status, out, err = call("probe", "iwildcam", "--data", "iwildcam=data", "--classifier", "ridge,simpleshot")
    assert status == 0, err
    assert "iwildcam: 15 images tested, side test" in out and "iwildcam: 15 images tested, side id_test" in out
    assert "further groups of images" in out and "id_test less test" in out and "macro_f1@biobench" in out
    (run, _) = Store.open("features.bb").runs()
    facts = run.record["scores"]["tasks"]["classify"]
    predictions = run.predictions()
    for side in ("test", "id_test"):
        rows = predictions.filter(pl.col("cluster") == side)
        y, predicted = rows["y_true"].to_numpy(), rows["y_pred"].to_numpy()
        expected = f1_score(y, predicted, average="macro", labels=np.unique(y))
        assert facts[side]["metrics"]["macro_f1@wilds"]["value"] == pytest.approx(expected)
        assert facts[side]["groups"] == 5
    difference = [line for line in out.splitlines() if "id_test less test" in line]
    assert len(difference) == 2 and all("[" in line for line in difference)


def test_frames_of_a_clip_are_pooled(call, own_place):  # noqa: F811
    kabr(own_place / "data")
    store = store_with("kabr", own_place / "data", spread=4.0)
    status, out, err = call("probe", "kabr", "--data", "kabr=data", "--classifier", "simpleshot")
    assert status == 0 and "kabr: 9 images tested, side val" in out and "272 images are pooled to 17 units (max)" in err
    (run,) = store.runs()
    frames = TASKS.load("kabr").labels(own_place / "data").frame
    ids = frames["image_id"].to_list()
    x = store.read(next(iter(store.spaces())), store.collection("kabr", ids), ids)
    units = {}
    for i, (group, label) in enumerate(frames.select("group", "label").iter_rows()):
        units.setdefault((group, label), []).append(x[i])
    pooled = {key: np.max(rows, axis=0) for key, rows in units.items()}
    train, test = ([key for key in sorted(units) if key[0].startswith(side)] for side in ("train", "val"))
    mean = np.mean([pooled[key] for key in train], axis=0)
    fitted = NearestCentroid().fit(normalize([pooled[k] - mean for k in train]), [label for _, label in train])
    expected = fitted.predict(normalize([pooled[key] - mean for key in test]))
    found = run.predictions().with_columns(pl.col("image_id").str.extract(r"/val(\d)/").alias("clip")).sort("clip")
    assert found["y_pred"].cast(pl.Int64).cast(pl.String).to_list() == expected.tolist()
    bench = {"families": {"kabr": {"root": str(own_place / "data")}}, "classifiers": ["simpleshot"]}
    found = probe.bench(bench, store, jobs=1)  # classifies a family as bb probe does
    assert [each.run_id for each in found.runs["kabr"]] == [run.run_id] and not found.fresh and not found.failed
    status, out, err = call("probe", "kabr", "--data", "kabr=data", "--classifier", "simpleshot", "--pool-group", "")
    assert status == 0 and "kabr: 144 images tested, side val" in out, err


def test_unknown_species_and_poisons(call, own_place):  # noqa: F811
    fungiclef(own_place / "data")
    store_with("fungiclef", own_place / "data")
    status, out, err = call("probe", "fungiclef", "--data", "fungiclef=data")
    assert status == 0 and "fungiclef: 3 images tested, side val" in out and "(test-mean)" in err, err
    words = ("probe", "fungiclef", "--data", "fungiclef=data", "--protocol", "biobench-fungiclef")
    status, _, err = call(*words)
    assert status == 2 and "name the table of them with --poisonous poison_status_list.csv" in err
    (own_place / "data" / "poison_status_list.csv").write_text("class_id,poisonous\n0,1\n1,0\n2,0\n")
    status, out, err = call(*words)
    assert status == 0 and "fungiclef: 4 images tested" in out and "1 of 4 test images are of no class" in err, err


def test_a_family_from_python_prints_nothing(own_place, capsys):  # noqa: F811
    iwildcam(own_place / "iwildcam")
    store_with("iwildcam", own_place / "iwildcam")
    page = (Path(__file__).parents[2] / "docs" / "families.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names = {}
    exec(code, names)
    assert {board.side for board in names["found"].boards} == {"id_test", "test"}
    assert capsys.readouterr() == ("", "")


def test_traits(call, own_place):  # noqa: F811
    fishnet(own_place / "data")
    store_with("fishnet", own_place / "data")
    status, out, err = call("probe", "fishnet", "--data", "fishnet=data", "--classifier", "ridge")
    assert status == 0 and "fishnet: 6 images tested, side test" in out, err
    assert out.splitlines()[1].split()[3:5] == ["macro_f1", "exact_match"]


def test_individuals_are_ranked(call, own_place):  # noqa: F811
    beluga(own_place / "data")
    store_with("beluga", own_place / "data")
    status, out, err = call("probe", "beluga", "--data", "beluga=data", "--json")
    assert status == 0, err
    (run,) = json.loads(out)
    assert run["protocol"] == "retrieval" and run["tasks"] == "beluga"
    status, out, err = call("data", "check", "beluga=data", "--csv", "beluga.csv")
    assert status == 0 and pl.read_csv("beluga.csv").height == 17, err
    status, out, err = call("probe", "retrieval", "--labels", "beluga.csv", "--json")
    assert status == 0 and json.loads(out)[0]["scores"] == run["scores"], err
    status, out, err = call("report", "beluga")
    assert status == 2 and "bb data check beluga=DIR --csv beluga.csv, then bb report retrieval --labels beluga" in err
    status, out, err = call("report", "retrieval", "--labels", "beluga.csv")
    assert status == 0 and "lab:clusters" in out, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("probe", "retrieval"), "which labels? Give --labels FILE with the columns image_id and label"),
        (("probe", "cct"), "where are the labels of cct? Give --data cct=DIR with its images and labels"),
        (
            ("probe", "cct", "--data", "cct=here"),
            "here does not have the layout of cct: it has no caltech_images",
        ),
        (("probe", "cats"), "rerank, head, inat21, herbarium19, "),
        (("data", "check", "cct=here", "--csv", "a/b.csv"), "the folder"),
        (("data", "check", "pics=here", "--csv", "a.csv"), "--csv writes the labels of one task family, FAMILY=DIR"),
        (("data", "check", "--csv", "a.csv"), "nothing is named; the families are newt, inat21"),
        (("data", "download", "cct", "--to", "x"), "bb can't download cct: get it from https://lila.science/datasets/"),
        (("data", "download", "cats", "--to", "x"), "bb can't download 'cats', only newt. For images of yours: "),
    ],
)
def test_messages(words, message, call, own_place):  # noqa: F811
    store_of("features.bb", "cct", ["a.jpg", "b.jpg"], [0, 1])
    picture(Path("here") / "a.jpg", 0, 1)
    status, _, err = call(*words)
    assert status == 2 and message in err
