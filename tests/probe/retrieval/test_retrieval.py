"""bb probe retrieval: from a store and a table of labels to a run, on hand-written digits and on photographs."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.datasets import load_digits

from bb.probe.report.run_summary import RunSummary
from bb.probe.retrieval import faiss_search as approximate
from bb.probe.retrieval.evaluate import Retrieval, evaluate, score
from bb.probe.retrieval.faiss_search import Faiss, parse_index
from bb.probe.retrieval.ranking import NO_MATCH, Ranking
from bb.probe.retrieval.search import Vectors, search
from bb.probe.retrieval.streaming import RetrievalMetric
from bb.probe.statistics.bootstrap import resample
from bb.probe.statistics.comparison import differences
from bb.probe.statistics.predictions import read_table
from bb.store import Store
from bb.store.errors import BBError, UsageError
from bb.store.storage.url import open_place
from tests.contracts.streaming_metric import check_metric
from tests.helpers.command_line import RESNET, VIT, call, own_place
from tests.helpers.photographs import PHOTOS, needs_photographs
from tests.helpers.places import copy
from tests.helpers.retrieval import items_of

__all__ = ["call", "own_place"]  # fixtures

N = 240  # digits


def clustered(n, labels, dim=8, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((labels.max() + 1, dim))[labels] + rng.standard_normal((n, dim))).astype(np.float32)


# Evaluation


@pytest.fixture(scope="module")
def example():
    labels = np.random.default_rng(1).integers(0, 7, 90)
    items = items_of(labels, category=[("even", "odd")[label % 2] if label else None for label in labels])
    return clustered(90, labels), items


def test_an_evaluation_is_its_parts(example):
    x, items = example
    found = evaluate(x, items)
    ranking = search(x, items, 89)
    assert np.array_equal(found.top.nearest, ranking.nearest[:, :10])
    expected = score(items, ranking, Retrieval())
    assert found.values.keys() == expected.keys()
    for name, value in expected.items():
        assert np.array_equal(found.values[name], value, equal_nan=True), name
    summary = found.summary()
    assert summary.keys() == {"overall", "even", "odd"}
    assert summary["overall"]["map@r"] == pytest.approx(expected["map@r"].mean())
    even = items.category == "even"
    assert summary["even"]["cmc@5"] == pytest.approx(expected["cmc@5"][even].mean())
    assert {"auroc", "fnmr@fmr=0.01", "pcf@0.9"} <= summary["overall"].keys() and "pcf@0.5" in summary["odd"]
    assert found.left_out == 0 and found.main == "map@r" and found.tied < 1e-3


def test_large_depths_come_in_parts_of_queries(example, monkeypatch):
    from bb.probe.retrieval import search as searching

    x, items = example
    whole = evaluate(x, items, Retrieval(pairs=False))
    monkeypatch.setattr(searching, "BLOCK", 16)
    monkeypatch.setattr(searching, "HEAP_BYTES", 0)
    told = []
    parts = evaluate(x, items, progress=lambda done, total: told.append((done, total)))
    assert all(np.array_equal(whole.values[name], parts.values[name], equal_nan=True) for name in whole.values)
    assert [done for done, _ in told] == list(range(1, told[-1][1] + 1))


def test_queries_without_a_relevant_item_are_left_out_and_counted():
    items = items_of(["a", "a", "b"])
    x = np.array([[1, 0], [1, 0.1], [0, 1]], np.float32)
    found = evaluate(x, items)
    assert found.left_out == 1 and found.summary()["overall"]["cmc@1"] == 1
    assert np.isnan(found.values["cmc@1"][2]) and found.values["knn@1"].tolist() == [1, 1, 0]
    assert evaluate(x, items, Retrieval(convention="oml")).summary()["overall"]["cmc@1"] == pytest.approx(2 / 3)


def test_nothing_relevant_for_anybody_is_an_error():
    with pytest.raises(BBError, match="the table: no query has anything relevant in the gallery, so there is nothing"):
        evaluate(np.eye(3, dtype=np.float32), items_of("abc"))


def test_a_threshold_shortens_rankings_and_counts(example):
    """What a post-processing leaves is scored as what was retrieved."""
    _, items = example
    empty = Ranking(
        items.queries[:1], np.full((1, 4), NO_MATCH), np.full((1, 4), np.inf, np.float32), np.zeros(1, np.int64)
    )
    how = Retrieval(convention="oml", knn=(), ks=(1, 4))
    assert {float(value[0]) for value in score(items, empty, how).values()} == {1.0}


def test_how_a_retrieval_is_judged_is_checked():
    with pytest.raises(UsageError, match="cut-offs \\[0\\] make no sense"):
        Retrieval(ks=(0,))
    with pytest.raises(UsageError, match="cut-offs \\[5, 5\\] make no sense"):
        Retrieval(knn=(5, 5))
    with pytest.raises(UsageError, match="a false match rate of 2 is not a share"):
        Retrieval(fmrs=(2.0,))


# Streaming


def test_batches_in_any_order_are_the_whole(example):
    x, items = example
    metric = RetrievalMetric(items)
    check_metric(metric, x, ["even", "odd"])
    assert metric.compute() == evaluate(x, items, Retrieval(pairs=False)).summary()
    metric.setup()
    metric.update(torch.from_numpy(x), torch.arange(len(items)))
    assert metric.compute() == evaluate(x, items, Retrieval(pairs=False)).summary()
    metric.setup(len(items))
    with pytest.raises(
        BBError, match="90 of 90 samples are missing, the first is 'img-0000': metrics need all of them"
    ):
        metric.compute()


def test_what_a_stream_refuses(example):
    x, items = example
    metric = RetrievalMetric(items)
    with pytest.raises(BBError, match="80 samples are announced, but the table has 90 rows"):
        metric.setup(80)
    metric.update(x[:4], np.arange(4))
    with pytest.raises(BBError, match="sample 3 \\('img-0003'\\) comes a second time: each counts once"):
        metric.update(x[3:5], np.array([3, 4]))
    with pytest.raises(BBError, match="sample 8 .* comes a second time"):
        metric.update(x[:2], np.array([8, 8]))
    with pytest.raises(BBError, match="unknown sample 90: the table has 90 rows"):
        metric.update(x[:1], np.array([90]))
    with pytest.raises(BBError, match="this batch has 3 dimensions, those before had 8"):
        metric.update(x[4:5, :3], np.array([4]))
    with pytest.raises(BBError, match="86 of 90 samples are missing, the first is 'img-0004'"):
        metric.compute()


# The approximate index


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_faiss_finds_most_and_says_how_much(distance, monkeypatch):
    monkeypatch.setattr(approximate, "SMALL", 100)
    monkeypatch.setattr(approximate, "QUERIES", 64)
    labels = np.arange(600) % 20
    items = items_of(labels, sequence=[f"s{i % 150}" if i % 3 else None for i in range(600)])
    x = clustered(600, labels)
    how = Retrieval(distance=distance, pairs=False)
    few, many = Faiss(probes=1), Faiss(probes=10**6)
    exact = search(x, items, 30, distance=distance)
    parts = list(many.search_parts(Vectors.of(x, items, distance), items, 30))
    assert len(parts) == 10
    for name in ("query", "nearest", "distance", "relevant"):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(exact, name)), name
    assert many.recall(x, items, how)["recall@10"] == 1
    some = replace(few, sample=50).recall(x, items, how)
    assert some["queries"] == 50 and 0.1 < some["recall@10"] < 1
    assert few.recall(x, items, how)["queries"] == 600


def test_faiss_searches_small_galleries_whole(example):
    x, items = example
    found = evaluate(x, items, Retrieval(pairs=False), searched=Faiss().bind(items, 1))
    exact = evaluate(x, items, Retrieval(pairs=False))
    assert all(np.array_equal(exact.values[name], found.values[name], equal_nan=True) for name in exact.values)


def test_an_unknown_index_and_an_absent_faiss(monkeypatch):
    assert parse_index("exact") is None and parse_index("faiss") == Faiss()
    with pytest.raises(UsageError, match="unknown index 'hnsw': choose exact or faiss"):
        parse_index("hnsw")
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(UsageError, match="--index faiss needs faiss: pip install 'backbone-bench\\[faiss\\]'"):
        parse_index("faiss")


# The verb


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A store of two backbones' features of digits; one image is there twice."""
    from PIL import Image

    import bb.extract

    folder = tmp_path_factory.mktemp("retrieval")
    (folder / "digits").mkdir()
    pixels, target = load_digits(return_X_y=True)
    for i in range(N):
        Image.fromarray((pixels[max(i, 1)].reshape(8, 8) * 15).astype(np.uint8)).save(folder / "digits" / f"{i:04}.png")
    bb.extract.run(folder / "features.bb", [VIT, RESNET], {"digits": folder / "digits"})
    labels = {
        "image_id": [f"{i:04}.png" for i in range(N)],
        "label": [str(digit) for digit in target[:N]],
        "category": ["round" if digit in (0, 6, 8, 9) else "straight" for digit in target[:N]],
        "split": ["train" if digit < 5 else "test" for digit in target[:N]],
    }
    pl.DataFrame(labels).write_csv(folder / "digits.csv")
    return folder


