"""`bb probe rerank` and `bb report retrieval` as a person types them, on a small store of photographs' stand-ins."""

import hashlib
import importlib.util
import json
import re
import shutil
from io import BytesIO

import numpy as np
import polars as pl
import pytest

import bb
import bb.probe
from bb.probe.retrieval.evaluate import Retrieval
from bb.probe.retrieval.labels import assign, read_items
from bb.probe.retrieval.run import execute, prepare
from bb.probe.retrieval.statistics.paired_tests import of_runs
from bb.store import BBError, Collection, SegmentWriter, Store, UsageError
from bb.store.format.collection import Entry
from tests.helpers.retrieval import DIM, clouds
from tests.helpers.stores import fill, space
from tests.helpers.tensorboard import read_events

torch = pytest.importorskip("torch")

LABELS, EACH = 24, 8
NAMES = [f"{i // EACH:02d}-{i % EACH}.png" for i in range(LABELS * EACH)]


def picture(place):
    from PIL import Image

    buffer = BytesIO()
    Image.new("RGB", (24, 16), (place % 256, 2 * place % 256, 128)).save(buffer, "PNG")
    return buffer.getvalue()


def spaces():
    weights = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("good", "bad")}
    return {
        name: space(weights=digest, output={"kind": "img", "pooling": "cls", "dim": DIM})
        for name, digest in weights.items()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a store of two backbones, the images, and their labels: half to learn on, half to test on."""
    folder = tmp_path_factory.mktemp("retrieval")
    (folder / "images").mkdir()
    entries = []
    for place, name in enumerate(NAMES):
        data = picture(place)
        (folder / "images" / name).write_bytes(data)
        entries.append(Entry(name, hashlib.sha256(data).digest(), len(data), 24, 16))
    store = Store.create(folder / "features.bb")
    collection = store.put_collection(Collection.from_entries("pics", entries))
    for name, where in spaces().items():
        features, _ = clouds(LABELS, EACH, nuisance={"good": 2.0, "bad": 6.0}[name])
        fill(store, where, collection, features.astype(np.float16), {"backbone": f"timm:{name}/untrained"})
    codes = np.repeat(np.arange(LABELS), EACH)
    pl.DataFrame(
        {
            "image_id": NAMES,
            "label": [f"whale {code}" for code in codes],
            "category": ["calf" if code % 2 else "cow" for code in codes],
            "split": ["train" if code < LABELS // 2 else "test" for code in codes],
        }
    ).write_csv(folder / "labels.csv")
    items, roles, _ = assign(read_items(folder / "labels.csv"), split="all")
    for where in spaces().values():
        how = Retrieval(pairs=False)
        execute(prepare(store, where, collection, items, tasks="labels", how=how, roles=roles), jobs=1)
    return folder


@pytest.fixture
def place(made, tmp_path_factory):
    """A copy of one's own, for runs are written into it."""
    return shutil.copytree(made, tmp_path_factory.mktemp("own") / "place")


@pytest.fixture
def call(place, monkeypatch, capsys):
    """bb with some words: status, standard output, standard error."""
    monkeypatch.chdir(place)

    def run(*words):
        monkeypatch.setattr("sys.argv", ["bb", *map(str, words)])
        status = 0
        try:
            bb.main()
        except SystemExit as done:
            status = done.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


RERANK = ("probe", "rerank", "--labels", "labels.csv")
REPORT = ("report", "retrieval", "--labels", "labels.csv")
PROBE = ("probe", "retrieval", "--no-pairs", "--split", "all")
GOOD = ("--ckpt", "timm:good/untrained")


def test_before_and_after_with_a_paired_test(call, tmp_path):
    status, out, err = call(*RERANK, "--json", "--log", f"tensorboard:{tmp_path / 'tb'}")
    assert status == 0, err
    found = {each["backbone"]: each for each in json.loads(out)}
    assert found.keys() == {"timm:good/untrained", "timm:bad/untrained"}
    good = found["timm:good/untrained"]
    change = good["changes"]["map@10"]
    assert change["queries"] == LABELS * EACH // 2
    assert change["after"]["mean"] > change["before"]["mean"] + 0.1 and change["p"] < 0.01
    assert change["difference"]["mean"] == pytest.approx(change["after"]["mean"] - change["before"]["mean"])
    assert change["difference"]["low"] > 0 and good["chosen"] in good["held_out"]
    assert good["runs"]["before"] != good["runs"]["after"]
    logged = read_events(tmp_path / "tb")
    names = [f"timm:good/untrained/{when}/map@10" for when in ("before", "after")]
    assert [logged.scalars[name][0][1] for name in names] == pytest.approx(
        [change[when]["mean"] for when in ("before", "after")]
    )
    assert logged.config["models"][good["space"]] == good["model"]


def test_both_are_runs_like_any_other(call, place):
    (told,) = json.loads(call(*RERANK, *GOOD, "--json")[1])
    runs = {run.run_id: run for run in Store.open(place / "features.bb").runs()}
    before, after = (runs[told["runs"][when]] for when in ("before", "after"))
    assert before.record["parameters"]["rerankers"] == []
    assert after.record["parameters"]["rerankers"] == [{"step": "rerank", "model": told["model"], "top_n": 100}]
    assert before.record["test_set"] == after.record["test_set"]
    for when, run in (("before", before), ("after", after)):
        assert told["changes"]["map@10"][when]["mean"] == pytest.approx(run.record["scores"]["overall"]["map@10"])
    plain = json.loads(call("probe", "retrieval", "--no-pairs", "--labels", "labels.csv", *GOOD, "--json")[1])
    assert plain[0]["run_id"] == before.run_id and not plain[0]["fresh"]
    shown = json.loads(call(*REPORT, *GOOD, "--json", "--metric", "map@10")[1])
    assert [each["name"] for each in shown] == ["timm:good/untrained re-ranked", "timm:good/untrained"]
    assert shown[0]["scores"]["map@10"]["mean"] == pytest.approx(told["changes"]["map@10"]["after"]["mean"])
    assert call("store", "verify")[0] == 0


def test_the_same_in_words(call):
    status, out, _ = call(*RERANK, *GOOD)
    assert status == 0
    assert re.search(
        r"^timm:good/untrained, space [0-9a-f]{12}: whitened 0\.\d+.*; the nearest 100 of 96 queries$", out, re.M
    )
    assert re.search(r"^map@10 +0\.\d{4} +0\.\d{4} +\+0\.\d{4} \[\+0\.\d{4}, \+0\.\d{4}\] +0\.\d{4} *$", out, re.M)


def test_a_model_that_was_saved_does_the_same_again(call, tmp_path):
    file = tmp_path / "model.safetensors"
    status, out, err = call(*RERANK, *GOOD, "--save", file, "--json")
    assert status == 0 and f"wrote {file}: whitened" in err
    (learned,) = json.loads(out)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == learned["model"]
    (again,) = json.loads(call(*RERANK, *GOOD, "--load", file, "--test-on", "test", "--json")[1])
    assert again["changes"] == learned["changes"] and again["model"] == learned["model"]
    assert again["chosen"] == file.name and again["held_out"] == {}
    (whole,) = json.loads(call(*RERANK, *GOOD, "--load", file, "--json")[1])
    assert whole["changes"]["map@10"]["queries"] == LABELS * EACH


def test_the_page_shows_the_worst_and_their_pictures(call, tmp_path):
    file = tmp_path / "r.html"
    status, out, err = call(*REPORT, "--data", "pics=images", "--html", file, "--queries", 3, "--top", 4)
    assert status == 0 and out == "" and f"wrote {file}" in err
    text = file.read_text()
    assert text.count('<li data-label="') == 6 and text.count('<use href="#p') >= 6 * 5
    assert text.count('href="data:image/jpeg;base64,') == len(set(re.findall('<use href="#(p[0-9]+)"', text)))
    assert "<h2" in text and "cow" in text and "feature space <code>" in text
    assert sorted(re.findall(r'<h2 id="s\d-title"[^>]*>([^<]*)</h2>', text.replace("<wbr>", ""))) == [
        "timm:bad/untrained",
        "timm:good/untrained",
    ]


def test_bounding_boxes_are_framed_and_those_beyond_their_image_are_said(call, place, tmp_path):
    boxes = {"x1": 2, "y1": 3, "x2": [24 if place % 2 else 24.5 for place in range(len(NAMES))], "y2": 16}
    table = pl.read_csv(place / "labels.csv")
    table.with_columns(
        pl.lit(v).alias(n) if isinstance(v, int) else pl.Series(n, v) for n, v in boxes.items()
    ).write_csv(place / "labels.csv")
    status, _, err = call(*REPORT, *GOOD, "--queries", 192, "--data", "pics=images", "--html", tmp_path / "r.html")
    assert status == 0
    assert (
        f"note: 96 boxes are not drawn, such as that of {NAMES[0]}: the box 2, 3, 24.5, 16 reaches out of 24 x 16 "
        "pixels; x1, y1, x2 and y2 count pixels of the image the right way up\n"
    ) in err
    text = (tmp_path / "r.html").read_text()
    assert text.count("<image ") == 192 and text.count('<rect x="2.00" y="3.00" width="22.00" height="13.00"') == 2 * 96


def test_figures_go_to_the_loggers(call, tmp_path):
    status, _, err = call(
        *REPORT, *GOOD, "--data", "pics=images", "--queries", 2, "--log", f"tensorboard:{tmp_path / 'tb'}"
    )
    assert status == 0, err
    logged = read_events(tmp_path / "tb")
    title = "worst queries of timm:good/untrained"
    assert sorted(logged.figures) == [(title, 0), (title, 1)]
    assert all(data.startswith(b"\x89PNG") for data in logged.figures.values())
    assert len(logged.config["runs"]) == 1 and logged.scalars["timm:good/untrained/map@10"][0][0] == 0


def test_without_images_they_are_named(call, tmp_path):
    status, _, err = call(*REPORT, *GOOD, "--html", tmp_path / "r.html")
    assert status == 0
    assert "note: no images are available, so they are only named: --data pics=DIR shows them\n" in err
    text = (tmp_path / "r.html").read_text()
    assert "<image" not in text and "<use" not in text and NAMES[0] in text


def test_images_that_are_other_ones_by_now_or_gone_are_said_not_shown(call, place, tmp_path):
    shutil.copytree(place / "images", tmp_path / "images")
    (tmp_path / "images" / NAMES[0]).write_bytes(picture(200))
    (tmp_path / "images" / NAMES[1]).unlink()
    status, _, err = call(
        *REPORT, *GOOD, "--queries", 192, "--data", f"pics={tmp_path / 'images'}", "--html", tmp_path / "r"
    )
    assert status == 0
    assert f"note: 1 images in {tmp_path / 'images'} are not those that were tested on, and are not shown" in err
    assert re.search(rf"note: 1 of \d+ images are not in {tmp_path / 'images'}, and are only named\n", err), err


def test_scores_in_the_terminal_and_as_json(call):
    status, out, _ = call(*REPORT)
    assert status == 0
    assert out.splitlines()[0].startswith("95% intervals for further labels like these ")
    heads, best, other = (re.split(" {2,}", line.rstrip()) for line in out.splitlines()[1:])
    assert heads[:5] == ["backbone", "space", "map@r", "less the first", "p"]
    assert heads[5:] == ["cmc@1", "precision@5", "map@10", "r_precision"]
    score, less = r"[01]\.\d{3} \[[01]\.\d{3}, [01]\.\d{3}\]", r"-0\.\d{3} \[-0\.\d{3}, -0\.\d{3}\]"
    assert best[0] == "timm:good/untrained" and re.fullmatch(score, best[2]) and len(best) == len(heads) - 2
    assert other[0] == "timm:bad/untrained" and re.fullmatch(score, other[2]) and re.fullmatch(less, other[3])
    assert float(other[4]) < 0.001


def test_each_row_less_the_first_is_judged_by_labels(call, place):
    runs = {run.record["backbones"][0]: run for run in Store.open(place / "features.bb").runs()}
    for metric in ("map@r", "cmc@1"):
        best, other = json.loads(call(*REPORT, "--metric", metric, "--json")[1])
        assert [best["name"], other["name"]] == ["timm:good/untrained", "timm:bad/untrained"]
        assert next(iter(best["scores"])) == metric and best["behind"] is None
        found = of_runs([runs[each["name"]] for each in (best, other)], metric)
        assert other["behind"]["p"] == found.p(1, 0)
        assert [other["behind"]["difference"][name] for name in ("low", "high")] == list(found.difference(1, 0))
        assert best["claim"] == other["claim"] and f"further labels like these {found.units}" in best["claim"]


def test_rows_stand_in_order_of_the_leading_score_whatever_was_asked_first(call):
    keys = [word for name in ("bad", "good") for word in ("--space", spaces()[name].key)]
    out = call(*PROBE, "--labels", "labels.csv", *keys)[1]
    rows = [line for line in out.splitlines() if line.startswith("timm:")]
    assert [row.split()[0] for row in rows[:2]] == ["timm:good/untrained", "timm:bad/untrained"]
    assert float(rows[0].split()[2]) > float(rows[1].split()[2])
    per_category = [row.split()[0] for row in rows[2:]]
    assert per_category == ["timm:good/untrained"] * 2 + ["timm:bad/untrained"] * 2


def test_json_of_the_worst(call):
    (found,) = json.loads(call(*REPORT, *GOOD, "--metric", "map@10", "--json", "--queries", 2)[1])
    assert len(found["answers"]) == 2 and found["categories"].keys() == {"calf", "cow"}
    low, mean, high = (found["scores"]["map@10"][name] for name in ("low", "mean", "high"))
    assert low <= mean <= high
    worst = [answer["score"] for answer in found["answers"]]
    assert worst == sorted(worst) and worst[0] <= mean


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((*RERANK, "--distance", "taxi"), 2, "bb: unknown distance 'taxi': choose cosine or euclidean."),
        ((*RERANK, "--convention", "pml"), 2, "bb: unknown convention 'pml': choose standard or oml."),
        ((*RERANK, "--save", "a", "--load", "b"), 2,
         "bb: --save writes a model that is learned, and --load takes one: give one of them."),
        ((*RERANK, "--save", "no/such/m"), 2, "bb: --save no/such/m: the folder"),
        ((*RERANK, "--save", "m"), 2, "bb: a file holds the model of one feature space, and 2 are there; choose:\n"),
        ((*RERANK, "--learn-on", "val"), 2, "bb: labels.csv has no rows of split 'val'; it has test, train."),
        ((*RERANK, *GOOD, "--load", "labels.csv"), 1, "bb: labels.csv holds no pairwise model ("),
        ((*RERANK, "--log", "clearml:x"), 2, "bb: 'clearml:x' names no logger: choose tensorboard:DIR, mlflow:DIR, w"),
        ((*REPORT, "--metric", "f1"), 2, "bb: unknown metric 'f1' in these runs: choose cmc@1"),
        ((*REPORT, "--html", "images"), 2, "bb: --html images is a folder: name a file."),
        ((*REPORT, "--ckpt", "timm:none/untrained"), 1,
         "bb: features.bb has no runs of retrieval on labels by these backbones: bb probe retrieval --labels l"),
        ((*RERANK, "--ckpt", "timm:none/untrained"), 2, "bb: features.bb has no features of timm:none/untrained."),
        (("report", "retrieval", "--labels", "no.csv"), 2, "bb: no labels at no.csv: "),
    ],
)  # fmt: skip
def test_messages(call, words, status, said):
    found, out, err = call(*words)
    assert (found, out) == (status, "") and said in err, err


