"""The code of docs/python.md and docs/extending.md runs, in the order of the page."""

import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bb.extract.embedding.backbone import Backbone
from bb.probe.report.options import ReportOptions
from bb.probe.tasks.registry import TASKS
from tests.contracts.protocol import check as check_protocol
from tests.helpers.labelled import labelled
from tests.helpers.verbs import VERBS

DOCS = Path(__file__).parent.parent / "docs"


def code_of(page):
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL))


@pytest.mark.e2e  # a tutorial: it trains, extracts and reports as a person would
def test_the_examples_of_python_md_run_in_a_fresh_process_and_print_nothing(tmp_path):
    labelled(tmp_path)
    (tmp_path / "pics").mkdir()
    for i in range(9):
        Image.new("RGB", (20, 16), (20 * i, 0, 0)).save(tmp_path / "pics" / f"{i}.png")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code_of("python.md")], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


PAGE = (DOCS / "python.md").read_text()


def named(path):
    """What a dotted name is of; bb.probe.run is the function, though a module is called so, too."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        return getattr(named(module), name)


def test_every_verb_has_its_call():
    table = PAGE[PAGE.index("## Verbs and their calls") : PAGE.index("## Extraction")]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| `")]
    for path in re.findall(r"`(bb\.[\w.]+)`", " ".join(calls for _, calls in rows)):
        assert callable(named(path)), path
    documented = {name.rstrip() for name in re.findall(r"`(bb [a-z ]+)", table)} - {"bb probe"}
    families = {f"bb probe {name}" for name in TASKS if name != "newt"}
    assert set(VERBS) - families == documented


@pytest.mark.parametrize(
    "path, written", re.findall(r"^`(bb\.(?:extract|probe)\.\w+)\((.*?)\)[^`)]*`", PAGE, re.M | re.S)
)
def test_signatures_are_those_of_the_code(path, written):
    documented = [part.strip() for part in re.split(r",(?![^(]*\))", " ".join(written.split()))]
    shown = []
    for parameter in inspect.signature(named(path)).parameters.values():
        if parameter.name == "question":
            shown += [f"{f.name}={quoted(f.default)}" for f in dataclasses.fields(ReportOptions)]
        elif parameter.kind is parameter.VAR_KEYWORD:
            shown.append(f"**{parameter.name}")
        elif parameter.default is parameter.empty:
            shown.append(parameter.name)
        else:
            shown.append(f"{parameter.name}={quoted(parameter.default)}")
    assert [part for part in documented if part != "*"] == shown


def quoted(value):
    return f'"{value}"' if isinstance(value, str) else repr(value)


@pytest.fixture(scope="module")
def kinds():
    names = {}
    exec(code_of("extending.md"), names)
    return names


def test_the_classifier_of_extending_md_classifies(kinds):
    y = np.array([0, 1] * 20, np.uint8)
    x = np.random.default_rng(0).normal(size=(40, 3)) + 3 * y[:, None]
    model = kinds["NearestMean"]().fit(x[:20], y[:20])
    assert (model.predict(x[20:]) == y[20:]).mean() > 0.9


def test_the_backbone_of_extending_md_keeps_the_contract(kinds):
    backbone = kinds["load"](None)
    assert isinstance(backbone, Backbone) and (backbone.org, backbone.feat_dim) == ("example", 32)
    assert set(kinds["names"]()) == {"example:tiny/untrained"} and kinds["check_name"](None) is None


def test_the_protocol_of_extending_md_keeps_the_contract(kinds):
    check_protocol(kinds["PROTOCOL"])


def test_the_metric_and_the_logger_of_extending_md_keep_their_contracts(kinds, tmp_path):
    from bb.probe.retrieval.loggers.base import PipelineLogger
    from bb.probe.statistics.metrics import METRICS

    metric, first = kinds["MATTHEWS"], METRICS["accuracy"]
    assert metric.name == "matthews" and all(hasattr(metric, name) for name in dir(first) if name[0] != "_")
    logger = kinds["JsonLines"](tmp_path / "log.jsonl")
    assert isinstance(logger, PipelineLogger)
    logger.log_scalars({"loss": 0.5}, 3)
    logger.close()
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 3, "loss": 0.5}\n'


def test_the_storage_of_extending_md_is_a_place(kinds):
    from bb.store.storage.base import Storage

    assert isinstance(kinds["open_share"]("share", "lab"), Storage)
