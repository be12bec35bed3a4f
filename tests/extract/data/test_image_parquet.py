"""Row groups of image tables: read by parts, and any bytes are refused with a fact and without much memory."""

import io
import random
import sys
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bb.extract.data import image_parquet
from bb.extract.data.image_parquet import MAGIC, TAIL, DamagedParquet, ParquetShard
from bb.store.errors import UsageError
from tests.helpers.examples import examples


@dataclass(frozen=True)
class Bytes:
    """A file in memory, which remembers what was read of it."""

    data: bytes = field(repr=False)
    url: str = "t.parquet"
    version: str = ""
    reads: list[tuple[int, int]] = field(default_factory=list, compare=False)

    @property
    def size(self):
        return len(self.data)

    def stream(self):
        yield self.data

    def read(self, start, size):
        self.reads.append((start, start + size))
        return self.data[start : start + size]


def table(rows=25, **options):
    images = [{"bytes": np.random.default_rng(i).bytes(500), "path": f"{i}.jpg"} for i in range(rows)]
    kind = pl.Struct({"bytes": pl.Binary(), "path": pl.String()})
    frame = pl.DataFrame({"before": range(rows), "image": pl.Series(images, dtype=kind), "label": ["x"] * rows})
    buffer = io.BytesIO()
    frame.write_parquet(buffer, row_group_size=10, **options)
    return buffer.getvalue()


def footer_size(data):
    return int.from_bytes(data[-TAIL:-4], "little")


def with_footer(footer, data=MAGIC):
    return data + footer + len(footer).to_bytes(4, "little") + MAGIC


def opened(data):
    return image_parquet._read_footer(Bytes(data))


WHOLE = table()
SIZE = footer_size(WHOLE)
FOOTER = WHOLE[-TAIL - SIZE : -TAIL]


@pytest.mark.parametrize("compression", ["uncompressed", "snappy", "zstd"])
def test_a_group_is_read_from_its_part_of_the_file_alone(compression):
    data = table(compression=compression)
    found = opened(data)
    assert [(group.first, group.rows) for group in found.groups] == [(0, 10), (10, 10), (20, 5)]
    whole = pl.read_parquet(io.BytesIO(data))["image"]
    for index, group in enumerate(found.groups):
        before = len(found.blob.reads)
        images, paths = found.read(index)
        assert sum(stop - start for start, stop in found.blob.reads[before:]) < 8000  # of the file's 18,000
        assert len(found.blob.reads) - before == 2  # its bytes and its paths
        expected = whole[group.first : group.first + group.rows]
        assert [image.as_py() for image in images] == expected.struct.field("bytes").to_list()
        assert [path.as_py() for path in paths] == expected.struct.field("path").to_list()
        assert group.plain >= 500 * group.rows


def test_tables_without_rows():
    found = opened(table(0))
    assert sum(group.rows for group in found.groups) == 0
    assert list(ParquetShard(Bytes(table(0), "empty.parquet")).find()) == []


@pytest.mark.parametrize(
    "tail, said",
    [
        (b"", "is not a Parquet file, or is cut short"),
        (b"<html>..", "is not a Parquet file, or is cut short: it does not end as one does"),
        (b"\xff\xff\xff\xffPAR1", "is damaged: its footer claims 4,294,967,295 bytes"),
    ],
)
def test_what_does_not_end_as_one_does_is_said(tail, said):
    with pytest.raises(DamagedParquet, match=said):
        opened(tail)


def test_what_makes_no_sense_is_said():
    with pytest.raises(DamagedParquet, match="is damaged: its footer can't be read"):
        opened(with_footer(FOOTER[:100]))
    with pytest.raises(DamagedParquet, match="is damaged in row group 2"):
        opened(with_footer(FOOTER, bytes(100))).read(2)


def varint(number):
    return bytes([number & 127 | 128, *varint(number >> 7)]) if number > 127 else bytes([number])


def items(n, item):
    """A list of structs in Thrift's compact protocol."""
    return b"\xfc" + varint(n) + item * n


ROOT, LEAF = b"\x35\x00\x18\x01a\x15\x02\x00", b"\x15\x0c\x25\x02\x18\x05image\x00"


