"""Labels as people write them, options as people type them: what the verbs say, record, and exit with."""

import json
import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from PIL import Image

from bb.labels import with_paths
from bb.store import Collection, Store
from bb.store.errors import UsageError
from bb.store.format.collection import Entry
from bb.store.storage.url import is_url, open_place
from tests.helpers.command_line import caller
from tests.helpers.stores import fill, space

NAMES = [f"img/{i:02d}.jpg" for i in range(16)]
ACUTE, NFD = "img/\N{LATIN SMALL LETTER E WITH ACUTE}.jpg", "img/e\N{COMBINING ACUTE ACCENT}.jpg"


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Runs a command line in a folder of its own: (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("BB_STORE", "BB_DATA"):
        monkeypatch.delenv(name, raising=False)
    return caller(monkeypatch, capsys)


@pytest.fixture
def store(tmp_path):
    """Images of four individuals in features.bb; 12 to 15 are the same files as 0 to 3."""
    store, names = Store.create(tmp_path / "features.bb"), [*NAMES, ACUTE]
    rng = np.random.default_rng(0)
    digests = [rng.bytes(32) for _ in names]
    digests[12:16] = digests[:4]
    entries = [Entry(name, digest, 1, 8, 8) for name, digest in zip(names, digests, strict=True)]
    pics = store.put_collection(Collection.from_entries("pics", entries))
    where = space(output={"kind": "img", "pooling": "cls", "dim": 8})
    x = np.repeat(np.eye(8)[:4], 4, axis=0)[:16] + rng.normal(scale=0.5, size=(16, 8))
    x[12:16] = x[:4]
    x = np.vstack([x, rng.normal(size=(1, 8))])[np.argsort(names)]
    fill(store, where, pics, x.astype(np.float16), {"backbone": "timm:toy/untrained"})
    return store


def individuals(path, ids=NAMES[:12], labels=None, **columns):
    labels = labels or [f"whale {i // 3}" for i in range(len(ids))]
    pl.DataFrame({"image_id": ids, "label": labels, **columns}).write_csv(path)


def task(path, test=NAMES[6:12], name="t"):
    """Class 0 is even, class 1 odd."""
    rows = [(i, "c", "", name, place % 2, "train") for place, i in enumerate(NAMES[:6])]
    rows += [(i, "c", "", name, place % 2, "test") for place, i in enumerate(test)]
    columns = ["id", "task_cluster", "task_subcluster", "task", "label", "split"]
    pl.DataFrame(rows, schema=columns, orient="row").write_csv(path)


def test_seeds_of_retrieval_and_classify_have_one_range(call, store):
    """A larger one made a run that every reader then called damaged."""
    individuals("l.csv")
    for words in (("retrieval", "--folds", 3), ("classify",)):
        status, _, err = call("probe", *words, "--labels", "l.csv", "--seed", 10**20)
        assert status == 2 and f"--seed {10**20} makes no sense: choose " in err and f"0 to {2**63 - 1}." in err


def retrieval(call, *arguments):
    status, out, err = call("probe", "retrieval", "--no-pairs", "--json", *arguments)
    assert status == 0, err
    return json.loads(out)[0], err


def test_ids_written_otherwise_give_the_same_run_and_it_says_how_they_were_matched(call, store):
    individuals("l.csv", [*NAMES[:11], ACUTE])
    expected, _ = retrieval(call, "--labels", "l.csv", "--folds", 3)
    for form in (lambda i: i.replace("/", "\\"), lambda i: i[4:], lambda i: i[:-4], lambda i: f"/data/{i}"):
        individuals("l.csv", [*map(form, NAMES[:11]), form(NFD)])
        found, _ = retrieval(call, "--labels", "l.csv", "--folds", 3)
        assert found["run_id"] == expected["run_id"] and not found["fresh"]
    individuals("l.csv", [*NAMES[:11], NFD])
    found, _ = retrieval(call, "--labels", "l.csv", "--folds", 3, "--force")
    (note,) = [note for note in found["notes"]["retrieval"] if note.startswith("image IDs")]
    assert "11 as written, 1 in another Unicode normalization; 'img/e\\u0301.jpg' is" in note


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([f"{i}.jpg" for i in range(12)], "Asked for '0.jpg', the collection has 'img/00.jpg': the numbers have other"),
        (
            [i.upper() for i in NAMES[:12]],
            "Asked for 'IMG/00.JPG', the collection has 'img/00.jpg': they differ only in",
        ),
        ([f"pic/{i[4:]}" for i in NAMES[:12]], "Asked for 'pic/00.jpg', the collection has 'img/00.jpg': the folders"),
        (
            ["x", *NAMES[:11]],
            "is missing 1 of 12 images: x. Check the folder with `bb data check pics`, then extract again;",
        ),
        (
            ["00.jpg", *NAMES[:11]],
            "image IDs '00.jpg' and 'img/00.jpg' both stand for image 'img/00.jpg' of",
        ),
    ],
)
def test_ids_that_match_nothing_are_explained(call, store, ids, said):
    individuals("l.csv", ids)
    status, _, err = call("probe", "retrieval", "--labels", "l.csv")
    assert status == 1 and said in err


