"""Makes the documents' pictures anew in Chromium: a report of the runs in tests/data/picture, and digits in `bb label`.

docs/images/report.txt then holds the SHA-256 of the page that the picture shows; a test compares it with today's page.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "tests" / "data" / "picture"
PICTURE = ROOT / "docs" / "images" / "report.png"
ANSWERS = 45
CUT = "Score and cost"  # the heading of the first section that the picture leaves out


def page() -> str:
    """The page of the kept runs, without what follows the picture: that names versions, which change."""
    from bb.probe.report.build import boards
    from bb.probe.report.formats.html import page as html
    from bb.probe.report.leaderboard import KINDS
    from bb.probe.report.options import ReportOptions
    from bb.store import Store

    found = boards(Store.open(RUNS).runs(), "newt", ReportOptions(kinds=KINDS, details=True))
    return html(found)


def shown(text: str) -> str:
    """The SHA-256 of what decides the picture: all of the page up to the first heading that it leaves out."""
    return hashlib.sha256(text[: text.index(CUT)].encode()).hexdigest()


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = os.environ.get("BB_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        sandbox = [] if os.getuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=path, args=sandbox, timeout=0)
        try:
            yield browser
        finally:
            browser.close()


def picture_report(browser: Any) -> None:
    text, folder = page(), ROOT / "build"
    folder.mkdir(exist_ok=True)
    (folder / "picture.html").write_text(text, encoding="utf-8")
    tab = browser.new_page(viewport={"width": 1100, "height": 800}, color_scheme="light")
    tab.goto((folder / "picture.html").as_uri())
    end = tab.get_by_role("heading", name=CUT).bounding_box()
    assert end
    tab.screenshot(path=str(PICTURE), full_page=True, clip={"x": 0, "y": 0, "width": 1100, "height": end["y"] - 24})
    PICTURE.with_suffix(".txt").write_text(shown(text) + "\n")


def picture_label(browser: Any) -> None:
    """`bb label` after thirty answers on scikit-learn's digits, whose features are their pixels."""
    from sklearn.datasets import load_digits

    from bb.extract.scan_collection import find_files, hash_images
    from bb.store import Collection, Store
    from bb.verbs.demo import import_pixels, write_digits

    with TemporaryDirectory() as name:
        folder = Path(name)
        write_digits(folder / "digits", every=3)
        store = Store.create(folder / "features.bb")
        scan = hash_images("digits", find_files(folder / "digits"))
        import_pixels(store, store.put_collection(Collection.from_entries("digits", scan.entries)), folder / "digits")
        truth = load_digits(return_X_y=True)[1][::3]
        images = f"digits={folder / 'digits'}"
        command = [sys.executable, "-m", "bb", "label", "--labels", "mine.csv", "--data", images]
        served = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        try:
            assert served.stdout
            tab = browser.new_page(viewport={"width": 1100, "height": 1060}, color_scheme="light")
            tab.set_default_timeout(0)
            tab.goto(served.stdout.readline().strip())
            for _ in range(ANSWERS):
                tab.wait_for_selector('body[data-image]:not([data-image=""])')
                now = tab.evaluate("document.body.dataset.image")
                number = int(Path(tab.text_content("#name")).stem.split("-")[1])
                tab.keyboard.press("n")
                tab.keyboard.type(str(truth[number]))
                tab.keyboard.press("Enter")
                tab.wait_for_selector(f'body:not([data-image="{now}"])')
            tab.wait_for_selector("#curve svg")
            tab.wait_for_selector('#status:not(:has-text("fitting"))')
            tab.wait_for_load_state("networkidle")
            tab.screenshot(path=str(PICTURE.with_name("label.png")))
        finally:
            served.terminate()
            served.wait()


def main() -> None:
    with chromium() as browser:
        picture_report(browser)
        picture_label(browser)


if __name__ == "__main__":
    main()
