"""What people see of boards: readable at 80 columns, plain where piped, and harmless whatever a store says."""

import csv
import io
import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bb.probe.report.build import boards
from bb.probe.report.formats import escape, image_file
from bb.probe.report.formats.csv_file import HEAD, sheet
from bb.probe.report.formats.frame_csv import to_csv
from bb.probe.report.formats.html import page
from bb.probe.report.formats.image_file import check_format, plot
from bb.probe.report.formats.latex import latex_tables
from bb.probe.report.formats.markdown import markdown_tables
from bb.probe.report.formats.svg import curves, ranks, scatter, scores
from bb.probe.report.formats.svg_parts import document
from bb.probe.report.formats.terminal import show_board
from bb.probe.report.leaderboard import KINDS, Estimate
from bb.probe.report.options import ReportOptions
from bb.probe.report.reference import Reference, ReferenceScore
from bb.store import Store
from bb.store.errors import UsageError
from tests.helpers.boards import predictions, put, sha, small_store

EVIL = "<script>alert(1)</script>\"'&\x1b[31m\x07\u202e[red]=1+1\\input{x}$`|*_\n</title><img src=x>"
EVIL_TASKS = (f"=cmd|' /C calc'!A0{EVIL}", "@t", "-t\u2028", "</script><b>t")


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    store = small_store(tmp_path_factory.mktemp("shown") / "s.bb")
    question = ReportOptions(resamples=300, baseline="timm:poor", kinds=KINDS, details=True)
    return boards(store.runs(), "newt", question)[0]


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """Names, IDs and provenance out of the store of somebody who means harm."""
    store = Store.create(tmp_path_factory.mktemp("evil") / "s.bb")
    for place, name in enumerate((f"timm:{EVIL}", f"=2+3{EVIL}")):
        rows = predictions(np.random.default_rng(place), 0.7, tasks=EVIL_TASKS, images=8, clusters=(EVIL, "d"))
        made = {"made": EVIL, "commit": EVIL, "versions": {EVIL: EVIL}, "extraction": [{"device": EVIL, EVIL: EVIL}]}
        names = dict.fromkeys(("collection_name", "labels_name", "pooling", "backend"), EVIL)
        put(store, name, 0.7, rows=rows, provenance=made, space=sha(str(place)), **names)
    reference = Reference(EVIL, {f"timm:{EVIL}": {EVIL_TASKS[1]: ReferenceScore(0.5, EVIL, 4)}})
    question = ReportOptions(
        resamples=100, kinds=KINDS, details=True, reference=reference, baseline=f"timm:{EVIL}", units=EVIL
    )
    return boards(store.runs(), "newt", question)[0]


def shown(board, width=None, **options):
    """As text; with a width as on a terminal."""
    file = io.StringIO()
    console = Console(file=file, width=width or 10_000, force_terminal=bool(width), highlight=False)
    show_board(board, console, **options)
    return file.getvalue()


# Terminal


def test_piped_output_is_a_plain_line_for_each_backbone(board):
    text = shown(board)
    assert "\x1b" not in text and not re.search("[─-╿]", text)
    (line,) = re.findall(r"^timm:poor .*$", text, re.MULTILINE)
    cell = next(row for row in board.rows if row.label == "timm:poor").cells[10]
    assert f"{cell.mean:.3f} [{cell.estimate.low:.3f}, {cell.estimate.high:.3f}]" in line and line.endswith("2/2")
    assert all(line == line.rstrip() for line in text.splitlines())


def test_on_eighty_columns_nothing_is_folded_but_names(board):
    text = re.sub("\x1b\\[[0-9;]*m", "", shown(board, 80))
    assert max(map(len, text.splitlines())) <= 80
    for row in board.rows:
        for cell in row.cells.values():
            assert f"[{cell.estimate.low:.3f}, {cell.estimate.high:.3f}]" in text


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("by", [None, *KINDS])
def test_every_figure_is_there_at_any_width(board, width, by):
    text = re.sub("\x1b\\[[0-9;]*m", "", shown(board, width, by=by))
    assert max(map(len, text.splitlines())) <= width
    for row in board.rows:
        for cell in row.cells.values():
            for estimate in cell.splits[by].values() if by else [cell.estimate]:
                assert f"{estimate.mean:.3f}" in text


def test_marks_need_no_colour(board):
    best = next(row.cells[10] for row in board.rows if row.cells[10].best)
    tied = next(row.cells[10] for row in board.rows if row.cells[10].tied)
    assert f"{best.mean:.3f}* [" in shown(board) and f"{tied.mean:.3f}= [" in shown(board)
    assert "* best at its n_train, = not called different from it" in shown(board)
    assert "less timm:poor, with p-values (flips of images, Holm)" in shown(board)
    assert "runs " + best.origin.runs[0].run_id[:12] in shown(board, verbose=True)


