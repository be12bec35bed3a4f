"""A notebook as a user would write it: results are tables and pages, and a bar is drawn under the cell."""

import os

import nbclient
import nbformat
import pytest

from tests.helpers.labelled import labelled
from tests.helpers.photographs import ROOT

pytestmark = pytest.mark.e2e
CELLS = (
    "import bb.probe\nfrom bb.store import Store\nfrom bb.store.reporter import Bar",
    'runs = bb.probe.run("features.bb", "newt2021_labels.csv", n_train=4, reporter=Bar())\nruns',
    'bb.probe.report("features.bb")',
    'ids, x = Store.open("features.bb").features(data="newt")\nx.shape',
)


def test_results_are_shown_in_a_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'scripts'}{os.pathsep}{ROOT}")
    labelled(tmp_path)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(tmp_path)}}).execute()
    _, ran, shown, last = (cell.outputs for cell in notebook.cells)
    (result,) = [output for output in ran if output.output_type == "execute_result"]
    assert "<table" in result.data["text/html"] and "Runs(1 runs, 1 computed now)" in result.data["text/plain"]
    assert any("<progress value" in output.get("data", {}).get("text/html", "") for output in ran)
    (page,) = shown
    assert "iframe" in page.data["text/html"] and "Leaderboard" in page.data["text/html"]
    assert last[0].data["text/plain"].startswith("(")