def test_labels_that_look_alike_are_said_and_recorded(call, store):
    individuals("l.csv", labels=["a", "a ", "b"] * 4)
    found, _ = retrieval(call, "--labels", "l.csv")
    (note,) = found["notes"]["retrieval"]
    assert "label 'a', 'a ' look alike: they differ only in trailing or leading whitespace" in note
    individuals("l.csv", sequence=["s1", "S1", ""] * 4)
    found, _ = retrieval(call, "--labels", "l.csv")
    assert "sequence 'S1', 's1' look alike" in found["notes"]["retrieval"][0]


def test_missing_labels_are_refused_unless_they_are_names(call, store):
    individuals("l.csv", labels=["a", "NA", "NA"] * 4)
    status, _, err = call("probe", "retrieval", "--labels", "l.csv")
    assert status == 1 and "l.csv, line 3: label is 'NA', which stands for a missing value; every row needs one" in err
    assert "(7 more like it): lines 4, 6, 7, 9, 10, …" in err and "keep it with --not-missing NA" in err
    found, _ = retrieval(call, "--labels", "l.csv", "--not-missing", "NA")
    assert found["scores"]["queries"] == 12
    individuals("l.csv", sequence=["NA"] * 6 + ["s"] * 6)
    found, _ = retrieval(call, "--labels", "l.csv")
    assert found["notes"]["retrieval"][0] == "column sequence: 6 cells of 'NA' are taken as empty"


def test_a_file_name_is_no_pattern(call, store):
    individuals("l[1].csv")
    individuals("l1.csv", labels=["wrong"] * 12)
    found, _ = retrieval(call, "--labels", "l[1].csv")
    assert found["tasks"] == "l[1]" and found["scores"]["left_out"] == 0 and found["scores"]["overall"]["map@r"] < 1


def test_the_same_picture_in_training_and_test_is_said_recorded_and_reported(call, store):
    task("l.csv", [*NAMES[6:12], *NAMES[12:16]])
    newt = ("probe", "newt", "--labels", "l.csv", "--data", "pics")
    status, out, err = call(*newt, "--n-train", 4, "--json")
    said = "4 of 10 test images are the same file as a training image of their task (t; test image 'img/12.jpg' is"
    assert status == 0 and said in err and "--drop-leaks leaves them out" in err
    (run,) = json.loads(out)
    assert run["leaks"] == {"t": {"leaked": 4, "test": 10, "example": ["img/12.jpg", "img/00.jpg"]}}
    made = next(store.runs(run["run_id"]))
    rest = made.predictions().filter(~pl.col("image_id").is_in(NAMES[12:16]))
    assert len(rest) == 6 and run["scores_without_leaks"]["mean"] == rest["score"].mean()
    assert any(said in note for note in run["labels_notes"])
    assert "no leaks" in call(*newt, "--n-train", 4)[1]
    _, _, err = call("report", "newt")
    assert said in err and f"and {rest['score'].mean():.3f} without the 4 test images" in err

    _, out, err = call(*newt, "--n-train", 4, "--drop-leaks", "--json")
    (dropped,) = json.loads(out)
    assert dropped["run_id"] != run["run_id"] and dropped["leaks"] == {} and dropped["scores"]["n"] == 6
    assert dropped["scores"]["mean"] == run["scores_without_leaks"]["mean"]
    assert "4 test images that equal training images are left out" in err
    task("l.csv", NAMES[12:16])
    status, _, err = call(*newt, "--drop-leaks")
    assert status == 1 and "--drop-leaks leaves no task with test images of both classes" in err
    status, out, err = call(*newt, "--json")
    assert status == 0 and "4 of 4 test images are the same file" in err
    assert json.loads(out)[0]["scores_without_leaks"] is None


def test_one_picture_with_two_labels_is_said(call, store):
    task("l.csv", [NAMES[13], NAMES[12], *NAMES[6:8]])
    _, _, err = call("probe", "newt", "--labels", "l.csv", "--data", "pics")
    assert "task t: images 'img/01.jpg' and 'img/13.jpg' are the same file with different labels" in err