def test_labels_of_no_collection_or_of_two(call, place, tmp_path):
    (tmp_path / "l.csv").write_text("image_id,label\nz.png,a\n")
    assert call("probe", "rerank", "--load", "m", "--labels", tmp_path / "l.csv")[2].splitlines()[-1] == (
        "bb: none of features.bb's collections holds all 1 images of the labels: name the collection with --data NAME."
    )
    shutil.copytree(place / "features.bb", tmp_path / "two.bb")
    shutil.copytree(tmp_path / "two.bb/collections/pics", tmp_path / "two.bb/collections/other")
    said = "bb: other and pics hold all 192 images of the labels: name the collection with --data NAME.\n"
    assert said in call(*RERANK, "--store", tmp_path / "two.bb")[2]


def test_labels_that_are_others_by_now(call, place, tmp_path):
    table = pl.read_csv(place / "labels.csv")
    changed = {
        "label": table.with_columns(label=pl.lit("whale")),
        "fewer": table.head(90),
        "more": table.vstack(table.tail(1).with_columns(image_id=pl.lit("z.png"))),
    }
    for name, each in changed.items():
        (tmp_path / name).mkdir()
        file = tmp_path / name / "labels.csv"
        each.write_csv(file)
        status, out, err = call("report", "retrieval", "--labels", file)
        assert (status, out) == (1, "")
        assert re.search(
            rf"^bb: run [0-9a-f]{{12}} was made on other labels than {file} has now\. .*: bb probe ret", err, re.M
        )


