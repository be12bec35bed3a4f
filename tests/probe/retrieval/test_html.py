"""The page of worst queries: harmless whatever names say; and in Chromium, light and dark, wide and narrow.

BB_SCREENSHOTS names a folder that gets screenshots.
"""

import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest

from bb.probe.retrieval.report.html import Sheet, page
from bb.probe.retrieval.report.worst_queries import Answer, ShownImage
from bb.probe.retrieval.statistics.paired_tests import Behind, QueryEstimate
from tests.helpers.chromium import browser, watched
from tests.helpers.retrieval import small

__all__ = ["browser"]  # fixture


def answer(name, label, score):
    shown = (
        ShownImage("miss", f"{name}-1", "ray", 1, 0.125), ShownImage("hit", f"{name}-2", label, 2, 0.25),
        ShownImage("missed", f"{name}-3", label),
    )  # fmt: skip
    return Answer(name, label, "bird", score, 4, 3, shown)


SHEET = Sheet(
    name="timm:vit/untrained",
    space="ab" * 32,
    facts="8 queries, 8 images in the gallery, 3 labels; cosine distance",
    scores={"cmc@1": QueryEstimate(0.5, 0.4, 0.6), "map@10": QueryEstimate(0.25, 0.2, 0.3)},
    categories={"bird": {"cmc@1": 0.5, "map@10": 0.25}, "": {"cmc@1": float("nan"), "map@10": 0.5}},
    metric="map@10",
    answers=(answer("heron", "owl", 0.0), answer("gannet", "auk", 0.125)),
)
SHEETS = [
    SHEET,
    replace(SHEET, name="timm:resnet/untrained", scores={m: QueryEstimate(0.75, 0.7, 0.8) for m in SHEET.scores}),
]
PICTURES = {name: small(colour) for name, colour in (("heron", "magenta"), ("heron-1", "navy"), ("heron-3", "teal"))}
BOXED = {**PICTURES, "gannet": replace(PICTURES["heron"], box=(4.0, 3.0, 20.0, 27.0))}


class Reader(HTMLParser):
    def __init__(self, content):
        super().__init__()
        self.tags, self.attributes, self.said = [], [], ""
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.said += data


def run(name, mean, p=None):
    scores = {"map@10": QueryEstimate(mean, mean - 0.05, mean + 0.05)}
    behind = None if p is None else Behind(QueryEstimate(mean - 0.8, -0.1, 0.1), p)
    return replace(SHEET, name=name, scores=scores, behind=behind, claim="no intervals: 3 labels are too few")


def test_the_page_says_first_which_run_is_ahead_and_how_sure_that_is():
    first = run("a", 0.8)
    score = "0.800 (95% interval 0.750 to 0.850)"
    for others, said in (
        ([], f"a scores {score} in map@10. There is no other run to compare it with."),
        ([run("b", 0.7, 0.01), run("c", 0.6, 0.05)],
         f"a is the best of 3 runs: {score} in map@10, 0.100 ahead of b, the next. It can be told apart from every "
         "other."),
        ([run("b", 0.7, 0.06), run("c", 0.6, 0.01)],
         f"a scores highest of 3 runs: {score} in map@10, 0.100 ahead of b, the next. It can't be told apart from b."),
        ([run("b", 0.7, 0.06)], f"a scores highest, {score} in map@10, but can't be told apart from the other."),
        ([run("b", 0.8, 1.0), run("c", 0.6, 0.01)], f"a and b have the same highest map@10: {score}."),
        ([run("b", 0.7)], f"a scores highest of 2 runs, {score} in map@10, 0.100 ahead of b, the next; how sure that "
         "is remains unknown (no intervals: 3 labels are too few)."),
    ):  # fmt: skip
        assert said in " ".join(Reader(page([first, *others], "whales", {})).said.split())


def test_hostile_names_stay_text():
    bad = "</li><script>alert(1)</script><img src=x onerror=alert(1)>\"'\x1b[31m\u202e"
    parts = (ShownImage("hit", bad, bad, 1, 0.5), ShownImage("missed", bad, bad))
    hostile = replace(
        SHEET, name=bad, space=bad, facts=bad, metric=bad, scores={bad: QueryEstimate(0.5, 0.4, 0.6)},
        categories={bad: {bad: 0.5}}, answers=(Answer(bad, bad, bad, 0.5, 1, 1, parts),),
    )  # fmt: skip
    found = Reader(page([hostile], bad, {bad: small("red")}))
    plain = Reader(page([SHEET], "x", {}))
    assert found.tags.count("script") == plain.tags.count("script") == 2
    assert not any(name.startswith("on") for name, _ in found.attributes)
    of_pictures = {"href", "height", "viewbox", "aria-label"}
    assert {name for name, _ in found.attributes} <= {name for name, _ in plain.attributes} | of_pictures
    links = [value for name, value in found.attributes if name == "href"]
    assert all(value.startswith(("data:image/jpeg;base64,", "#")) for value in links)
    assert "\x1b" not in found.said and "\u202e" not in found.said


