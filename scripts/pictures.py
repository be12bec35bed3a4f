"""Makes the documents' picture of a report anew, from the runs in tests/data/picture, in Chromium.

docs/images/report.txt then holds the SHA-256 of the page that the picture shows; a test compares it with today's page.
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "tests" / "data" / "picture"
PICTURE = ROOT / "docs" / "images" / "report.png"
CUT = "Score and cost"  # the heading of the first section that the picture leaves out


def page() -> str:
    """The page of the kept runs, without what follows the picture: that names versions, which change."""
    from bb.probe.report.build import boards
    from bb.probe.report.formats.html import page as html
    from bb.probe.report.leaderboard import KINDS
    from bb.probe.report.options import Question
    from bb.store import Store

    found = boards(Store.open(RUNS).runs(), "newt", Question(kinds=KINDS, details=True))
    return html(found)


def shown(text: str) -> str:
    """The SHA-256 of what decides the picture: all of the page up to the first heading that it leaves out."""
    return hashlib.sha256(text[: text.index(CUT)].encode()).hexdigest()


def main() -> None:
    from playwright.sync_api import sync_playwright

    text, folder = page(), ROOT / "build"
    folder.mkdir(exist_ok=True)
    (folder / "picture.html").write_text(text, encoding="utf-8")
    with sync_playwright() as playwright:
        path = os.environ.get("BB_CHROMIUM") or shutil.which("chromium")
        sandbox = [] if os.getuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=path, args=sandbox, timeout=0)
        tab = browser.new_page(viewport={"width": 1100, "height": 800}, color_scheme="light")
        tab.goto((folder / "picture.html").as_uri())
        end = tab.get_by_role("heading", name=CUT).bounding_box()
        assert end
        tab.screenshot(path=str(PICTURE), full_page=True, clip={"x": 0, "y": 0, "width": 1100, "height": end["y"] - 24})
        browser.close()
    PICTURE.with_suffix(".txt").write_text(shown(text) + "\n")
    print(f"wrote {PICTURE} ({PICTURE.stat().st_size} bytes)", file=sys.stderr)


if __name__ == "__main__":
    main()