@pytest.fixture
def place(template, own_place):
    import shutil

    shutil.copytree(template / "features.bb", own_place / "features.bb")
    shutil.copy(template / "digits.csv", own_place / "digits.csv")
    return own_place


def test_a_run_stands_in_the_store_and_in_a_table(place, call):
    status, out, err = call("probe", "retrieval", "--labels", "digits.csv", "--split", "all")
    assert status == 0, err
    assert out.startswith(
        f"digits on digits: {N} queries, {N} in the gallery, cosine, convention standard; 95% intervals for"
    )
    assert "further labels like these 10, with images of their own" in out
    assert VIT in out and RESNET in out and "straight" in out and "was there" not in out
    assert "1 image stands under more than one ID, such as '0000.png' and '0001.png': each finds itself" in err
    runs = list(Store.open("features.bb").runs())
    assert len(runs) == 2
    for run in runs:
        record, predictions, retrieved = run.record, run.predictions(), run.retrieved()
        scores = record["scores"]
        assert (record["protocol"], record["tasks"], record["n_train"], record["seed"]) == (
            "retrieval",
            "digits",
            "all",
            None,
        )
        assert record["parameters"]["roles"]["split"] == "all" and record["parameters"]["rerankers"] == []
        means = predictions.group_by("task").agg(pl.col("score").mean())
        assert means.height == len(scores["tasks"])
        for task, mean in means.iter_rows():
            assert scores["tasks"][task]["mean"] == pytest.approx(mean, abs=1e-6)
        assert scores["mean"] == scores["overall"]["map@r"] and 0.5 < scores["overall"]["auroc"] < 1
        assert set(predictions["cluster"]) == {"round", "straight"} == scores["clusters"].keys()
        assert retrieved.height == N * 10 and retrieved["rank"].max() == 10
        first = retrieved.filter(pl.col("rank") == 1).join(predictions.filter(pl.col("task") == "cmc@1"), on="image_id")
        assert first.height == N and (first["hit"].cast(float) == first["score"]).all()
        assert not (retrieved["image_id"] == retrieved["retrieved_id"]).any()
        assert run.train()["image_id"].sort().to_list() == [f"{i:04}.png" for i in range(N)]
        assert RunSummary.from_run(run).summary == scores["mean"]
    status, out, _ = call("probe", "retrieval", "--labels", "digits.csv", "--split", "all")
    assert status == 0 and out.count("was there") == 2
    status, out, _ = call("probe", "retrieval", "--labels", "digits.csv", "--split", "all", "--json")
    for run in json.loads(out):
        found = run["interval"]
        assert not run["fresh"] and run["units"] == {"kind": "label", "n": 10, "shared": True}
        assert found["low"] < found["mean"] < found["high"] and found["mean"] == pytest.approx(run["scores"]["mean"])
        assert found["claim"].startswith("95% intervals for further labels like these 10")
    status, out, err = call("probe", "retrieval", "--labels", "digits.csv", "--split", "all", "--force", "--ckpt", VIT)
    assert status == 0 and "otherwise" not in err and len(list(Store.open("features.bb").runs())) == 3
    status, out, _ = call("store", "verify")
    assert status == 0 and "3 runs: 0 faults" in out