def test_only_runs_that_can_be_compared_are_told_of_together(call, place, tmp_path):
    shutil.copytree(place / "features.bb", tmp_path / "more.bb")
    where = ("--labels", "labels.csv", "--store", tmp_path / "more.bb")
    assert call(*PROBE, *GOOD, *where, "--convention", "oml")[0] == 0
    status, out, err = call("report", "retrieval", *where, "--json")
    assert "note: 2 runs of other queries, labels or metrics are left out; the newest are shown\n" in err
    (found,) = json.loads(out)
    assert "convention oml" in found["facts"] and status == 0


def test_what_is_learned_on_need_neither_ask_nor_answer(call, place, tmp_path):
    table = pl.read_csv(place / "labels.csv").with_columns(
        is_query=pl.col("split") == "test", is_gallery=pl.col("split") == "test"
    )
    table.write_csv(tmp_path / "roles.csv")
    words = ("probe", "rerank", "--labels", tmp_path / "roles.csv", *GOOD, "--json")
    (one,), (other,) = (json.loads(call(*each)[1]) for each in (words, (*RERANK, *GOOD, "--json")))
    assert (one["model"], one["changes"]) == (other["model"], other["changes"])


@pytest.mark.parametrize("verb", ["rerank", "head"])
def test_a_missing_image_and_a_picture_on_both_sides_are_named(call, place, verb):
    digests = [hashlib.sha256(picture(i)).digest() for i in range(len(NAMES))]
    digests[100] = digests[0]
    entries = [Entry(name, digest, 100, 24, 16) for name, digest in zip(NAMES, digests, strict=True)]
    store = Store.create(place / "twins.bb")
    store.put_collection(Collection.from_entries("pics", entries))
    features, _ = clouds(LABELS, EACH, nuisance=2.0)
    rows = [row for row in range(len(NAMES)) if row not in (7, 100)]  # a row for each file, and 7 is missing
    writer = SegmentWriter(store, spaces()["good"], {"backbone": GOOD[1]})
    names = [f"pics/{NAMES[row]}" for row in rows]
    writer.add(np.frombuffer(b"".join(digests[row] for row in rows), np.uint8).reshape(-1, 32), names,
               features[rows].astype(np.float16))  # fmt: skip
    writer.close()
    more = {"rerank": (), "head": ("--accept", "any", "--epochs", 1)}[verb]
    words = ("probe", verb, "--labels", "labels.csv", "--store", "twins.bb", *GOOD, *more)
    status, out, err = call(*words)
    assert status == 1 and not out and "is missing 1: '00-7.png'" in err and "--missing skip" in err, err
    status, _, err = call(*words, "--missing", "skip", "--max-missing", 0.01)
    assert status == 0 and "1 image left out, since it has no features: '00-7.png'" in err, err
    assert "1 of 96 images that are not learned from are the same file as one that is" in err, err
    assert "such as '12-4.png' and '00-0.png': scores on them say little of new images" in err


