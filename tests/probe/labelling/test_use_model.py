"""`bb predict` keeps what it fits, and `bb predict --model` uses it again, on exactly its feature space."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import bb.probe
from bb.probe.classifiers.estimator import make
from bb.probe.classifiers.multiclass.logistic import Logistic
from bb.probe.classifiers.registry import CLASSIFIERS
from bb.probe.labelling.cross_validation import BLOCK, Folds, Setting, fit
from bb.probe.labelling.stored_model import predictor_of
from bb.store import Collection, Entry, Store
from bb.store.errors import BBError, UsageError
from tests.helpers.changed_model import changed
from tests.helpers.command_line import call, own_place  # noqa: F401
from tests.helpers.stores import fill, space
from tests.helpers.synthetic import NAME, cluster_store

SPECIES = np.array(["Ara", "Bär", "Chamäleon", "Dachs"])
LABELLED = 80
FIT = ("predict", "--labels", "some.csv", "--out", "p.csv")


def further(store, n=50, name="new", seed=5):
    """A second collection with features in the store's only space: its image IDs."""
    (where,) = store.spaces()
    ids = [f"{name}/{i:03d}.jpg" for i in range(n)]
    entries = [Entry(image_id, sha256(image_id.encode()).digest(), 1, 8, 8) for image_id in ids]
    collection = store.put_collection(Collection.from_entries(name, entries))
    x = np.random.default_rng(seed).normal(size=(n, *where.row_shape)).astype(where.dtype)
    fill(store, where, collection, x, {"backbone": NAME})
    return ids


@pytest.fixture
def place(own_place):  # noqa: F811
    store, ids, y, _ = cluster_store(own_place / "features.bb", n=300, spread=1.2)
    pl.DataFrame({"file": ids[:LABELLED], "species": SPECIES[y[:LABELLED]]}).write_csv("some.csv")
    return store, ids, y


def fitted(call, *words):  # noqa: F811
    status, out, err = call(*FIT, *words)
    assert status == 0, err
    return json.loads(Path("p.json").read_text())["model"], out


@pytest.mark.parametrize(
    ("classifier", "how"),
    [
        *(("ridge", "auto"), ("ridge", "center-l2"), ("knn", "auto"), ("knn", "standard")),
        *(("simpleshot", "auto"), ("mahalanobis", "auto")),
    ],
)
def test_the_same_images_get_the_same_row_to_the_bit(place, call, classifier, how):  # noqa: F811
    _, ids, _ = place
    digest, _ = fitted(call, "--classifier", classifier, "--preprocessing", how)
    first = pl.read_csv("p.csv")
    status, _, err = call("predict", "--model", digest[:10], "--out", "q.csv")
    assert status == 0, err
    again = pl.read_csv("q.csv")
    assert again["image_id"].to_list() == ids
    assert first.equals(again.filter(pl.col("image_id").is_in(ids[LABELLED:])))
    assert "with the features of images that the model was fitted on: 80 of 300 images" in err


class Quick(Logistic):
    """Logistic at one C: the path of them takes long on rows that are few and far apart."""

    def __init__(self):
        super().__init__(C=(1.0,))


