"""Where the files of a tar archive lie in it, told from one reading of its bytes, which anybody may have made.

ustar with GNU's and pax's long names, as POSIX.1-2017 (pax, "ustar Interchange Format") and GNU tar have them. A
header is parsed by the standard library; it bounds nothing and remembers every member, so that the rest is done here.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

HEADER = 512
MOST_EXTRA = 2**20  # bytes of a long name or of pax records
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class DamagedTar(ValueError):
    """A fact about the archive, and at which byte; without its name."""


class PackedTar(DamagedTar):
    """The archive is compressed as a whole."""

    def __init__(self, program: str) -> None:
        super().__init__(f"is compressed with {program}")
        self.program = program


class TarMember(NamedTuple):
    """A file in an archive: its bytes are `size` ones from `offset` on.

    kind  "file", "link", or "other": a folder, a device, a sparse file
    """

    name: str
    offset: int
    size: int
    kind: str


@dataclass
class Stream:
    """Bytes in order from pieces; `position` is the next one's place in the whole."""

    pieces: Iterator[bytes]
    position: int = 0
    _piece: memoryview = field(default_factory=lambda: memoryview(b""))

    def read(self, size: int) -> bytes:
        """The next bytes, fewer only at the end."""
        parts = list(self._take(size))
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def skip_to(self, position: int) -> None:
        for _ in self._take(position - self.position):
            pass

    def _take(self, size: int) -> Iterator[memoryview]:
        while size > 0:
            if not self._piece:
                piece = next(self.pieces, None)
                if piece is None:
                    return
                self._piece = memoryview(piece)
            part, self._piece = self._piece[:size], self._piece[size:]
            self.position += len(part)
            size -= len(part)
            yield part


def tar_members(stream: Stream, total: int) -> Iterator[TarMember]:
    """The members in order. While one is at hand its bytes may be read from the stream, which stands at their start.

    total  the archive's size in bytes, which no member can go beyond

    Raises DamagedTar: for what is no archive, for one that is cut short, and for headers that make no sense.
    """
    name: str | None = None
    records: dict[bytes, bytes] = {}
    while (info := _header(stream)) is not None:
        start = stream.position
        if info.type in _EXTRA:
            extra = _extra(stream, info, total)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                name = _text(extra.rstrip(b"\0"))
            elif info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                records = _pax(extra, start)
            stream.skip_to(_padded(start + info.size))
            continue
        name = _text(records[b"path"]) if b"path" in records else name
        name = _text(info.name.encode("utf-8", "surrogateescape")) if name is None else name
        size = _number(records[b"size"], start) if b"size" in records else info.size
        if info.type == tarfile.GNUTYPE_SPARSE:
            raise DamagedTar(f"holds {name!r} as a sparse file of GNU tar's, which bb does not read")
        if info.type in _EMPTY:  # whatever the header says
            size = 0
        if size < 0 or start + size > total:
            raise DamagedTar(
                f"is cut short, or damaged: of {name!r} it has to hold {size:,} bytes, and there are "
                f"{max(0, total - start):,} behind its header at byte {start - HEADER:,}"
            )
        sparse = any(key.startswith(b"GNU.sparse.") for key in records)
        yield TarMember(name, start, size, "other" if sparse else _KINDS.get(info.type, "other"))
        name, records = None, {}
        stream.skip_to(_padded(start + size))


_KINDS = {
    **dict.fromkeys((tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE), "file"),
    **dict.fromkeys((tarfile.LNKTYPE, tarfile.SYMTYPE), "link"),
}
_EMPTY = {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE}
_EXTRA = {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK} | {
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE
}  # fmt: skip


def _header(stream: Stream) -> tarfile.TarInfo | None:
    """The next header; None at the mark of the end."""
    at, block = stream.position, stream.read(HEADER)
    if not at:
        for magic, program in _PACKED.items():
            if block.startswith(magic):
                raise PackedTar(program)
    if len(block) < HEADER:
        if not block and not at:
            raise DamagedTar("is empty")
        raise DamagedTar(f"is cut short: it ends at byte {at + len(block):,} without the mark of an archive's end")
    if not any(block):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        raise DamagedTar(f"is damaged: there is no header at byte {at:,}" if at else "is no tar archive") from None


def _extra(stream: Stream, info: tarfile.TarInfo, total: int) -> bytes:
    """What an extra header says of the member behind it, in bytes."""
    if not 0 <= info.size <= MOST_EXTRA:
        raise DamagedTar(
            f"is damaged: the header at byte {stream.position - HEADER:,} announces {info.size:,} bytes of names"
        )
    data = stream.read(info.size)
    if len(data) < info.size:
        raise DamagedTar(f"is cut short: it ends at byte {total:,} in the midst of a header")
    return data


def _pax(data: bytes, at: int) -> dict[bytes, bytes]:
    """Records "LENGTH KEY=VALUE\\n", of which the length counts all of it."""
    records: dict[bytes, bytes] = {}
    place = 0
    while place < len(data):
        digits = data[place : place + 8].partition(b" ")[0]
        end = place + int(digits) if digits.isdigit() else 0
        key, equals, value = data[place + len(digits) + 1 : max(end - 1, 0)].partition(b"=")
        if end <= place or end > len(data) or not equals or data[end - 1 : end] != b"\n":
            raise DamagedTar(f"is damaged: the pax header at byte {at - HEADER:,} makes no sense")
        records[key] = value
        place = end
    return records


def _number(digits: bytes, at: int) -> int:
    if not digits.isdigit() or len(digits) > 20:
        raise DamagedTar(f"is damaged: the pax header before byte {at:,} gives a size that is no number")
    return int(digits)


def _padded(position: int) -> int:
    return -(-position // HEADER) * HEADER


def _text(name: bytes) -> str:
    """A name as text that can be written down anywhere, whatever bytes it has in the archive."""
    return name.decode("utf-8", "backslashreplace")
