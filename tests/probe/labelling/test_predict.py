"""`bb predict`: the labelled table, the accuracy stated beside it, and what is refused."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bb.probe.labelling.abstention import accept
from bb.probe.labelling.group_thresholds import GroupThresholds
from bb.probe.labelling.result import COLUMNS
from bb.store import Collection, Entry, Store
from bb.texts.predict import accepted_text
from tests.helpers.command_line import call, own_place  # noqa: F401
from tests.helpers.synthetic import NAME, cluster_store

SPECIES = np.array(["Ara", "Bär", "Chamäleon", "Dachs"])
LABELLED = 80


@pytest.fixture
def place(own_place):  # noqa: F811
    _, ids, y, _ = cluster_store(own_place / "features.bb", n=300, spread=1.2)
    pl.DataFrame({"file": ids[:LABELLED], "species": SPECIES[y[:LABELLED]]}).write_csv("some.csv")
    return ids, SPECIES[y]


PREDICT = ("predict", "--labels", "some.csv", "--classifier", "ridge")


def test_every_unlabelled_image_gets_a_row_and_the_stated_accuracy_holds_the_truth(place, call):  # noqa: F811
    ids, truth = place
    status, out, err = call(*PREDICT, "--out", "p.csv")
    assert status == 0, err
    table = pl.read_csv("p.csv")
    assert tuple(table.columns) == COLUMNS and table["image_id"].to_list() == ids[LABELLED:]
    figures = json.loads(Path("p.json").read_text())
    right = (table["label"].to_numpy() == truth[LABELLED:]).mean()
    assert figures["accuracy"]["low"] <= right <= figures["accuracy"]["high"]
    assert (table["probability"] >= table["second_probability"]).all() and (table["label"] != table["second"]).all()
    assert figures["accepted"] == table["accepted"].sum() and figures["predicted"] == len(table) == 220
    accepted = table.filter(pl.col("accepted"))
    assert (accepted["probability"] >= figures["threshold"]).all()
    assert f"220 images predicted from {LABELLED} labels with {NAME}, ridge" in out
    least = f"probability of {figures['threshold']:.3f} or more; of labelled images like these "
    assert f"{figures['accepted']} of 220 accepted: those with a {least}" in out


def test_probabilities_are_calibrated(own_place, call):  # noqa: F811
    _, ids, y, _ = cluster_store(own_place / "features.bb", n=2000, spread=2.0)
    pl.DataFrame({"file": ids[:300], "species": SPECIES[y[:300]]}).write_csv("some.csv")
    assert call(*PREDICT, "--out", "p.parquet")[0] == 0
    table = pl.read_parquet("p.parquet")
    right = table["label"].to_numpy() == SPECIES[y[300:]]
    assert abs(right.mean() - table["probability"].mean()) < 0.05


def test_novelty_is_the_distance_to_the_nearest_labelled_image(place, call):  # noqa: F811
    ids, _ = place
    call(*PREDICT, "--out", "p.csv")
    _, x = Store.open("features.bb").features(NAME, "pics", image_ids=ids)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(
        pl.read_csv("p.csv")["novelty"], 1 - (unit[LABELLED:] @ unit[:LABELLED].T).max(1), atol=1e-5
    )


def test_all_predicts_labelled_images_by_folds_that_did_not_see_them(place, call):  # noqa: F811
    ids, truth = place
    call(*PREDICT, "--out", "p.csv", "--all")
    table = pl.read_csv("p.csv")
    assert table["image_id"].to_list() == ids
    mine = table.head(LABELLED)
    right = (mine["label"].to_numpy() == truth[:LABELLED]).mean()
    assert json.loads(Path("p.json").read_text())["accuracy"]["value"] == pytest.approx(right)
    assert (mine["novelty"] > 1e-6).all()


def test_the_best_backbone_is_taken_and_the_ensemble_takes_all(place, call):  # noqa: F811
    ids, _ = place
    alone = call(*PREDICT, "--out", "p.csv", "--ensemble")
    assert alone[0] == 0 and f"there is one backbone, {NAME}, so --ensemble averages nothing" in "".join(alone[1:])
    np.save("noise.npy", np.random.default_rng(1).normal(size=(300, 8)))
    pl.DataFrame({"image_id": ids}).write_csv("ids.csv")
    assert call("store", "import", "noise.npy", "--ids", "ids.csv", "--name", "lab:noise")[0] == 0
    figures = json.loads(call(*PREDICT, "--out", "p.csv", "--json")[1])
    assert [each["name"] for each in figures["backbones"]] == [NAME, "lab:noise"]
    _, out, _ = call(*PREDICT, "--out", "q.csv", "--ensemble")
    assert f"with {NAME} and lab:noise, ridge" in out
    assert not pl.read_csv("p.csv").equals(pl.read_csv("q.csv"))


def test_with_groups_the_accuracy_of_a_further_group_is_stated(place, call):  # noqa: F811
    table = pl.read_csv("some.csv")
    table.with_columns(site=pl.Series([f"s{i % 8}" for i in range(LABELLED)])).write_csv("some.csv")
    status, out, _ = call(*PREDICT, "--out", "p.csv", "--group", "site")
    assert status == 0 and "accuracy of images of a further group" in out
    figures = json.loads(Path("p.json").read_text())
    assert "groups" in figures["accuracy_of_new_groups"]["claim"]
    assert "groups" not in figures["accuracy"]["claim"]


def test_labelled_copies_of_a_file_count_once(own_place, call):  # noqa: F811
    """Features without signal: with a copy of each image among the others' training images all would be right."""
    twins = [(i, i + 100) for i in range(100)]
    _, ids, y, _ = cluster_store(own_place / "features.bb", n=300, spread=1e3, twins=twins)
    species = SPECIES[y].tolist()
    species[103] = "Ara"  # its file is that of 3, a Dachs
    pl.DataFrame({"file": ids[:200], "species": species[:200]}).write_csv("some.csv")
    status, out, err = call("predict", "--labels", "some.csv", "--classifier", "knn", "--out", "p.csv", "--all")
    assert status == 0 and "300 images predicted from 101 labels" in out
    assert "99 labelled images have the same file and label as another and are left out, such as 'pics/100.jpg'" in err
    assert "1 files have several labels, such as that of 'pics/003.jpg' and 'pics/103.jpg': correct them" in err
    figures = json.loads(Path("p.json").read_text())
    assert figures["accuracy"]["value"] < 0.5 and figures["labelled"] == figures["tested"] == 101
    table = {row["image_id"]: row for row in pl.read_csv("p.csv").iter_rows(named=True)}
    assert len(table) == 300
    assert {**table[ids[100]], "image_id": ids[0]} == table[ids[0]]


