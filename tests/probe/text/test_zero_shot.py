"""Zero-shot runs are the argmax of cosines with the classes' texts; text of another checkpoint is refused by name."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from bb.probe import classify, zeroshot
from bb.probe.classification.board import boards
from bb.probe.classification.report.page import page
from bb.probe.classifiers.multiclass.zero_shot import ZeroShot
from bb.store import Store, UsageError
from bb.store.maintenance.gc import find_garbage
from tests.helpers.texts import image_space, put_images, put_texts, text_store, texts_for, unit

CLASSES = ("Amsel", "Bussard", "Star")


def labels_of(ids, y, classes=CLASSES, **columns):
    return pl.DataFrame({"image_id": ids, "label": [classes[i] for i in y], **columns})


def test_predictions_and_scores_are_those_of_numpy_and_scikit_learn(tmp_path):
    store, ids, y, x, w = text_store(tmp_path / "s.bb")
    (run,) = zeroshot(store, labels_of(ids, y))
    predicted = (unit(x.astype(np.float64)) @ w.T).argmax(axis=1)
    table = run.predictions().sort("image_id")
    assert table["image_id"].to_list() == ids and table["y_pred"].to_list() == predicted.tolist()
    logits = 100 * (unit(x.astype(np.float64)) @ w.T.astype(np.float64))
    assert table["decision"].to_numpy() == pytest.approx(logits.max(axis=1), rel=1e-5)
    metrics = run.record["scores"]["tasks"]["classify"]["5 folds"]["metrics"]
    assert metrics["accuracy"]["value"] == pytest.approx(accuracy_score(y, predicted))
    assert metrics["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(y, predicted))
    assert metrics["macro_f1@wilds"]["value"] == pytest.approx(f1_score(y, predicted, average="macro"))
    assert 0 < metrics["accuracy"]["low"] < metrics["accuracy"]["value"] < metrics["accuracy"]["high"]
    assert metrics["accuracy"]["claim"] == "this classifier, on further images"
    assert run.train().is_empty() and run.record["n_train"] == 0
    assert run.record["classifier"] == "zeroshot (birds, 1 template)"


def test_a_run_is_found_again_and_text_that_differs_is_another_run(tmp_path):
    store, ids, y, _, w = text_store(tmp_path / "s.bb")
    first = zeroshot(store, labels_of(ids, y))
    assert len(first.fresh) == 1 and not zeroshot(store, labels_of(ids, y)).fresh
    put_texts(store, texts_for(image_space(), ["a photo of {}"]), {name: name for name in CLASSES}, -w, "birds")
    with pytest.raises(
        UsageError, match=r"2 spaces of text vectors would do; choose one:\n  --text-space \w{12}  1 temp"
    ):
        zeroshot(store, labels_of(ids, y))
    key = texts_for(image_space(), ["a photo of {}"]).key
    (other,) = zeroshot(store, labels_of(ids, y), text_space=key[:12])
    assert other.run_id != first.runs[0].run_id and other.record["text_space"] == key


def test_it_stands_on_the_board_of_fitted_classifiers(tmp_path):
    store, ids, y, _, _ = text_store(tmp_path / "s.bb", noise=0.3)
    labels = labels_of(ids, y, split=["train", "test"] * 30)
    classify(store, labels, classifier="simpleshot", shots=[1, "all"])
    zeroshot(store, labels)
    (board,) = boards(list(store.runs()))
    assert board.side == "test" and sorted(str(row.run.record["n_train"]) for row in board.rows) == ["0", "1", "all"]
    assert "zeroshot (birds, 1 template)" in page([board], {})


def test_a_table_that_nothing_could_be_trained_on_is_tested_whole(tmp_path):
    store, ids, y, _, _ = text_store(tmp_path / "s.bb")
    found = zeroshot(store, labels_of(ids, y, split=["test"] * 60))
    facts = found.runs[0].record["scores"]["tasks"]["classify"]["all"]
    assert facts["n"] == 60 and facts["metrics"]["ece"]["value"] is not None
    assert found.boards[0].rows[0].shots == 0
    sites = labels_of(ids, y, split=["test"] * 60, group=["a", "b", "c"] * 20)
    facts = zeroshot(store, sites).runs[0].record["scores"]["tasks"]["classify"]["all"]
    assert (
        facts["metrics"]["accuracy"]["low"] is None and "3 groups are too few" in facts["metrics"]["accuracy"]["reason"]
    )
    one = zeroshot(store, labels_of(ids[:2], [0, 1]))
    assert one.runs[0].record["scores"]["tasks"]["classify"]["all"]["n"] == 2


def test_classes_with_one_text_are_said(tmp_path):
    store, ids, y, _, w = text_store(tmp_path / "s.bb")
    put_texts(store, texts_for(image_space()), dict.fromkeys(CLASSES, "Vogel"), w, "same")
    (run,) = zeroshot(store, labels_of(ids, y), text="same")
    assert set(run.predictions()["y_pred"]) == {0.0}
    assert run.record["labels_notes"] == [
        "2 classes have the text of another class, such as 'Amsel', 'Bussard': the first of them is predicted"
    ]


def test_features_of_another_checkpoint_are_refused_by_name(tmp_path):
    store, ids, y, x, _ = text_store(tmp_path / "s.bb")
    other = image_space(weights="c" * 64)
    put_images(store, other, x, ids, backbone="open_clip:ViT-B-32/openai")
    message = (
        r"the text vectors are of open_clip:Tiny/untrained, the images of open_clip:ViT-B-32/openai: both must come "
        r"from one checkpoint. To make them: bb extract --text birds=FILE --ckpt open_clip:ViT-B-32/openai"
    )
    with pytest.raises(UsageError, match=message):
        zeroshot(store, labels_of(ids, y), ckpt="open_clip:ViT-B-32/openai")
    assert [run.record["backbones"] for run in zeroshot(store, labels_of(ids, y))] == [["open_clip:Tiny/untrained"]]
    again = image_space(architecture={"embed_dim": 8, "vision": {"mlp_ratio": 2.0}})
    put_images(store, again, x, ids)
    with pytest.raises(UsageError, match="other weights or another architecture.* the images of open_clip:Tiny"):
        zeroshot(store, labels_of(ids, y), space=again.key)


def test_features_that_are_not_projected_are_refused(tmp_path):
    store, ids, y, x, _ = text_store(tmp_path / "s.bb")
    plain = image_space(projected=False, org="timm")
    put_images(store, plain, x, ids, backbone="timm:resnet18")
    message = "of timm:resnet18 is not projected into a space shared with text, so no text can be compared with it"
    with pytest.raises(UsageError, match=message):
        zeroshot(store, labels_of(ids, y), ckpt="timm:resnet18")
    said = []
    reporter = type("R", (), {"info": lambda self, text: said.append(text), "progress": lambda self, *a, **k: None})()
    assert len(zeroshot(store, labels_of(ids, y), reporter=reporter)) == 1
    assert [text for text in said if text.startswith("left out: space")]
    texts = next(space for space in store.spaces() if space.org == "text")
    with pytest.raises(UsageError, match="holds vectors of texts; name one of image features"):
        classify(store, labels_of(ids, y), space=texts.key)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mammals", "has no texts 'mammals'; it has birds"),
        (None, r"do not have 1 of 3 classes of the labels: 'Storch'\. Add them to the file of names"),
    ],
)
def test_classes_without_a_text_are_named(tmp_path, text, message):
    store, ids, y, _, _ = text_store(tmp_path / "s.bb")
    with pytest.raises(UsageError, match=message):
        zeroshot(store, labels_of(ids, y, ("Amsel", "Bussard", "Storch")), text=text)


def test_without_texts_it_says_how_to_make_them(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    ids = [f"{i}.jpg" for i in range(12)]
    put_images(store, image_space(), np.random.default_rng(0).normal(size=(12, 8)), ids)
    labels = labels_of(ids, np.arange(12) % 3)
    with pytest.raises(UsageError, match=r"has no texts. To make them .*: bb extract --text NAME=FILE --ckpt CKPT"):
        zeroshot(store, labels)
    traits = labels.with_columns(label=pl.lit(1.5) * pl.int_range(12))
    with pytest.raises(UsageError, match="zero-shot needs one class for each image"):
        zeroshot(store, traits.rename({"label": "label:a"}).with_columns(pl.col("label:a").cast(pl.Int64) % 2))


def test_a_text_space_that_a_run_names_is_not_unreferenced(tmp_path):
    store, ids, y, _, _ = text_store(tmp_path / "s.bb")
    assert len(list(find_garbage(store, unreferenced=True))) == 2
    zeroshot(store, labels_of(ids, y))
    assert not list(find_garbage(store, unreferenced=True))


def test_a_row_of_zeros_has_equal_logits():
    estimator = ZeroShot(np.eye(3, dtype=np.float32))
    assert estimator.predict_proba(np.zeros((1, 3))) == pytest.approx(np.full((1, 3), 1 / 3))
    assert estimator.fit(np.zeros((0, 3)), np.zeros(0)).predict(np.array([[0, 2.0, 1]])).tolist() == [1]