def test_an_image_is_predicted_alike_in_any_company(monkeypatch):
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    x = (rng.normal(size=(3, 40))[y] + rng.normal(size=(90, 40))).astype(np.float16)
    monkeypatch.setattr(
        CLASSIFIERS, "load", lambda name, load=CLASSIFIERS.load: Quick if name == "quick" else load(name)
    )
    for classifier in ("quick", "ridge", "knn", "simpleshot", "mahalanobis"):
        made = fit(x, Folds(y, np.arange(90) // 3 % 2, 3, np.ones(90, bool)), Setting(classifier, "center-l2"), 1.5)
        many = rng.normal(size=(BLOCK + 7, 40)).astype(np.float16)
        whole = made.probabilities(many)
        for rows in (slice(0, 1), slice(3, 20), slice(BLOCK - 1, BLOCK + 2)):
            np.testing.assert_array_equal(made.probabilities(many[rows]), whole[rows])
        again = replace(made, estimator=make(classifier).with_arrays(made.estimator.arrays()))
        np.testing.assert_array_equal(again.probabilities(many), whole)


def test_an_ensemble_is_kept_whole(place, call):  # noqa: F811
    _, ids, _ = place
    np.save("noise.npy", np.random.default_rng(1).normal(size=(300, 8)))
    pl.DataFrame({"image_id": ids}).write_csv("ids.csv")
    call("store", "import", "noise.npy", "--ids", "ids.csv", "--name", "lab:noise")
    digest, _ = fitted(call, "--ensemble", "--classifier", "ridge")
    first = pl.read_csv("p.csv")
    call("predict", "--model", digest, "--out", "q.csv")
    assert first.equals(pl.read_csv("q.csv").filter(pl.col("image_id").is_in(ids[LABELLED:])))


def test_the_run_says_how_to_use_its_model_again_and_another_collection_is_predicted(place, call):  # noqa: F811
    store, _, _ = place
    digest, out = fitted(call, "--classifier", "ridge")
    assert (
        f"kept as model {digest[:12]}; for other images: bb predict --model {digest[:12]} --data NEW --out FILE" in out
    )
    ids = further(store)
    status, out, err = call("predict", "--model", digest, "--data", "new", "--out", "q.csv")
    assert status == 0 and pl.read_csv("q.csv")["image_id"].to_list() == ids
    assert (
        f"50 images of new predicted by model {digest[:12]}: ridge for 4 classes from 80 images of pics, {NAME}" in out
    )
    stated = json.loads(Path("p.json").read_text())
    value = stated["accuracy"]["value"]
    assert f"measured on pics when it was fitted, accuracy of images like the labelled ones: {value:.3f}" in out
    assert "the stated figures are of images like those labelled in pics; on new the accuracy" in err
    figures = json.loads(Path("q.json").read_text())
    assert figures["measured_on"] == "pics" and figures["stated"]["accuracy"] == stated["accuracy"]
    assert figures["predicted"] == 50 and figures["missing"] == 0


def test_fitting_again_makes_the_same_model(place, call):  # noqa: F811
    store, _, _ = place
    one, _ = fitted(call, "--classifier", "ridge")
    two, _ = fitted(call, "--classifier", "ridge")
    other, _ = fitted(call, "--classifier", "ridge", "--seed", 1)
    assert one == two != other and len(store.models()) == 2
    assert store.model(one).key != store.model(other).key
    model = store.model(one)
    assert sha256(model.encode()).hexdigest() == one and model.provenance["versions"]["numpy"]


def test_a_model_never_runs_on_another_space(place, call):  # noqa: F811
    store, _, _ = place
    digest, _ = fitted(call, "--classifier", "ridge")
    (own,) = store.spaces()
    collection = Collection.from_entries("other", [Entry("a.jpg", b"\1" * 32, 1, 8, 8)])
    store.put_collection(collection)
    fill(store, replace(own, weights="9" * 64), collection, np.zeros((1, 16), np.float32), {"backbone": NAME})
    status, out, err = call("predict", "--model", digest, "--data", "other", "--out", "q.csv")
    assert (status, out) == (1, "") and not Path("q.csv").exists()
    assert f"no image of other has features in space {own.key[:12]} ({NAME}), which model {digest[:12]} is for" in err
    assert "on which this model never runs: weights: differs" in err
    assert f"To make them: bb extract --ckpt {NAME} --data other=DIR" in err


def test_a_store_that_has_only_the_model_names_the_command(place, call, own_place):  # noqa: F811
    store, _, _ = place
    digest, _ = fitted(call, "--classifier", "ridge")
    there = Store.create(own_place / "there.bb")
    there.put_model(store.model(digest))
    there.put_collection(Collection.from_entries("new", [Entry("a.jpg", b"\1" * 32, 1, 8, 8)]))
    status, _, err = call("predict", "--model", digest, "--out", "q.csv", "--store", "there.bb")
    assert status == 1 and f"To make them: bb extract --ckpt {NAME} --data new=DIR --store there.bb" in err


def test_images_without_features_are_named_with_the_command(place, call):  # noqa: F811
    store, _, _ = place
    digest, _ = fitted(call, "--classifier", "ridge")
    entries = [Entry(*row) for row in store.collections("pics")[0].table.iter_rows()]
    store.put_collection(Collection.from_entries("pics", [*entries, Entry("pics/new.jpg", b"\7" * 32, 1, 8, 8)]))
    status, _, err = call("predict", "--model", digest, "--out", "q.csv")
    assert status == 0 and len(pl.read_csv("q.csv")) == 300
    assert (
        "without features in the model's space, and so without a prediction: 1 of 301 images of pics, 'pics/new.jpg'"
        in err
    )
    assert "To fill them: bb extract --ckpt" in err
    assert "collection pics has 2 versions; the newest, pics@" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "q.csv"], "give either --labels FILE, to fit a classifier, or --model DIGEST"),
        (["--out", "q.csv", "--model", "ab", "--labels", "some.csv"], "give either --labels FILE"),
        (
            ["--out", "q.csv", "--model", "0000"],
            "--model '0000' names no model of features.bb (there: none; `bb predict`",
        ),
        (["--out", "q.csv", "--model", "xyz"], "--model 'xyz' is not a model's digest or the beginning of one"),
        (["--out", "q.csv", "--model", ""], "--model '' is not a model's digest"),
        (
            ["--out", "q.csv", "--model", "00", "--seed", "1", "--group", "x"],
            "--model uses a classifier as it was fitted: leave out --group, --seed",
        ),
    ],
)
def test_bad_usage(place, call, words, message):  # noqa: F811
    status, out, err = call("predict", *words)
    assert (status, out) == (2, "") and message in err and not Path("q.csv").exists()


