"""A notebook as a user would write it: results are tables and pages, and a bar is drawn under the cell."""

import os
import shutil

import nbclient
import nbformat
import pytest

from tests.helpers.labelled import labelled
from tests.helpers.photographs import ROOT

CHROMIUM = os.environ.get("BB_CHROMIUM") or shutil.which("chromium")
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
    links_stay_in_the_frame(tmp_path, page.data["text/html"])


def links_stay_in_the_frame(folder, shown):
    """A score's link unfolds where it comes from, in the page itself: the frame does not load the notebook."""
    if not CHROMIUM:
        return
    from playwright.sync_api import sync_playwright

    (folder / "cell.html").write_text(f"<!doctype html><body>{shown}", encoding="utf-8")
    with sync_playwright() as playwright:
        sandbox = [] if os.getuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox, timeout=0)
        tab, said = browser.new_page(), []
        tab.set_default_timeout(0)
        tab.on("console", lambda message: said.append(message.text))
        tab.goto((folder / "cell.html").as_uri())
        frame = tab.frame_locator("iframe")
        frame.locator("a.score").first.click()
        frame.locator("details.origin[open]").wait_for()
        assert said == [] and frame.locator("details.origin[open]").count() == 1
        browser.close()