# Hostile stores


def test_a_terminal_is_not_steered(evil):
    for width in (None, 80):
        for by in (None, "task"):
            text = (
                re.sub("\x1b\\[[0-9;]*m", "", shown(evil, width, by=by, verbose=True)) if width else shown(evil, by=by)
            )
            assert not [c for c in text if not c.isprintable() and c != "\n"]
            assert "[red]" in text.replace("\n", "").replace(" ", "") or by == "task"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes


def tags_of(text):
    parser = Tags()
    parser.feed(text)
    return parser


def test_a_page_holds_no_tag_of_a_store(board, evil):
    """What an innocent store makes, and not a tag or attribute more."""
    ours, theirs = tags_of(page([board])), tags_of(page([evil], {(EVIL, "x"): b"\xff\xd8"}))
    assert theirs.tags.count("script") == 2 and set(theirs.tags) <= set(ours.tags) | {"img"}
    assert {name for name, _ in theirs.attributes} <= {name for name, _ in ours.attributes}
    assert not [name for name, _ in theirs.attributes if name.startswith("on") or name == "style"]
    assert "<script>alert" not in page([evil]) and "\x1b" not in page([evil]) and "\u202e" not in page([evil])
    for name, value in theirs.attributes:
        if name in ("href", "src"):
            assert value.startswith(("#", "data:image/jpeg;base64,"))


def test_a_name_is_no_template(board):
    """Jinja's marks in names are shown as they stand."""
    name = "timm:{{ 7 * 7 }}{% for x in y %}{# c #}${title}"
    rows = [replace(row, label=f"{name}{place}") for place, row in enumerate(board.rows)]
    tasks = [replace(task, cluster=name) for task in board.task_list]
    text = page([replace(board, rows=tuple(rows), task_list=tuple(tasks), collection=name, notes=(name,))])
    assert f"<li>{name}</li>" in text and f'data-label="{name}0"' in text and "<h1>Backbones on newt</h1>" in text


def test_a_page_asks_for_nothing_from_elsewhere(board):
    text = page([board])
    assert not re.search(r"https?://", text)
    policy = unescape(re.search('Policy" content="([^"]*)"', text)[1])
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_pictures_are_xml_whatever_the_names(board, evil):
    import xml.etree.ElementTree as ET

    for each in (board, evil):
        for drawn in (curves(each, title=True), scores(each, title=True), ranks(each), scatter(each)):
            root = ET.fromstring(document([drawn]))
            assert not [e for e in root.iter() if "script" in e.tag or "img" in e.tag]


def test_a_sheet_computes_nothing(evil):
    rows = list(csv.reader(io.StringIO(sheet([evil]))))
    assert all(len(row) <= len(HEAD) for row in rows)
    for row in rows[1:]:
        for word in row:
            assert word[:1] not in ("=", "@", "+", "\t") and not (word[:1] == "-" and not _number(word))
            assert word.isprintable()


def _number(word):
    try:
        return float(word)
    except ValueError:
        return None


def test_latex_runs_no_command_of_a_store(evil):
    text = latex_tables([evil])
    known = {
        "begin",
        "end",
        "centering",
        "caption",
        "toprule",
        "midrule",
        "bottomrule",
        "texttt",
        "textbf",
        "underline",
    }
    known |= {"footnotesize", "textbackslash", "textasciitilde", "textasciicircum"}
    assert set(re.findall(r"\\([a-zA-Z]+)", text)) <= known
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_markdown_has_no_markup_of_a_store(evil):
    text = markdown_tables([evil])
    assert "<" not in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 3


@given(st.text())
def test_escaping_holds_for_any_text(text):
    assert escape.printable(text).isprintable()
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<>]", escape.markdown(text))
    assert not re.search(r"(?<!\\)[%$&#_]", escape.latex(text))
    assert str(escape.csv(text))[:1] not in tuple("=+-@\t\r")


# Formats


def test_the_sheet_has_every_figure_of_the_json(board):
    rows = list(csv.DictReader(io.StringIO(sheet([board]))))
    record = board.record()
    for row in record["rows"]:
        for cell in row["cells"]:
            (line,) = [
                r for r in rows
                if (r["backbone"], r["n_train"], r["split"]) == (row["backbone"], str(cell["n_train"]), "all")
            ]  # fmt: skip
            assert float(line["score"]) == cell["mean"] and float(line["low"]) == cell["low"]
            assert line["runs"].split() == cell["runs"]
            if cell["delta"]:
                assert float(line["p"]) == cell["delta"]["p"]
    assert {row["split"] for row in rows} == {"all", *KINDS}


