"""Costs, bars, names and frames: what each shows, and that names stay text."""

import re
import xml.etree.ElementTree as ET
from html import unescape

import pytest

from bb.probe.features.extraction import Cost
from bb.probe.report.build import boards
from bb.probe.report.formats.html import page
from bb.probe.report.formats.inline import inline
from bb.probe.report.formats.svg_cost import Spot, axis_of, cost_picture, cost_words, front
from bb.probe.report.formats.svg_parts import distinct, document, guess_lines, marker
from bb.probe.report.formats.templates import breakable, environment
from bb.probe.report.leaderboard import KINDS
from bb.probe.report.options import ReportOptions
from tests.helpers.boards import small_store

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def macros():
    return environment().get_template("report/formats/macros.html").module


def spot(label, value, gflops, parameters=None):
    return Spot(label, value, (value - 0.05, value + 0.05), Cost(parameters, gflops))


def test_the_front_has_what_nothing_beats_for_less():
    assert front([(1, 0.7), (2, 0.9), (3, 0.8), (4, 0.9), (5, 0.95)]) == [True, True, False, False, True]
    assert front([(1, 0.5), (1, 0.6)]) == [False, True]
    assert front([(1, 0.5), (1, 0.5)]) == [True, True]  # neither beats the other


def test_the_axis_is_the_cost_that_most_have():
    assert axis_of([spot("a", 0.5, 1.0), spot("b", 0.5, None)]) is None
    assert axis_of([spot("a", 0.5, 1.0), spot("b", 0.5, 2.0)]) == "gflops"
    assert axis_of([spot("a", 0.5, 1.0, 5), spot("b", 0.5, None, 6)]) == "parameters"


@pytest.mark.parametrize("costs", [(1.0, 1.0), (1.3, 1.5), (0.1, 9e5), (4.0, 8.0, 16.0)])
def test_a_picture_of_costs_has_discs_rings_and_ticks(costs):
    spots = [spot(f"{EVIL} {k}", 0.8 - 0.1 * k, cost) for k, cost in enumerate(costs)] + [spot("old", 0.9, None)]
    drawn = cost_picture(spots, "gflops", "accuracy", [("chance", 0.5), ("always the commonest class", 0.6)])
    root = ET.fromstring(document([drawn]))
    texts = ["".join(each.itertext()) for each in root.iter() if each.tag.endswith("text")]
    circles = [each for each in root.iter() if each.tag.endswith("circle")]
    assert len(circles) == len(costs)
    rings = [each for each in circles if each.get("class") == "ring"]
    assert len(rings) == len(costs) - 1  # the first is the best and the cheapest
    assert {"chance", "always the commonest class", "GFLOPs for an image, logarithmic"} <= set(texts)
    assert any(re.fullmatch(r"[\d.]+( [kMG])?", each) for each in texts[texts.index("0.50") + 1 :])
    assert "<script" not in drawn[0] and "1 without a recorded cost is left out" in cost_words(spots, "gflops", "x")


def test_the_words_of_a_line_keep_clear_of_markers():
    def start(*marks):
        _, words = guess_lines([("chance", 0.5)], 50, 450, lambda score: 100, marks)
        return float(re.search(r'x="([\d.]+)"', words)[1])

    assert start() == start((70, 200), (300, 96)) == 54
    assert start((70, 96)) > 74 and start((70, 96), (90, 99), (130, 90)) > 134
    assert start(*((x, 96) for x in range(50, 450, 20))) == 54  # there is no room


def test_a_bar_has_a_dot_on_its_band_and_lines_for_guessing(macros):
    bar, bar_key = macros.bar, macros.bar_key
    drawn = bar(0.75, (0.7, 0.8), (0.5, 1.0), [("chance", 0.5), ("common", 0.6)])
    assert 'class="range" x="40.0"' in drawn and 'width="20.0"' in drawn and 'd="M50.0 5h0"' in drawn
    assert 'class="chance" x1="0.0"' in drawn and 'class="majority" x1="20.0"' in drawn
    assert "range" not in bar(0.75, None, (0.5, 1.0)) and "chance" not in bar(0.75, None, (0.6, 1.0), [("c", 0.5)])
    assert "chance, 0.500" in bar_key([("chance", 0.5)]) and "<script" not in bar_key([(EVIL, 0.5)])


def test_long_names_keep_what_distinguishes_them():
    long = [f"timm:backbone_{k:02d}_patch14_reg4_with_a_long_end_that_all_of_them_have" for k in range(12)]
    for most in (24, 34, 40):
        short = distinct(long, most)
        assert len(set(short)) == 12 and max(map(len, short)) <= most
    assert distinct(["a", "b"], 10) == ["a", "b"] and len(set(distinct(["same" * 9] * 2, 8))) == 1
    assert breakable("timm:a_b/<i>") == "timm:<wbr>a_<wbr>b/<wbr>&lt;i&gt;"


def test_series_differ_without_colour():
    drawn = [marker(place, 10, 10) for place in range(5)]
    assert len(set(drawn)) == 4 and drawn[4] == drawn[0]


def test_answers_name_few_backbones_and_fold_many(macros):
    few = macros.answers([("said fox", ["a", "b"]), ("said <b>", ["c"])])
    assert "said fox: a, b" in few and "said &lt;b&gt;: c" in few and "details" not in few
    many = macros.answers([("said fox", [f"n{k}" for k in range(20)])])
    assert "said fox: 20 backbones" in many and "<summary>" in many and "n11 and 8 more" in many


def test_a_page_in_a_notebook_is_the_whole_page_in_a_frame(tmp_path):
    store = small_store(tmp_path / "s.bb", shots=(4,), seeds=1)
    (plain,) = boards(store.runs(), "newt", ReportOptions(resamples=100))
    (whole,) = boards(store.runs(), "newt", ReportOptions(resamples=100, kinds=KINDS, details=True))
    assert "Tasks and backbones" in page([whole]) and "Tasks and backbones" not in page([plain])
    shown = inline(page([plain]), 'a "title"')
    assert shown.count("<") == 2 and 'sandbox="allow-scripts"' in shown and "&quot;title&quot;" in shown
    assert unescape(re.search('srcdoc="([^"]*)"', shown)[1]) == page([plain])


def test_the_page_says_what_each_backbone_said(tmp_path):
    store = small_store(tmp_path / "s.bb", shots=(4,), seeds=1)
    (board,) = boards(store.runs(), "newt", ReportOptions(resamples=100, kinds=KINDS, details=True))
    hard = board.task_list[0].hardest[0]
    assert set(hard.wrong_by_backbone) == {"timm:good", "timm:alike", "timm:poor"}
    assert hard.wrong == pytest.approx(sum(hard.wrong_by_backbone.values()) / 3)
    wrong = next(label for label, share in hard.wrong_by_backbone.items() if share >= 0.5)
    text = page([board])
    assert re.search(f"said class {1 - hard.y_true}: [^<]*{wrong}", text)
    legend = re.search(r'<ul class="key" aria-label="Clusters">(.*?)</ul>', text, re.DOTALL)
    assert re.findall(r"</svg> ([^<\n]+)", legend[1]) == list(dict.fromkeys(t.cluster for t in board.task_list))