def test_an_unknown_collection_is_refused(place, call):  # noqa: F811
    digest, _ = fitted(call, "--classifier", "ridge")
    status, _, err = call("predict", "--model", digest, "--data", "nothing", "--out", "q.csv")
    assert status == 2 and "has no collection nothing" in err


def test_a_beginning_of_several_models_is_refused(place, call):  # noqa: F811
    digests, seed = [], 0
    while len({digest[0] for digest in digests}) == len(digests):
        digests.append(fitted(call, "--classifier", "ridge", "--seed", seed)[0])
        seed += 1
    beginning = digests[-1][0]
    status, _, err = call("predict", "--model", beginning, "--out", "q.csv")
    assert status == 2 and f"--model '{beginning}' begins the digests of 2 models of features.bb (there: " in err


class Plain:
    """A plug-in's classifier, which can't be written as arrays."""

    def fit(self, X, y):
        self.classes_, self.means = np.unique(y), np.stack([X[y == k].mean(axis=0) for k in np.unique(y)])
        return self

    def predict(self, X):
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def decision_function(self, X):
        return -((X[:, None] - self.means) ** 2).sum(axis=-1)


def test_a_plug_in_that_can_t_be_written_is_used_but_not_kept(place, call, monkeypatch):  # noqa: F811
    load = type(CLASSIFIERS).load
    monkeypatch.setattr(type(CLASSIFIERS), "load", lambda self, name: Plain if name == "plain" else load(self, name))
    status, out, err = call(*FIT, "--classifier", "plain", "--preprocessing", "none")
    assert status == 0 and "kept as model" not in out
    assert "note: the model is not kept: classifier 'plain' has no methods arrays() and with_arrays()" in err
    assert json.loads(Path("p.json").read_text())["model"] is None


def test_a_store_that_can_t_be_written_still_predicts(place, call, monkeypatch):  # noqa: F811
    def refuse(self, *folders):
        raise BBError("nothing can be written to it")

    monkeypatch.setattr(Store, "check_writable", refuse)
    status, _, err = call(*FIT, "--classifier", "ridge")
    assert status == 0 and "note: the model is not kept: nothing can be written to it" in err
    assert err.startswith("note: the model will not be kept: nothing can be written to it")


# What a file from elsewhere may claim