def test_the_statistics_of_reports_work_on_retrieval_runs(place, call):
    assert call("probe", "retrieval", "--labels", "digits.csv", "--split", "all", "--no-pairs")[0] == 0
    runs = {run.record["backbones"][0]: [run] for run in Store.open("features.bb").runs()}
    table = read_table(runs).only(["map@r"])
    assert len(table) == N
    found = differences(table, resample(table, resamples=500), permutations=999)
    means = {name: run.record["scores"]["mean"] for name, (run,) in runs.items()}
    one, other = (found.models[int(i)] for i in (found.first[0], found.second[0]))
    assert found.interval.estimate[0] == pytest.approx(means[one] - means[other], abs=1e-6)
    assert 0 < found.p[0] <= 1


def test_splits_folds_and_roles(place, call):
    def retrieve(*more):
        status, out, err = call(
            "probe", "retrieval", "--labels", "digits.csv", "--ckpt", VIT, "--no-pairs", "--json", *more
        )
        assert status == 0, err
        (run,) = json.loads(out)
        return run

    tested = retrieve()
    assert tested["parameters"]["roles"]["split"] == "test"
    n = sum(split == "test" for split in pl.read_csv("digits.csv")["split"])
    assert tested["scores"]["queries"] == tested["scores"]["gallery"] == n
    folded = retrieve("--split", "all", "--folds", "4", "--seed", "1", "--distance", "euclidean")
    assert folded["parameters"]["roles"] == {"split": "all", "against": None, "folds": 4, "seed": 1}
    assert folded["run_id"] != retrieve("--split", "all", "--folds", "4")["run_id"]
    faiss = retrieve("--split", "all", "--index", "faiss", "--k", "1,3")
    status, out, _ = call("probe", "retrieval", "--labels", "digits.csv", "--ckpt", VIT, "--no-pairs", "--knn", "")
    assert status == 0 and "knn" not in out and "auroc" not in out
    assert faiss["backend"] == "faiss" and faiss["index_recall"]["recall@3"] == 1
    status, _, err = call("probe", "retrieval", "--labels", "digits.csv", "--split", "test", "--against", "train")
    assert status == 1 and "no query has anything relevant in the gallery" in err


