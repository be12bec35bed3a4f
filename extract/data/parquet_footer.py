"""Where the row groups of a Parquet file lie in it, read from its footer, which anybody may have made.

A reader of whole files or of columns can't say it, and without it a file elsewhere can't be read by parts. The footer
is a struct `FileMetaData` in Thrift's compact protocol, of which a few fields are taken here and the others skipped.
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

TAIL = 8  # bytes at the end: the footer's length, and the magic
MAGIC = b"PAR1"
MOST_FOOTER = 64 * 2**20
_DEEPEST = 32


class DamagedParquet(ValueError):
    """A fact about the file, without its name."""


class RowGroup(NamedTuple):
    """Rows `first` to `first + rows` of a file.

    start, stop  the bytes in which one column, with all in it, lies
    plain        how many they are once unpacked, as the footer says
    """

    first: int
    rows: int
    start: int
    stop: int
    plain: int


def footer_size(tail: bytes) -> int:
    """Bytes of the footer, without the tail; `tail` is the file's last eight bytes. Raises DamagedParquet."""
    if len(tail) < TAIL or tail[4:] != MAGIC:
        raise DamagedParquet("is no Parquet file, or is cut short: it does not end as one does")
    size = int(struct.unpack("<I", tail[:4])[0])
    if size > MOST_FOOTER:
        raise DamagedParquet(f"is damaged: its footer claims {size:,} bytes")
    return size


def row_groups(footer: bytes, column: str, total: int) -> list[RowGroup]:
    """The row groups, with where a top-level column lies in each.

    footer  as it stands in the file, without the tail
    total   the file's size in bytes

    Raises DamagedParquet, and nothing else, whatever the bytes are.
    """
    first, groups = 0, []
    try:
        for rows, start, stop, plain in _row_groups(_Reader(footer), column.encode()):
            if rows < 0 or plain < 0 or not len(MAGIC) <= start <= stop <= total - len(footer) - TAIL:
                raise DamagedParquet("is damaged: its footer names places that it has not")
            groups.append(RowGroup(first, rows, start, stop, plain))
            first += rows
    except IndexError:
        raise DamagedParquet("is damaged: its footer makes no sense") from None
    return groups


def _row_groups(read: "_Reader", column: bytes) -> Iterator[tuple[int, int, int, int]]:
    for field, kind in read.fields():
        if field == 4 and kind == _LIST:
            for _ in read.items():
                yield _row_group(read, column)
        else:
            read.skip(kind)


def _row_group(read: "_Reader", column: bytes) -> tuple[int, int, int, int]:
    rows, chunks = -1, []
    for field, kind in read.fields():
        if field == 1 and kind == _LIST:
            chunks = [chunk for _ in read.items() if (chunk := _chunk(read, column))]
        elif field == 3 and kind == _I64:
            rows = read.number()
        else:
            read.skip(kind)
    if not chunks:
        return -1, 0, 0, 0
    starts, sizes, plain = zip(*chunks, strict=True)
    stop = max(start + size for start, size, _ in chunks)
    return (rows if min(sizes) >= 0 else -1), min(starts), stop, sum(plain)


def _chunk(read: "_Reader", column: bytes) -> tuple[int, int, int] | None:
    """(start, size, unpacked size) of a column chunk; None for one of another top-level column."""
    found = None
    for field, kind in read.fields():
        if field == 3 and kind == _STRUCT:
            found = _chunk_metadata(read, column)
        else:
            read.skip(kind)
    return found


def _chunk_metadata(read: "_Reader", column: bytes) -> tuple[int, int, int] | None:
    top, numbers = b"", {6: -1, 7: -1, 9: -1, 11: 0}
    for field, kind in read.fields():
        if field == 3 and kind == _LIST:
            path = [read.binary() for _ in read.items()]
            top = path[0] if path else b""
        elif field in numbers and kind == _I64:
            numbers[field] = read.number()
        else:
            read.skip(kind)
    start = min(numbers[9], numbers[11]) if numbers[11] > 0 else numbers[9]
    return (start, numbers[7], numbers[6]) if top == column else None


_BOOLS, _BYTE, _INTEGERS, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = (
    (1, 2),
    3,
    (4, 5, 6),
    6,
    7,
    8,
    9,
    10,
    11,
    12,
)


@dataclass
class _Reader:
    """Steps through a struct of Thrift's compact protocol. Raises IndexError where the bytes end or make no sense."""

    data: bytes
    place: int = 0
    depth: int = 0

    def byte(self) -> int:
        self.place += 1
        return self.data[self.place - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise IndexError

    def number(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def binary(self) -> bytes:
        size = self.varint()
        self.pass_over(size)
        return self.data[self.place - size : self.place]

    def pass_over(self, size: int) -> None:
        if size > len(self.data) - self.place:
            raise IndexError
        self.place += size

    def fields(self) -> Iterator[tuple[int, int]]:
        """(field, type) of a struct; whoever asks for the next one has read or skipped this one's value."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise IndexError
        field = 0
        while head := self.byte():
            field = field + (head >> 4) if head >> 4 else self.number()
            yield field, head & 15
        self.depth -= 1

    def items(self) -> Iterator[int]:
        """The type of each item of a list or set, likewise."""
        head = self.byte()
        size = head >> 4 if head >> 4 < 15 else self.varint()
        if size > len(self.data) - self.place:  # each takes a byte at least
            raise IndexError
        for _ in range(size):
            yield head & 15

    def skip(self, kind: int, *, in_list: bool = False) -> None:
        if kind in _BOOLS:
            self.pass_over(1 if in_list else 0)
        elif kind == _BYTE:
            self.pass_over(1)
        elif kind in _INTEGERS:
            self.varint()
        elif kind == _DOUBLE:
            self.pass_over(8)
        elif kind == _BINARY:
            self.binary()
        elif kind in (_LIST, _SET):
            self.depth += 1
            if self.depth > _DEEPEST:
                raise IndexError
            for each in self.items():
                self.skip(each, in_list=True)
            self.depth -= 1
        elif kind == _MAP:
            size = self.varint()
            kinds = self.byte() if size else 0
            if size > len(self.data) - self.place:
                raise IndexError
            for _ in range(size):
                self.skip(kinds >> 4, in_list=True)
                self.skip(kinds & 15, in_list=True)
        elif kind == _STRUCT:
            for _, each in self.fields():
                self.skip(each)
        else:
            raise IndexError
