"""What runs record of the making of features, and what reports read of it."""

import pytest

from bb.probe.features.extraction import Cost, count_text, extraction
from bb.store import Store
from tests.helpers.stores import features, fill, images, space


def test_each_making_is_named_once_with_the_median_of_its_speeds(tmp_path):
    store, where = Store.create(tmp_path / "s.bb"), space()
    made = {"backbone": "timm:tiny/untrained", "device": "cpu", "parameters": 10}
    for k, speed in enumerate((100.0, 300.0, 200.0, "fast")):
        part = images(2, salt=str(k))
        fill(store, where, part, features(where, 2), {**made, "images_per_second": speed})
    assert extraction(store, where) == [{**made, "images_per_second": 200.0}]


def test_a_cost_is_read_of_what_is_recorded():
    record = {
        "width": 384,
        "view": {"crop": [224, 448]},
        "provenance": {
            "extraction": [
                {"parameters": 86_000_000, "gflops": 35.1, "images_per_second": 50, "device": "cpu"},
                {"parameters": 86_000_000, "gflops": 35.1, "images_per_second": 900.0, "device": "NVIDIA H100"},
            ]
        },
    }
    cost = Cost.of(record)
    assert cost == Cost(86_000_000, 35.1, (224, 448), 384, 900.0, "NVIDIA H100")
    assert cost.describe() == [
        "86 M parameters", "35.1 GFLOPs", "224x448 pixels", "384 features", "900 images/s on NVIDIA H100",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"provenance": 3, "view": [], "width": "wide"},
        {"provenance": {"extraction": {"parameters": 5}}, "view": {"crop": [224]}},
        {"provenance": {"extraction": [3, {"parameters": -1, "gflops": float("nan"), "images_per_second": True}]}},
        {"provenance": {"extraction": [{"parameters": 5}, {"parameters": 6}]}, "view": {"crop": ["<b>", 0]}},
    ],
)
def test_a_record_of_another_bb_or_a_stranger_has_no_cost(record):
    assert Cost.of(record) == Cost() and Cost.of(record).describe() == ["size not recorded"]


def test_counts_have_three_digits():
    assert [count_text(n) for n in (7, 999, 999_600, 85_798_656, 1_013_000_000)] == [
        "7", "999", "1 M", "85.8 M", "1.01 G",
    ]  # fmt: skip
