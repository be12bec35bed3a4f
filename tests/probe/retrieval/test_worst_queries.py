"""Worst queries, and their figures: what is shown is what was retrieved, in colours that are also named."""

import base64
import xml.etree.ElementTree as ElementTree
from io import BytesIO

import numpy as np
import polars as pl
import pytest

from bb.probe.retrieval.labels import parse_items
from bb.probe.retrieval.loggers.base import Figure
from bb.probe.retrieval.ranking import Ranking
from bb.probe.retrieval.report.figures import COLOURS, GAP, Drawing, draw
from bb.probe.retrieval.report.worst_queries import Answer, ShownImage, relevant_rows, worst
from bb.store.errors import UsageError
from tests.helpers.retrieval import small

TABLE = pl.DataFrame(
    {
        "image_id": ["a", "b", "c", "d", "e", "f"],
        "label": ["owl", "owl", "owl", "owl", "ray", "ray"],
        "category": ["bird"] * 4 + ["fish", None],
        "sequence": ["s", "s", None, None, None, None],
    }
)
SVG = "{http://www.w3.org/2000/svg}"


def ranking(*rows):
    """Of (query, nearest, distances, relevant)."""
    query, nearest, distance, relevant = zip(*rows, strict=True)
    return Ranking(np.array(query), np.array(nearest), np.array(distance, np.float32), np.array(relevant))


FOUND = ranking(
    (0, [4, 2, 5], [0.125, 0.25, 0.5], 2),
    (2, [0, 1, 4], [0.125, 0.25, 0.5], 3),
    (4, [3, -1, -1], [0.75, np.inf, np.inf], 1),
    (5, [4, 0, 1], [0, 1, 2], 1),
)


def test_the_worst_come_first_and_equals_by_image_id():
    items = parse_items(TABLE)
    scores = np.array([0.5, 0.9, 0.0, np.nan])
    assert [answer.image_id for answer in worst(items, FOUND, scores)] == ["e", "a", "c"]
    assert [answer.image_id for answer in worst(items, FOUND, np.zeros(4), queries=3)] == ["a", "c", "e"]
    assert worst(items, FOUND, np.full(4, np.nan)) == ()


def test_what_a_query_got_and_what_it_missed():
    items = parse_items(TABLE)
    last, first, *_ = worst(items, FOUND, np.array([0.5, 0.9, 0.0, 0.8]), top=2)
    assert first == Answer(
        "a", "owl", "bird", 0.5, 2, 1,
        (
            ShownImage("miss", "e", "ray", 1, 0.125),
            ShownImage("hit", "c", "owl", 2, 0.25),
            ShownImage("missed", "d", "owl"),
        ),
    )  # fmt: skip
    assert last == Answer(
        "e", "ray", "fish", 0.0, 1, 1, (ShownImage("miss", "d", "owl", 1, 0.75), ShownImage("missed", "f", "ray"))
    )


def test_only_some_of_what_was_missed_is_shown_but_all_of_it_is_counted():
    (answer,) = worst(parse_items(TABLE), ranking((2, [4], [1], 3)), np.zeros(1), missed=2)
    assert answer.missed == 3 and [each.image_id for each in answer.shown] == ["e", "a", "b"]


def test_nothing_retrieved():
    (answer,) = worst(parse_items(TABLE), ranking((2, [-1], [np.inf], 3)), np.zeros(1), missed=0)
    assert answer.shown == () and answer.missed == 3


def test_neither_the_query_nor_its_sequence_is_relevant_to_it():
    items = parse_items(TABLE)
    assert [relevant_rows(items, row).tolist() for row in range(6)] == [[2, 3], [2, 3], [0, 1, 3], [0, 1, 2], [5], [4]]


def pixels(drawing):
    from PIL import Image

    buffer = BytesIO()
    drawing.savefig(buffer, format="png")
    return np.asarray(Image.open(BytesIO(buffer.getvalue())).convert("RGB"))


@pytest.fixture
def answer():
    return worst(parse_items(TABLE), FOUND, np.array([0.5, 1, 1, 1]), top=2)[0]


