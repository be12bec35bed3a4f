"""`bb extract --text`, `bb probe zeroshot`, `bb search` and `bb probe search`: the way, without torch, and refusals."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from PIL import Image

from bb.store import Store
from tests.helpers.command_line import call, own_place, run_here  # noqa: F401
from tests.helpers.texts import image_space, put_images, text_store

CLASSES = ("Amsel", "Bussard", "Star")
WITHOUT = """
import sys

class Without:  # a finder that does not see some packages: neither an import nor find_spec does
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *rest):
        absent = ("torch", "torchvision", "timm", "open_clip", "simplejpeg", "safetensors", "PIL")
        return None if name.partition(".")[0] in absent else self.finder.find_spec(name, *rest)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
"""


@pytest.fixture
def place(own_place):  # noqa: F811
    store, ids, y, x, _ = text_store(own_place / "features.bb", extra=("a bird",))
    pl.DataFrame({"image_id": ids, "label": [CLASSES[i] for i in y]}).write_csv("labels.csv")
    return store, ids, x


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Images, their features, and texts, all made by the command line with one untrained network."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "pics").mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / "pics" / f"{i}.png")
    (folder / "names.csv").write_text(
        "name,scientific,common\nheron,Ardea cinerea,grey heron\ntit,Parus major,great tit\n"
    )
    ckpt = ("--ckpt", "ViT-S-32-alt/untrained", "--device", "cpu")
    said = [run_here(folder, "extract", *ckpt, "--data", "pics=pics")]
    text = ("--text", "birds=names.csv", "--text-type", "sci_com", "--templates", "plain")
    said += [run_here(folder, "extract", *ckpt, *text), run_here(folder, "extract", *ckpt, *text, "--json")]
    assert [status for status, _, _ in said] == [0, 0, 0], said
    return folder, said


def test_texts_are_encoded_once_and_listed(made):
    folder, said = made
    assert "on texts.birds: 0 texts were there, 2 encoded with 1 template; space" in said[1][1]
    assert "bb probe zeroshot --labels LABELS.csv --text birds" in said[1][1]
    (summary,) = json.loads(said[2][1])
    assert (summary["present"], summary["computed"], summary["collection"]) == (2, 0, "texts.birds")
    _, out, _ = run_here(folder, "store", "ls")
    assert "text:open_clip:ViT-S-32-alt/untrained  text  256" in out and "collection texts.birds@" in out
    assert ": 2 texts" in out
    _, out, _ = run_here(folder, "store", "info", summary["space"])
    assert '"templates": ["{}"]' in out and "open_clip.SimpleTokenizer" in out
    assert run_here(folder, "store", "verify")[0] == 0
    _, out, _ = run_here(folder, "store", "du", "--json")
    assert ("texts", 2) in [(row["collection"], row["rows"]) for row in json.loads(out)["features"]]
    status, _, err = run_here(
        folder, "store", "verify", "--recompute", "2", "--data", "pics=pics", "--space", summary["space"]
    )
    assert status == 2 and "holds vectors of texts, and --recompute embeds images" in err
    (segment,) = (store := Store.open(folder / "features.bb")).segments(store.space(summary["space"]))
    assert sorted(segment.array("image_id").tolist()) == [
        "texts/Ardea cinerea with common name grey heron", "texts/Parus major with common name great tit"
    ]  # fmt: skip


def test_a_text_that_is_not_stored_is_encoded_and_images_are_shown(made):
    folder, _ = made
    words = ("search", "a heron with a fish", "-n", "3", "--data", "pics=pics", "--device", "cpu")
    status, out, err = run_here(folder, *words)
    assert status == 0 and "3 of 4 images of pics nearest to 'a heron with a fish'" in out and "pics/" in out, err
    status, _, err = run_here(folder, *words, "--out", "hits.csv", "--html", "hits.html")
    assert status == 0, err
    rows = list(csv.DictReader((folder / "hits.csv").open()))
    assert [row["rank"] for row in rows] == ["1", "2", "3"] and (folder / rows[0]["path"]).is_file()
    page = (folder / "hits.html").read_text()
    assert page.count("data:image/jpeg") == 3 and "a heron with a fish" in page


def test_zeroshot_is_printed_and_reported(place, call):  # noqa: F811
    status, out, err = call("probe", "zeroshot", "--labels", "labels.csv")
    assert status == 0 and "zeroshot (birds, 1 template)" in out and "1 run computed, 0 were there" in out, err
    assert "intervals: 95%, of this classifier, on further images" in out
    status, out, _ = call("probe", "zeroshot", "--labels", "labels.csv", "--text", "birds", "--json")
    (record,) = json.loads(out)
    assert not record["fresh"] and record["texts"]["collection"] == "birds" and "macro_f1@wilds" in out
    assert call("probe", "classify", "--labels", "labels.csv", "--classifier", "simpleshot")[0] == 0
    status, out, err = call("report", "classify", "--html", "board.html")
    assert status == 0, err
    status, out, _ = call("report", "classify")
    assert "simpleshot" in out and "zeroshot" in out and out.count("images tested") == 1


@pytest.mark.e2e
def test_stored_texts_need_no_torch(place):
    queries = "query_id,query_text\n" + "".join(f"{i},{name}\n" for i, name in enumerate(CLASSES))
    for name, content in (("q.csv", queries), ("r.csv", "query_id,image_path\n0,000.jpg\n1,001.jpg\n2,005.jpg\n")):
        with open(name, "w") as file:
            file.write(content)
    for words, expected in (
        (["probe", "zeroshot", "--labels", "labels.csv"], "zeroshot (birds"),
        (["search", "a bird", "-n", "2"], "2 of 60 images of pics nearest to 'a bird'"),
        (["probe", "search", "--queries", "q.csv", "--relevant", "r.csv", "-k", "5"], "no interval: 3 queries"),
        (["search", "a fish"], "is not stored, and to encode it bb needs torch"),
    ):
        script = f"{WITHOUT}\nsys.argv = {['bb', *words]!r}\nimport bb\nbb.main()"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ)
        assert expected in done.stdout + done.stderr, done.stderr
        assert done.returncode == (2 if "a fish" in words else 0) and "Traceback" not in done.stderr


def test_queries_are_scored_by_category_and_written(place, call):  # noqa: F811
    _, ids, _ = place
    pl.DataFrame({"query_id": range(3), "query_text": CLASSES, "supercategory": ["x", "x", "y"]}).write_csv("q.csv")
    pl.DataFrame({"query_id": [0, 0, 1, 2], "image_path": [ids[0], ids[3], ids[1], ids[2]]}).write_csv("r.csv")
    words = ("probe", "search", "--queries", "q.csv", "--relevant", "r.csv")
    status, out, err = call(*words, "--by", "supercategory", "--out", "scores.csv", "-k", "7")
    assert status == 0 and "ap@7" in out and "supercategory" in out, err
    assert pl.read_csv("scores.csv")["query_text"].to_list() == list(CLASSES)
    status, out, _ = call(*words, "--json")
    assert json.loads(out)[0]["k"] == 50
    status, _, err = call(*words, "--by", "family", "--out", "other.csv")
    assert status == 2 and "--by family: the queries have supercategory" in err and not os.path.exists("other.csv")


@pytest.mark.parametrize("name", ["q[1]", "q*", "q?", "q{a,b}", "~q", "~"])
def test_names_of_files_are_no_patterns(place, call, name):  # noqa: F811
    """Next to them are files that the patterns would find, of other queries."""
    _, ids, _ = place
    for file, text in ((f"{name}.csv", "Star"), ("q1.csv", "Amsel"), ("qa.csv", "Amsel")):
        pl.DataFrame({"query_id": [0], "query_text": [text]}).write_csv(file)
    pl.DataFrame({"query_id": [0], "image_path": ids[2:3]}).write_csv(f"{name} r.csv")
    words = ("--queries", f"{name}.csv", "--relevant", f"{name} r.csv", "--candidates", f"{name} r.csv")
    assert call("probe", "search", *words, "--out", f"{name} o.csv")[0] == 0
    assert pl.read_csv(f"{name} o.csv", glob=False)["query_text"].to_list() == ["Star"]
    pl.DataFrame({"ckpt": ["timm:x"], "score": [0.5]}).write_csv(f"{name} p.csv")
    assert call("probe", "zeroshot", "--labels", "labels.csv")[0] == 0
    status, out, err = call("report", "classify", "--reference", f"{name} p.csv")
    assert status == 0 and f"{name} p" in out + err, out + err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "--text", "names.txt"], "--text encodes names on this machine: give --ckpt"),
        (["extract", "--text", "names.txt", "--ckpt", "ViT-B-16/openai", "--data", "x=y"], "leave out --data"),
        (["extract", "--text", "names.txt", "--ckpt", "ViT-B-16/openai"], "found no names at names.txt"),
        (["extract", "--text", "a=labels.csv", "--ckpt", "timm:resnet18/untrained"], "has no text tower"),
        (["probe", "zeroshot", "--labels", "labels.csv", "--split-by", "random,group"], "so choose one way"),
        (["search", "x", "--out", "hits.txt"], "--out hits.txt must end in .csv"),
        (["search", "a fish", "--text-space", "f"], "'f' names no feature space"),
        (["probe", "search", "--queries", "q.csv", "--relevant", "r.csv"], "found no queries at q.csv"),
    ],
)
def test_what_is_refused(place, call, arguments, message):  # noqa: F811
    if "a=labels.csv" in arguments:
        pl.DataFrame({"name": CLASSES}).write_csv("labels.csv")
    before = {space.key for space in place[0].spaces()}
    status, _, err = call(*arguments)
    assert status == 2 and message in err
    assert {space.key for space in Store.open("features.bb").spaces()} == before


def test_the_features_of_a_file_need_its_path(place, call):  # noqa: F811
    store, ids, x = place
    put_images(store, image_space(weights="e" * 64), x, ids, backbone="open_clip:ViT-B-32@0123456789ab")
    status, _, err = call("search", "a fish", "--ckpt", "open_clip:ViT-B-32@0123456789ab", "--device", "cpu")
    assert status in (1, 2) and "0123456789ab" in err
    status, _, err = call("search", "a fish", "--space", image_space(weights="e" * 64).key)
    assert (
        status == 2 and "the features are of a file, open_clip:ViT-B-32@0123456789ab: give --ckpt with its path" in err
    )
