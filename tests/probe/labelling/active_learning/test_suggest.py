"""`bb suggest`: the table to fill in, the page, what is said, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bb.probe.labelling.active_learning.suggest import COLUMNS, suggest
from bb.store import Collection, Entry, Store
from bb.store.errors import UsageError
from tests.helpers.command_line import call, own_place  # noqa: F401
from tests.helpers.photographs import PHOTOS, needs_photographs
from tests.helpers.synthetic import NAME, cluster_store

SPECIES = np.array(["Ara", "Bär", "Chamäleon", "Dachs"])


@pytest.fixture
def place(own_place):  # noqa: F811
    _, ids, y, _ = cluster_store(own_place / "features.bb", n=300, spread=1.2, twins=[(0, 299)])
    pl.DataFrame({"file": ids[:40], "species": SPECIES[y[:40]]}).write_csv("some.csv")
    return ids, SPECIES[y]


def test_without_labels_a_cover_is_suggested(place, call):  # noqa: F811
    status, out, err = call("suggest", "-n", 12, "--out", "next.csv")
    assert status == 0 and "12 images by cluster" in out and "not yet labels of two classes" in err
    table = pl.read_csv("next.csv")
    assert tuple(table.columns) == COLUMNS and table["label"].null_count() == table["guess"].null_count() == 12


def test_the_table_can_be_filled_in_and_given_back(place, call):  # noqa: F811
    """Its columns are called as those of the labels; images that were labelled are not asked for again."""
    ids, truth = place
    assert call("suggest", "--labels", "some.csv", "-n", 20, "--out", "next.csv")[0] == 0
    first = pl.read_csv("next.csv", schema_overrides={"species": pl.String})
    assert first.columns[:3] == ["file", "species", "suggested_by"] and set(first["suggested_by"]) == {
        "margin",
        "random",
    }
    assert (first["suggested_by"] == "random").sum() == 4
    asked = first["file"].to_list()
    assert not set(asked) & {*ids[:40], ids[299]}  # the last is the same file as the first
    known = dict(zip(ids, truth.tolist(), strict=True))
    first.with_columns(species=pl.Series([known[each] for each in asked])).write_csv("next.csv")
    assert call("suggest", "--labels", "next.csv", "-n", 20, "--out", "more.csv")[0] == 0
    assert not set(pl.read_csv("more.csv")["file"]) & set(asked)
    status, _, err = call("predict", "--labels", "next.csv", "--out", "p.csv", "--classifier", "ridge")
    assert status == 0 and "16 of 20 labelled images were chosen by bb suggest and are harder than most" in err


def test_the_call_gives_what_the_verb_prints(place, call):  # noqa: F811
    record = json.loads(call("suggest", "--labels", "some.csv", "-n", 9, "--seed", 3, "--json")[1])
    found = suggest("features.bb", "some.csv", n=9, seed=3)
    assert record == json.loads(json.dumps(found.record())) and found.backbone == NAME and found.labelled == 40
    assert repr(found) == f"Suggestions(9 images by margin from 40 labels, {NAME})" and "<table>" in found._repr_html_()
    frame = pl.read_csv("some.csv").rename({"file": "image_id", "species": "label"})
    assert suggest("features.bb", frame, n=9, seed=3).frame.equals(found.frame)


def test_a_class_is_looked_for(place, call):  # noqa: F811
    ids, truth = place
    found = suggest("features.bb", "some.csv", n=10, strategy="rare:Bär")
    known = dict(zip(ids, truth.tolist(), strict=True))
    asked = found.frame.filter(pl.col("suggested_by") != "random")["image_id"]
    assert np.mean([known[each] == "Bär" for each in asked]) > 0.8
    assert found.frame["suggested_by"].to_list() == ["rare:Bär"] * 4 + ["random"] + ["rare:Bär"] * 4 + ["random"]


def test_the_terminal_lists_images_where_no_file_is_asked_for(place, call):  # noqa: F811
    _, out, _ = call("suggest", "--labels", "some.csv", "-n", 3)
    assert out.count("pics/") == 3 and "perhaps" in out


def test_the_backbone_that_tells_classes_apart_is_used(place, call):  # noqa: F811
    ids, _ = place
    np.save("noise.npy", np.random.default_rng(1).normal(size=(299, 8)))
    pl.DataFrame({"image_id": ids[:299]}).write_csv("ids.csv")
    assert call("store", "import", "noise.npy", "--ids", "ids.csv", "--name", "lab:noise")[0] == 0
    status, out, err = call("suggest", "--labels", "some.csv", "-n", 3)
    assert status == 0 and f"of 2 backbones {NAME} is used, which gets" in err and f"with {NAME}" in out
    _, _, err = call("suggest", "-n", 3)
    assert "of 2 backbones" in err and "--ckpt chooses another" in err
    assert "with lab:noise" in call("suggest", "-n", 3, "--ckpt", "lab:noise")[1]


def test_images_without_features_are_not_suggested(place, call):  # noqa: F811
    store = Store.open("features.bb")
    entries = [Entry(*row) for row in store.collections("pics")[0].table.iter_rows()]
    store.put_collection(Collection.from_entries("pics", [*entries, Entry("pics/new.jpg", b"\7" * 32, 1, 8, 8)]))
    status, out, err = call("suggest", "-n", 500, "--json")
    assert status == 0 and "1 image without features, and so not suggested" in err
    assert len(json.loads(out)["suggested"]) == 300


def test_rows_without_an_image_are_said(place, call):  # noqa: F811
    table = pl.concat([pl.read_csv("some.csv"), pl.DataFrame({"file": ["gone.jpg"], "species": ["Ara"]})])
    table.write_csv("some.csv")
    assert "1 labelled rows with no image, such as 'gone.jpg'" in call("suggest", "--labels", "some.csv")[2]


def test_labels_that_look_alike_are_said(place, call):  # noqa: F811
    table = pl.read_csv("some.csv")
    again = pl.DataFrame({"file": place[0][40:41], "species": ["Ara\u200b"]})
    pl.concat([table, again]).write_csv("some.csv")
    status, _, err = call("suggest", "--labels", "some.csv", "-n", 5)
    assert status == 0 and "they differ only in invisible characters" in err and "ZERO WIDTH SPACE" in err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--out", "next.txt"], 2, "--out next.txt must end in .csv"),
        (["--html", "nowhere/x.html"], 2, "Make it first"),
        (["--strategy", "best"], 2, "--strategy 'best' is unknown: choose margin, cluster, random or rare:CLASS"),
        (["--strategy", "rare:Ara"], 2, "--strategy rare:Ara needs labelled images of 'Ara' and of another class"),
        (["--strategy", "rare:Yak", "--labels", "some.csv"], 2, "labelled are: 'Ara', 'Bär', 'Chamäleon', 'Dachs'"),
        (["--label", "art"], 2, "--label: these say how a table of labels is read; give it with --labels FILE"),
        (
            ["--strategy", "random", "--random-share", "0.5"],
            2,
            "--random-share 0.5 has no use with --strategy random, which draws every image at random",
        ),
        (["--labels", "none.csv"], 2, "no labels at none.csv"),
        (["--labels", "other.csv"], 1, "other.csv: none of 1 image IDs is in pics"),
        (["--labels", "traits.csv"], 2, "traits.csv has traits; bb suggest takes one task of classes"),
        (["--labels", "tasks.csv"], 2, "tasks.csv has 2 tasks; bb suggest takes one task of classes"),
        (["--labels", "all.csv"], 1, "every image of pics that has features is labelled: nothing is left to suggest"),
    ],
)
def test_bad_usage(place, call, words, status, message):  # noqa: F811
    ids, truth = place
    pl.DataFrame({"image_id": ["x"], "label": ["a"]}).write_csv("other.csv")
    pl.DataFrame({"image_id": ids[:2], "label:big": [0, 1], "label:red": [1, 0]}).write_csv("traits.csv")
    pl.DataFrame({"image_id": ids[:2], "label": ["a", "b"], "task": ["s", "t"]}).write_csv("tasks.csv")
    pl.DataFrame({"image_id": ids, "label": truth}).write_csv("all.csv")
    found, out, err = call("suggest", *words)
    assert (found, out) == (status, "") and message in err


def test_a_number_below_one_is_refused(place):
    with pytest.raises(UsageError, match="-n 0 asks for nothing: choose 1 or more"):
        suggest("features.bb", n=0)


def test_a_page_without_images_names_them(place, call):  # noqa: F811
    status, _, err = call("suggest", "-n", 4, "--html", "sheet.html")
    assert status == 0 and "no images are available, so they are only named: --data pics=DIR shows them" in err
    page = Path("sheet.html").read_text(encoding="utf-8")
    assert page.count("<li class=") == 4 and "<img" not in page


@needs_photographs
def test_the_page_shows_photographs(own_place, call, tmp_path):  # noqa: F811
    folder = tmp_path / "photographs"
    folder.mkdir()
    for file in sorted((PHOTOS / "newt2021_images").iterdir())[:12]:
        shutil.copy(file, folder)
    words = ("--data", f"photographs={folder}")
    status, _, err = call("extract", "--ckpt", "timm:test_resnet/untrained", *words, "--device", "cpu")
    assert status == 0, err
    status, _, err = call("suggest", *words, "-n", 6, "--html", "sheet.html", "--out", "next.csv")
    assert status == 0, err
    page = Path("sheet.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/jpeg;base64,') == 6
    assert all(path.startswith(str(folder)) for path in pl.read_csv("next.csv")["path"])
