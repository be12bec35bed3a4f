"""`bb probe classify` and `bb report classify`: what is predicted, what is said of it, and what is refused."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize

import bb.probe
from bb.probe.classification.scores import Answers
from bb.probe.classifiers.estimator import find
from bb.probe.statistics.multiclass.metrics import METRICS
from bb.probe.statistics.multiclass.predictions import Predictions
from bb.probe.tasks.fold import UNSEEN, Split, TaskImages
from bb.store import Store
from tests.helpers.command_line import call, own_place  # noqa: F401
from tests.helpers.synthetic import NAME, cluster_store

SPECIES = np.array(["Ara", "Bär", "Chamäleon", "Dachs"])


@pytest.fixture
def place(own_place):  # noqa: F811
    store, ids, y, x = cluster_store(own_place / "features.bb")
    sites = [f"site {i % 9}" for i in range(len(ids))]
    pl.DataFrame({"Datei": ids, "species": SPECIES[y], "site": sites}).rename({"Datei": "filename"}).write_csv(
        own_place / "birds.csv", separator=";", include_bom=True
    )
    return store, ids, y, x


def runs(call, *arguments):  # noqa: F811
    status, out, err = call("probe", "classify", "--labels", "birds.csv", *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def test_predictions_are_those_of_the_classifier_on_each_fold(place, call):  # noqa: F811
    _, ids, y, x = place
    (record,) = runs(call, "--classifier", "simpleshot")
    (run,) = Store.open("features.bb").runs()
    predictions, train = run.predictions(), run.train()
    assert sorted(predictions["image_id"]) == ids and len(set(train["fold"])) == 5
    row = {image_id: i for i, image_id in enumerate(ids)}
    for fold in train["fold"].unique():
        inside = [row[i] for i in train.filter(pl.col("fold") == fold)["image_id"]]
        outside = sorted(set(range(len(ids))) - set(inside))
        mean = x[inside].mean(axis=0)
        oracle = NearestCentroid().fit(normalize(x[inside] - mean), y[inside]).predict(normalize(x[outside] - mean))
        found = dict(predictions.select("image_id", "y_pred").iter_rows())
        assert [found[ids[i]] for i in outside] == oracle.tolist()
    right = (predictions["y_true"] == predictions["y_pred"]).mean()
    facts = record["scores"]["tasks"]["classify"]["5 folds"]
    assert facts["metrics"]["accuracy"]["value"] == pytest.approx(right) and facts["classes"] == 4
    assert facts["metrics"]["accuracy"]["low"] < right < facts["metrics"]["accuracy"]["high"]
    assert record["class_names"] == {"classify": SPECIES.tolist()} and record["fresh"]


def test_a_run_that_was_there_says_what_is_to_be_said_of_the_table_at_hand(place, call):  # noqa: F811
    """Empty cells by another word are the same labels, and the same run."""
    _, ids, y, _ = place
    for word in ("nan", "NA"):
        labels = [word if i < 20 else SPECIES[k] for i, k in enumerate(y)]
        pl.DataFrame({"image_id": ids, "label": labels}).write_csv("birds.csv")
        status, out, err = call("probe", "classify", "--labels", "birds.csv", "--classifier", "simpleshot")
        assert status == 0 and f"20 cells of '{word}' are taken as empty" in err
    assert "0 runs computed, 1 were there" in out and "'nan'" not in err


def test_two_seeds_that_are_one_run_count_once(place, call):  # noqa: F811
    _, ids, y, _ = place
    side = ["train" if i // 4 % 2 else "test" for i in range(len(ids))]
    pl.DataFrame({"image_id": ids, "label": SPECIES[y], "split": side}).write_csv("sides.csv")
    words = ("probe", "classify", "--labels", "sides.csv", "--classifier", "simpleshot", "--seed", "0,1")
    assert "1 run computed, 0 were there" in call(*words)[1]
    assert "0 runs computed, 1 were there" in call(*words)[1]
    for more, said in (
        (("--folds", 3), "--folds 3 has no use: column 'split' of sides.csv says which images are tested"),
        (("--split", "split", "--split-by", "random"), "--split split has no use with --split-by random"),
        (
            ("--split", "split", "--protocol", "bioclip2-fewshot"),
            "--split split contradicts --protocol bioclip2-fewshot",
        ),
    ):
        status, out, err = call("probe", "classify", "--labels", "sides.csv", *more)
        assert (status, out) == (2, "") and said in err


def test_numpys_numbers_are_the_same_run_as_pythons(place):
    how = {"classifier": "simpleshot", "shots": 2, "seed": 1, "folds": 3}
    (run,) = bb.probe.classify("features.bb", "birds.csv", **how)
    as_numpy = {name: np.int64(value) if name != "classifier" else value for name, value in how.items()}
    again = bb.probe.classify("features.bb", "birds.csv", **as_numpy)
    assert [each.run_id for each in again] == [run.run_id] and not again.fresh


def test_a_run_is_found_again_and_each_setting_has_its_own(place, call):  # noqa: F811
    first = runs(call, "--classifier", "ridge,knn", "--shots", "2,all")
    assert len({run["run_id"] for run in first}) == 4 and all(run["fresh"] for run in first)
    again = runs(call, "--classifier", "ridge,knn", "--shots", "2,all")
    assert [run["run_id"] for run in again] == [run["run_id"] for run in first]
    assert not any(run["fresh"] for run in again)
    others = (["--seed", 1], ["--preprocessing", "none"], ["--group", "site", "--split-by", "random"])
    other = [runs(call, "--classifier", "ridge", *each)[0]["run_id"] for each in others]
    assert len({*other, *(run["run_id"] for run in first)}) == 7


def test_a_lone_image_of_a_class_leaves_the_others_calibrated():
    """The classifier of the fold that tests it does not have the class: its decision is -inf there."""
    rng = np.random.default_rng(0)
    y = np.append(rng.integers(0, 3, 400), 3)
    decision = np.full((401, 4), -200.0)
    decision[:, :3] = 8 * rng.normal(size=(401, 3))
    decision[np.arange(400), y[:400]] += 8
    decision[200:, 3] = -np.inf
    task = TaskImages("t", "classes", np.arange(401).astype(np.str_), y, ("a", "b", "c", "lone"))
    sure = softmax(decision, axis=1)
    halves = [np.arange(200), np.arange(200, 401)]
    folds = [Answers("fold", task, r, decision[r].argmax(axis=1), decision[r], sure[r]) for r in halves]
    joined = Answers.join(folds, Split(task, "random", (), 401))
    predicted = decision.argmax(axis=1)
    before = METRICS["ece"].value(Predictions(y, predicted, 4, sure))
    assert METRICS["ece"].value(joined.predictions()) < before / 3


def test_what_is_to_be_said_of_a_table_is_said_of_runs_that_were_there(place, call):  # noqa: F811
    words = ("probe", "classify", "--labels", "birds.csv", "--classifier", "ridge")
    assert call(*words)[0] == 0
    lines = Path("birds.csv").read_text(encoding="utf-8-sig").splitlines()
    Path("birds.csv").write_text("\n".join([*lines, lines[-1]]))
    status, out, err = call(*words)
    assert status == 0 and "0 runs computed, 1 were there" in out
    assert err.count("note: 1 rows repeat an earlier one and are left out") == 1


def test_validation_images_that_are_not_used_are_said(place, call):  # noqa: F811
    _, ids, y, _ = place
    side = np.array(["train", "train", "val", "test"])[np.arange(len(y)) // 4 % 4]
    pl.DataFrame({"filename": ids, "species": SPECIES[y], "split": side}).write_csv("birds.csv")
    note = f"{(side == 'val').sum()} images of the validation side are not used: published protocols choose on them"
    (run,) = runs(call, "--classifier", "ridge")
    assert run["notes"]["classify"][0].startswith(note)
    (run,) = runs(call, "--protocol", "dinov2-logreg")
    assert "not used" not in str(run["notes"])


def test_shots_that_take_all_images_are_one_row_with_all(place, call):  # noqa: F811
    """`--shots 1000` and `all` fit the same images: one row, whose shots are those that were used."""
    runs(call, "--classifier", "ridge", "--shots", "3,1000,all")
    (board,) = json.loads(call("report", "classify", "--json")[1])
    assert sorted(str(row["shots"]) for row in board["rows"]) == ["3", "all"]
    runs(call, "--classifier", "knn", "--shots", "1000")
    (board,) = json.loads(call("report", "classify", "--json")[1])
    assert [row["shots"] for row in board["rows"] if row["classifier"] == "knn"] == ["all"]


def test_shots_train_on_as_many_of_each_class(place, call):  # noqa: F811
    runs(call, "--classifier", "ridge", "--shots", 3)
    (run,) = Store.open("features.bb").runs()
    counts = run.train().group_by("fold", "y").len()["len"]
    assert counts.to_list() == [3] * 20


def test_ways_of_splitting_are_compared(place, call):  # noqa: F811
    words = ("--labels", "birds.csv", "--classifier", "ridge", "--group", "site", "--split-by", "random,group")
    status, out, err = call("probe", "classify", *words)
    assert status == 0, err
    assert "random less group" in out and "further groups of images" in out
    for run in Store.open("features.bb").runs():
        train = run.train()
        if run.record["split_by"] == "group":
            assert run.record["scores"]["tasks"]["classify"]["5 folds"]["groups"] == 9
        site = {image_id: int(image_id[5:8]) % 9 for image_id in train["image_id"]}
        tested = run.predictions()
        apart = all(
            not {site[i] for i in fold["image_id"]}
            & {int(i[5:8]) % 9 for i in set(tested["image_id"]) - set(fold["image_id"])}
            for fold in train.partition_by("fold")
        )
        assert apart == (run.record["split_by"] == "group")


def test_too_few_groups_have_no_interval(place, call):  # noqa: F811
    table = pl.read_csv("birds.csv", separator=";")
    table.with_columns(site=pl.Series([f"s{i % 3}" for i in range(120)])).write_csv("birds.csv")
    (record,) = runs(call, "--classifier", "ridge", "--group", "site")
    accuracy = record["scores"]["tasks"]["classify"]["3 folds"]["metrics"]["accuracy"]
    assert accuracy["low"] is None and "3 groups are tested, and an interval needs 5" in accuracy["reason"]
    _, out, _ = call("report", "classify")
    assert "(no interval)" in out and "3 groups are tested" in out


def test_the_report_has_scores_classes_and_confused_pairs(place, call):  # noqa: F811
    runs(call, "--classifier", "ridge,simpleshot")
    status, out, _ = call("report", "classify", "birds", "--classes")
    assert status == 0 and "best" in out and "most confused" in out and "Chamäleon" in out and NAME in out
    assert "chance 0.250; always naming the commonest class scores an accuracy of 0.250" in out
    for words, said in (
        (("--classes", "--json"), "--classes shows tables in the terminal: leave it out"),
        (("--data", "pics=pics"), "--data says where the images are that a page shows: add --html FILE"),
    ):
        status, out, err = call("report", "classify", *words)
        assert (status, out) == (2, "") and said in err
    (board,) = json.loads(call("report", "classify", "--json")[1])
    assert [row["best"] for row in board["rows"]] == [True, False] and board["classes"] == SPECIES.tolist()
    values = [row["metrics"]["accuracy"]["value"] for row in board["rows"]]
    assert values == sorted(values, reverse=True)
    rows = list(csv.DictReader(io.StringIO(call("report", "classify", "--csv", "-")[1])))
    assert {row["metric"] for row in rows} >= {"accuracy", "balanced_accuracy", "macro_f1@wilds", "macro_f1@biobench"}


def test_the_page_shows_scores_confusion_and_classes_and_escapes_them(place, call):  # noqa: F811
    table = pl.read_csv("birds.csv", separator=";")
    table.with_columns(pl.col("species").replace("Dachs", "<script>alert(1)</script>")).write_csv("birds.csv")
    runs(call, "--classifier", "ridge,simpleshot")
    status, _, err = call("report", "classify", "--html", "page.html")
    assert status == 0 and "note: no images are available" in err
    page = Path("page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    (run, *_) = sorted(Store.open("features.bb").runs(), key=lambda run: -run.record["scores"]["mean"])
    table = run.predictions()
    right = table.filter(pl.col("y_true") == pl.col("y_pred"))
    assert page.count('<rect class="right"') == right["y_true"].n_unique()
    assert (
        page.count('<rect class="wrong"')
        == table.filter(pl.col("y_true") != pl.col("y_pred"))[["y_true", "y_pred"]].n_unique()
    )
    assert f"<b>{run.record['scores']['mean']:.3f}</b>" in page and "Chamäleon taken for" in page


def test_folders_are_classes_without_a_table(own_place, call):  # noqa: F811
    from bb.store import Collection, Entry
    from bb.store.imported import import_features

    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 30)
    ids = sorted(f"{'ab'[k]}/{i:02d}.png" for i, k in enumerate(y))
    keys = rng.integers(0, 256, (60, 32), dtype=np.uint8)
    store = Store.create("features.bb")
    store.put_collection(
        Collection.from_entries("f", [Entry(i, k.tobytes(), 1, 8, 8) for i, k in zip(ids, keys, strict=True)])
    )
    x = np.where(np.array([i[0] == "a" for i in ids])[:, None], 3.0, -3.0) + rng.normal(size=(60, 4))
    import_features(store, x, keys, ids, name=NAME, collection="f")
    status, out, err = call("probe", "classify", "--classifier", "ridge")
    assert status == 0 and "1.000 [0.9" in out and "label from 'all folders'" in err


def test_traits_and_numbers(place, call):  # noqa: F811
    _, ids, y, _ = place
    table = {"image_id": ids, "label:striped": (y < 2).astype(int), "label:tall": (y % 2 == 0).astype(int)}
    pl.DataFrame(table).write_csv("traits.csv")
    status, out, err = call("probe", "classify", "--labels", "traits.csv", "--classifier", "ridge", "--json")
    assert status == 0, err
    metrics = json.loads(out)[0]["scores"]["tasks"]["classify"]["5 folds"]["metrics"]
    assert set(metrics) == {"macro_f1", "macro_f1@biobench", "mean_ap", "exact_match"}
    assert 0.5 < metrics["macro_f1"]["value"] <= 1
    pl.DataFrame({"image_id": ids, "label": y + 0.5}).write_csv("mass.csv")
    words = ("--labels", "mass.csv", "--regression")
    metrics = json.loads(call("probe", "classify", *words, "--json")[1])[0]["scores"]["tasks"]["classify"]["5 folds"]
    assert metrics["metrics"]["r2"]["value"] > 0.3
    assert metrics["metrics"]["mae"]["claim"] == "the mean over these 5 fitted models, on further images"
    pl.DataFrame({"image_id": ids, "label": np.full(len(ids), 2.5)}).write_csv("same.csv")
    status, out, _ = call("probe", "classify", "--labels", "same.csv", "--regression")
    assert status == 0 and "no value: r2 has no value where all true values are equal" in out
    status, _, err = call("probe", "classify", *words, "--classifier", "knn")
    assert status == 2 and "'knn' can't fit regression targets; choose ridge" in err


def test_traits_that_are_known_of_different_images(place, call):  # noqa: F811
    _, ids, y, _ = place
    even = np.arange(len(ids)) // 4 % 2 == 0
    striped, tall = (y < 2).astype(int), (y % 2 == 0).astype(int)
    table = {
        "image_id": ids,
        "label:striped": [s if e else None for s, e in zip(striped.tolist(), even, strict=True)],
        "label:tall": [None if e else t for t, e in zip(tall.tolist(), even, strict=True)],
    }
    pl.DataFrame(table).write_csv("traits.csv")
    (run,) = bb.probe.classify("features.bb", "traits.csv", classifier="ridge")
    said = run.predictions()
    f1 = [f1_score(rows["y_true"], rows["y_pred"]) for _, rows in said.group_by("task")]
    metrics = run.record["scores"]["tasks"]["classify"]["5 folds"]["metrics"]
    assert len(f1) == 2 and metrics["macro_f1"]["value"] == pytest.approx(np.mean(f1))
    assert metrics["exact_match"]["value"] is None


def test_a_trait_that_all_images_have_is_left_out_by_name(place, call):  # noqa: F811
    _, ids, y, _ = place
    one = {"image_id": ids, "label:striped": y % 2, "split": ["train" if i < 60 else "test" for i in range(len(ids))]}
    pl.DataFrame(one).write_csv("one.csv")
    pl.DataFrame({**one, "label:animal": np.ones_like(y)}).write_csv("traits.csv")
    status, _, err = call("probe", "classify", "--labels", "traits.csv")
    said = "trait 'animal' is not scored: training images that are labelled for it all have the same value"
    assert status == 0 and said in err
    one, two = (bb.probe.classify("features.bb", each).boards[0].rows[0].metrics for each in ("one.csv", "traits.csv"))
    assert {name: each["value"] for name, each in one.items()} == {name: each["value"] for name, each in two.items()}
    pl.DataFrame({"image_id": ids, "label:plant": 0 * y, "label:animal": np.ones_like(y)}).write_csv("none.csv")
    status, _, err = call("probe", "classify", "--labels", "none.csv")
    assert status == 1 and "no trait has training images with 0 and training images with 1. Label more images" in err


def test_a_trait_that_one_image_has_is_not_scored_where_that_image_is_tested(place):
    _, ids, y, _ = place
    rare = (np.arange(len(ids)) == 7).astype(int)
    pl.DataFrame({"image_id": ids, "label:striped": y % 2, "label:rare": rare}).write_csv("traits.csv")
    found = bb.probe.classify("features.bb", "traits.csv", classifier="ridge")
    (run,), (board,) = found, found.boards
    (note,) = [note for note in board.notes if "'rare'" in note]
    table = run.predictions()
    where = run.train().group_by("fold").agg(pl.col("image_id").is_in([ids[7]]).any().alias("trained"))
    (fold,) = where.filter(~pl.col("trained"))["fold"]
    scored, of_rare = (table.filter(pl.col("task") == f"classify:{name}") for name in ("striped", "rare"))
    assert len(scored) == len(ids) and ids[7] not in of_rare["image_id"] and of_rare["y_true"].sum() == 0
    assert f"trait 'rare' is not scored in {fold}, where training images that are labelled for it all have" in note
    assert f": {len(ids) - len(of_rare)} test images count neither for it nor for the exact match" in note
    right = scored.filter(pl.col("image_id").is_in(of_rare["image_id"].implode())).sort("image_id")["score"] > 0
    right &= of_rare.sort("image_id")["score"] > 0
    assert board.rows[0].metrics["exact_match"]["value"] == pytest.approx(right.mean())


def test_a_classifier_of_traits_that_gives_probabilities_alone(place, monkeypatch):
    """A plug-in's need no decision_function, also where a fold can't fit a trait."""
    _, ids, y, _ = place
    kind = find("ridge", "traits")
    decide = kind.decision_function
    monkeypatch.setattr(kind, "predict_proba", lambda self, x: 1 / (1 + np.exp(-decide(self, x))), raising=False)
    monkeypatch.setattr(kind, "predict", lambda self, x: (decide(self, x) > 0).astype(np.int64))
    monkeypatch.delattr(kind, "decision_function")
    rare = (np.arange(len(ids)) == 7).astype(int)
    pl.DataFrame({"image_id": ids, "label:striped": y % 2, "label:rare": rare}).write_csv("traits.csv")
    (run,) = bb.probe.classify("features.bb", "traits.csv", classifier="ridge")
    assert any("'rare' is not scored in" in note for notes in run.record["notes"].values() for note in notes)


def test_a_fold_that_trains_on_one_class_answers_with_it(place):
    """A class of one image: where that is tested, nothing can be fitted."""
    _, ids, _, _ = place
    pl.DataFrame({"image_id": ids, "label": ["rare" if i == 7 else "common" for i in range(len(ids))]}).write_csv(
        "r.csv"
    )
    found = bb.probe.classify("features.bb", "r.csv", classifier=["logistic", "svm", "knn"])
    for run, row in zip(found, sorted(found.boards[0].rows, key=lambda row: row.classifier != "logistic"), strict=True):
        table = run.predictions()
        side = run.train().group_by("fold").agg(pl.col("y").n_unique()).filter(pl.col("y") == 1)["fold"][0]
        assert table.filter(pl.col("image_id") == ids[7])["score"].to_list() == [0.0]
        assert row.metrics["accuracy"]["value"] <= 1 - 1 / len(ids) + 1e-12
        assert any(
            note.startswith(f"{side}: all training images are of class 'common', so that is the answer for its 2")
            for note in found.boards[0].notes
        )


def test_options_that_name_columns_need_a_table(place, call):  # noqa: F811
    words = ("probe", "classify", "--group", "site", "--label", "species", "--regression")
    status, _, err = call(*words)
    assert status == 2
    assert "--label, --group, --regression: these say how a table of labels is read; give it with --labels FILE" in err


def test_columns_that_change_no_score_are_said(place, call):  # noqa: F811
    _, ids, y, _ = place
    pl.DataFrame({"image_id": ids, "label": y, "weight": y + 1.0, "bbox": ["0,0,4,4"] * len(y)}).write_csv("boxes.csv")
    _, _, err = call("probe", "classify", "--labels", "boxes.csv", "--classifier", "ridge")
    assert "column weight: not used, each image counts once" in err
    assert "column crop: not used, features are of whole images" in err


def test_columns_of_a_frame_are_chosen_as_those_of_a_file(place):
    _, ids, y, _ = place
    frame = pl.DataFrame({
        "name": ids, "kind": [f"k{k}" for k in y], "place": [f"p{i % 9}" for i in range(len(y))],
        "other": ["NA" if k else "x" for k in y],
    })  # fmt: skip
    frame.write_csv("frame.csv")
    chosen = {"id": "name", "label": "kind", "group": "place", "classifier": "ridge", "tasks": "t"}
    of_frame, of_file = (bb.probe.classify("features.bb", each, **chosen) for each in (frame, "frame.csv"))
    assert [run.run_id for run in of_frame] == [run.run_id for run in of_file]
    assert of_frame.boards[0].split_by == "group"
    words = {"id": "name", "label": "other", "not_missing": ["NA"]}
    assert bb.probe.suggest("features.bb", frame.head(60), n=3, **words).columns == {
        "image_id": "name",
        "label": "other",
    }


def test_the_same_picture_on_both_sides_is_said_and_can_be_left_out(own_place, call):  # noqa: F811
    _, ids, y, _ = cluster_store(own_place / "features.bb", twins=((0, 4), (1, 5)))
    pl.DataFrame({"image_id": ids, "label": SPECIES[y]}).write_csv("birds.csv")
    (record,) = runs(call, "--classifier", "ridge", "--seed", 2)
    leaked = record["leaks"]["classify"]["leaked"]
    assert leaked and record["scores_without_leaks"]["n"] == 120 - leaked
    status, out, err = call(
        "probe", "classify", "--labels", "birds.csv", "--classifier", "ridge", "--drop-leaks", "--seed", 2
    )
    assert status == 0 and f"{120 - leaked} images tested" in out and "are left out" in err


def test_images_without_features_are_left_out_and_said(place, call):  # noqa: F811
    store, ids, y, _ = place
    from bb.store import Collection, Entry

    known = store.collections("pics")[0]
    entries = [Entry(*row) for row in known.table.iter_rows()]
    entries.append(Entry("pics/new.jpg", b"\7" * 32, 1, 8, 8))
    store.put_collection(Collection.from_entries("pics", entries))
    pl.DataFrame({"image_id": [*ids, "pics/new.jpg"], "label": [*SPECIES[y], "Ara"]}).write_csv("birds.csv")
    (record,) = runs(call, "--classifier", "ridge")
    assert list(record["missing"]) == ["pics/new.jpg"]
    status, _, err = call("probe", "classify", "--labels", "birds.csv", "--missing", "error")
    assert status in (1, 2) and "pics/new.jpg" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classifier", "forest"], "'forest'"),
        (
            ["--preprocessing", "whiten"],
            "--preprocessing 'whiten' is unknown: choose auto, none, l2, center-l2, standard",
        ),
        (["--shots", "0"], "--shots 0 is not a number of images"),
        (["--split-by", "moon"], "--split-by 'moon' is none of column, random, group, time"),
        (["--split-by", "time"], "call one of its columns 'date'"),
        (["--labels", "nowhere.csv"], "no labels at nowhere.csv"),
        (["--ckpt", "timm:resnet18"], "resnet18"),
    ],
)
def test_bad_usage(place, call, words, message):  # noqa: F811
    status, out, err = call("probe", "classify", "--labels", "birds.csv", *words)
    assert (status, out) == (2, "") and message in err


def test_a_report_without_runs_says_how_to_make_them(place, call):  # noqa: F811
    status, _, err = call("report", "classify")
    assert status == 2 and "found no runs of bb probe classify: make some with `bb probe classify" in err
    runs(call, "--classifier", "ridge")
    status, _, err = call("report", "classify", "fish")
    assert status == 2 and "found no runs of bb probe classify on 'fish': they are on birds" in err


def test_python_does_the_same_and_prints_nothing(place, call, capsys):  # noqa: F811
    from bb import probe

    (record,) = runs(call, "--classifier", "ridge")
    capsys.readouterr()
    found = probe.classify("features.bb", "birds.csv", classifier="ridge")
    assert [run.run_id for run in found] == [record["run_id"]] and not found.fresh
    assert capsys.readouterr() == ("", "") and "1 runs, 0 computed now" in repr(found)
    assert found._repr_html_().startswith("<iframe ") and found.page().startswith("<!doctype html>")
    assert set(found.frame()["metric"]) >= {"accuracy", "balanced_accuracy"}


def test_the_report_of_newt_says_what_else_there_is_and_diff_names_classes(place, call):  # noqa: F811
    ids = [run["run_id"] for run in runs(call, "--classifier", "ridge,simpleshot")]
    status, _, err = call("report")
    assert status == 1 and "2 of classification on birds" in err and "`bb report classify" in err
    _, out, _ = call("report", "diff", *ids)
    assert any(f"class {one}, predicted {two}" in out for one in SPECIES for two in SPECIES)


@pytest.fixture
def shuffled(place):
    """Two tables of one name: the test images are the same, the training images have each other's labels in one."""
    _, ids, y, _ = place
    side = np.where(np.arange(len(ids)) // 4 % 3 == 0, "test", "train")
    wrong = np.where(side == "train", (y + 1) % len(SPECIES), y)
    for folder, labels in (("right", y), ("wrong", wrong)):
        Path(folder).mkdir()
        pl.DataFrame({"id": ids, "species": SPECIES[labels], "split": side}).write_csv(f"{folder}/birds.csv")


def test_runs_trained_on_other_labels_are_on_another_board(shuffled, call):  # noqa: F811
    for folder in ("right", "wrong"):
        for shots in ("3", "all"):
            words = ("--labels", f"{folder}/birds.csv", "--classifier", "ridge", "--shots", shots)
            status, _, err = call("probe", "classify", *words)
            assert status == 0, err
    boards = json.loads(call("report", "classify", "--json")[1])
    assert [len(board["rows"]) for board in boards] == [2, 2]
    assert len({board["train_pool"] for board in boards}) == 2
    out = call("report", "classify")[1]
    assert all(f"side test, training images and labels {board['train_pool'][:12]}" in out for board in boards)


def test_a_test_side_of_one_class_gives_scores_without_warnings(place, call):  # noqa: F811
    _, ids, y, _ = place
    side = np.where((np.arange(len(ids)) // 4 % 2 == 0) & (y == 0), "test", "train")
    pl.DataFrame({"id": ids, "species": SPECIES[y], "split": side}).write_csv("one.csv")
    status, _, err = call("probe", "classify", "--labels", "one.csv", "--classifier", "ridge")
    assert status == 0 and "RuntimeWarning" not in err, err


def test_a_collection_that_is_not_there_is_called_so(place, call):  # noqa: F811
    for words in (("probe", "classify"), ("predict", "--out", "p.csv")):
        status, _, err = call(*words, "--labels", "birds.csv", "--data", "nope")
        assert status == 2 and "has no collection nope (there: pics)" in err


def test_a_classifier_that_says_one_class_alone_is_named(place, call):  # noqa: F811
    _, ids, _, _ = place
    rare = np.isin(np.arange(len(ids)) % 40, (0, 5))  # whatever their features are
    side = np.where(np.arange(len(ids)) // 4 % 2 == 0, "test", "train")
    pl.DataFrame({"id": ids, "species": np.where(rare, "lynx", "fox"), "split": side}).write_csv("rare.csv")
    status, out, err = call("probe", "classify", "--labels", "rare.csv", "--classifier", "ridge", "--seed", 3)
    note = "all 60 test images get the same answer on the side 'test', 'fox', but are of 2 classes"
    assert status == 0 and note in out + err
    assert note in call("report", "classify")[2]


def test_constant_answers_of_traits_and_numbers_are_named():
    ids = np.array(["a", "b", "c"])
    traits = TaskImages("t", "traits", ids, np.array([[1, 0, 1], [0, 0, UNSEEN], [1, 0, 1]], np.int8), ("x", "y", "z"))
    no = np.zeros((3, 3), np.int64)
    numbers = TaskImages("t", "values", ids, np.array([1.0, 2.0, 2.0]), ())
    rows = np.arange(3)
    assert Answers("test", traits, rows, no, None, None).constant_notes() == [
        "all test images get the same answer on the side 'test' for 1 of 3 traits: x"
    ]
    assert Answers("5 folds", numbers, rows, np.full(3, 1.5), None, None).constant_notes() == [
        "all 3 test images get the same value on the side '5 folds', 1.5"
    ]
    assert Answers("test", numbers, rows, np.array([1.0, 2.0, 3.0]), None, None).constant_notes() == []
    assert Answers("test", numbers, rows[1:], np.full(2, 1.5), None, None).constant_notes() == []


def test_each_metric_without_an_interval_has_its_reason_below_the_table(place, call):  # noqa: F811
    for verb in (("probe", "classify", "--labels", "birds.csv", "--classifier", "knn"), ("report", "classify")):
        status, out, _ = call(*verb)
        lines = [line for line in out.splitlines() if line.startswith("no interval: ")]
        assert status == 0 and "intervals: 95%, of the mean over these 5 fitted classifiers" in out
        assert lines == [
            "no interval: 30 images a class are too few: over folds, an interval of balanced_accuracy needs 50",
            "no interval: 30 images a class are too few: over folds, an interval of macro_f1@wilds needs 50",
            "no interval: 120 images are too few: an interval of ece needs 2000",
        ]


def test_a_copy_among_validation_images_leaks_where_these_are_fitted(own_place):  # noqa: F811
    """dinov2-logreg fits training and validation images together; bb's own classifiers use no validation image."""
    store, ids, y, _ = cluster_store(own_place / "features.bb", twins=[(8, 5)])
    side = np.array(["train", "train", "val", "test"])[np.arange(len(y)) // 4 % 4]
    side[5] = "test"
    assert side[8] == "val"
    labels = pl.DataFrame({"image_id": ids, "label": SPECIES[y], "split": side})
    (fitted,) = bb.probe.classify(store, labels, protocol="dinov2-logreg")
    (own,) = bb.probe.classify(store, labels, classifier="ridge")
    assert fitted.record["leaks"]["classify"]["example"] == [ids[5], ids[8]] and own.record["leaks"] == {}
    (dropped,) = bb.probe.classify(store, labels, protocol="dinov2-logreg", drop_leaks=True)
    assert dropped.record["scores"]["n"] == fitted.record["scores"]["n"] - 1
