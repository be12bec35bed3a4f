"""A person's session of `bb label` in Chromium: 60 labels on newt-mini, by keys. BB_SCREENSHOTS keeps screenshots."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.chromium import chromium, needs_chromium, new_page
from tests.helpers.photographs import PHOTOS, needs_photographs

READY = 'body[aria-busy="false"]'
LABELS, SHEETS = 60, 24  # of which the last are on two sheets
pytestmark = [
    needs_photographs,
    pytest.mark.e2e,
    needs_chromium,
]


def test_a_session_of_sixty_labels(tmp_path):
    bb, data = [sys.executable, "-m", "bb"], f"newt={PHOTOS / 'newt2021_images'}"
    done = subprocess.run([*bb, "extract", "--ckpt", "timm:test_vit/untrained", "--data", data], cwd=tmp_path,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (PHOTOS / "newt2021_labels.csv").open(newline="") as file:
        truth = {row["id"]: row["task_cluster"] for row in csv.DictReader(file)}
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    served = subprocess.Popen([*bb, "label", "--labels", "mine.csv", "--data", data], cwd=tmp_path, env=buffered,
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        with chromium() as browser:
            page = new_page(browser, width=1440)
            errors = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            page.goto(served.stdout.readline().strip())
            given = {}
            while len(given) < LABELS - SHEETS:
                page.wait_for_selector('body[data-image]:not([data-image=""])')
                now = page.evaluate("document.body.dataset.image")
                name = page.text_content("#name")
                label = label_of(name, truth)
                give(page, label)
                page.wait_for_selector(f'body:not([data-image="{now}"])')
                given[name] = label
                if len(given) == 30:
                    for key in "su":
                        before = page.evaluate("document.body.dataset.image")
                        page.keyboard.press(key)
                        page.wait_for_selector(f'body:not([data-image="{before}"])')
            long_label(page)
            label_sheets(page, truth, given)
            page.wait_for_selector("#curve svg")
            page.wait_for_selector('#forecast:has-text("100 further")')
            page.wait_for_selector('#status:not(:has-text("fitting"))')
            page.wait_for_load_state("networkidle")
            assert page.locator("#near figure").count() == 5
            assert page.text_content("#status").startswith(f"{LABELS} of ")
            axe = Path(pytest.importorskip("axe_playwright_python").__file__).with_name("axe.min.js")
            page.evaluate(axe.read_text(encoding="utf-8"))
            assert page.evaluate("async () => (await axe.run()).violations.map((v) => [v.id, v.nodes[0].html])") == []
            keys = page.locator("#classes button kbd").all_text_contents()  # set apart from names, which may be numbers
            assert keys == [str(k + 1) for k in range(min(9, page.locator("#classes button").count()))]
            typed, save = (page.locator(f"#other {each}").bounding_box() for each in ("input", "button"))
            assert typed["y"] <= save["y"] + save["height"] / 2 <= typed["y"] + typed["height"], "Save is beside it"
            if folder := os.environ.get("BB_SCREENSHOTS"):
                for width, height in ((1440, 900), (820, 1180)):
                    page.set_viewport_size({"width": width, "height": height})
                    page.screenshot(path=f"{folder}/label-{width}.png")
            assert errors == []
            served.send_signal(signal.SIGINT)
            served.wait()
            page.keyboard.press("1")
            page.wait_for_selector('#error:has-text("bb label does not answer")')
    finally:
        served.send_signal(signal.SIGINT)
        served.wait()
    with (tmp_path / "mine.csv").open(newline="") as file:
        assert {row["image_id"]: row["label"] for row in csv.DictReader(file)} == given


def label_of(name, truth):
    return next(value for known, value in truth.items() if Path(known).stem == Path(name).stem)


def give(page, label):
    """By keys: accepts the suggestion, or chooses a number, or types."""
    listed = [
        each.split(" ", 1)[1].rsplit(" (", 1)[0] for each in page.locator("#classes button").all_text_contents()[:9]
    ]
    if page.text_content("#guess") == label:
        page.keyboard.press("Enter")
    elif label in listed:
        page.keyboard.press(str(listed.index(label) + 1))
    else:
        page.keyboard.press("n")
        page.keyboard.type(label)
        page.keyboard.press("Enter")


def long_label(page):
    """One without blanks stays on a tablet's page; it is taken back."""
    page.set_viewport_size({"width": 820, "height": 1180})
    for keys in (lambda: give(page, "x" * 200), lambda: page.keyboard.press("u")):
        page.wait_for_selector('body[aria-busy="false"][data-image]:not([data-image=""])')
        before = page.evaluate("document.body.dataset.image")
        keys()
        page.wait_for_selector(f'body:not([data-image="{before}"])')
        assert page.evaluate("document.documentElement.scrollWidth") == 820
    page.set_viewport_size({"width": 1440, "height": 900})


def label_sheets(page, truth, given):
    """On a sheet the wrong suggestions are corrected one by one, and the others accepted at once."""
    page.keyboard.press("g")
    while len(given) < LABELS:
        page.wait_for_selector('body[aria-busy="false"] #sheet button:nth-child(12)')
        if folder := os.environ.get("BB_SCREENSHOTS"):
            page.wait_for_load_state("networkidle")
            page.screenshot(path=f"{folder}/label-sheet.png")
        shown = [(each.get_attribute("alt"), page.locator("#sheet span").nth(i).text_content())
                 for i, each in enumerate(page.locator("#sheet img").all())]  # fmt: skip
        for name, guess in shown:
            given[name] = label_of(name, truth)
            if guess == given[name]:
                page.keyboard.press("ArrowRight")
                continue
            left = page.locator("#sheet button").count()
            assert page.text_content("#name") == name
            give(page, given[name])
            page.wait_for_selector(f"#sheet button:nth-child({left})", state="detached")
            page.wait_for_selector(READY, state="attached")
        first = page.locator("#sheet img").first.get_attribute("src")
        page.keyboard.press("a")
        page.wait_for_selector(f'#sheet:not(:has(img[src="{first}"]))', state="attached")
        page.wait_for_selector(READY, state="attached")
