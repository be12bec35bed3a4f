"""`bb status`, and `bb` alone: what is there, and the next command."""

import json
import os

import pytest
from PIL import Image

from bb.store import Store
from bb.verbs.status import next_command
from tests.helpers.command_line import call, own_place
from tests.helpers.labelled import labelled

__all__ = ["call", "own_place"]  # fixtures

NOTHING = {"images_here": 0, "images_in": ".", "tables_here": [], "collections": [], "labels": [], "runs": {}}
WHOLE = {"name": "pics", "images": 9, "spaces": [{"backbones": ["timm:a"], "space": "0" * 64, "features": 9}]}
PART = {**WHOLE, "spaces": [{"backbones": ["timm:a"], "space": "0" * 64, "features": 4}]}


@pytest.mark.parametrize(
    ("found", "command"),
    [
        ({}, "bb demo"),
        ({"tables_here": ["a.csv"]}, "bb extract --ckpt ViT-B-16/openai --data photos=DIR"),
        ({"images_here": 3}, "bb extract --ckpt ViT-B-16/openai --data photos=."),
        ({"images_here": 3, "images_in": "my birds"}, "bb extract --ckpt ViT-B-16/openai --data 'photos=my birds'"),
        ({"images_here": 3, "images_in": "birds"}, "bb extract --ckpt ViT-B-16/openai --data birds=birds"),
        ({"collections": [PART]}, "bb extract --ckpt timm:a --data pics=DIR"),
        (
            {"collections": [{**PART, "spaces": [{**PART["spaces"][0], "backbones": ["timm:a@c2e3996ff138#ema"]}]}]},
            "bb extract --ckpt 'timm:a@PATH#ema' --data pics=DIR"
            " (PATH is the weights file whose SHA-256 begins with c2e3996ff138)",
        ),
        ({"collections": [{**WHOLE, "spaces": []}]}, "bb extract --ckpt ViT-B-16/openai --data pics=DIR"),
        ({"collections": [WHOLE]}, "bb suggest --data pics --out next.csv"),
        ({"collections": [WHOLE], "labels": ["newt"]}, "bb probe newt --n-train 10"),
        (
            {"collections": [WHOLE], "tables_here": ["my species.csv"]},
            "bb probe classify --labels 'my species.csv' --data pics",
        ),
        (
            {"collections": [WHOLE], "tables_here": ["a.csv"], "runs": {"a": 2}},
            "bb predict --labels a.csv --data pics --out predictions.csv",
        ),
        ({"collections": [WHOLE], "tables_here": ["a.csv"], "runs": {"newt": 2}}, "bb report newt --html report.html"),
        ({"runs": {"a": 2}}, "bb report classify --html report.html"),
    ],
)
def test_the_next_command(found, command):
    assert next_command({**NOTHING, **found}, None, {}) == command


def test_a_collection_of_bb_toml_needs_no_folder_and_another_store_is_named():
    found = {**NOTHING, "collections": [PART]}
    assert next_command(found, "x.bb", {"pics": "/p"}) == "bb extract --ckpt timm:a --data pics --store x.bb"
    assert next_command(NOTHING, None, {"pics": "/p"}) == "bb extract --ckpt ViT-B-16/openai --data pics"


def test_bb_alone_beside_photographs_says_what_is_there(call, own_place):
    Image.new("RGB", (8, 8)).save("a.JPG")
    status, out, _ = call()
    assert status == 0 and out == call("status")[1]
    assert out.splitlines() == [
        "no store at features.bb",
        "image files in this folder and below it: 1",
        "next: bb extract --ckpt ViT-B-16/openai --data photos=.",
    ]


@pytest.mark.parametrize("name", ["a.webp", "2026/site 1/day 2/a.jpg"])
def test_bb_alone_finds_what_bb_status_finds(call, own_place, name):
    path = own_place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    assert call()[1] == call("status")[1] != ""


def test_a_store_that_bb_toml_names_is_not_named_again(call, own_place):
    (own_place / "bb.toml").write_text('store = "birds.bb"\n')
    store = labelled(own_place)
    store.root.rename(own_place / "birds.bb")
    command = "bb probe classify --labels individuals.csv --data newt"
    assert call("status")[1].splitlines()[-1] == f"next: {command}"
    (own_place / "birds.bb").rename(own_place / "features.bb")
    assert call("status", "--store", "features.bb")[1].splitlines()[-1] == f"next: {command} --store features.bb"


def test_photographs_in_a_folder_below_and_tables_that_bb_wrote(call, own_place):
    (own_place / "birds").mkdir()
    Image.new("RGB", (8, 8)).save(own_place / "birds" / "a.jpg")
    (own_place / "labels.csv").write_text("file,species\na.jpg,heron\n")
    (own_place / "rest.csv").write_text("image_id,label,probability,accepted,novelty\n")
    (own_place / "more.csv").write_text("file,species,suggested_by,guess,margin\n")
    (own_place / "a.csv").write_text("tasks,metric,backbone,score,low,high\n")
    (own_place / "odd.csv").write_bytes(b"\xff\xfe\x00")
    status, out, _ = call()
    assert status == 0 and "table in this folder: labels.csv" in out and "rest.csv" not in out and "more.csv" not in out
    assert "a.csv" not in out
    assert out.splitlines()[-1] == "next: bb extract --ckpt ViT-B-16/openai --data birds=birds"


def test_a_pipe_that_is_called_like_a_table_is_never_opened(call, own_place):
    """Nobody writes to it, so reading it would never end."""
    os.mkfifo("labels.csv")
    os.mkfifo("labels.parquet")
    status, out, _ = call("status")
    assert status == 0 and "labels." not in out


def test_bb_alone_elsewhere_prints_its_help(call, own_place):
    _, out, err = call()
    assert "Usage" in out + err and "status" in out + err


def test_a_store_with_features_and_labels(call, own_place):
    labelled(own_place)
    status, out, _ = call("status", "--json")
    found = json.loads(out)
    store = Store.open("features.bb")
    (each,) = found["collections"]
    (of,) = each["spaces"]
    (space,) = store.spaces()
    assert (status, of["space"], of["features"]) == (0, space.key, each["images"])
    assert found["tables_here"] == ["individuals.csv", "newt2021_labels.csv"] and found["runs"] == {}
    assert out and "all" in call("status")[1]
