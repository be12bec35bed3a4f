"""The sentences above a board, on planted boards."""

from dataclasses import replace

import pytest

from bb.probe.features.extraction import Cost
from bb.probe.report.build import boards
from bb.probe.report.findings import findings, forecast_score, further
from bb.probe.report.leaderboard import Estimate
from bb.probe.report.methods import bibtex, methods
from bb.probe.report.options import ReportOptions
from bb.store import Store
from tests.helpers.boards import small_store


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boards") / "features.bb"
    small_store(folder)
    (found,) = boards(Store.open(folder).runs(), "newt", ReportOptions(resamples=100))
    return found


def planted(board, *columns):
    """A board of some columns, n_train to {label: (score, "best", "tied" or "apart")}; intervals are ± 0.05."""
    of = dict(columns)
    labels = dict.fromkeys(label for column in of.values() for label in column)
    (row, n) = board.rows[0], board.columns[0]

    def cell(score, what):
        estimate = Estimate(score, score - 0.05, score + 0.05)
        return replace(row.cells[n], estimate=estimate, best=what == "best", tied=what == "tied")

    rows = tuple(
        replace(row, label=label, cells={k: cell(*column[label]) for k, column in of.items() if label in column})
        for label in labels
    )
    return replace(board, rows=rows, columns=tuple(of), n_tasks=1)


def first(board, **column):
    return findings(planted(board, (10, column)))[0]


def test_who_is_best(board):
    assert first(board, a=(0.9, "best"), b=(0.7, "apart"), c=(0.6, "apart")) == (
        "a is the best of 3 backbones with 10 training images a task: 0.900 (95% interval 0.850 to 0.950), 0.200 ahead "
        "of b, the next. It can be told apart from every other."
    )


def test_what_cannot_be_told_apart_is_said(board):
    some = first(board, a=(0.9, "best"), b=(0.89, "tied"), c=(0.6, "apart"))
    assert some.endswith("0.010 ahead of b, the next. It can't be told apart from b.") and "is the best" not in some
    alike = first(board, a=(0.9, "best"), b=(0.89, "tied"), c=(0.88, "tied"))
    assert alike.endswith("but can't be told apart from any of the other 2.")
    assert first(board, a=(0.9, "best"), b=(0.89, "tied")).endswith("but can't be told apart from the other.")
    assert "a and b have the same highest score" in first(board, a=(0.9, "best"), b=(0.9, "best"), c=(0.1, "apart"))
    many = first(board, a=(0.9, "best"), z=(0.1, "apart"), **{f"b{i}": (0.8, "tied") for i in range(5)})
    assert many.endswith("It can't be told apart from b0, b1, b2 and 2 more.")


def test_one_backbone_and_guessing(board):
    alone = findings(planted(board, (10, {"a": (0.52, "best")})))
    assert alone[0].endswith("Add another backbone to compare it with.")
    assert alone[1] == "Even a can't be told apart from guessing, which scores 0.500."
    common = findings(replace(planted(board, (10, {"a": (0.9, "best")})), majority=0.87))
    assert common[1] == "Even a can't be told apart from always naming the commonest class, which scores 0.870."


def test_without_an_interval_nothing_is_claimed(board):
    found = planted(board, (10, {"a": (0.9, "best"), "b": (0.6, "apart")}))
    row = found.rows[0]
    cell = replace(row.cells[10], estimate=Estimate(0.9, float("nan"), float("nan"), no_interval="3 groups"))
    told = findings(replace(found, rows=(replace(row, cells={10: cell}), *found.rows[1:])))
    assert told[0] == (
        "a scores highest of 2 backbones with 10 training images a task, 0.900, but no interval can be stated "
        "(3 groups), so how sure that is remains unknown."
    )


def test_another_leader_with_fewer_images_and_what_is_not_said(board):
    at4 = {"a": (0.7, "apart"), "b": (0.8, "best")}
    at10 = {"a": (0.9, "best"), "b": (0.85, "tied")}
    found = replace(planted(board, (4, at4), (10, at10)), n_tasks=3)
    assert "With 4 training images a task, b is ahead of a." in findings(found)
    assert findings(found)[-1] == "This holds for these 3 tasks; it says little about others."
    at4["a"] = (0.7, "tied")
    unsure = "With 4 training images a task, b is ahead of a, but the two can't be told apart."
    assert unsure in findings(planted(board, (4, at4), (10, at10)))