@pytest.fixture
def model(place, call):  # noqa: F811
    return place[0].model(fitted(call, "--classifier", "ridge")[0])


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"calibration": {"temperatures": [5e-324]}}, BBError, "it has [5e-324] for temperatures"),
        ({"calibration": {"temperatures": [1e300]}}, BBError, "it has [1e+300] for temperatures"),
        ({"calibration": {"temperatures": [0.0]}}, BBError, "it has [0.0] for temperatures"),
        ({"calibration": {"temperatures": [1, 1]}}, BBError, "it has [1, 1] for temperatures"),
        ({"calibration": {"temperatures": [True]}}, BBError, "it has [True] for temperatures"),
        ({"calibration": {"temperatures": 1}}, BBError, "it has 1 for temperatures"),
        ({"calibration": {"threshold": 2}}, BBError, "it has 2 for a threshold"),
        ({"calibration": {"x": 2}}, BBError, "its calibration has other fields"),
        (
            {"protocol": {"preprocessing": "magic"}},
            BBError,
            "it has the preprocessing 'magic' and the classifier 'ridge'",
        ),
        ({"protocol": {"classifier": 3}}, BBError, "the classifier 3"),
        ({"protocol": {"classifier": "forest"}}, UsageError, "forest"),
        (
            {"protocol": {"parameters": {"l2": [1.0]}}},
            UsageError,
            "was fitted by 'ridge' with other parameters than this",
        ),
        ({"task": "individuals"}, UsageError, "finds individuals, it has no classes to predict"),
        ({"images": 79}, BBError, "its labelled rows are float32 of shape (80, 16), not 79 of space"),
        ({"arrays": {"0.labelled": None}}, BBError, "its labelled rows are missing"),
        ({"arrays": {"0.labelled": np.zeros((80, 16))}}, BBError, "its labelled rows are float64 of shape"),
        (
            {"arrays": {"0.fitted.coef": None}},
            BBError,
            "it has the arrays classes, intercept for coef, intercept, classes",
        ),
        ({"arrays": {"0.fitted.coef": np.zeros((4, 16), np.float32)}}, BBError, "its array coef is float32 of shape"),
        ({"arrays": {"0.fitted.coef": np.zeros((4, 9))}}, BBError, "its arrays are not for 4 classes of 16 features"),
        ({"arrays": {"0.fitted.intercept": np.zeros(5)}}, BBError, "its array intercept is float64 of shape (5,)"),
        ({"arrays": {"0.fitted.classes": np.array([0, 1, 1, 2])}}, BBError, "its classes are not ascending"),
        ({"arrays": {"0.fitted.classes": np.array([0, 1, 2, 9])}}, BBError, "its arrays are not for 4 classes"),
        ({"arrays": {"1.labelled": np.zeros((1, 1))}}, BBError, "it has other arrays, too"),
    ],
)
def test_what_a_file_claims_is_checked_before_use(model, fields, error, message):
    with pytest.raises(error) as caught:
        predictor_of(changed(model, **fields), "here")
    assert message in str(caught.value) and type(caught.value) is error


def test_a_row_of_neighbours_has_a_class_that_there_is(place, call):  # noqa: F811
    model = place[0].model(fitted(call, "--classifier", "knn")[0])
    with pytest.raises(BBError, match="its rows are of classes that it does not have"):
        predictor_of(changed(model, arrays={"0.fitted.codes": np.full(80, 4)}), "here")


@pytest.mark.parametrize(
    "accuracy", [None, 3, {"value": "x"}, {"value": 7}, {"value": 0.5, "low": "\x1b[31m", "high": 1}]
)
def test_stated_figures_from_elsewhere_break_nothing(model, place, call, accuracy):  # noqa: F811
    store = place[0]
    digest = store.put_model(replace(model, stated={"accuracy": accuracy}))
    status, out, err = call("predict", "--model", digest, "--out", "q.csv")
    assert status == 0, err
    assert "\x1b" not in out + err and ("accuracy of images" in out) == (
        accuracy == {"value": 0.5, "low": "\x1b[31m", "high": 1}
    )


def test_from_python(place):
    store, ids, y = place
    some = pl.DataFrame({"image_id": ids[:LABELLED], "label": SPECIES[y[:LABELLED]]})
    found = bb.probe.predict(store, some, classifier="ridge")
    assert list(store.models()) == [found.model]
    used = bb.probe.use_model(store, found.model[:8], "pics")
    assert len(used.frame) == 300 and used.model.stated == found.stated() and not used.elsewhere
    assert repr(used) == f"Applied(300 images of pics by model {found.model[:12]})" and "<table" in used._repr_html_()
    assert bb.probe.predict(store, some, classifier="ridge", keep_model=False).model is None
    assert space().key not in store.models().values()


# Thresholds by group