def test_it_says_what_was_retrieved():
    text = Reader(page(SHEETS, "herons", PICTURES)).said
    assert "Retrieval on herons" in text and "owl: map@10 0.000; 3 of 4 missed, of which 1 are shown" in text
    assert text.index("heron-1") < text.index("heron-2") < text.index("heron-3") < text.index("gannet-1")
    for word in ("1 miss", "2 hit", "missed", "distance 0.125", "0.400\N{EN DASH}0.600", "(none)"):
        assert word in text


def test_each_picture_is_there_once(tmp_path):
    content = page([SHEET, SHEET, SHEET], "herons", {**PICTURES, "nobody": small("red")})
    assert content.count("data:image/jpeg;base64,") == len(PICTURES) and content.count("<use ") == 3 * len(PICTURES)


@pytest.fixture
def opened(browser, tmp_path):
    (tmp_path / "r.html").write_text(page(SHEETS, "herons", BOXED), encoding="utf-8")
    with watched(browser, tmp_path / "r.html") as shown:
        yield shown


def colour_of(opened, kind):
    return opened.locator(f"#s0 .tiles .{kind}").first.evaluate("e => getComputedStyle(e).borderTopColor")


def test_colours_of_query_hit_miss_and_missed_in_light_and_dark(opened):
    def channels(kind):
        return [int(part) for part in re.findall(r"\d+", colour_of(opened, kind))[:3]]

    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme)
        found = {kind: channels(kind) for kind in ("query", "hit", "miss", "missed")}
        assert max(found["query"]) == found["query"][2], "blue"
        assert max(found["hit"]) == found["hit"][1], "green"
        assert max(found["miss"]) == found["miss"][0], "red"
        assert max(found["missed"]) - min(found["missed"]) < 30, "grey"


def test_pictures_are_drawn_and_have_words(opened):
    from PIL import Image

    pictures = opened.locator("#s0 .tiles .picture")
    assert pictures.count() == 4
    words = pictures.evaluate_all("pictures => pictures.map(picture => picture.getAttribute('aria-label'))")
    assert words == ["query: owl", "1 miss: ray", "missed: owl", "query: auk"]
    for media in ("screen", "print"):
        opened.emulate_media(media=media)
        for sheet in ("#s0", "#s1"):  # the same symbols, once more
            for place, colour in enumerate(((255, 0, 255), (0, 0, 128), (0, 128, 128))):
                shot = opened.locator(f"{sheet} .tiles .picture").nth(place).screenshot()
                drawn = Image.open(BytesIO(shot)).convert("RGB")
                middle = drawn.getpixel((drawn.width // 2, drawn.height // 2))
                assert all(abs(a - b) < 12 for a, b in zip(middle, colour, strict=True)), (media, sheet, place)


def test_a_bounding_box_is_framed(opened):
    from PIL import Image

    # (4, 3) to (20, 27) of 40 x 30 pixels: a frame in the left half, its right edge in the middle.
    shot = Image.open(BytesIO(opened.locator("#s0 .tiles .query .picture").nth(1).screenshot())).convert("RGB")
    scale = min(shot.width / 40, shot.height / 30)
    x, y = (shot.width - 40 * scale) / 2, (shot.height - 30 * scale) / 2

    def at(column, row):
        return shot.getpixel((round(x + column * scale), round(y + row * scale)))

    for column, row in ((4, 15), (20, 10), (12, 3), (12, 27)):
        near = [at(column + a, row + b) for a in (-0.5, 0, 0.5) for b in (-0.5, 0, 0.5)]
        assert any(red > 150 and green > 120 and blue < 120 for red, green, blue in near), "yellow"
    for off in ((12, 15), (30, 15)):
        assert at(*off)[1] < 40, "magenta"


def test_filtering_leaves_the_queries_that_are_named(opened):
    opened.fill("#filter", "auk")
    assert opened.locator(".answers > li:visible").count() == 2
    assert opened.locator("#said").inner_text() == "1 of 2 queries"


def test_sorting_by_a_metric(opened):
    table = opened.locator("table.board")
    table.locator("th", has_text="cmc@1").locator("button").click()
    first = table.locator("tbody tr th").first
    assert first.inner_text().strip() == "timm:resnet/untrained"


def test_a_phone_scrolls_no_page_sideways(opened):
    opened.set_viewport_size({"width": 390, "height": 844})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def test_screenshots(opened, tmp_path):
    folder = Path(os.environ.get("BB_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme)
        opened.screenshot(path=folder / f"retrieval-{scheme}.png", full_page=True)
    light, dark = ((folder / f"retrieval-{scheme}.png").read_bytes() for scheme in ("light", "dark"))
    assert light != dark and light.startswith(b"\x89PNG")
