"""The page in Debian's Chromium: six backbones × four shot counts × three seeds, on photographs and on digits.

BB_SCREENSHOTS names a folder that gets screenshots, light and dark, wide and narrow, and the print.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.chromium import browser, needs_chromium, watched
from tests.helpers.photographs import PHOTOS, ROOT, needs_photographs

__all__ = ["browser"]  # fixture
SHOTS = (2, 4, 6, 8)

pytestmark = [
    needs_photographs,
    needs_chromium,
]

BOARD = "section:has(> [id$=leaderboard]) table.board"


def run(*command, cwd):
    done = subprocess.run([sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the grid, its page and what --json says of it."""
    folder = tmp_path_factory.mktemp("grid")
    grid = ["--photographs", PHOTOS, "--shots", ",".join(map(str, SHOTS)), "--every", 5]
    run(ROOT / "scripts" / "grid.py", folder, *grid, cwd=folder)
    said = run(
        "-m", "bb", "report", "--html", "out.html", "--baseline", "timm:test_vit/untrained", "--json", cwd=folder
    )
    (folder / "out.json").write_text(said)
    return folder


@pytest.fixture(scope="module")
def boards(place):
    return json.loads((place / "out.json").read_text())


@pytest.fixture
def opened(place, browser):
    with watched(browser, place / "out.html") as page:
        yield page


def rows_of(page, number=0):
    """The leaderboard's backbones in order, by sight."""
    heads = page.locator(f"#b{number} {BOARD} tbody tr:visible th")
    return [text.strip() for text in heads.all_inner_texts()]


def test_the_figures_on_the_page_are_those_of_the_json(opened, boards):
    for number, board in enumerate(boards):
        assert len(board["rows"]) == 6 and board["columns"] == list(SHOTS)
        for row in board["rows"]:
            tr = opened.locator(f"#b{number} {BOARD} tbody tr", has=opened.get_by_text(row["backbone"], exact=True))
            for cell in row["cells"]:
                assert cell["seeds"] == 3
                td = tr.locator(f'td[data-n="{cell["n_train"]}"]')
                assert float(td.get_attribute("data-value")) == cell["mean"]
                text = td.inner_text().replace("\N{EN DASH}", "-").replace("\N{MINUS SIGN}", "-")
                assert text.startswith(
                    f"{cell['mean']:.3f}" + ("*" if cell["best"] else "=" if cell["tied_with_best"] else "")
                )
                assert f"{cell['low']:.3f}-{cell['high']:.3f}" in text
                rank = cell["rank"]
                assert f"rank {rank['rank']:g}" in text and f"group {cell['group']}" in text
                if cell["delta"]:
                    assert f"Δ {cell['delta']['difference']:+.3f}" in text


def test_every_task_of_the_heat_map_is_that_of_the_json(opened, boards):
    for number, board in enumerate(boards):
        select = opened.locator(f'select.heat-column[data-board="{number}"]')
        for n in SHOTS:
            select.select_option(label=str(n))
            shown = opened.eval_on_selector_all(
                f"#b{number}-heat tbody tr",
                "rows => rows.map(row => [row.cells[0].innerText, ...[...row.cells].slice(1).map(c => c.innerText)])",
            )
            for task, *values in shown:
                cells = [next(c for c in row["cells"] if c["n_train"] == n) for row in board["rows"]]
                means = [cell["splits"]["task"][task]["mean"] for cell in cells]
                assert [float(value) for value in values] == pytest.approx(means, abs=6e-4)


def test_sorting_by_mouse_and_by_keyboard(opened, boards):
    table = opened.locator(f"#b0 {BOARD}")
    head = table.locator("th", has_text="n_train 2")
    assert head.get_attribute("aria-sort") == "none"
    means = {row["backbone"]: row["cells"][0]["mean"] for row in boards[0]["rows"]}
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert [means[name] for name in rows_of(opened)] == sorted(means.values(), reverse=True)
    head.locator("button").focus()
    opened.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert [means[name] for name in rows_of(opened)] == sorted(means.values())
    table.locator("th", has_text="backbone").locator("button").click()
    assert rows_of(opened) == sorted(means)
    assert opened.locator("#said").inner_text() == "sorted by backbone, ascending"


def test_filtering_leaves_the_backbones_that_are_named(opened):
    opened.fill("#filter", "vit")
    assert set(rows_of(opened)) == set(rows_of(opened, 1)) == {"timm:test_vit/untrained", "timm:test_vit3/untrained"}
    assert opened.locator("#b0-heat thead th:visible").count() == 3
    assert opened.locator("#said").inner_text() == "2 of 6 backbones"
    assert opened.locator("#b0 svg.figure g.series.dim").count() == 12
    opened.fill("#filter", "no such thing")
    assert rows_of(opened) == []
    opened.fill("#filter", "")
    assert len(rows_of(opened)) == 6


def test_tooltips_follow_the_mouse_and_the_focus(opened, boards):
    tip, point = opened.locator("#tip"), opened.locator("#b0 svg.figure[aria-label^=Learning] circle[data-tip]").first
    assert tip.is_hidden()
    point.scroll_into_view_if_needed()
    opened.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")  # scrolling hides
    point.hover()
    assert tip.is_visible() and re.fullmatch(r".*, n_train 2: 0\.\d{3} \[.*, 3 runs", tip.inner_text())
    opened.mouse.move(2, 2)
    assert tip.is_hidden()
    point.focus()
    assert tip.is_visible()
    opened.keyboard.press("Escape")
    assert tip.is_hidden()


