"""Where row groups lie in a Parquet file, and that any bytes are refused with a fact."""

import io
import random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bb.extract.data.parquet_footer import TAIL, DamagedParquet, footer_size, row_groups
from tests.helpers.examples import examples


def table(rows=25, **options):
    images = [{"bytes": np.random.default_rng(i).bytes(500), "path": f"{i}.jpg"} for i in range(rows)]
    frame = pl.DataFrame({"before": list(range(rows)), "image": images, "label": ["x"] * rows})
    buffer = io.BytesIO()
    frame.write_parquet(buffer, row_group_size=10, **options)
    return buffer.getvalue()


WHOLE = table()
SIZE = footer_size(WHOLE[-TAIL:])
FOOTER = WHOLE[-TAIL - SIZE : -TAIL]


@pytest.mark.parametrize("compression", ["uncompressed", "snappy", "zstd"])
def test_a_group_can_be_read_from_a_file_of_holes(compression, tmp_path):
    data = table(compression=compression)
    size = footer_size(data[-TAIL:])
    groups = row_groups(data[-TAIL - size : -TAIL], "image", len(data))
    assert [(group.first, group.rows) for group in groups] == [(0, 10), (10, 10), (20, 5)]
    whole = pl.read_parquet(io.BytesIO(data))["image"]
    for group in groups:
        holes = bytearray(len(data))
        holes[:4] = b"PAR1"
        holes[-TAIL - size :] = data[-TAIL - size :]
        holes[group.start : group.stop] = data[group.start : group.stop]
        (tmp_path / "holes.parquet").write_bytes(holes)
        read = pl.scan_parquet(tmp_path / "holes.parquet").slice(group.first, group.rows).select("image").collect()
        assert read["image"].equals(whole[group.first : group.first + group.rows])
        assert group.plain >= 500 * group.rows


def test_tables_without_rows():
    data = table(0)
    size = footer_size(data[-TAIL:])
    assert sum(group.rows for group in row_groups(data[-TAIL - size : -TAIL], "image", len(data))) == 0


@pytest.mark.parametrize(
    "tail, said",
    [
        (b"", "is no Parquet file, or is cut short"),
        (b"<html>..", "is no Parquet file, or is cut short: it does not end as one does"),
        (b"\xff\xff\xff\xffPAR1", "is damaged: its footer claims 4,294,967,295 bytes"),
    ],
)
def test_what_does_not_end_as_one_does_is_said(tail, said):
    with pytest.raises(DamagedParquet, match=said):
        footer_size(tail)


def test_what_makes_no_sense_is_said():
    with pytest.raises(DamagedParquet, match="its footer makes no sense"):
        row_groups(FOOTER[:100], "image", len(WHOLE))
    with pytest.raises(DamagedParquet, match="its footer names places that it has not"):
        row_groups(FOOTER, "image", len(FOOTER) + 100)
    with pytest.raises(DamagedParquet, match="its footer names places that it has not"):
        row_groups(FOOTER, "no such column", len(WHOLE))


def test_depth_is_bounded():
    for data in (b"\x1c" * 100_000, b"\x19" + b"\x19" * 100_000, b"\x1b\x01\xcc" + b"\x1c" * 1000):
        with pytest.raises(DamagedParquet, match="makes no sense"):
            row_groups(data, "image", 10**9)


@settings(max_examples=examples(300))
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(0, len(FOOTER)))
def test_any_change_of_a_footer_gives_groups_in_the_file_or_a_fact(seed, changes, cut):
    rng = random.Random(seed)
    data = bytearray(FOOTER if rng.random() < 0.7 else FOOTER[:cut])
    for _ in range(changes if data else 0):
        data[rng.randrange(len(data))] = rng.randrange(256)
    try:
        for group in row_groups(bytes(data), "image", len(WHOLE)):
            assert 4 <= group.start <= group.stop <= len(WHOLE) and group.rows >= 0
    except DamagedParquet as fact:
        assert str(fact).startswith("is damaged")


@settings(max_examples=examples(200))
@given(st.binary(max_size=200))
def test_any_bytes_are_no_footer(data):
    try:
        assert row_groups(data, "image", 10**9) == []
    except DamagedParquet as fact:
        assert str(fact).startswith("is damaged")
