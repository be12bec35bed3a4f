"""A published table next to ours: what is read, what is next to what, and what keeps scores from comparing."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bb.probe.classification.comparisons.reference import read_reference
from bb.store.errors import BBError, UsageError
from tests.helpers.command_line import call, own_place  # noqa: F401
from tests.helpers.synthetic import NAME, cluster_store


@pytest.fixture
def place(own_place, call):  # noqa: F811
    _, ids, y, _ = cluster_store(own_place / "features.bb", n=120, spread=1.5)
    side = np.where(np.arange(120) // 4 % 2, "train", "test")
    pl.DataFrame({"image_id": ids, "label": y, "split": side}).write_csv("birds.csv")
    words = ("probe", "classify", "--labels", "birds.csv")
    assert call(*words, "--classifier", "knn")[0] == 0
    assert call(*words, "--protocol", "mieb-linear,biobench-simpleshot", "--seed", "0")[0] == 0


def next_to(call, *rows):  # noqa: F811
    """The comparisons of all boards with a reference, by protocol."""
    header = "ckpt,score,task,shots,protocol,view,pooling,split,metric"
    Path("paper.csv").write_text("\n".join([header, *rows]))
    status, out, err = call("report", "classify", "birds", "--reference", "paper.csv", "--json")
    assert status == 0, err
    return {each["protocol"]: each for board in json.loads(out) for each in board["reference"]}


def test_a_score_is_next_to_its_protocol_and_says_what_is_not_known(place, call):  # noqa: F811
    found = next_to(call, f"{NAME},0.5,birds,,biobench-simpleshot,224,cls,test,macro_f1@biobench")
    (each,) = found.values()
    assert each["difference"] == pytest.approx(each["value"] - 0.5) and each["metric"] == "macro_f1@biobench"
    assert each["does_not_compare"] == (
        "its view is 224, and ours is not recorded; its pooling is cls, and ours is not recorded"
    )


def test_each_reason_is_named(place, call):  # noqa: F811
    found = next_to(call, f"{NAME},0.5,,16,mieb-linear,,,val,macro_f1")
    assert found["mieb-linear"]["does_not_compare"] == (
        "it does not state view, pooling; its split is val, ours test; its metric is macro_f1, ours accuracy; ours has "
        "1 of the protocol's 5 seeds"
    )
    found = next_to(call, f"{NAME},0.5,birds,all,clip-linear,,,,accuracy")
    assert found.keys() == {"", "biobench-simpleshot"}
    assert "its protocol is clip-linear, ours one of bb" in found[""]["does_not_compare"]
    assert "its protocol is clip-linear, ours biobench-simpleshot" in found["biobench-simpleshot"]["does_not_compare"]
    assert next_to(call, "other:net,0.5,,,,,,,", f"{NAME},0.5,fish,,,,,,") == {}


def test_a_missing_value_states_nothing(place, call):  # noqa: F811
    found = next_to(call, f"{NAME},0.5,N/A,NA,biobench-simpleshot,-,none, test ,accuracy")
    (each,) = found.values()
    assert each["does_not_compare"] == "it does not state view, pooling"


def test_it_is_not_replaced(place, call):  # noqa: F811
    Path("paper.csv").write_text(f"ckpt,score\n{NAME},0.5\n")
    for option in ("--csv", "--html"):
        status, _, err = call("report", "classify", "birds", "--reference", "paper.csv", option, "paper.csv")
        assert status == 2 and f"{option} paper.csv would replace what is read from it" in err


def test_terminal_csv_and_page_show_it(place, call):  # noqa: F811
    next_to(call, f"{NAME},0.5,birds,all,biobench-simpleshot,,,test,accuracy")
    status, out, _ = call("report", "classify", "birds", "--reference", "paper.csv")
    assert status == 0 and "next to paper.csv; ~ does not compare:" in out
    assert f"~ it does not state view, pooling (1 of 1: {NAME})" in out
    status, out, _ = call("report", "classify", "birds", "--reference", "paper.csv", "--csv", "-")
    rows = pl.read_csv(out.encode(), infer_schema=False).filter(pl.col("figure") == "reference")
    assert rows["reference"].to_list() == ["0.5"]
    status, _, err = call("report", "classify", "birds", "--reference", "paper.csv", "--html", "page.html")
    assert status == 0 and 'id="reference"' in Path("page.html").read_text(encoding="utf-8"), err
    status, out, err = call("report", "classify", "birds", "--reference", "none.csv")
    assert status == 2 and "--reference none.csv: the file does not exist. It has the columns ckpt, score." in err


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("ckpt\nx\n", UsageError, "does not have the column score"),
        ("ckpt,score\nx,1.5\n", BBError, "line 2: the score '1.5' is not a number from 0 to 1"),
        ("ckpt,score\n,0.5\n", BBError, "line 2: every row needs a ckpt"),
        ("ckpt,score,shots\nx,0.5,few\n", BBError, "line 2: shots 'few' are neither all nor a number"),
        ("ckpt,score\nx,0.5\nx,0.6\n", BBError, "line 3: x has such a score already"),
    ],
)
def test_a_table_that_can_not_be_read(tmp_path, text, error, message):
    path = tmp_path / "paper.csv"
    path.write_text(text)
    with pytest.raises(error, match=message):
        read_reference(path)
