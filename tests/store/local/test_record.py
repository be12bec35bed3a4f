"""The record of a run: made from it, through JSON and back without loss, harmless in a notebook."""

import json
import math
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bb.probe.git_commit
from bb.probe.report.run_summary import RunSummary
from bb.probe.scores import score
from bb.store import Store
from bb.store.errors import BBError
from tests.helpers.tables import predictions, put_run

FLOATS = st.floats(allow_nan=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "s.bb")


def run_in(store, **changes):
    rows = predictions([1, 0, 1], tasks=["t", "t", "u"], images=["x", "y", "x"], y_true=[0, 1, 0])
    record = {
        "scores": score(rows),
        "backbones": ["timm:toy"],
        "protocol": "biobench",
        "n_train": 10,
        "provenance": {
            "made": "2026-11-05T12:00:00.250000+00:00",
            "commit": "c" * 40,
            "extraction": [{"device": "NVIDIA H100"}, {"device": "cpu (x86_64)"}, {"device": "NVIDIA A100"}],
        },
        **changes,
    }
    return put_run(store, rows, seed=3, **record)


def test_a_report_is_made_from_a_run(store):
    run = run_in(store)
    report = RunSummary.from_run(run, store.local(run.digest))
    assert report.summary == run.record["scores"]["mean"] == 2 / 3
    assert report.splits == {"cluster/c": 2 / 3, "task/t": 0.5, "task/u": 1.0}
    assert report.examples[1] == (
        "y",
        0.0,
        {"task": "t", "cluster": "c", "subcluster": None, "y_true": 1, "y_pred": 0, "decision": -0.5},
    )
    assert report.name == "timm:toy, biobench, n_train 10, seed 3"
    local = store.local(run.digest)
    assert report.argv == local["argv"] != [] and report.hostname == local["host"] != ""
    assert (report.commit, report.time, report.gpu) == ("c" * 40, 1793880000.25, "NVIDIA A100, NVIDIA H100")


def test_a_run_from_elsewhere_names_no_host(store):
    run = run_in(store)
    (store.root / "local" / f"{run.digest}.json").unlink()
    report = RunSummary.from_run(run, store.local(run.digest))
    assert report.argv == [] and report.hostname == ""
    assert RunSummary.from_run(run) == report
    older = run_in(store, provenance={"made": "2026-11-05T12:00:00+00:00"}, n_train="all")
    assert RunSummary.from_run(older).commit == RunSummary.from_run(older).gpu == ""


@settings(deadline=None)
@given(
    parts=st.fixed_dictionaries(
        {
            "summary": FLOATS,
            "splits": st.dictionaries(st.text(), FLOATS),
            "examples": st.lists(
                st.tuples(st.text(), FLOATS, st.dictionaries(st.text(), JSON, max_size=3)), max_size=5
            ),
            "argv": st.lists(st.text()),
            "time": FLOATS,
            **{name: st.text() for name in ("name", "commit", "gpu", "hostname")},
        }
    )
)
def test_through_json_and_back_without_loss(parts):
    report = RunSummary(**parts)
    text = report.to_json()
    again = RunSummary.from_json(text)
    assert again == report and again.to_json() == text
    json.loads(text, parse_constant=pytest.fail)  # NaN and Infinity are not JSON


def test_nan_and_files(tmp_path):
    report = RunSummary(float("nan"), {"a": -math.inf, "b": 0.1 + 0.2}, [("x", math.inf, {"d": float("nan")})])
    report.write(tmp_path / "r.json")
    again = RunSummary.read(tmp_path / "r.json")
    assert math.isnan(again.summary) and again.splits == report.splits
    assert again.examples[0][1] == math.inf and math.isnan(again.examples[0][2]["d"])


def test_what_is_no_report_is_refused(tmp_path):
    for text in ("", "[]", "{}", '{"summary": 1}', '{"summary": 1, "splits": {}, "examples": [[1]]}', "[" * 10**5):
        with pytest.raises(BBError, match="this is not a report in JSON \\(.*\\): `RunSummary.to_json` writes them"):
            RunSummary.from_json(text)
    with pytest.raises(BBError, match="can't read a report from .*nothing.json"):
        RunSummary.read(tmp_path / "nothing.json")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add((tag, *attrs))


def test_a_notebook_shows_it_escaped():
    evil = "</td><script>alert(1)</script>&lt;"
    report = RunSummary(0.5, {evil: 1.0}, [(evil, 0.0, {evil: evil})], evil, [evil], evil, 1e9, evil, evil)
    html, tags = report._repr_html_(), Tags()
    tags.feed(html)
    assert tags.tags == {("table",), ("caption",), ("thead",), ("tbody",), ("tr",), ("th",), ("td",)}
    assert html.count("&lt;script&gt;") == 9 and "<script" not in html
    assert "<td>score</td><td>0.5000</td>" in html
    odd = RunSummary(float("nan"), {}, [], name="\udcff.jpg", time=float("inf"))
    assert "?.jpg" in odd._repr_html_() and RunSummary.from_json(odd.to_json()).name == odd.name


def test_the_commit_is_that_of_git(monkeypatch, tmp_path):
    bb.probe.git_commit.commit.cache_clear()
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    found = bb.probe.git_commit.commit()
    if done.returncode == 0:
        assert found.removesuffix("-dirty") == done.stdout.strip()
    # Outside of a checkout of this very file there is none.
    bb.probe.git_commit.commit.cache_clear()
    monkeypatch.setattr(bb.probe.git_commit, "__file__", str(tmp_path / "commit.py"))
    assert bb.probe.git_commit.commit() == ""
    bb.probe.git_commit.commit.cache_clear()