@pytest.fixture
def sites(place):
    """Labels of a large site and four small ones; the groups of all 300 images in groups.csv."""
    _, ids, y = place
    site = ["big" if i % 2 else f"small{i % 8}" for i in range(300)]
    pl.DataFrame({"file": ids[:LABELLED], "species": SPECIES[y[:LABELLED]], "site": site[:LABELLED]}).write_csv(
        "some.csv"
    )
    pl.DataFrame({"name": ids, "site": [None if i % 10 == 9 else each for i, each in enumerate(site)]}).write_csv(
        "groups.csv"
    )
    return dict(zip(ids, site, strict=True))


GROUPS = ("--groups", "groups.csv", "--id", "name", "--group", "site")


def test_a_model_keeps_the_thresholds_of_groups(place, call, sites):  # noqa: F811
    store, ids, _ = place
    digest, _ = fitted(call, "--classifier", "ridge", "--group", "site")
    kept = store.model(digest).calibration["groups"]
    assert kept["own"].keys() == {"big"} and kept["others"] == ["small0", "small2", "small4", "small6"]
    status, _, err = call("predict", "--model", digest, "--out", "q.csv", *GROUPS)
    assert status == 0 and "of groups that the model was fitted on, and accepted by theirs: 270 of 300 images" in err
    threshold = store.model(digest).calibration["threshold"]
    for i, (image_id, p, accepted) in enumerate(
        pl.read_csv("q.csv").select("image_id", "probability", "accepted").iter_rows()
    ):
        wanted = threshold if i % 10 == 9 else kept["own"].get(sites[image_id], kept["pooled"])
        assert accepted == (wanted is not None and p >= wanted)
    status, _, err = call("predict", "--model", digest, "--out", "q.csv")
    assert status == 0 and "--groups FILE says which image is of which" in err
    used = bb.probe.use_model(store, digest, "pics", groups={ids[1]: "big"})
    assert "accepted by theirs: 1 of 300 images" in " ".join(used.notes)


def test_an_image_of_two_groups_is_refused(place, call, sites):  # noqa: F811
    digest, _ = fitted(call, "--classifier", "ridge", "--group", "site")
    first = next(iter(sites))
    Path("groups.csv").write_text(f"name,site\n{first},big\n{first},big\n{first},small0\n")
    status, _, err = call("predict", "--model", digest, "--out", "q.csv", *GROUPS)
    assert status == 1 and f"groups.csv, line 4: image '{first}' is of another group in an earlier row" in err
    status, _, err = call("predict", "--model", digest, "--out", "groups.csv", *GROUPS)
    assert status == 2 and "would replace what is read from it" in err


def test_groups_need_a_model_that_has_thresholds_for_them(place, call, sites):  # noqa: F811
    digest, _ = fitted(call, "--classifier", "ridge")
    for words, message in (
        (["--model", digest, *GROUPS], "has no thresholds of groups: leave out --groups"),
        (["--labels", "some.csv", "--groups", "groups.csv"], "--groups goes with --model"),
        (["--model", digest, "--groups", "none.csv"], "no groups at none.csv: a CSV or Parquet file"),
        (["--model", digest, "--groups", "some.csv"], "some.csv has no column for the group"),
        (["--model", digest, "--group", "site"], "leave out --group"),
    ):
        status, out, err = call("predict", *words, "--out", "q.csv")
        assert (status, out) == (2, "") and message in err and not Path("q.csv").exists()


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "its thresholds of groups have other fields"),
        ({"pooled": 0.5, "own": {}}, "its thresholds of groups have other fields"),
        ({"pooled": 0.5, "own": [], "others": []}, "its thresholds of groups are not by name"),
        ({"pooled": 0.5, "own": {}, "others": [1]}, "its thresholds of groups are not by name"),
        ({"pooled": 2, "own": {}, "others": []}, "it has (2,) for thresholds of groups"),
        ({"pooled": None, "own": {"a": "x"}, "others": []}, "it has (None, 'x') for thresholds of groups"),
    ],
)
def test_thresholds_of_a_file_are_checked(model, groups, message):
    with pytest.raises(BBError) as caught:
        predictor_of(changed(model, calibration={"groups": groups}), "here")
    assert message in str(caught.value)