def test_latex_and_markdown_show_the_best(board):
    best = next(row.cells[10] for row in board.rows if row.cells[10].best)
    tied = next(row.cells[10] for row in board.rows if row.cells[10].tied)
    assert f"\\textbf{{{best.mean:.3f}}}" in latex_tables([board])
    assert f"\\underline{{{tied.mean:.3f}}}" in latex_tables([board])
    assert f"**{best.mean:.3f}**" in markdown_tables([board]) and f"{tied.mean:.3f}=" in markdown_tables([board])


def test_plots_are_what_their_names_say(board):
    pytest.importorskip("vl_convert")
    assert plot([board], ".png").startswith(b"\x89PNG") and plot([board], ".pdf").startswith(b"%PDF")
    assert b"timm:good" in plot([board], ".svg")
    with pytest.raises(UsageError, match="--plot draws .svg, .png, .pdf, not .gif"):
        check_format(".gif")
    with pytest.raises(UsageError, match="not a file without a suffix"):
        check_format("")


def test_a_plot_without_the_extra_says_so(monkeypatch):
    monkeypatch.setattr(image_file, "find_spec", lambda name: None)
    check_format(".svg")
    with pytest.raises(UsageError, match="pip install 'backbone-bench\\[report\\]'. For .svg it needs nothing"):
        check_format(".png")


def test_the_data_of_a_page_are_the_scores_of_the_json(board):
    text = page([board])
    (data,) = json.loads(re.search('id="data">(.*?)</script>', text)[1])
    for place, row in enumerate(board.record()["rows"]):
        for cell in row["cells"]:
            column = data["columns"].index(cell["n_train"])
            means = [cell["splits"]["task"][task]["mean"] for task in data["tasks"]]
            assert data["values"][column][place] == pytest.approx(means, abs=1e-4)


def in_cluster(row, cluster, estimate, leads):
    """A row whose scores in a cluster are one estimate, and which leads some clusters."""
    cells = {
        n: replace(cell, leads=leads, splits={**cell.splits, "cluster": {**cell.splits["cluster"], cluster: estimate}})
        for n, cell in row.cells.items()
    }
    return replace(row, cells=cells)


def test_the_best_of_a_cluster_is_marked_on_the_page_and_in_csv(board):
    first, second, last = board.rows
    rows = [
        in_cluster(first, "d", Estimate(0.9, 0.8, 0.95), {"d": "best"}),
        in_cluster(last, "d", Estimate(0.5, 0.4, 0.6), {}),
    ]
    text = page([replace(board, rows=tuple(rows))])
    assert "Clusters of tasks" in text and ">c (2 tasks)<" in text and "not for further tasks of a cluster" in text
    assert "<b>0.900</b>*</span>" in text and '<span class="mean">0.500</span></span>' in text
    tied = page([replace(board, rows=(in_cluster(first, "d", Estimate(0.9, 0.8, 0.95), {"d": "tied"}), second))])
    assert "<b>0.900</b>" not in tied and '<span class="mean">0.900</span>=</span>' in tied
    lines = csv.DictReader(io.StringIO(sheet([replace(board, rows=tuple(rows))])))
    found = {
        (line["backbone"], line["best"], line["tied_with_best"])
        for line in lines
        if (line["split"], line["name"]) == ("cluster", "d")
    }
    assert found == {(first.label, "True", "False"), (last.label, "False", "False")}


def test_a_cluster_without_intervals_has_no_best_and_says_why(board):
    few = Estimate(0.9, float("nan"), float("nan"), True, "it has 3 groups, of 5 at least")
    text = page([replace(board, rows=tuple(in_cluster(row, "c", few, {}) for row in board.rows))])
    assert "c: no interval, and no best backbone (it has 3 groups, of 5 at least)." in text
    assert text.count("no interval</span>") >= len(board.rows)


def test_bibtex_keeps_its_lines(board):
    assert re.search("<pre>(@.*?)</pre>", page([board]), re.DOTALL)[1].count("\n") > 3


def test_a_frame_as_csv_holds_no_formula():
    frame = pl.DataFrame({"name": ["=1+1", "fox", None], "value": [-1.5, 2.0, None]})
    assert to_csv(frame) == "name,value\n'=1+1,-1.5\nfox,2.0\n,\n"
