"""Real ImageNet weights: bb's features are the reference network's, and say what such features say."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from bb.extract.backbones.registry import load
from bb.extract.weights.lite_networks import LITES
from bb.store import Store
from tests.helpers.command_line import run_here
from tests.helpers.photographs import PHOTOS, ROOT, needs_photographs
from tests.helpers.pretrained import reference

UNTRAINED = "timm:tf_efficientnet_lite0/untrained"
HEADS = ROOT / "docs" / "heads.md"


@pytest.mark.parametrize("lite", LITES)
def test_features_equal_those_of_the_reference_network_to_the_last_bit(lite, pretrained):
    backbone = load(pretrained[lite])
    batch = torch.randn(2, 3, *backbone.view.crop, generator=torch.Generator().manual_seed(0))
    network = reference(lite)
    with torch.inference_mode():
        expected = nn.functional.adaptive_avg_pool2d(network.extract_features(batch), 1).flatten(1)
        assert torch.equal(backbone.extract(batch), expected)


@pytest.fixture(scope="module")
def place(pretrained_newt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of its own, and newt-mini's 16 kinds of animal as labels.

    classes.csv  all of them
    unseen.csv   11 to train on, five to test on, as in docs/heads.md and docs/rerank.md
    six.csv      six of the 11 to train on, and the same five
    """
    folder = tmp_path_factory.mktemp("probed")
    shutil.copytree(pretrained_newt, folder / "features.bb")
    table = pl.read_csv(PHOTOS / "newt2021_labels.csv", infer_schema=False).select(image_id="id", label="text_label")
    kinds = table["label"].unique().sort().to_list()
    unseen = kinds[::3][:5]
    six = [kind for kind in kinds if kind not in unseen][:6]
    table.write_csv(folder / "classes.csv")
    split = pl.when(pl.col("label").is_in(unseen)).then(pl.lit("test")).otherwise(pl.lit("train"))
    table.with_columns(split=split).write_csv(folder / "unseen.csv")
    table.filter(pl.col("label").is_in([*unseen, *six])).with_columns(split=split).write_csv(folder / "six.csv")
    return folder


def bb(place: Path, *words: str) -> tuple[str, str]:
    """Its standard output and error."""
    status, out, err = run_here(place, *words)
    assert status == 0, err
    return out, err


def map_at_r(place: Path, labels: str, split: str | None = None) -> float:
    """Of the pretrained features by leave-one-out, from the definition, in float64."""
    store = Store.open(place / "features.bb")
    (collection,) = store.collections("newt")
    (space,) = [each for each in store.spaces() if any("lite0@" in name for name in store.backbones(each))]
    table = pl.read_csv(place / labels)
    table = table if split is None else table.filter(pl.col("split") == split)
    rows = store.read(space, collection, table["image_id"].to_list()).astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    label, values = table["label"].to_numpy(), []
    for query, distance in enumerate(1 - rows @ rows.T):
        distance[query] = np.inf
        hit = (label == label[query])[distance.argsort()[:-1]]
        relevant = hit.sum()
        values.append((hit * hit.cumsum() / np.arange(1, len(hit) + 1))[:relevant].sum() / relevant)
    return float(np.mean(values))


@pytest.mark.e2e
@needs_photographs
def test_pretrained_is_called_better_than_untrained(place):
    bb(place, "probe", "newt", "--n-train", "all", "--data", f"newt={PHOTOS}")
    (board,) = json.loads(bb(place, "report", "newt", "--json")[0])
    best, other = board["rows"]
    assert best["backbone"].startswith("timm:tf_efficientnet_lite0@")
    assert other["backbone"] == UNTRAINED
    (pretrained,), (untrained,) = best["cells"], other["cells"]
    assert pretrained["mean"] > 0.75 and untrained["mean"] < 0.65  # 0.79 and 0.55 when this was written
    assert pretrained["best"] and not untrained["tied_with_best"]
    assert pretrained["group"] != untrained["group"]