def test_what_is_accepted_is_said_by_the_thresholds_that_decided_it(place, call):  # noqa: F811
    ids, truth = place
    known = [name if i < LABELLED else None for i, name in enumerate(truth[:200])]
    sites = [f"s{i % 8}" for i in range(200)]
    pl.DataFrame({"file": ids[:200], "species": known, "site": sites}).write_csv("some.csv")
    status, out, _ = call(*PREDICT, "--out", "p.csv", "--group", "site", "--target-error", 0.2)
    figures, table = json.loads(Path("p.json").read_text()), pl.read_csv("p.csv")
    at_home, others = figures["labelled_groups"]["threshold"], figures["threshold"]
    assert status == 0 and at_home != others
    assert f"{table['accepted'].sum()} accepted for an error of 0.2 (--target-error)\n" in out
    assert f"  those with a probability of {at_home:.3f} or more of 120 images of labelled groups; of " in out
    assert f"  those with a probability of {others:.3f} or more of other images; of " in out
    there = table["image_id"].is_in(ids[:200])
    assert table.filter(there)["accepted"].equals(table.filter(there)["probability"] >= at_home)
    assert table.filter(~there)["accepted"].equals(table.filter(~there)["probability"] >= others)
    pl.DataFrame({"file": ids, "group": [f"s{i % 8}" for i in range(300)]}).write_csv("sites.csv")
    _, out, _ = call("predict", "--model", figures["model"], "--groups", "sites.csv", "--out", "q.csv")
    assert f"  those with a probability of {at_home:.3f} or more of 300 images of labelled groups\n" in out
    assert "other images" not in out


def test_where_no_image_is_sure_enough_none_is_said_to_be_accepted():
    assert accepted_text(0, 87, 0.975) == "none of 87 is accepted: that takes a probability of 0.975 or more"


def test_nothing_is_accepted_where_nothing_is_sure(place, call):  # noqa: F811
    status, out, _ = call(*PREDICT, "--out", "p.csv", "--target-error", 0.001)
    assert status == 0 and "no prediction is accepted" in out and not pl.read_csv("p.csv")["accepted"].any()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--out", "p.txt"], 2, "--out p.txt must end in .csv or .parquet"),
        (["--out", "nowhere/p.csv"], 2, "Make it first"),
        (["--out", "p.csv", "--target-error", "5"], 2, "--target-error 5.0 is not a share"),
        (["--out", "p.csv", "--classifier", "forest"], 2, "'forest'"),
        (["--out", "p.csv", "--classifier", "attentive"], 2, "--classifier attentive reads patch features; bb predict"),
        (["--out", "p.csv", "--ckpt", "timm:resnet18"], 2, "resnet18"),
    ],
)
def test_bad_usage(place, call, own_place, words, status, message):  # noqa: F811
    found, out, err = call(*PREDICT, *words)
    assert (found, out) == (status, "") and message in err and not (own_place / "p.csv").exists()