def test_two_backbones_are_chosen_for_the_scatter(opened, boards):
    form = opened.locator("#b1 .scatter")
    for select, row in zip(form.locator("select").all()[:2], (2, 4), strict=True):
        select.select_option(str(row))
    rows = [boards[1]["rows"][place] for place in (2, 4)]
    a, b = ({name: e["mean"] for name, e in row["cells"][-1]["splits"]["task"].items()} for row in rows)
    better, worse = sum(b[t] > a[t] for t in a), sum(b[t] < a[t] for t in a)
    assert form.locator("output").inner_text() == (
        f"Of 8 tasks, {rows[1]['backbone']} is better on {better}, {rows[0]['backbone']} on {worse}, "
        f"equal on {8 - better - worse}."
    )
    plot = form.locator("svg.square").bounding_box()
    dots = [dot.bounding_box() for dot in form.locator(".dot:visible").all()]
    assert len(dots) == 8
    assert all(0 < dot["x"] - plot["x"] < plot["width"] and 0 < dot["y"] - plot["y"] < plot["height"] for dot in dots)
    clusters = [text.strip() for text in form.locator("ul.key li").all_inner_texts()]
    assert clusters == sorted({task["cluster"] for task in boards[1]["task_list"]})
    form.locator("summary").click()
    for task, x, y in (text.split("\t") for text in form.locator("tbody tr").all_inner_texts()):
        assert (float(x), float(y)) == pytest.approx((a[task], b[task]), abs=6e-4)


def test_a_task_has_a_page_with_its_hardest_images(opened, boards):
    task = boards[1]["task_list"][0]
    opened.locator("#b1-heat").get_by_role("link", name=task["name"]).click()
    shown = opened.locator("#b1-t0")
    assert shown.is_visible() and opened.locator("#b1").is_hidden()
    assert opened.evaluate("document.activeElement.innerText") == task["name"]
    assert [text for text in shown.locator(".hard code").all_inner_texts()] == [h["image_id"] for h in task["hardest"]]
    pictures = shown.locator(".hard img")
    assert pictures.count() == len(task["hardest"]) > 0
    assert all(pictures.evaluate_all("images => images.map(image => image.complete && image.naturalWidth > 20)"))
    opened.go_back()
    assert opened.locator("#b1").is_visible()


def test_a_score_leads_to_where_it_comes_from(opened, boards):
    opened.locator(f'#b0 {BOARD} tbody tr:first-child td[data-n="2"] a').click()
    origin = opened.locator("details.origin[open]")
    cell = boards[0]["rows"][0]["cells"][0]
    text = origin.inner_text()
    assert cell["origin"]["command"] in text and all(run in text for run in cell["runs"])
    assert cell["origin"]["space"] in text and "cpu" in text and "seeds\n0, 1, 2" in text


def test_the_command_of_a_cell_makes_the_same_runs(place, boards):
    import shlex

    cell = boards[1]["rows"][0]["cells"][0]
    words = shlex.split(cell["origin"]["command"])
    made = json.loads(run("-m", *words, "--json", cwd=place))
    assert [run["run_id"] for run in made] == cell["runs"] and not any(run["fresh"] for run in made)


def test_light_and_dark(opened):
    def background():
        return opened.evaluate("getComputedStyle(document.body).backgroundColor")

    light = background()
    opened.get_by_role("button", name="Dark").click()
    dark = background()
    assert dark != light and opened.locator("#theme").get_attribute("aria-pressed") == "true"
    opened.get_by_role("button", name="Dark").click()
    assert background() == light
    opened.emulate_media(color_scheme="dark")
    opened.reload()
    assert background() == dark


def test_it_has_names_for_a_screen_reader(opened):
    assert opened.locator("html[lang=en]").count() == 1 and opened.locator("main").count() == 1
    for kind in ("input", "select", "button"):
        for element in opened.locator(f"{kind}:visible").all():
            assert element.evaluate("e => (e.labels && e.labels.length) || e.innerText.trim()")
    assert opened.locator("table:not(:has(caption))").count() == 0
    assert opened.locator("svg.figure:not([aria-label])").count() == opened.locator("img:not([alt])").count() == 0
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.innerText") == "To the figures"


def test_a_phone_scrolls_no_page_sideways(opened):
    opened.set_viewport_size({"width": 390, "height": 844})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def test_without_scripts_the_page_is_whole(place, browser, boards):
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(0)
    page = context.new_page()
    page.goto((place / "out.html").as_uri())
    text = page.locator(f"#b0 {BOARD}").inner_text()
    assert all(f"{cell['mean']:.3f}" in text for row in boards[0]["rows"] for cell in row["cells"])
    assert page.locator("#filter").is_hidden() and page.locator("#b0 svg.figure polyline").count() == 6
    context.close()


def test_screenshots(opened, place):
    folder = Path(os.environ.get("BB_SCREENSHOTS") or place / "shots")
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme)
        for name, width in (("wide", 1200), ("phone", 390)):
            opened.set_viewport_size({"width": width, "height": 900})
            opened.screenshot(path=folder / f"{scheme}-{name}.png", full_page=True)
    opened.emulate_media(media="print")
    opened.pdf(path=folder / "print.pdf")
    assert (folder / "print.pdf").read_bytes().startswith(b"%PDF")
    assert {path.name for path in folder.glob("*.png")} == {
        f"{scheme}-{name}.png" for scheme in ("light", "dark") for name in ("wide", "phone")
    }
