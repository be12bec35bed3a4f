"""`bb predict --retrieve`: the nearest known individuals, none of these, and how often the answers are wrong."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import bb.probe
from bb.probe.labelling.abstention import accept
from bb.probe.labelling.finder import finder_of
from bb.probe.labelling.open_set import (
    NONE,
    RIGHT,
    WRONG,
    Calibration,
    Replays,
    answer,
    cross_fitted,
    error_of,
    evidence_of,
    replays,
)
from bb.store import Store
from bb.store.errors import BBError, UsageError
from tests.helpers.changed_model import changed
from tests.helpers.command_line import call, own_place  # noqa: F401
from tests.helpers.synthetic import NAME, cluster_store

LABELLED, INDIVIDUALS, KNOWN = 160, 40, 30
FIND = ("predict", "--retrieve", "--labels", "some.csv", "--label", "whale", "--out", "p.csv")


def world(rng, individuals=40, images=4, spread=0.7, d=32):
    """(features, individual) of individuals that are drawn around centres."""
    y = np.repeat(np.arange(individuals), images)
    return (rng.normal(size=(individuals, d))[y] + spread * rng.normal(size=(len(y), d))).astype(np.float32), y


@pytest.fixture
def place(own_place):  # noqa: F811
    """Images of 40 individuals in turn; of the first 160 images those of 30 individuals are labelled."""
    store, ids, y, _ = cluster_store(own_place / "features.bb", n=280, classes=INDIVIDUALS, d=32, spread=0.5)
    some = [i for i in range(LABELLED) if y[i] < KNOWN]
    pl.DataFrame({"file": [ids[i] for i in some], "whale": [f"w{y[i]:02d}" for i in some]}).write_csv("some.csv")
    return store, ids, y, set(some)


def test_each_image_gets_its_individual_or_none_of_these(place, call):  # noqa: F811
    _, ids, y, some = place
    status, out, err = call(*FIND)
    assert status == 0, err
    table = pl.read_csv("p.csv")
    rest = [i for i in range(len(ids)) if i not in some]
    assert table["image_id"].to_list() == [ids[i] for i in rest]
    truth = [f"w{y[i]:02d}" if y[i] < KNOWN else None for i in rest]
    right = np.mean([found == true for found, true in zip(table["label"].to_list(), truth, strict=True)])
    figures = json.loads(Path("p.json").read_text())
    assert right > 0.85 and abs((1 - right) - figures["error"]["value"]) < 0.08
    assert figures["none_of_these"] == table["label"].null_count() and figures["individuals"] == KNOWN
    named = table.filter(pl.col("label").is_not_null())
    assert (named["label"] == named["individual_1"]).all()
    assert (table["similarity_1"] >= table["similarity_5"]).all() and "similarity_6" not in table.columns
    np.testing.assert_allclose(table["novelty"], 1 - table["similarity_1"], atol=1e-6)
    assert f"{len(rest)} images compared with 120 of 30 individuals by {NAME}" in out
    assert "wrong answers, if 0.5 of the images show none of these (--none-share): 0." in out
    assert "note: without --group, images of one burst answer each other" in err


def test_a_model_of_individuals_is_kept_and_gives_the_same_rows(place, call):  # noqa: F811
    _, ids, _, some = place
    digest = json.loads(call(*FIND, "--json", "--top", 3)[1])["model"]
    status, out, err = call("predict", "--model", digest[:9], "--out", "q.csv")
    assert status == 0, err
    unlabelled = [name for i, name in enumerate(ids) if i not in some]
    assert pl.read_csv("p.csv").equals(pl.read_csv("q.csv").filter(pl.col("image_id").is_in(unlabelled)))
    assert "similarity_4" not in pl.read_csv("q.csv").columns
    assert "measured on pics when it was fitted, error of answers, unknown individuals among the images: 0." in out
    assert f"model {digest[:12]}: nearest for 30 individuals from 120 images of pics" in call("store", "ls")[1]


def test_a_burst_is_no_evidence_for_itself(place, call):  # noqa: F811
    table = pl.read_csv("some.csv")
    order = table.with_row_index().with_columns(pl.int_range(pl.len()).over("whale").alias("n"))
    order.with_columns(burst=pl.col("whale") + "/" + (pl.col("n") // 2).cast(str)).drop("index", "n").write_csv(
        "some.csv"
    )
    status, _, err = call(*FIND, "--group", "burst")
    assert status == 0 and "without --group" not in err
    x, y = world(np.random.default_rng(0), images=2)
    alone = replays(x, y, None)
    assert (alone.outcome == NONE).sum() == len(x) and (alone.outcome != NONE).sum() == len(x)
    with pytest.raises(BBError, match="0 individuals have labelled images in two or more groups; whether an image"):
        replays(x, y, y)


def test_the_best_backbone_is_taken(place, call):  # noqa: F811
    _, ids, _, _ = place
    np.save("noise.npy", np.random.default_rng(1).normal(size=(len(ids), 8)))
    pl.DataFrame({"image_id": ids}).write_csv("ids.csv")
    call("store", "import", "noise.npy", "--ids", "ids.csv", "--name", "lab:noise")
    figures = json.loads(call(*FIND, "--json")[1])
    assert [each["name"] for each in figures["backbones"]] == [NAME, "lab:noise"]
    assert figures["backbones"][0]["error"] < 0.2 < figures["backbones"][1]["error"]
    status, _, err = call(*FIND, "--folds", 2)
    assert status == 2 and "2 backbones can't be compared within 2 folds: raise --folds to 3 or more" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classifier", "knn", "--all"], "--retrieve compares features by cosine and fits nothing: leave out --cl"),
        (["--top", 0], "--top 0 makes no sense: choose 1 to 100 individuals"),
        (["--none-share", 1], "--none-share 1 is not a share"),
        (["--target-error", 3], "--target-error 3.0 is not a share"),
    ],
)
def test_bad_usage(place, call, words, message):  # noqa: F811
    status, out, err = call(*FIND, *words)
    assert (status, out) == (2, "") and message in err


def test_its_options_go_with_retrieve(place, call):  # noqa: F811
    status, _, err = call("predict", "--labels", "some.csv", "--out", "p.csv", "--top", 3, "--none-share", 0.2)
    assert status == 2 and "--top, --none-share goes with --retrieve: give that, too" in err


def test_too_little_to_go_by_is_said(place, call):  # noqa: F811
    table = pl.read_csv("some.csv")
    table.unique("whale").write_csv("some.csv")
    status, _, err = call(*FIND)
    assert status == 1 and "0 individuals have labelled images in two or more images; whether an image shows" in err
    table.filter(pl.col("whale") < "w02").write_csv("some.csv")
    status, _, err = call(*FIND)
    assert status == 1 and "2 individuals are labelled; to tell known from unknown ones takes three or more" in err


def test_all_labelled_and_no_features_are_said(place, call):  # noqa: F811
    store, ids, y, _ = place
    whole = pl.DataFrame({"image_id": ids, "label": [f"w{k}" for k in y]})
    with pytest.raises(BBError, match="every image of pics is labelled: leave labels empty, or add images"):
        bb.probe.identify(store, whole)
    found = bb.probe.identify(store, whole[:200], keep_model=False)
    assert found.model is None and store.models() == {} and "<table" in found._repr_html_()
    assert repr(found).startswith("Identified(80 images, 40 individuals, error 0.")


# The replays and what is made of them


def test_replays_are_those_of_a_search_without_the_image_or_the_individual():
    rng = np.random.default_rng(0)
    x, y = world(rng, individuals=12, images=3, spread=1.5)
    made = replays(x, y, None)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for image, outcome, (s, lead) in zip(made.image, made.outcome, made.evidence, strict=True):
        keep = y != y[image] if outcome == NONE else np.arange(len(x)) != image
        best = [max(unit[image] @ unit[j] for j in np.flatnonzero(keep & (y == k))) if (keep & (y == k)).any() else -1
                for k in range(12)]  # fmt: skip
        first, second = np.sort(best)[::-1][:2]
        assert s == pytest.approx(first, abs=1e-6) and lead == pytest.approx(first - second, abs=1e-6)
        if outcome != NONE:
            assert (outcome == RIGHT) == (int(np.argmax(best)) == y[image])
    assert {RIGHT, WRONG, NONE} == set(made.outcome.tolist())
    np.testing.assert_allclose(evidence_of(x[:1], x, y)[0, y[0]], 1, atol=1e-6)


def test_weights_are_those_of_the_share_of_unknown_individuals():
    made = replays(*world(np.random.default_rng(0)), None)
    for share in (0.1, 0.5, 0.8):
        weight = made.weights(share)
        assert weight.mean() == pytest.approx(1)
        assert weight[made.outcome == NONE].sum() / weight.sum() == pytest.approx(share)


def test_probabilities_are_calibrated_on_individuals_that_are_new():
    rng = np.random.default_rng(0)
    x, y = world(rng, individuals=300, images=3, spread=0.5, d=12)
    _, answers, made = cross_fitted([replays(x, y, None)], 5, 0, 0.5)
    weight = made.weights(0.5)
    stated, true = weight @ answers.confidence / weight.sum(), weight @ answers.hit / weight.sum()
    assert abs(stated - true) < 0.02
    for low, high in ((0, 0.6), (0.6, 0.8), (0.8, 1)):
        inside = (answers.confidence > low) & (answers.confidence <= high)
        assert inside.sum() > 50
        assert abs(answers.confidence[inside].mean() - answers.hit[inside].mean()) < 0.06


def test_two_outcomes_are_enough_and_one_is_not():
    evidence = np.array([[0.9, 0.5], [0.8, 0.4], [0.3, 0.1], [0.2, 0.0]])
    image = np.arange(4)
    p = Calibration.fit(Replays(image, image, np.array([0, 0, 2, 2]), evidence), 0.5).probabilities(evidence)
    none, sure = answer(p)
    assert none.tolist() == [False, False, True, True] and (sure > 0.5).all() and p[:, WRONG].max() < 1e-6
    with pytest.raises(BBError, match="no labelled image can be asked about as a known individual"):
        Calibration.fit(Replays(image, image, np.full(4, 2), evidence), 0.5)


def test_the_interval_is_over_individuals():
    """Images of one individual are wrong together: 20 copies of each answer say no more than one."""
    rng = np.random.default_rng(0)
    wrong, individual = rng.random(60) < 0.2, np.arange(60)
    one = error_of(wrong, np.ones(60), individual, "x")
    many = error_of(np.repeat(wrong, 20), np.ones(1200), np.repeat(individual, 20), "x")
    assert many.value == one.value and many.interval == pytest.approx(one.interval, abs=1e-6)
    few = error_of(wrong[:3], np.ones(3), individual[:3], "x")
    assert few.interval is None and "3 individuals are too few" in few.reason


def test_acceptance_with_weights_counts_images_as_often_as_they_stand_for():
    rng = np.random.default_rng(0)
    confidence = rng.random(200)
    right = rng.random(200) < confidence
    times = rng.integers(1, 4, 200)
    weighted = accept(confidence, right, 0.2, weight=times / times.mean())
    plain = accept(np.repeat(confidence, times), np.repeat(right, times), 0.2)
    assert abs(weighted.threshold - plain.threshold) < 0.05 and weighted.interval[0] < weighted.error
    in_groups = accept(np.repeat(confidence, 9), np.repeat(right, 9), 0.2, group=np.repeat(np.arange(200), 9))
    alone = accept(np.repeat(confidence, 9), np.repeat(right, 9), 0.2)
    assert in_groups.interval[1] - in_groups.interval[0] > 2 * (alone.interval[1] - alone.interval[0])


# What a file from elsewhere may claim


@pytest.fixture
def model(place):
    store, ids, y, some = place
    rows = sorted(some)
    table = pl.DataFrame({"image_id": [ids[i] for i in rows], "label": [f"w{y[i]:02d}" for i in rows]})
    return store.model(bb.probe.identify(store, table).model)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"calibration": {"more": 1}}, "its calibration has other fields"),
        ({"calibration": {"mean": [1.0]}}, "its calibration has the mean [1.0]"),
        ({"calibration": {"mean": "ab"}}, "its calibration has the mean 'ab'"),
        ({"calibration": {"coef": [[1, 2], [3, 4], [5]]}}, "its calibration has the coef"),
        ({"calibration": {"coef": [1, 2, 3]}}, "its calibration has the coef [1, 2, 3]"),
        ({"calibration": {"intercept": [1, 2, "x"]}}, "its calibration has the intercept"),
        ({"calibration": {"scale": [1, 0]}}, "its calibration has a scale below 1e-09"),
        ({"calibration": {"threshold": "x"}}, "it has 'x' for a threshold"),
        ({"calibration": {"top": 0}}, "it has 0 nearest individuals"),
        ({"calibration": {"top": 10**6}}, "it has 1000000 nearest individuals"),
        ({"arrays": {"0.individuals": None}}, "its arrays are not those of individuals in one space"),
        ({"arrays": {"0.individuals": np.zeros(120, np.int64)}}, "its images are not of its 30 individuals"),
        ({"arrays": {"0.individuals": np.arange(30)}}, "its images are not of its 30 individuals"),
        ({"arrays": {"0.labelled": np.zeros((120, 3), np.float32)}}, "its labelled rows are float32 of shape (120, 3)"),
    ],
)
def test_what_a_file_claims_is_checked_before_use(model, fields, message):
    with pytest.raises(BBError) as caught:
        finder_of(changed(model, **fields), "here")
    assert message in str(caught.value) and not isinstance(caught.value, UsageError)


def test_a_sound_one_is_read(model):
    assert finder_of(model, "here").top == 5 and isinstance(Store, type)