def test_a_category_without_a_score(call, place, tmp_path, monkeypatch):
    shutil.copytree(place / "features.bb", tmp_path / "alone.bb")
    first = pl.col("image_id") == NAMES[0]
    pl.read_csv(place / "labels.csv").with_columns(
        category=pl.when(first).then(pl.lit("alone")).otherwise("category"),
        label=pl.when(first).then(pl.lit("nobody else")).otherwise("label"),
    ).write_csv(tmp_path / "alone.csv")
    where = ("--labels", tmp_path / "alone.csv", "--store", tmp_path / "alone.bb", *GOOD)
    assert call(*PROBE, *where)[0] == 0
    (found,) = json.loads(call("report", "retrieval", *where, "--json")[1])
    assert NAMES[0] not in [answer["image_id"] for answer in found["answers"]]
    assert found["categories"].get("alone", {"map@10": None})["map@10"] is None
    assert found["categories"]["cow"]["map@10"] > 0
    opened = []
    monkeypatch.setattr("typer.launch", lambda path: opened.append(path) or 0)
    monkeypatch.setenv("BROWSER", "firefox")
    assert call("report", "retrieval", *where, "--html", tmp_path / "r.html", "--open")[0] == 0
    page = (tmp_path / "r.html").read_text()
    assert opened == [str(tmp_path / "r.html")] and "We compared 1 frozen vision backbone (" in page
    assert "on alone, with " in page and found["space"][:12] in page