def test_retrieval_from_elsewhere_and_what_was_retrieved_travels(place, call, s3):
    assert call("probe", "retrieval", "--labels", "digits.csv", "--ckpt", VIT)[0] == 0
    home = Store.open("features.bb")
    (run,) = home.runs()
    status, out, err = call("store", "push", f"{s3.url}/b.bb")
    assert status == 0, err
    status, out, err = call("store", "pull", f"{s3.url}/b.bb", "--runs", "--store", "other.bb")
    assert status == 0, err
    (pulled,) = Store.open("other.bb").runs()
    assert pulled.retrieved().equals(run.retrieved()) and pulled.predictions().equals(run.predictions())
    (there,) = Store.open(f"{s3.url}/b.bb").runs()
    assert there.retrieved().equals(run.retrieved())
    status, out, err = call("probe", "retrieval", "--labels", "digits.csv", "--ckpt", VIT, "--store", f"{s3.url}/b.bb",
                            "--runs-to", "mine.bb", "--split", "all")  # fmt: skip
    assert status == 0, err
    assert len(list(Store.open("mine.bb").runs())) == 1
    (pulled.folder / "retrieved.parquet").write_bytes(b"")
    status, out, err = call("store", "verify", "--store", "other.bb")
    assert status == 1 and "retrieved.parquet is not what run.json says" in out + err