@needs_photographs
def test_retrieval_calls_pretrained_better_than_untrained(place):
    bb(place, "probe", "retrieval", "--labels", "classes.csv", "--data", "newt")
    best, other = json.loads(bb(place, "report", "retrieval", "--labels", "classes.csv", "--json")[0])
    assert best["name"].startswith("timm:tf_efficientnet_lite0@") and other["name"] == UNTRAINED
    pretrained, untrained = best["scores"]["map@r"], other["scores"]["map@r"]
    assert pretrained["mean"] == pytest.approx(map_at_r(place, "classes.csv"), abs=1e-5)  # 0.247
    assert untrained["mean"] == pytest.approx(0.020, abs=0.005)
    assert untrained["high"] < pretrained["low"] < pretrained["mean"] < pretrained["high"]
    behind = other["behind"]["difference"]
    assert behind["mean"] == pytest.approx(untrained["mean"] - pretrained["mean"])
    assert behind["high"] < 0 and other["behind"]["p"] < 1e-6
    assert other["claim"] == "95% intervals for further labels like these 16, with images of their own"


@needs_photographs
def test_a_head_that_five_labels_do_not_show_to_be_better_is_not_written(place, pretrained):
    words = ("--labels", "unseen.csv", "--data", "newt", "--ckpt", pretrained[0], "--epochs", "1")
    out, err = bb(place, "probe", "head", *words, "--json")
    (head,) = json.loads(out)
    assert head["head"] is None and head["rows"] == 0 and not Store.open(place / "features.bb").heads()
    trained = head["training"]
    (row,) = re.findall(r"5 of 11, held out \| `whitened` \| ([\d.]+), ([\d.]+),", HEADS.read_text())
    assert f"{trained['parent']:.3f}" == row[0]
    assert trained["start"] == pytest.approx(float(row[1]), abs=0.02)  # 0.427 and 0.437 on two processors
    known = trained["validated"]
    assert known["labels"] == 5 and known["low"] < 0 < known["high"]
    assert "not better than its parent beyond chance" in head["kept"] and head["kept"] in err


@needs_photographs
def test_a_head_that_is_written_all_the_same_is_said_to_be_worse(place, pretrained):
    shutil.copytree(place, place / "any")
    words = ("--labels", "unseen.csv", "--data", "newt")
    how = ("--start", "plain", "--epochs", "1", "--accept", "any", "--json")
    out, err = bb(place / "any", "probe", "head", *words, "--ckpt", pretrained[0], *how)
    (head,) = json.loads(out)
    assert f"note: {head['head']}: " in err
    bb(place / "any", "probe", "retrieval", *words, "--space", head["parent_space"], "--space", head["space"])
    best, other = json.loads(bb(place / "any", "report", "retrieval", "--labels", "unseen.csv", "--json")[0])
    assert best["space"] == head["parent_space"] and other["space"] == head["space"]
    assert best["scores"]["map@r"]["mean"] == pytest.approx(map_at_r(place, "unseen.csv", "test"), abs=1e-5)  # 0.398
    assert other["behind"]["difference"]["mean"] < 0


@pytest.mark.e2e
@needs_photographs
def test_a_reranker_that_six_labels_do_not_show_to_be_better_changes_nothing(place, pretrained):
    out, _ = bb(place, "probe", "rerank", "--labels", "six.csv", "--data", "newt", "--ckpt", pretrained[0], "--json")
    (found,) = json.loads(out)
    assert found["chosen"] == "trivial" and "which is not beyond chance" in found["refused"]
    assert found["refused"].startswith("on 6 labels held out, the best of ")
    assert max(found["held_out"], key=found["held_out"].get) != "trivial", "the best by its score is not taken"
    assert found["runs"]["before"] == found["runs"]["after"]
    changes = found["changes"]["map@r"]
    assert changes["before"]["mean"] == pytest.approx(map_at_r(place, "six.csv", "test"), abs=1e-5)
    assert changes["after"] == changes["before"] and changes["difference"]["mean"] == 0