def test_traits_are_refused(place, call):  # noqa: F811
    ids, _ = place
    pl.DataFrame({"image_id": ids[:20], "label:big": [0, 1] * 10, "label:red": [1, 1, 0, 0] * 5}).write_csv("some.csv")
    status, _, err = call(*PREDICT, "--out", "p.csv")
    assert status == 2 and "bb predict takes one task of classes" in err


def test_the_threshold_is_the_lowest_that_keeps_the_error_down():
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.5])
    right = np.array([1, 1, 1, 0, 1, 0], bool)
    # wrong + (1 - confidence) - 0.3 (m + 1): -0.5 -0.7 -0.9 -0.1 . 0.4
    found = accept(confidence, right, 0.3)
    assert found.threshold == pytest.approx(0.58), "a fifth of the way from 0.6 to 0.5, where the excess is 0"
    assert found.accepted == pytest.approx(4 / 6) and found.error == 0.25
    found = accept(confidence, right, 0.43)
    assert found.threshold == 0.5 and found.accepted == 1 and found.error == pytest.approx(1 / 3)
    assert accept(confidence, ~right, 0.2).threshold is None
    assert accept(confidence, right, 0.16).threshold is None, "six images show no error of less than a sixth"


def test_accepted_predictions_are_wrong_about_as_often_as_asked():
    """Over further images, in the mean of many replays."""
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(400):
        confidence = rng.uniform(0.3, 1, 1200)
        right = rng.random(1200) < confidence
        found = accept(confidence[:200], right[:200], 0.1)
        if found.threshold is not None:
            taken = confidence[200:] >= found.threshold
            errors.append((~right[200:][taken]).mean())
    assert len(errors) > 380 and 0.09 < np.mean(errors) < 0.11


def test_several_backbones_need_three_folds(place, call):  # noqa: F811
    """The best is chosen among the other folds of each, which takes two of them."""
    ids, _ = place
    np.save("noise.npy", np.random.default_rng(1).normal(size=(300, 8)))
    pl.DataFrame({"image_id": ids}).write_csv("ids.csv")
    call("store", "import", "noise.npy", "--ids", "ids.csv", "--name", "lab:noise")
    status, _, err = call(*PREDICT, "--out", "p.csv", "--folds", 2)
    assert status == 2 and "2 backbones can't be compared within 2 folds: raise --folds to 3" in err
    assert call(*PREDICT, "--out", "p.csv", "--folds", 2, "--ckpt", NAME)[0] == 0


def test_folds_that_train_on_one_class_answer_with_it(place, call):  # noqa: F811
    """With several backbones, whose classifiers are fitted without two folds, too."""
    ids, _ = place
    np.save("noise.npy", np.random.default_rng(1).normal(size=(300, 8)))
    pl.DataFrame({"image_id": ids}).write_csv("ids.csv")
    call("store", "import", "noise.npy", "--ids", "ids.csv", "--name", "lab:noise")
    pl.DataFrame({"file": ids[:30], "species": ["rare", *["common"] * 29]}).write_csv("some.csv")
    status, _, err = call(*PREDICT, "--out", "p.csv")
    assert status == 0 and "all training images are of class 'common', so that is the answer for its" in err
    assert "1 test image is of a class without a training image: 'rare'" in err
    assert json.loads(Path("p.json").read_text())["accuracy"]["value"] <= 29 / 30


def test_all_labelled_is_said_before_the_work(place, call):  # noqa: F811
    ids, truth = place
    pl.DataFrame({"file": ids, "species": truth}).write_csv("some.csv")
    status, out, err = call(*PREDICT, "--out", "p.csv")
    assert (status, out) == (1, "") and "every image of pics is labelled: --all predicts these, too" in err


def test_images_without_features_are_named(place, call):  # noqa: F811
    store = Store.open("features.bb")
    entries = [Entry(*row) for row in store.collections("pics")[0].table.iter_rows()]
    store.put_collection(Collection.from_entries("pics", [*entries, Entry("pics/new.jpg", b"\7" * 32, 1, 8, 8)]))
    status, _, err = call(*PREDICT, "--out", "p.csv")
    assert status == 0 and "1 image without features, and so without a prediction, such as pics/new.jpg" in err
    assert len(pl.read_csv("p.csv")) == 220