def test_two_spaces_of_one_backbone_are_told_apart(call, place, tmp_path):
    shutil.copytree(place / "features.bb", tmp_path / "twins.bb")
    store = Store.open(tmp_path / "twins.bb")
    where = space(weights="f" * 64, output={"kind": "img", "pooling": "cls", "dim": DIM})
    features, _ = clouds(LABELS, EACH, nuisance=1.0)
    collection = store.collection("pics", NAMES)
    fill(store, where, collection, features.astype(np.float16), {"backbone": "timm:good/untrained"})
    twins = ("--labels", "labels.csv", "--store", tmp_path / "twins.bb")
    assert call(*PROBE, *twins, "--space", where.key)[0] == 0
    found = json.loads(call("report", "retrieval", *twins, "--json", *GOOD)[1])
    assert len(found) == 2 and len({each["name"] for each in found}) == 2
    assert all(re.fullmatch("timm:good/untrained [0-9a-f]{12}", each["name"]) for each in found)
    keys = [word for key in (where.key, spaces()["good"].key) for word in ("--space", key)]
    told = json.loads(call("probe", "rerank", *twins, *keys, "--json")[1])
    assert [each["backbone"] for each in told] == [f"timm:good/untrained {key[:12]}" for key in keys[1::2]]


def test_a_store_that_can_t_be_written_is_noticed_before_anything_is_learned(call, monkeypatch):
    def refuse(self, *folders):
        raise BBError("nothing can be written to it.")

    monkeypatch.setattr("bb.store.Store.check_writable", refuse)
    monkeypatch.setattr("bb.probe.heads.pairwise.rerank.learn", lambda *_, **__: pytest.fail("it learned"))
    status, out, err = call(*RERANK, "--distance", "euclidean")
    assert (status, out) == (1, "") and "nothing can be written to it" in err