def nested(depth):
    return b"\x15\x02\x19\xfc" + varint(depth + 1) + ROOT * depth + LEAF + b"\x16\x00\x19\x0c\x00"


def test_depth_is_bounded():
    for data in (b"\x1c" * 100_000, b"\x19" + b"\x19" * 100_000, b"\x1b\x01\xcc" + b"\x1c" * 1000, nested(90_000)):
        with pytest.raises(DamagedParquet, match="is damaged: its footer can't be read"):
            opened(with_footer(data))


def test_a_footer_of_too_many_columns_is_refused_before_it_takes_memory():
    """An empty column is three bytes in the file, and about 700 in memory."""
    group = b"\x19" + items(10**6, b"\x26\x00\x00") + b"\x16\x00\x16\x00\x00"
    footer = b"\x15\x02\x19" + b"\x2c" + ROOT + LEAF + b"\x16\x00\x19" + items(2, group) + b"\x00"
    before = pa.total_allocated_bytes()
    with pytest.raises(DamagedParquet, match="is damaged: its footer can't be read"):
        opened(with_footer(footer))
    assert pa.total_allocated_bytes() == before
    with pytest.raises(DamagedParquet, match=r"its footer claims [\d,]+ bytes, over the limit of 8,388,608"):
        opened(with_footer(footer * 3))


def packed(column, **options):
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": column}), buffer, dictionary_pagesize_limit=2**30, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("in_struct", [False, True])
def test_an_image_that_a_file_names_a_million_times_is_in_memory_once(in_struct):
    large = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**6, np.int32)), pa.array([bytes(2**20)]))
    column = pa.StructArray.from_arrays([large], ["bytes"]) if in_struct else large
    found = opened(packed(column, store_schema=False))
    images, _ = found.read(0)
    assert len(images) == 10**6 and images.nbytes < 16 * 2**20
    assert image_parquet._value(images[999_999]) == bytes(2**20)


def test_a_file_of_more_rows_than_it_can_hold_images_is_refused(monkeypatch):
    monkeypatch.setattr(image_parquet, "MOST_ROWS", 1000)
    found = opened(packed(pa.nulls(2000, pa.binary()), row_group_size=2000))
    with pytest.raises(DamagedParquet, match=r"has 2,000 rows in row group 0, over the limit of 1,000: .*=100"):
        found.read(0)


def test_a_path_that_is_no_text_is_damage():
    image = pa.StructArray.from_arrays([pa.array([b"x"]), pa.array(["ab.jpg"])], ["bytes", "path"])
    plain = packed(image, use_dictionary=False, write_statistics=False, compression="none")
    with pytest.raises(DamagedParquet, match=r"is damaged in row group 0 \(.*UTF"):
        opened(plain.replace(b"ab.jpg", b"\xff\xfe.jpg")).read(0)


def test_pyarrow_is_named_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        UsageError, match=r"t.parquet: image tables need pyarrow: pip install 'backbone-bench\[parquet\]'"
    ):
        opened(WHOLE)


def readable(data):
    """Whether images are found, or a fact is said."""
    try:
        found = opened(data)
        for index, group in enumerate(found.groups):
            assert group.rows >= 0 and group.plain >= 0
            images, paths = found.read(index)
            assert len(images) == len(paths) == group.rows
    except ValueError as fact:
        assert str(fact).startswith("is damaged" if isinstance(fact, DamagedParquet) else "has ")


@settings(max_examples=examples(300))
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(0, len(FOOTER)))
def test_any_change_of_a_footer_gives_groups_in_the_file_or_a_fact(seed, changes, cut):
    rng = random.Random(seed)
    data = bytearray(FOOTER if rng.random() < 0.7 else FOOTER[:cut])
    for _ in range(changes if data else 0):
        data[rng.randrange(len(data))] = rng.randrange(256)
    readable(with_footer(bytes(data), WHOLE[: -TAIL - SIZE]))


@settings(max_examples=examples(200))
@given(st.binary(max_size=200))
def test_any_bytes_are_no_footer(data):
    readable(with_footer(data, bytes(1000)))
