"""Figures are measured on images that were drawn at random; those that `bb suggest` chose train, and nothing else."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import bb.probe
from bb.probe.classifiers.estimator import make
from bb.probe.labelling import cross_validation
from bb.probe.labelling.cross_validation import Folds, Setting, cross_validated, fold_decisions, nested
from bb.probe.labelling.how_chosen import FEWEST
from bb.store import Store
from tests.helpers.command_line import call, own_place  # noqa: F401
from tests.helpers.synthetic import cluster_store

SPECIES = np.array(["Ara", "Bär", "Chamäleon", "Dachs"])
REMEDY = "label 30 more with `bb suggest --strategy random`"


@pytest.fixture
def place(own_place):  # noqa: F811
    """(image IDs, their species) of a store of 400 images."""
    _, ids, y, _ = cluster_store(own_place / "features.bb", n=400, spread=1.8)
    return np.array(ids), SPECIES[y]


def written(place, by, name="some.csv", **more):
    """A table of the first images, one for each entry of `by`."""
    ids, truth = place
    n = len(by)
    pl.DataFrame(
        {"file": ids[:n], "species": truth[:n], **({"suggested_by": by} if any(by) else {}), **more}
    ).write_csv(name)


def predicted(call, *words):  # noqa: F811
    status, out, err = call("predict", "--labels", "some.csv", "--classifier", "ridge", "--out", "p.csv", *words)
    assert status == 0, err
    return json.loads(Path("p.json").read_text()), out, err


def test_accuracy_is_that_of_the_images_drawn_at_random(place, call):  # noqa: F811
    by = ["random" if i % 3 == 0 else "margin" for i in range(120)]
    written(place, by)
    figures, out, err = predicted(call, "--all")
    assert (figures["labelled"], figures["tested"], figures["chosen"]) == (120, 40, 80)
    rows = pl.read_csv("p.csv").head(120)
    right = rows["label"].to_numpy() == place[1][:120]
    drawn = np.array(by) == "random"
    assert figures["accuracy"]["value"] == pytest.approx(right[drawn].mean()) != pytest.approx(right.mean())
    assert sum(each["images"] for each in figures["classes"]) == 40
    assert "accuracy of images of the collection, from 40 drawn at random: " in out
    assert "measured on the 40 of 120 labelled images that bb suggest drew at random" in err


@pytest.mark.parametrize(
    ("by", "tested", "said"),
    [
        ([""] * 60, 60, "no column suggested_by, so all images count as drawn at random"),
        (["random", ""] * 30, 60, "the table does not say how 30 images were chosen: they count as drawn at random"),
        (["random"] * 60, 60, ""),
        (["random"] * 30 + ["margin"] * 20 + [""] * 10, 30, "measured on the 30 of 60 labelled images"),
    ],
)
def test_what_counts_as_drawn_at_random_is_said(place, call, by, tested, said):  # noqa: F811
    written(place, by)
    figures, _, err = predicted(call)
    assert figures["tested"] == tested and figures["accuracy"]["low"] is not None
    assert said in err if said else "random" not in err


def test_labels_that_do_not_say_how_they_were_chosen_can_be_marked(place, call):  # noqa: F811
    written(place, ["random"] * 3 + ["cluster"] * 21 + [""] * 40)
    _, _, err = predicted(call)
    assert f"{REMEDY}, or write random in the column suggested_by of the other 40 if they were drawn so" in err


@pytest.mark.parametrize("group", [(), ("--group", "site")])
def test_too_few_drawn_at_random_have_no_interval_and_the_remedy_is_named(place, call, group):  # noqa: F811
    by = ["random"] * (FEWEST - 1) + ["cluster"] * 61
    written(place, by, site=[f"s{i % 8}" for i in range(80)])
    figures, out, err = predicted(call, *group)
    assert figures["tested"] == 80 and "(no interval)" in out and REMEDY in err
    assert figures["accuracy"]["low"] is None and REMEDY in figures["accuracy"]["reason"]
    assert figures["error_of_accepted_interval"] is None and figures["labelled_groups"] is None
    assert all(each["recall_interval"] is each["precision_interval"] is None for each in figures["classes"])


def test_groups_of_chosen_images_are_held_out_too(place, call):  # noqa: F811
    by = ["random" if i % 2 else "margin" for i in range(160)]
    written(place, by, site=[f"s{i // 2 % 10}" for i in range(160)])
    figures, out, _ = predicted(call, "--group", "site")
    assert figures["tested"] == 80 and "accuracy of images of a further group" in out
    assert figures["accuracy_of_new_groups"]["low"] is not None


def test_individuals_are_asked_about_that_were_drawn_at_random(place, call):  # noqa: F811
    by = ["random" if i % 4 < 2 else "margin" for i in range(120)]
    ids, _ = place
    pl.DataFrame({"file": ids[:120], "whale": [f"w{i // 4}" for i in range(120)], "suggested_by": by}).write_csv(
        "some.csv"
    )
    words = ("predict", "--retrieve", "--labels", "some.csv", "--label", "whale", "--out", "p.csv")
    status, _, err = call(*words)
    figures = json.loads(Path("p.json").read_text())
    assert status == 0 and (figures["tested"], figures["chosen"]) == (60, 60)
    assert "measured on the 60 of 120 labelled images" in err
    pl.read_csv("some.csv").with_columns(suggested_by=pl.lit("margin")).write_csv("some.csv")
    status, out, err = call(*words)
    assert status == 0 and "(no interval)" in out and REMEDY in err


def test_individuals_of_which_none_was_drawn_twice_are_refused(place, call):  # noqa: F811
    """Those drawn at random have one image each, so none of them can be found again."""
    by = ["margin"] * 40 + ["random"] * 24
    pl.DataFrame(
        {"file": place[0][:64], "whale": [f"w{i // 4 if i < 40 else i}" for i in range(64)], "suggested_by": by}
    ).write_csv("some.csv")
    status, _, err = call("predict", "--retrieve", "--labels", "some.csv", "--label", "whale", "--out", "p.csv")
    assert status == 1 and "has a second image of its individual" in err and REMEDY in err


def test_a_suggested_table_states_an_accuracy_that_holds(own_place, call):  # noqa: F811
    """Labels by five calls of bb suggest."""
    _, ids, y, _ = cluster_store(own_place / "features.bb", n=1500, spread=1.8)
    known = dict(zip(ids, SPECIES[y].tolist(), strict=True))
    for _ in range(5):
        labels = ["--labels", "some.csv"] if Path("some.csv").exists() else []
        assert call("suggest", *labels, "-n", 32, "--out", "next.csv")[0] == 0
        more = pl.read_csv("next.csv", schema_overrides={"label": pl.String, "guess": pl.String})
        more = more.with_columns(label=pl.col("image_id").replace_strict(known))
        columns = ["image_id", "label", "suggested_by"]
        before = [pl.read_csv("some.csv").select(columns)] if labels else []
        pl.concat([*before, more.select(columns)]).write_csv("some.csv")
    table = pl.read_csv("some.csv")
    assert len(table) == 160 and (table["suggested_by"] == "random").sum() == 32
    figures, _, _ = predicted(call)
    rows = pl.read_csv("p.csv")
    right = np.mean([known[i] == label for i, label in rows.select("image_id", "label").iter_rows()])
    assert figures["accuracy"]["low"] <= right <= figures["accuracy"]["high"]


def test_what_is_asked_for_does_not_depend_on_labels_drawn_at_random(place, call):  # noqa: F811
    by = ["random" if i % 5 == 0 else "margin" for i in range(80)]
    written(place, by)
    first = bb.probe.suggest("features.bb", "some.csv", n=20).frame
    table = pl.read_csv("some.csv")
    other = pl.when(pl.col("suggested_by") == "random").then(pl.lit("Ara")).otherwise("species")
    table.with_columns(species=other).write_csv("some.csv")
    assert bb.probe.suggest("features.bb", "some.csv", n=20).frame.equals(first)
    assert (first["suggested_by"] == "random").sum() == 4


def test_chosen_images_are_trained_on_with_every_fold_of_the_others():
    rng = np.random.default_rng(0)
    y, fold, tested = np.arange(60) % 3, np.arange(60) % 5, np.arange(60) < 30
    x = rng.normal(size=(60, 4)).astype(np.float32)
    free, grouped = (list(Folds(y, fold, 3, tested, way).parts()) for way in (False, True))
    assert len(free) == 10 and len(grouped) == 5
    for test, fitted in free:
        assert (fitted[~tested].all() and not (test & ~tested).any()) or not (test & tested).any()
    for ways in (free, grouped):
        assert not any((test & fitted).any() for test, fitted in ways)
        assert np.array_equal(np.sum([test for test, _ in ways], axis=0), np.ones(60))
    whole = Folds(y, fold, 3, np.ones(60, bool))
    decisions = fold_decisions(x, whole, Setting("ridge", "none"))
    assert decisions.shape == (60, 3) and np.isfinite(decisions).all()
    (validated,) = cross_validated([x], Folds(y, fold, 3, tested), Setting("ridge", "none"))
    np.testing.assert_allclose(validated.given.sum(axis=1), 1)


@pytest.mark.parametrize("all_tested", [True, False])
def test_the_same_images_are_fitted_once(monkeypatch, all_tested):
    """Outside of folds 1 and 2 is one fit for both; the choice and every bit of the answers stay the same."""
    rng = np.random.default_rng(0)
    y, fold = np.arange(60) % 3, rng.permutation(60) % 5
    folds = Folds(y, fold, 3, np.ones(60, bool) if all_tested else np.arange(60) < 40)
    features = [(rng.normal(size=(60, 4)) + shift * y[:, None]).astype(np.float32) for shift in (0.2, 0.3)]
    setting = Setting("ridge", "center-l2")
    outer = [each.given for each in cross_validated(features, folds, setting)]
    expected = np.empty_like(outer[0])
    for k in folds.numbers:
        rows, inner = folds.outside(k)
        scores = [inner.score(fold_decisions(x[rows], inner, setting)) for x in features]
        expected[fold == k] = outer[int(np.argmax(scores))][fold == k]
    fits = []
    monkeypatch.setattr(cross_validation, "make", lambda name: fits.append(name) or make(name))
    np.testing.assert_array_equal(nested(features, outer, folds, setting), expected)
    assert len(fits) == 2 * 10 if all_tested else len(fits) <= 2 * 40


def test_a_model_says_what_it_was_measured_on(place, call):  # noqa: F811
    written(place, ["random", "margin", "margin"] * 40)
    figures, _, _ = predicted(call)
    stated = Store.open("features.bb").model(figures["model"]).stated
    assert (stated["tested"], stated["chosen"]) == (40, 80)