def test_a_figure_has_each_image_in_its_colour_and_says_so(answer):
    pytest.importorskip("vl_convert")
    found = draw(answer, "map@r", {"a": small("magenta"), "c": small("cyan")})
    assert isinstance(found, Figure)
    shown = {tuple(colour) for colour in pixels(found).reshape(-1, 3)}
    for kind, colour in COLOURS.items():
        assert tuple(bytes.fromhex(colour[1:])) in shown, kind
    assert any(r > 240 and g < 20 and b > 240 for r, g, b in shown), "the query's picture"
    texts = [element.text for element in ElementTree.fromstring(found.svg).iter(f"{SVG}text")]
    assert texts == [
        *("query", "owl", "a", "map@r 0.500"), *("1 miss", "ray", "e", "distance 0.125"),
        *("2 hit", "owl", "c", "distance 0.25"), *("missed", "owl", "d", None),
    ]  # fmt: skip


def test_pictures_are_carried_along(answer):
    picture = small("red")
    (image,) = ElementTree.fromstring(draw(answer, "m", {"c": picture}).svg).iter(f"{SVG}image")
    assert base64.b64decode(image.get("href").partition(",")[2]) == picture.jpeg


def test_a_bounding_box_is_framed_where_it_lies(answer):
    pytest.importorskip("vl_convert")
    # An image of 400 x 300 pixels, of which the thumbnail has one in ten, drawn three times as large.
    framed = small("magenta").framed((100.0, 60.0, 300.0, 240.0), 400, 300)
    assert framed.box == (10, 6, 30, 24)
    plain, found = (pixels(draw(answer, "m", {"a": picture})).astype(int) for picture in (small("magenta"), framed))
    changed = np.argwhere(np.abs(found - plain).sum(axis=2) > 200) / 1.5  # figures are drawn larger by half
    corner = np.array([GAP + 14 + 15, GAP])  # of the picture, which is 120 wide and 90 high in a tile of 120 x 120
    for axis, (low, high) in enumerate(((6, 24), (10, 30))):
        assert (changed - corner)[:, axis].min() == pytest.approx(3 * low, abs=3)
        assert (changed - corner)[:, axis].max() == pytest.approx(3 * high, abs=3)
    yellow = (np.abs(found - np.array([0xFF, 0xD6, 0x0A])) < 20).all(axis=2)
    assert yellow.sum() > 200 and not (np.abs(plain - np.array([0xFF, 0xD6, 0x0A])) < 20).all(axis=2).any()


@pytest.mark.parametrize("box", [(-1, 0, 10, 10), (0, 0, 41, 30), (0, 0, 40, 30.5), (50, 5, 60, 10)])
def test_a_box_beyond_its_image_is_refused(box):
    with pytest.raises(ValueError, match=r"^the box .* reaches out of 40 x 30 pixels$"):
        small("red").framed(tuple(map(float, box)), 40, 30)
    assert small("red").framed((0.0, 0.0, 40.0, 30.0), 40, 30).box == (0, 0, 40, 30)


def test_hostile_names_stay_text():
    bad = '</text><script>alert(1)</script>"\x1b[31m\x00'
    found = draw(Answer(bad, bad, bad, 0.0, 1, 1, (ShownImage("missed", bad, bad),)), bad, {})
    root = ElementTree.fromstring(found.svg)
    assert {element.tag for element in root.iter()} == {SVG + tag for tag in ("svg", "style", "rect", "g", "text")}
    assert "\x1b" not in found.svg and "\x00" not in found.svg


def test_svg_needs_no_library_and_png_says_which(answer, monkeypatch):
    monkeypatch.setattr("bb.probe.retrieval.report.figures.find_spec", lambda name: None)
    buffer = BytesIO()
    draw(answer, "m", {}).savefig(buffer, format="svg")
    assert buffer.getvalue().startswith(b"<svg ")
    with pytest.raises(UsageError, match=r"^figures need vl-convert: pip install 'backbone-bench\[report\]'$"):
        Drawing("<svg/>").savefig(buffer, format="png")


def test_figures_go_to_a_logger(answer, tmp_path):
    pytest.importorskip("tensorboard")
    pytest.importorskip("vl_convert")
    from bb.probe.retrieval.loggers.base import open_logger
    from tests.helpers.tensorboard import read_events

    logger = open_logger(f"tensorboard:{tmp_path}")
    drawing = draw(answer, "m", {})
    logger.log_figure(drawing, "worst queries", 0)
    logger.close()
    buffer = BytesIO()
    drawing.savefig(buffer, format="png")
    assert read_events(tmp_path).figures == {("worst queries", 0): buffer.getvalue()}