def test_a_store_read_elsewhere_refuses_what_was_tampered_with(place, call, s3):
    assert call("probe", "retrieval", "--labels", "digits.csv", "--ckpt", VIT, "--no-pairs")[0] == 0
    (run,) = Store.open("features.bb").runs()
    file = run.folder / "retrieved.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    copy(Store.open("features.bb").root, open_place(f"{s3.url}/c.bb"))
    with pytest.raises(BBError, match="its retrieved.parquet does not have the digest in its run.json"):
        list(Store.open(f"{s3.url}/c.bb").runs())


def test_mistakes_of_a_person(place, call):
    def error(*arguments):
        status, out, err = call("probe", "retrieval", *arguments)
        assert status in (1, 2) and not out
        return err

    assert "no labels at absent.csv" in error("--labels", "absent.csv")
    assert "--k x is not a list of numbers: write for example --k 1,5,10" in error(
        "--labels", "digits.csv", "--k", "1,x"
    )
    assert "unknown distance 'dot': choose cosine or euclidean" in error("--labels", "digits.csv", "--distance", "dot")
    assert "unknown convention 'trec'" in error("--labels", "digits.csv", "--convention", "trec")
    assert "unknown index 'annoy'" in error("--labels", "digits.csv", "--index", "annoy")
    assert "has no features of timm:resnet18/untrained" in error(
        "--labels", "digits.csv", "--ckpt", "timm:resnet18/untrained"
    )
    labels = pl.read_csv("digits.csv", infer_schema=False).with_columns(image_id=pl.col("image_id") + "x")
    labels.write_csv("others.csv")
    assert "is missing 117 of 117 images" in error("--labels", "others.csv")
    labels.drop("label").write_csv("none.csv")
    assert "none.csv does not have the column label" in error("--labels", "none.csv")
    assert not list(Store.open("features.bb").runs())


def test_which_collection_is_asked_where_there_are_several(place, call):
    from bb.store.format.collection import only_collection

    assert only_collection(["one"]) == "one"
    with pytest.raises(UsageError, match="which collection. --data NAME; there are a, b"):
        only_collection(["a", "b"])
    with pytest.raises(UsageError, match="which collection. --data NAME; there are none: `bb extract` makes them"):
        only_collection([])


@pytest.mark.e2e
@needs_photographs
def test_species_are_found_again_on_photographs(own_place, call):
    """newt-mini's tasks as labels: an image may stand in several; each is taken once."""
    rows = pl.read_csv(PHOTOS / "newt2021_labels.csv", infer_schema=False)
    labels = rows.select(
        image_id="id", label=pl.concat_str("task", pl.lit("/"), "label"), category="task_cluster"
    ).unique("image_id", keep="first", maintain_order=True)
    labels.write_csv("mini.csv")
    for name in (VIT, RESNET):
        assert call("extract", "--ckpt", name, "--data", f"newt={PHOTOS}")[0] == 0
    status, out, err = call("probe", "retrieval", "--labels", "mini.csv", "--json")
    assert status == 0, err
    for run in json.loads(out):
        chance = np.mean([n / (len(labels) - 1) for n in _others(labels["label"])])
        assert run["scores"]["overall"]["precision@1"] > chance and run["scores"]["overall"]["auroc"] > 0.5
        assert len(run["scores"]["categories"]) == labels["category"].n_unique()


def _others(labels):
    counts = labels.value_counts()
    of = dict(zip(counts["label"], counts["count"] - 1, strict=True))
    return [of[label] for label in labels]
