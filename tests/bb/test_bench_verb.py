"""`bb bench`: a board from a file, once computed; what it refuses."""

import json
import os

import pytest

from bb.probe.bench.plan import EXAMPLE
from bb.store import Store
from tests.helpers.benches import bench_store
from tests.helpers.command_line import call, own_place  # noqa: F401


@pytest.fixture
def place(own_place):  # noqa: F811
    bench_store(own_place, {"ponds": (48, 3), "birds": (60, 4)}, backbones=2)
    text = 'store = "features.bb"\nclassifiers = ["simpleshot"]\nshots = [2, "all"]\n'
    text += '[families.ponds]\nlabels = "ponds.csv"\n[families.birds]\nlabels = "birds.csv"\n'
    (own_place / "board.toml").write_text(text)
    return own_place


def test_a_board_is_computed_once(place, call):  # noqa: F811
    status, out, err = call("bench", "board.toml", "--jobs", 1)
    assert status == 0, err
    assert "8 runs computed, 0 were there" in out and "page: board.html" in out
    page = (place / "board.html").read_text()
    assert "ponds" in page and "lab:net1" in page and "What failed" not in page
    status, out, _ = call("bench", "board.toml", "--json", "--out", "other.html", "--jobs", 1)
    record = json.loads(out)
    assert status == 0 and record["fresh"] == [] and record["runs"] == 8
    assert (place / "other.html").read_text() == page
    assert [row["rank"] for row in record["rows"]] == sorted(row["rank"] for row in record["rows"])


def test_parts_make_the_board_together(place, call):  # noqa: F811
    computed = 0
    for part in ("1/3", "2/3", "3/3"):
        status, out, _ = call("bench", "board.toml", "--part", part, "--jobs", 1)
        assert status == 0 and not (place / "board.html").exists()
        computed += int(out.partition(" runs computed")[0])
    assert computed == 8
    assert "0 runs computed, 8 were there" in call("bench", "board.toml", "--jobs", 1)[1]


def test_a_cell_that_fails_leaves_the_others(place, call):  # noqa: F811
    labels = place / "birds.csv"
    labels.write_text(labels.read_text().replace(",test", ","))  # tests no image
    status, out, err = call("bench", "board.toml", "--jobs", 1)
    assert status == 1 and "failed: birds" in err and "4 runs computed" in out
    assert "What failed" in (place / "board.html").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clasifiers = ['ridge']", "'clasifiers', which bb bench does not know: did you mean 'classifiers'?"),
        ("zzz = 1", "it knows families"),
        ("[families.ponds]\nlable = 'x'", "[families.ponds] sets 'lable'"),
        ("[families.ponds]\nfolds = 'x'", "folds = 'x', which is not a whole number"),
        ("[families.inat21]\nroot = 'a'\nlabels = 'b'", "sets root and labels"),
        ("[families.ponds]\nroot = 'a'", "sets root, the folder of a task family, and 'ponds' is none of these"),
        ("protocols = ['dinov2-knn']\nseeds = [1]", "nothing would use seeds: only protocols are named"),
        ("families = 3", "write [families.NAME] for each"),
        ("shots = [0]", "--shots 0 is not a number of images"),
        ("[families.ponds]\nsplit_by = ['place']", "--split-by 'place' is none of column, random, group, time"),
        ("shots = [true]", 'give whole numbers or "all"'),
        ("[families]", "[families] is empty, which asks for nothing: leave it out, or write [families.NAME]."),
        ("seeds = ['a']", "give whole numbers"),
        ("seeds = []", "asks for nothing"),
        ("out = 3", "which is not text"),
        ("classifiers = ['nonsense']", "nonsense"),
        ("protocols = ['newt2021']", "bb probe newt --protocol newt2021"),
        ("a = [", "not valid TOML"),
        ("a = " + "[" * 5000, "bad.toml is not valid TOML: it nests too deeply"),
        ("seeds = [" + "9" * 5000 + "]", "bad.toml is not valid TOML: it holds a number of thousands of digits"),
        ("#" + "x" * 2**20, "bad.toml is not valid TOML: it has more than 1,048,576 bytes"),
        ("[families.ponds]\nlabel = [1, 2]", "[families.ponds] sets label = [1, 2], which is not a column"),
        ("[families.ponds]\nnot_missing = [1]", "sets not_missing = [1], which is not a list of texts"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(place, call, text, said):  # noqa: F811
    (place / "bad.toml").write_text(text)
    status, _, err = call("bench", "bad.toml")
    assert status == 2 and said in err


def test_what_is_missing_is_said(place, call):  # noqa: F811
    assert call("bench")[0] == 2
    status, _, err = call("bench", "nowhere.toml")
    assert status == 2 and "nowhere.toml can't be read" in err
    os.mkfifo("pipe.toml")
    for name, kind in (("pipe.toml", "a pipe"), ("/dev/zero", "a device")):
        status, _, err = call("bench", name)
        assert status == 2 and f"{name} can't be read (is {kind}, not a file)" in err
    status, _, err = call("bench", "board.toml", "--part", "4/3")
    assert status == 2 and "--part 4/3 is not a part" in err
    status, _, err = call("bench", "board.toml", "--part", "1/3", "--out", "x.html")
    assert status == 2 and "--part 1/3 writes no page: leave out --out" in err and not (place / "x.html").exists()
    (place / "all.toml").write_text('store = "features.bb"')
    status, _, err = call("bench", "all.toml")
    assert status == 2 and "features of none of the families" in err and "birds" in err


def test_the_example_is_a_plan(place, call):  # noqa: F811
    status, out, _ = call("bench", "--example")
    assert status == 0 and out.strip() == EXAMPLE.strip()
    (place / "example.toml").write_text(out)
    status, _, err = call("bench", "example.toml")
    assert status == 1 and "features.bb has no collection 'inat21'" in err


def test_the_page_replaces_no_file_of_labels(place, call):  # noqa: F811
    labels = (place / "birds.csv").read_bytes()
    status, _, err = call("bench", "board.toml", "--out", "birds.csv")
    assert status == 2 and "--out birds.csv would replace what is read from it: name another file." in err
    assert (place / "birds.csv").read_bytes() == labels


def test_ways_of_splitting_are_columns_of_their_own(place, call):  # noqa: F811
    """Random folds and folds of groups are both "5 folds"."""
    rows = [line.split(",") for line in (place / "ponds.csv").read_text().splitlines()]
    text = [",".join([*row[:2], "pond" if not n else f"p{n % 7}"]) for n, row in enumerate(rows)]
    (place / "ponds.csv").write_text("\n".join(text))
    (place / "board.toml").write_text(
        'store = "features.bb"\nclassifiers = ["simpleshot"]\n[families.ponds]\nlabels = "ponds.csv"\n'
        'group = "pond"\nsplit_by = "random,group"\n'
    )
    status, out, err = call("bench", "board.toml", "--jobs", 1, "--json")
    assert status == 0, err
    board = json.loads(out)
    assert [column["side"] for column in board["columns"]] == ["5 folds, group", "5 folds, random"]
    runs = {
        run.record["split_by"]: run for run in Store.open("features.bb").runs() if "lab:net0" in run.record["backbones"]
    }
    (row,) = (row for row in board["rows"] if row["name"] == "lab:net0")
    means = [runs[way].record["scores"]["mean"] for way in ("group", "random")]
    assert [cell["value"] for cell in row["cells"]] == pytest.approx(means, abs=1e-12)