def test_several_seeds_and_n_train_go_with_commas(call, store):
    task("l.csv")
    newt = ("probe", "newt", "--labels", "l.csv", "--data", "pics", "--json")
    status, out, _ = call(*newt, "--n-train", "2,4", "--seed", "0,1", "--seed", 2)
    assert status == 0
    assert [(run["n_train"], run["seed"]) for run in json.loads(out)] == [(n, s) for n in (2, 4) for s in (0, 1, 2)]
    (store.root.parent / "bb.toml").write_text('seed = [3, 4]\nn_train = "2,4"\n')
    status, out, _ = call(*newt)
    assert [(run["n_train"], run["seed"]) for run in json.loads(out)] == [(n, s) for n in (2, 4) for s in (3, 4)]


@pytest.mark.parametrize(
    "arguments",
    [
        *(["newt", "--seed", seed] for seed in ("-1", "1.5", "x", "", "1,,2", "1,-1", str(2**63), "nan")),
        *(["newt", "--n-train", n] for n in ("-1", "0", "1", "2.5", "x", "", "4,", str(2**63), "nan")),
        ["newt", "--jobs", "0"],
        ["newt", "--workers", "0", "--on", "slurm"],
        *(["retrieval", "--seed", seed] for seed in ("-1", "x")),
        *(["retrieval", "--folds", folds] for folds in ("-1", "0", "1", "x")),
        *(["retrieval", option, k] for option in ("--k", "--knn") for k in ("0", "-1", "1.5", "x", "1,1", "1,,5")),
        *(["retrieval", "--fmr", fmr] for fmr in ("-1", "2", "nan", "inf", "x", "")),
        *(["retrieval", option, "x"] for option in ("--distance", "--convention", "--index")),
        *(["newt", option, "x"] for option in ("--protocol", "--backend")),
        ["newt", "--svm", "x"],
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(call, store, arguments):
    verb, *options = arguments
    individuals("r.csv")
    task("n.csv")
    labels = {"newt": "n.csv", "retrieval": "r.csv"}[verb]
    status, _, err = call("probe", verb, "--labels", labels, "--data", "pics", *options)
    assert status == 2 and any(word in err for word in (*options, "cut-offs")), err
    assert not list(store.runs())


MISTAKES = [
    # (command line, exit status, words)
    ("probe retrieval --labels none.csv", 2, "no labels at none.csv"),
    ("probe newt --labels none.csv --data pics", 2, "no labels at none.csv"),
    ("report retrieval --labels none.csv", 2, "no labels at none.csv"),
    ("store pull features.bb --store other.bb --for newt --labels none.csv", 2, "no labels at none.csv"),
    ("report newt --reference none.csv", 2, "--reference none.csv: the file does not exist"),
    ("probe retrieval --labels s3://bucket/l.csv", 2, "Tables are read from local files: download it from s3 first"),
    ("probe retrieval --labels few.csv", 2, "few.csv does not have the column label; it has image_id"),
    ("probe newt --labels few.csv --data pics", 2, "few.csv does not have the columns id, task_cluster"),
    ("report newt --reference few.csv", 2, "few.csv does not have the columns task, ckpt, score"),
    ("probe retrieval --labels twice.csv", 2, "line 1: 2 columns are called 'label'"),
    ("probe retrieval --labels rows.csv", 1, "rows.csv, line 3: label is empty"),
    ("probe retrieval --labels book.csv", 1, "it is an Excel workbook"),
    ("probe retrieval --labels good.csv --split none", 2, "no column split"),
    ("probe retrieval --labels good.csv --data none", 2, "has no collection none"),
    ("probe retrieval --labels good.csv --space 00", 2, "names no feature space"),
    ("probe retrieval --labels good.csv --nothing", 2, "No such option"),
    ("predict --labels good.csv --out .", 2, "--out . must end in .csv or .parquet"),
    ("suggest --html /dev/null", 2, "--html /dev/null is a device: name a file"),
    ("report newt --csv pipe", 2, "--csv pipe is a pipe: name a file"),
    ("suggest --out features.bb/o.csv", 2, "--out features.bb/o.csv is in the store "),
    ("suggest --html features.bb/local/o.html", 2, "which only bb writes to: name a place outside it."),
    ("predict --labels good.csv --out link/o.csv", 2, "--out link/o.csv is in the store "),
    ("data check pics --duplicates --csv features.bb/o.csv", 2, "--csv features.bb/o.csv is in the store "),
    ("report newt --csv features.bb/zarr.json", 2, "--csv features.bb/zarr.json is in the store "),
    ("label --labels features.bb/l.csv --data pics=.", 2, "features.bb/l.csv is in the store "),
    ("demo --to features.bb", 2, "--to features.bb is in the store "),
    ("data download newt --to features.bb/d", 2, "--to features.bb/d is in the store "),
    ("store push features.bb/sub", 2, "the store features.bb/sub is in the store "),
    ("store keygen --to features.bb/key.pem", 2, "the private key features.bb/key.pem is in the store "),
    ("data check p[1]=img", 2, "'p[1]' can't name a collection"),
    ("predict --labels good.csv --out coco.csv", 2, "--out coco.csv comes with coco.json, which is there already"),
    ("store sign --key pipe", 1, "pipe: is a pipe, not a file. Fix this and rerun"),
    ("store trust pipe.pub", 1, "pipe.pub: is a pipe, not a file. Fix this and rerun"),
    ("store sign --key none.pem", 2, "found no key at none.pem"),
    ("store trust none.pub", 2, "the file none.pub does not exist"),
    ("store ls --store none.bb", 1, "found no store at none.bb"),
    ("report newt", 1, "features.bb has no runs yet: bb probe newt"),
]


@pytest.mark.parametrize(("line", "expected", "words"), MISTAKES)
def test_one_rule_of_exit_statuses(call, store, line, expected, words):
    """2: the command as typed can't be run, since it names what is not there or lacks a column. 1: the work failed."""
    individuals("good.csv")
    root = store.root.parent
    (root / "few.csv").write_text("image_id\na\n")
    (root / "twice.csv").write_text("image_id,label,label\na,b,c\n")
    (root / "rows.csv").write_text(f"image_id,label\n{NAMES[0]},a\n{NAMES[1]},\n")
    (root / "book.csv").write_bytes(b"PK\x03\x04")
    (root / "coco.json").touch()
    (root / "link").symlink_to("features.bb/spaces")
    (root / "img").mkdir()
    Image.new("RGB", (4, 4)).save(root / NAMES[0])
    os.mkfifo(root / "pipe")
    os.mkfifo(root / "pipe.pub")
    before = sorted(store.root.rglob("*"))
    status, out, err = call(*line.split())
    assert (status, out) == (expected, "") and words in err
    assert sorted(store.root.rglob("*")) == before


def test_a_report_says_which_runs_there_are(call, store):
    individuals("l.csv")
    retrieval(call, "--labels", "l.csv")
    status, _, err = call("report")
    assert status == 1 and "has no runs of newt that can be shown, but 1 others (there: 1 of retrieval on l)" in err
    assert "`bb report retrieval --store features.bb --labels FILE` shows" in err


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("s3:/x", "s3://x"),
        ("S3:x/y", "s3://x/y"),
        ("s3//x", "s3://x"),
        ("gs:/x", "gs://x"),
        ("http:/host/x", "http://host/x"),
        ("https:host", "https://host"),
        ("https//host/x", "https://host/x"),
        ("hf:datasets/a/b", "hf://datasets/a/b"),
        ("file:/x", "file:///x"),
        ("s3:\\x", "s3://x"),
    ],
)
def test_what_is_nearly_a_url_is_no_folder(call, store, text, meant):
    for verb in ("push", "pull"):
        status, _, err = call("store", verb, text)
        assert status == 2 and f"{text!r} is neither a URL nor a plain path: write {meant!r}" in err
    assert call("store", "ls", "--store", text)[0] == 2
    assert call("data", "check", f"pics={text}")[0] == 2
    assert {path.name for path in store.root.parent.iterdir()} <= {"features.bb", "config"}
    for plain in ("features.bb", "/s3:/x", "C:/x", "s3", "a/s3:/x", "c:\\s3", "data:1", "file.bb", "s3.bb/x"):
        assert not is_url(plain) and open_place(plain)
    with pytest.raises(UsageError):
        open_place(text)