def test_a_wrong_split_is_said_before_a_logger_is_opened(call, tmp_path):
    status, _, err = call(*RERANK, "--learn-on", "nowhere", "--log", f"tensorboard:{tmp_path / 'tb'}")
    assert status == 2 and "has no rows of split 'nowhere'" in err and not (tmp_path / "tb").exists()


def test_without_torch(call, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
    assert call(*RERANK)[::2] == (2, "bb: bb probe rerank needs torch: pip install 'backbone-bench[heads]'\n")


def test_the_report_needs_no_torch(place):
    import subprocess
    import sys

    absent = "dict.fromkeys(('torch', 'torchvision', 'timm', 'open_clip', 'PIL', 'safetensors'))"
    words = ["bb", *REPORT, "--store", str(place / "features.bb")]
    script = f"import sys; sys.modules.update({absent}); sys.argv = {words!r}; import bb; bb.main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=place)
    assert done.returncode == 0 and "timm:good/untrained" in done.stdout, done.stderr


def test_from_python_a_model_never_takes_the_place_of_the_labels(place):
    before, runs = (place / "labels.csv").read_bytes(), len(list(Store.open(place / "features.bb").runs()))
    for path, why in (
        (place / "labels.csv", "would replace what is read from it: name another file"),
        (place / "none" / "m.safetensors", "the folder .* does not exist. Make it first"),
        (place / "features.bb" / "m.safetensors", "is in the store .*, which only bb writes to"),
    ):
        with pytest.raises(UsageError, match=f"save_to={path}.* {why}"):
            bb.probe.rerank(place / "features.bb", place / "labels.csv", ckpt=GOOD[1], save_to=path)
    assert (place / "labels.csv").read_bytes() == before
    assert len(list(Store.open(place / "features.bb").runs())) == runs
