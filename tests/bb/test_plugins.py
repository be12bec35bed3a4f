"""A plug-in package, installed: seen by `bb doctor`, used from the command line and from Python."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bb.store import Store
from tests.helpers.labelled import labelled
from tests.helpers.synthetic import cluster_store
from tests.helpers.toys import make_images

pytestmark = pytest.mark.e2e  # a package is installed, and most tests start bb anew
PLUGIN = Path(__file__).parents[1] / "data" / "plugin"
PROBE = ["probe", "newt", "--labels", "newt2021_labels.csv", "--svm", "centroid", "--n-train", "all", "--json"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed packages with the plug-in in it."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PLUGIN, folder / "source")
    install = ["pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--offline"]
    python = ["--python", sys.executable, "--target", folder / "site", folder / "source"]
    subprocess.run([sys.executable, "-m", "uv", *install, *python], check=True, capture_output=True)
    return folder / "site"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    labelled(folder)
    return folder


def call(folder, site, *words):
    """Standard output, standard error and exit status of bb with the plug-in installed."""
    places = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]  # a checkout may be named there
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run(
        [sys.executable, "-P", *words], cwd=folder, capture_output=True, text=True, env=environment, check=False
    )
    return done.stdout, done.stderr, done.returncode


def test_doctor_names_plugins_and_what_is_wrong_with_one(folder, site):
    out, err, status = call(folder, site, "-m", "bb", "doctor", "--json")
    assert status == 0, err
    facts = {name: fact for name, fact in json.loads(out).items() if name.startswith("plug-in")}
    assert list(facts) == [
        "plug-in bb.backbones: example of bb-example",
        "plug-in bb.classifiers: centroid of bb-example",
        "plug-in bb.loggers: jsonl of bb-example",
        "plug-in bb.metrics: matthews of bb-example",
        "plug-in bb.protocols: letters-few-shot of bb-example",
        "plug-in bb.tasks: broken of bb-example",
        "plug-in bb.tasks: letters of bb-example",
    ]
    assert facts.pop("plug-in bb.loggers: jsonl of bb-example") == (
        "plug-in bb-example 0.3 (bb.loggers: jsonl = bb_example.no_such_module:Logger) can't be imported: "
        "ModuleNotFoundError: No module named 'bb_example.no_such_module'. Update or uninstall it."
    )
    assert set(facts.values()) == {"0.3"}


def test_its_classifier_and_metric_work_on_the_command_line_and_in_python(folder, site):
    out, err, status = call(folder, site, "-m", "bb", *PROBE)
    assert status == 0, err
    (run,) = json.loads(out)
    assert (run["classifier"], run["candidates"], run["backend"]) == ("centroid", 1, "sklearn")
    assert run["scores"]["mean"] == 0.6 and len(run["classifier_code"]) == 64

    out, err, status = call(folder, site, "-m", "bb", "report", "newt", "--metric", "matthews", "--json")
    assert status == 0, err
    (board,) = json.loads(out)
    assert board["metric"] == "matthews" and board["rows"][0]["backbone"] == "timm:made_up/x --svm centroid"

    code = (
        "from bb import probe; runs = probe.run('features.bb', 'newt2021_labels.csv', classifier='centroid'); "
        "print(runs[0].run_id, len(runs.fresh), probe.report('features.bb', metric='matthews')[0].metric)"
    )
    out, err, status = call(folder, site, "-c", code)
    assert (out.split(), status) == ([run["run_id"], "0", "matthews"], 0), err


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """A store with features of 60 letters, and the folder `data` with their labels as the plug-in reads them."""
    folder = tmp_path_factory.mktemp("letters")
    _, ids, y, _ = cluster_store(folder / "features.bb", n=60, classes=3)
    (folder / "data").mkdir()
    lines = [
        f"{name} {'train' if i < 30 else 'test'} {'abc'[k]}" for i, (name, k) in enumerate(zip(ids, y, strict=True))
    ]
    (folder / "data" / "letters.txt").write_text("\n".join(lines))
    return folder


def test_its_task_family_is_probed_by_its_name(letters, site):
    words = ("probe", "letters", "--data", "pics=data", "--classifier", "ridge,centroid", "--shots", "2,all")
    out, err, status = call(letters, site, "-m", "bb", *words, "--json")
    assert status == 0, err
    runs = json.loads(out)
    assert {run["tasks"] for run in runs} == {"letters"} and {run["protocol"] for run in runs} == {"classify"}
    assert len(runs) == 4 and runs[0]["class_names"] == {"classify": ["a", "b", "c"]}
    for report in (("report", "letters"), ("report", "classify", "letters")):
        out, err, status = call(letters, site, "-m", "bb", *report)
        assert status == 0 and out.startswith("letters: 30 images tested, side test"), err
    out, err, status = call(letters, site, "-m", "bb", "probe", "--help")
    assert status == 0 and "letters" in out and "a task family of bb-example" in out, err
    out, err, status = call(letters, site, "-m", "bb", "probe", "letters", "--help")
    assert status == 0 and "Score stored features on letters: a task family of bb-example." in " ".join(out.split())


def test_its_protocol_is_run_and_reported_as_no_replica(letters, site):
    words = ("probe", "letters", "--data", "pics=data", "--protocol", "letters-few-shot")
    out, err, status = call(letters, site, "-m", "bb", *words, "--json")
    assert status == 0, err
    assert [(run["classifier"], run["n_train"], run["seed"]) for run in json.loads(out)] == [
        ("centroid", 2, 0), ("centroid", 2, 1)
    ]  # fmt: skip
    out, err, status = call(letters, site, "-m", "bb", "report", "letters")
    assert status == 0 and "protocol letters-few-shot" in out, err
    assert "protocol letters-few-shot is bb's own, after example/letters, few_shot.py" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("probe", "letters", "--data", "pics"), "where are the labels of letters? Give --data letters=DIR"),
        (("probe", "letters", "--data", "pics=features.bb"), "features.bb has no labels of letters: "),
        (("probe", "broken", "--data", "pics=data"), "(bb.tasks: broken = bb_example:BROKEN) can't read the labels in"),
        (("probe", "lettres"), "unknown probe 'lettres': choose newt, classify, "),
        (("data", "download", "letters", "--to", "x"), "bb can't download letters: its plug-in names no archive."),
        (("data", "download", "coins", "--to", "x"), "bb can't download 'coins', only newt, broken, letters."),
    ],
)
def test_a_task_family_that_can_not_be_probed(letters, site, words, message):
    out, err, status = call(letters, site, "-m", "bb", *words)
    assert status in (1, 2) and out == "" and message in err, err


def summary_of(folder, site, ckpt):
    words = ["extract", "--ckpt", ckpt, "--data", "pics=pics", "--store", "pics.bb", "--device", "cpu", "--json"]
    out, err, status = call(folder, site, "-m", "bb", *words)
    assert status == 0, err
    return json.loads(out)[0]


def test_its_backbone_is_listed_and_extracted_and_edits_of_the_plugin_make_another_space(folder, site, tmp_path):
    out, err, status = call(folder, site, "-m", "bb", "models", "example:", "--json")
    assert (json.loads(out), status) == ([{"name": "example:tiny/untrained", "lacks": ""}], 0), err
    make_images(tmp_path / "pics", 5)
    first = summary_of(tmp_path, site, "example:tiny/untrained")
    assert (first["computed"], first["failed"]) == (5, {})

    store = Store.open(tmp_path / "pics.bb")
    (space,) = store.spaces()
    code, package = space.code.split("+")
    assert (space.org, space.output["dim"]) == ("example", 32) and (len(code), len(package)) == (40, 64)
    assert space.architecture == {"name": "tiny", "width": 8}

    shutil.copytree(site, tmp_path / "site")
    module = tmp_path / "site" / "bb_example" / "backbones.py"
    module.write_text(module.read_text().replace("nn.GELU()", "nn.ReLU()"))
    edited = summary_of(tmp_path, tmp_path / "site", "example:tiny/untrained")
    assert (edited["computed"], edited["adopted"]) == (5, []) and edited["spaces"] != first["spaces"]
    again = summary_of(tmp_path, site, "example:tiny/untrained")
    assert (again["computed"], again["present"], again["spaces"]) == (0, 5, first["spaces"])


def test_faults_of_a_backbone_of_a_plugin_are_named(folder, site, tmp_path):
    make_images(tmp_path / "pics", 1)
    words = ["-m", "bb", "extract", "--data", "pics=pics", "--store", "pics.bb", "--device", "cpu", "--ckpt"]
    faults = {
        "example:huge/untrained": "example:huge/untrained: bb-example has no architecture 'huge'; it has tiny.",
        "exampel:tiny/untrained": "unknown library 'exampel'; use open_clip:, timm:, example:",
        "example:tiny@none.safetensors": "plug-in bb-example 0.3 (bb.backbones: example = bb_example.backbones) can't "
        "load example:tiny@none.safetensors: FileNotFoundError: No such file or directory: none.safetensors",
    }
    for ckpt, message in faults.items():
        out, err, status = call(tmp_path, site, *words, ckpt)
        assert out == "" and status in (1, 2) and message in err, err
    out, err, status = call(tmp_path, site, *words, "example:tiny/untrained", "--pool", "max")
    assert status == 2 and "--pool max is for networks of timm, and example:tiny/untrained is of example" in err


def test_an_edited_plugin_makes_another_run(folder, site, tmp_path):
    shutil.copytree(site, tmp_path / "site")
    with (tmp_path / "site" / "bb_example" / "__init__.py").open("a") as module:
        module.write("# edited\n")
    runs = [json.loads(call(folder, each, "-m", "bb", *PROBE)[0])[0] for each in (site, tmp_path / "site")]
    assert runs[0]["run_id"] != runs[1]["run_id"] and runs[0]["scores"] == runs[1]["scores"]


def test_without_the_plugin_its_names_are_unknown_and_its_runs_are_shown(folder, tmp_path):
    out, err, status = call(folder, tmp_path, "-m", "bb", *PROBE)
    assert (out, status) == ("", 2)
    assert "--svm 'centroid' is unknown; choose auto, linear, search." in err
    out, err, status = call(folder, tmp_path, "-m", "bb", "report", "newt", "--metric", "matthews")
    assert status == 2 and "no metric is called 'matthews': choose accuracy, balanced_accuracy" in err