def test_names_out_of_data_steer_no_terminal(call, store):
    individuals("l.csv", labels=["a\x1b[31m", "a\x1b[31m ", "b\x9b1m", "c\u202e"] * 3)
    status, out, err = call("probe", "retrieval", "--labels", "l.csv", "--no-pairs")
    assert status == 0 and "look alike" in err
    individuals("l.csv", ids=["x\x1b]0;evil\x07", *NAMES[:11]])
    status, more, worse = call("probe", "retrieval", "--labels", "l.csv")
    assert status == 1 and "is missing 1 of 12 images" in worse
    assert not set("\x1b\x07\x9b\u202e") & set(out + err + more + worse)
    individuals("l.csv", labels=["b\x9b1m", "c\u202e", "d"] * 4, category=["\x9b1m\u202e"] * 12)
    status, out, err = call("probe", "retrieval", "--labels", "l.csv", "--no-pairs", "--json")
    assert list(json.loads(out)[0]["scores"]["categories"]) == ["\x9b1m\u202e"]
    assert not set("\x9b\u202e") & set(out + err)


def test_brackets_in_names_are_no_patterns(call, tmp_path):
    """A store, images, shards, tables and outputs whose names a library could take for patterns, beside decoys."""
    pytest.importorskip("torch")
    import tarfile

    from PIL import Image

    names = ["a.png", "b.png", "c.png", "d.png"]
    for folder, shift in (("im[1]", 0), ("im1", 100)):
        (tmp_path / folder).mkdir()
        for place, name in enumerate(names):
            Image.new("RGB", (16, 16), (place * 60, shift, 50)).save(tmp_path / folder / name)
        frame = [{"image": {"bytes": (tmp_path / folder / name).read_bytes(), "path": name}} for name in names]
        pl.DataFrame(frame).write_parquet(tmp_path / "t")
        (tmp_path / "t").rename(tmp_path / f"{folder}.parquet")
        with tarfile.open(tmp_path / f"{folder}.tar", "w") as tar:
            for name in names:
                tar.add(tmp_path / folder / name, name)
    (tmp_path / "im[1].tar").rename(tmp_path / "im{1,2}.tar")
    pl.DataFrame([{"other": 1}]).write_parquet(tmp_path / "im1.parquet")
    individuals("l[1].csv", names, ["x", "x", "y", "y"])
    individuals("l1.csv", names, ["wrong"] * 4)
    extract = ("extract", "--ckpt", "timm:test_resnet/untrained", "--device", "cpu", "--store", "s[1].bb")
    for name, place in (("folder", "im[1]"), ("tar", "im{1,2}.tar"), ("table", "im[1].parquet")):
        status, _, err = call(*extract, "--data", f"{name}={place}")
        assert status == 0, err
    opened = Store.open(tmp_path / "s[1].bb")
    folder, tar, table = (opened.collections(name)[0] for name in ("folder", "tar", "table"))
    assert [c.table["image_sha256"].to_list() for c in (tar, table)] == [folder.table["image_sha256"].to_list()] * 2
    at = ("--store", "s[1].bb")
    run, _ = retrieval(call, "--labels", "l[1].csv", "--data", "folder", *at)
    assert run["tasks"] == "l[1]" and run["scores"]["queries"] == 4
    status, _, err = call("report", "retrieval", "--labels", "l[1].csv", "--html", "p[1].html", *at)
    assert status == 0 and (tmp_path / "p[1].html").is_file(), err
    assert call("store", "push", "b[1].bb", *at)[0] == 0
    assert call("store", "pull", "b[1].bb", "--store", "c[1].bb")[0] == 0
    for name in ("s[1].bb", "b[1].bb", "c[1].bb"):
        assert call("store", "verify", "--store", name)[0] == 0
    assert not {"s1.bb", "b1.bb", "c1.bb", "p1.html"} & {path.name for path in tmp_path.iterdir()}


def test_paths_are_those_of_the_files_and_empty_where_there_is_none(tmp_path):
    folder = tmp_path / "newt"
    (folder / "newt2021_images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "newt2021_images" / "a.png")
    (folder / "newt2021_labels.csv").write_text("id,task\n")
    frame = with_paths(pl.DataFrame({"image_id": ["a", "b"]}), folder)
    assert frame["path"].to_list() == [str(folder / "newt2021_images" / "a.png"), ""]
    for nowhere in (None, tmp_path / "gone"):
        assert "path" not in with_paths(frame.drop("path"), nowhere).columns


@pytest.mark.parametrize("words", [["status"], ["suggest", "-n", "2", "--out", "next.csv", "--data", "pics=."]])
def test_a_plain_install_without_pillow_goes_on(store, tmp_path, words):
    code = (
        "import importlib.util, sys; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'PIL' else find(name, *rest)\n"
        "sys.modules['PIL'] = None; import bb; bb.main()"
    )
    python = [sys.executable, "-P", "-c", code, *words]
    done = subprocess.run(python, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert words[0] == "status" or "without Pillow the table has no column path" in done.stderr