@pytest.mark.e2e
def test_the_accuracy_of_known_groups_is_nested_too(own_place, call):  # noqa: F811
    """Of twenty backbones of noise the luckiest must not set the accuracy that is stated."""
    _, ids, y, _ = cluster_store(own_place / "features.bb", n=120, spread=50.0)
    rng = np.random.default_rng(0)
    pl.DataFrame({"image_id": ids}).write_csv("ids.csv")
    for i in range(19):
        np.save("noise.npy", rng.normal(size=(120, 4)))
        call("store", "import", "noise.npy", "--ids", "ids.csv", "--name", f"lab:noise{i}")
    sites = [f"s{i % 10}" for i in range(60)]
    pl.DataFrame({"file": ids[:60], "species": SPECIES[y[:60]], "site": sites}).write_csv("some.csv")
    figures = json.loads(call(*PREDICT, "--out", "p.csv", "--group", "site", "--json")[1])
    luckiest = figures["backbones"][0]["accuracy"]
    for name in ("accuracy", "accuracy_of_new_groups"):
        assert figures[name]["value"] < luckiest - 0.05 and figures[name]["low"] < 0.25


def test_images_of_labelled_groups_have_thresholds_of_their_own(place, call):  # noqa: F811
    ids, truth = place
    site = ["big" if i % 2 else f"small{i % 8}" for i in range(200)]
    label = [truth[i] if i < LABELLED else None for i in range(200)]
    pl.DataFrame({"file": ids[:200], "species": label, "site": site}).write_csv("some.csv")
    status, _, err = call(*PREDICT, "--out", "p.csv", "--group", "site")
    assert status == 0, err
    assert "4 of 5 groups have fewer than 20 labelled images, too few for a threshold of their own" in err
    figures = json.loads(Path("p.json").read_text())
    (own,) = figures["labelled_groups"]["groups"]
    assert (own["group"], own["images"]) == ("big", 40)
    table = pl.read_csv("p.csv")
    where = dict(zip(ids, site, strict=False))
    for image_id, probability, accepted in table.select("image_id", "probability", "accepted").iter_rows():
        threshold = {None: figures["threshold"], "big": own["threshold"]}.get(
            where.get(image_id), figures["labelled_groups"]["threshold"]
        )
        assert accepted == (threshold is not None and probability >= threshold)
    assert "labelled_groups" not in Store.open("features.bb").model(figures["model"]).stated


def test_images_that_say_no_group_are_those_of_further_groups(place, call):  # noqa: F811
    table = pl.read_csv("some.csv")
    table.with_columns(site=pl.Series([f"s{i // 4 % 8}" for i in range(LABELLED)])).write_csv("some.csv")
    status, _, err = call(*PREDICT, "--out", "p.csv", "--group", "site")
    assert status == 0 and "note: no unlabelled image is in the table with a labelled group" in err


def test_groups_are_right_as_often_as_asked_each_by_itself():
    """Two groups of other difficulty, in the mean of many replays: a threshold of their own holds in each."""
    rng, errors = np.random.default_rng(0), {"a": [], "b": []}
    for _ in range(300):
        group = np.arange(2400) % 2
        confidence = rng.uniform(0.3, 1, 2400)
        right = rng.random(2400) < np.where(group == 0, confidence, confidence**0.3)
        first = slice(0, 400)
        made = GroupThresholds.of(confidence[first], right[first], group[first], ["a", "b"], 0.1)
        for g, name in enumerate("ab"):
            if made.own[name].threshold is not None:
                taken = (group[400:] == g) & (confidence[400:] >= made.own[name].threshold)
                errors[name].append((~right[400:][taken]).mean())
    assert all(abs(np.mean(each) - 0.1) < 0.012 and len(each) > 280 for each in errors.values())


@pytest.mark.parametrize("verb", [("predict", "--out"), ("suggest", "--out"), ("suggest", "--html")])
def test_no_output_replaces_the_labels_it_is_made_from(place, call, verb):  # noqa: F811
    before = Path("some.csv").read_bytes()
    Path("same.csv").hardlink_to("some.csv")
    for name in ("some.csv", "./some.csv", "same.csv"):
        status, _, err = call(verb[0], "--labels", "some.csv", verb[1], name)
        assert status == 2 and "would replace what is read from it: name another file." in err
    assert Path("some.csv").read_bytes() == before


@pytest.mark.parametrize(
    "words", [("predict", "--out", "p.csv"), ("predict", "--retrieve", "--out", "p.csv"), ("suggest",)]
)
def test_a_seed_that_no_record_could_hold_is_refused_before_anything_is_written(place, call, words):  # noqa: F811
    status, _, err = call(*words, "--labels", "some.csv", "--seed", 2**63)
    assert status == 2 and f"--seed {2**63} makes no sense: choose a whole number from 0 to {2**63 - 1}." in err
    assert not Path("p.csv").exists() and call("store", "verify")[0] == 0