def test_methods_name_what_was_done(board):
    told = methods(board)
    for words in (
        "3 frozen vision backbones (timm:",
        "160 test images",
        "with 4 training images a task, a linear SVM (C = 1)",
        "an SVM chosen from 100 random candidates (C in [0.001, 10]",
        "with the seeds 0, 1",
        "95% intervals for further test images",
        "(10,000 or more random sign flips of test images' differences), corrected for all comparisons by Holm",
        "and 6 more.",
    ):
        assert words in told, told
    assert "the protocol biobench (github.com/samuelstevens/biobench): with 4 training" in told
    same = {n: replace(cell, origin=board.rows[0].cells[4].origin) for n, cell in board.rows[0].cells.items()}
    alike = methods(replace(board, rows=(replace(board.rows[0], cells=same),)))
    numbers = ", ".join(map(str, board.columns[:-1]))
    assert f"with {numbers} and {board.columns[-1]} training images" in alike and alike.count("a linear SVM") == 1
    assert bibtex(board).count("@") == 3 and bibtex(replace(board, tasks="mine", protocol="newt2021")).count("@") == 1


def sentence(*points):
    """What is said of more labels after (number, score) points with intervals of ± 0.01."""
    return list(further("a", [(n, score, score - 0.01, score + 0.01) for n, score in points], "images a task"))


def test_what_more_labels_bring_is_said_where_a_curve_supports_it():
    assert sentence((5, 0.6), (10, 0.7)) == []
    (rising,) = sentence((5, 0.55), (10, 0.65), (20, 0.74), (40, 0.82))
    assert rising.startswith("40 more images a task ") and "bring a from 0.820 to about 0.8" in rising
    low = float(rising.partition("95% interval ")[2][:4])
    assert ("would bring" in rising) == (low >= 0.82) and rising.endswith("as its learning curve goes on.")
    sure = list(further("a", [(n, s, s - 1e-4, s + 1e-4) for n, s in ((8, 0.2), (16, 0.4), (32, 0.6))], "labels", 400))
    assert sure[0].startswith("32 more labels would bring a from 0.600 to about 0.")
    (flat,) = sentence((5, 0.8), (10, 0.802), (20, 0.801))
    assert flat.startswith(
        "20 more images a task would bring a no gain that can be foreseen: from 0.801 to about 0.80 "
    )


def test_a_forecast_is_surer_with_more_tasks_and_draws():
    points = [(n, score, score - 0.03, score + 0.03) for n, score in ((8, 0.7), (16, 0.75), (32, 0.79))]

    def width(more, tasks=1, draws=1):
        low, middle, high = forecast_score(points, more, tasks, draws)
        assert low < middle < high
        return high - low

    assert width(32, draws=5) < width(32) < width(96) and width(32, tasks=30) < width(32) > 0.06


def test_a_forecast_needs_one_classifier_and_a_number_of_images(board):
    columns = [(n, {"a": (0.5 + 0.1 * k, "best"), "b": (0.4, "apart")}) for k, n in enumerate((4, 6, 8))]
    assert any("more training images a task" in each for each in findings(planted(board, *columns)))
    changed = planted(board, *columns)
    first, *others = changed.rows
    other = replace(first.cells[8], origin=replace(first.cells[8].origin, classifier="search"))
    changed = replace(changed, rows=(replace(first, cells={**first.cells, 8: other}), *others))
    everything = planted(board, *columns, ("all", {"a": (0.9, "best"), "b": (0.4, "apart")}))
    for without in (changed, everything):
        assert not any("more training images a task" in each for each in findings(without))


def test_methods_take_parameters_and_sizes_from_the_runs(board):
    row = board.rows[0]
    of = {n: replace(c.origin, parameters={"linear": {"C": 7.5}, "search": 3}) for n, c in row.cells.items()}
    cost = Cost(85_800_000, 35.1, (224, 224), 768)
    cells = {n: replace(c, origin=replace(of[n], cost=cost)) for n, c in row.cells.items()}
    said = methods(replace(board, rows=(replace(row, cells=cells),)))
    assert "a linear SVM (C = 7.5)" in said
    assert "the classifier search (its parameters are not recorded)" in said
    assert f"({row.label} (85.8 M parameters, 35.1 GFLOPs an image, 224x224 pixels))" in said
