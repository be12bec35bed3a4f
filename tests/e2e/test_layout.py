"""The pages at 3, 30 and 85 backbones, 1 and 1,000 classes, with names of 80 letters, in Debian's Chromium.

Nothing is wider than the page but what scrolls by itself, no text is cut off or under another, and axe-core has no
finding. BB_SCREENSHOTS names a folder that gets a picture of each case, width and theme, and of print in grey.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bb.probe.bench.page import page as bench_page
from bb.probe.classification.board import boards as classified
from bb.probe.classification.report.page import page as classification_page
from bb.probe.features.extraction import Cost
from bb.probe.labelling.active_learning.sheet import sheet
from bb.probe.report.build import boards
from bb.probe.report.formats.html import page
from bb.probe.report.leaderboard import KINDS, Estimate
from bb.probe.report.options import ReportOptions
from bb.probe.retrieval.report.html import page as retrieval_page
from bb.store import Store
from tests.helpers.benches import planted, runs_of
from tests.helpers.boards import put
from tests.helpers.chromium import browser, needs_chromium, new_page
from tests.helpers.classified import put_classified
from tests.helpers.retrieval import sheets_of, small

__all__ = ["browser"]  # fixture
pytestmark = needs_chromium

WIDTHS = (390, 820, 1440)
LONG = "timm:backbone_{:02d}_with_a_name_of_eighty_letters_patch14_reg4_dinov2.lvd142m_in1k_518"
# Text beyond its picture or its cell, and texts of a picture of which one is on top of another.
FAULTS = """() => {
  const found = [], seen = (e) => e.checkVisibility() && e.getBoundingClientRect().width > 1;
  if (document.documentElement.scrollWidth > innerWidth) found.push("the page scrolls sideways");
  for (const svg of document.querySelectorAll("svg[role=group]")) {
    if (!seen(svg)) continue;
    const whole = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll("text")].filter(seen).map((e) => [e.getBoundingClientRect(), e.textContent]);
    for (const [box, words] of boxes) {
      const out = box.left < whole.left - 1 || box.right > whole.right + 1 || box.top < whole.top - 1
        || box.bottom > whole.bottom + 1;
      if (out) found.push(`beyond its picture: ${words}`);
    }
    for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {
      const [a, b] = [boxes[i][0], boxes[j][0]];
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      const least = Math.min(a.width * a.height, b.width * b.height);
      if (wide > 0 && high > 0 && wide * high > 0.3 * least) found.push(`${boxes[i][1]} is on ${boxes[j][1]}`);
    }
  }
  for (const cell of document.querySelectorAll("th, td, h2, h3, p, li, summary, dd")) {
    if (!seen(cell) || cell.closest(".unseen")) continue;
    const box = cell.getBoundingClientRect(), words = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (words.nextNode()) {
      const node = words.currentNode, range = document.createRange();
      const of = node.parentElement;
      if (!node.data.trim() || of.closest("svg, .unseen") || !of.checkVisibility()) continue;
      range.selectNodeContents(node);
      const inside = range.getBoundingClientRect();
      if (inside.right > box.right + 2 || inside.bottom > box.bottom + 2 || inside.top < box.top - 2) {
        found.push(`out of its ${cell.tagName}: ${node.data.slice(0, 60)}`);
      }
    }
  }
  return found.slice(0, 8);
}"""


@pytest.fixture(scope="module")
def newt(tmp_path_factory):
    """A board to make others of: two backbones, two classifiers, two tasks with a class that is common."""
    store = Store.create(tmp_path_factory.mktemp("newt") / "s.bb")
    for name, accuracy in (("timm:a", 0.9), ("timm:b", 0.8)):
        for n_train in (4, 6, 10, "all"):
            put(store, name, accuracy, n_train=n_train, tasks=["fox against wolf at night", "t1"], images=24)
    (board,) = boards(store.runs(), "newt", ReportOptions(resamples=100, kinds=KINDS, details=True))
    return replace(board, majority=0.61)


def crowded(board, n, name):
    """A board of n backbones, each a little worse and larger than the one before."""
    rows = []
    for k in range(n):
        row, cells = board.rows[k % 2], {}
        cost = Cost(int(5e6 * 1.1**k), 1.3 * 1.05 ** (k * 37 % n), (224, 224), 384, 900 / (k + 1), "NVIDIA H100 80GB")
        for n_train, cell in row.cells.items():
            mean = cell.mean * (1 - 0.4 * k / n)
            origin = replace(cell.origin, cost=Cost() if k % 7 == 5 else cost)
            cells[n_train] = replace(cell, estimate=Estimate(mean, mean - 0.03, mean + 0.02), origin=origin)
        rows.append(replace(row, label=name.format(k), cells=cells))
    wrong = {name.format(k): float(k % 3 == 0) for k in range(n)}
    hardest = [tuple(hard._replace(wrong_by_backbone=wrong) for hard in task.hardest) for task in board.task_list]
    tasks = [replace(task, hardest=each) for task, each in zip(board.task_list, hardest, strict=True)]
    return replace(board, rows=tuple(rows), task_list=tuple(tasks))


def of_classes(folder, n, classes, name, images):
    """The page of n backbones on a table of some classes, and the runs of the first two."""
    store = Store.create(folder)
    size = {"parameters": 5_000_000, "gflops": 1.3}
    for k in range(2):
        for shots in (2, 8):
            put_classified(
                store, f"timm:{k}", 0.8 - 0.1 * k, classes, images=images, n_train=shots, size=size, groups=9
            )
    (board,) = classified(list(store.runs()))
    rows = [replace(board.rows[k % 4], name=name.format(k)) for k in range(n)]
    return classification_page([replace(board, rows=tuple(rows))], {})


def of_retrieval(n, name):
    sheets, runs = sheets_of(n, name)
    pictures = {each.image_id: small("teal") for each in sheets[0].answers}
    return retrieval_page(sheets, "whales of the North Atlantic", pictures, runs)


def of_bench(n, name, columns):
    """The last backbone lacks a score, and the first family has no intervals."""
    rows = {
        name.format(k): (1 + k, max(1, k - 2), min(n - 1, k + 4), [0.9 - 0.6 * k / n] * len(columns))
        for k in range(n - 1)
    }
    rows[name.format(n - 1)] = (None, None, None, [None, *[0.1] * (len(columns) - 1)])
    board = planted(rows, columns, ("3 groups are too few", *[""] * (len(columns) - 1)))
    failed = {f"ponds, {name.format(0)}": "no images at /data/ponds: bb data download"}
    return bench_page(replace(board, failed=failed), runs_of(board))


def of_sheet(names):
    images = [(f"site-1/camera-7/IMG_{k:05d}.jpeg", name, f"perhaps {name}") for k, name in enumerate(names)]
    return sheet("40 images of ponds to label", "Chosen by cluster with timm:vit, from 12 labels.", images,
                 {images[0][0]: small("teal")})  # fmt: skip


@pytest.fixture(scope="module")
def pages(newt, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    species = [f"Species {k}, with the name of a subspecies, of its author and the year" for k in range(1000)]
    made = {
        "newt-3": page([crowded(newt, 3, "timm:vit_{}")]),
        "newt-30": page([crowded(newt, 30, "timm:vit_small_patch14_{}.dinov2")]),
        "newt-85": page([crowded(newt, 85, LONG)]),
        "classes-1": of_classes(folder / "1.bb", 3, ["fox"], "timm:vit_{}", 60),
        "classes-12": of_classes(folder / "12.bb", 30, species[:12], LONG, 240),
        "classes-1000": of_classes(folder / "1000.bb", 3, species, "timm:vit_{}", 2000),
        "retrieval-3": of_retrieval(3, "timm:vit_{}"),
        "retrieval-85": of_retrieval(85, LONG),
        "bench-3": of_bench(3, "timm:vit_{}", ("ponds", "ponds", "birds")),
        "bench-30": of_bench(30, "timm:vit_small_patch14_{}.dinov2", ("ponds", "birds", "inat21")),
        "bench-85": of_bench(85, LONG, tuple(f"a family of photographs, number {k}" for k in range(6))),
        "sheet": of_sheet(species[:40]),
    }
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


def opened(browser, path, width, theme):
    shown = new_page(browser, width, theme)
    shown.goto(path.as_uri())
    return shown


def picture(shown, path):
    """Of the whole page, as far as Chromium can draw it at once."""
    size = shown.evaluate("[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
    clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], 15_000)}
    shown.screenshot(path=path, full_page=True, clip=clip)


CASES = [
    "newt-3", "newt-30", "newt-85", "classes-1", "classes-12", "classes-1000", "retrieval-3", "retrieval-85", "bench-3",
    "bench-30", "bench-85", "sheet",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_nothing_collides(pages, browser, case):
    for width in WIDTHS:
        shown = opened(browser, pages[case], width, "light")
        assert shown.evaluate(FAULTS) == [], width
        if folder := os.environ.get("BB_SCREENSHOTS"):
            for theme in ("light", "dark"):
                shown.emulate_media(color_scheme=theme)
                picture(shown, Path(folder) / f"{case}-{width}-{theme}.png")
            shown.emulate_media(media="print", color_scheme="light")
            shown.evaluate("document.documentElement.style.filter = 'grayscale(1)'")
            picture(shown, Path(folder) / f"{case}-{width}-print.png")
            shown.emulate_media(media="screen")
            shown.evaluate("document.documentElement.style.filter = ''")
        if case.startswith("newt"):
            shown.evaluate("location.hash = 'b0-t0'")
            assert shown.evaluate(FAULTS) == [], width
        shown.context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("case", ["newt-3", "classes-12", "retrieval-3", "bench-3", "sheet"])
def test_axe_has_no_findings(pages, browser, case, theme):
    package = pytest.importorskip("axe_playwright_python")
    shown = opened(browser, pages[case], 1440, theme)
    shown.evaluate(Path(package.__file__).with_name("axe.min.js").read_text(encoding="utf-8"))
    found = shown.evaluate("async () => (await axe.run()).violations.map((v) => [v.id, v.nodes[0].html.slice(0, 200)])")
    assert found == []
    shown.context.close()
