"""Where the files of a tar archive are in it, from one reading of its bytes, which anyone may have made.

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

    kind    "file", "folder", "link" (symbolic), "hard link", "sparse", or "other": a device, a pipe
    target  of a link: the name that it points to
    """

    name: str
    offset: int
    size: int
    kind: str
    target: str = ""


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


def tar_members(stream: Stream, total: int | None = None) -> Iterator[TarMember]:
    """The members in order. Until the next is asked for, the stream is at the start of a member's bytes.

    Archives that were joined (`cat a.tar b.tar`) are read to the last one's end, as `tar -i` does.

    total  the archive's size in bytes, which no member can go beyond; None where it isn't known

    Raises DamagedTar: for what is not an archive, for one that is cut short, and for headers that make no sense.
    """
    names: dict[str, str] = {}  # what extra headers say of the member behind them
    records: dict[bytes, bytes] = {}
    behind = 0
    while (header := _header(stream)) is not None:
        info, block = header
        start = stream.position
        if start != behind + HEADER:  # an end in between
            names, records = {}, {}
        if info.type in _EXTRA:
            extra = _extra(stream, info)
            if info.type in _LONG:
                names[_LONG[info.type]] = _text(extra.rstrip(b"\0"))
            elif info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                records = _pax(extra, start)
            behind = _padded(start + info.size)
            stream.skip_to(behind)
            continue
        kind = _KINDS.get(info.type, "other")
        if info.type == tarfile.GNUTYPE_SPARSE:
            start = _pass_sparse_map(stream, block)
        elif any(key.startswith(b"GNU.sparse.") for key in records):
            kind = "sparse"
        for key, record in (("name", b"path"), ("name", b"GNU.sparse.name"), ("target", b"linkpath")):
            if record in records:
                names[key] = _text(records[record])
        name = names.get("name") or _text(info.name.encode("utf-8", "surrogateescape"))
        target = names.get("target") or _text(info.linkname.encode("utf-8", "surrogateescape"))
        size = _number(records[b"size"], start) if b"size" in records else info.size
        if info.type in _EMPTY:  # whatever the header says
            size = 0
        if size < 0 or (total is not None and start + size > total):
            rest = "" if total is None else f", and there are {max(0, total - start):,} behind its header"
            raise DamagedTar(
                f"is cut short, or damaged: of {name!r} it has to hold {size:,} bytes{rest} at byte {start - HEADER:,}"
            )
        yield TarMember(name, start, size, kind, target if kind in ("link", "hard link") else "")
        names, records = {}, {}
        behind = _padded(start + size)
        stream.skip_to(behind)


_KINDS = {
    **dict.fromkeys((tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE), "file"),
    tarfile.DIRTYPE: "folder",
    tarfile.LNKTYPE: "hard link",
    tarfile.SYMTYPE: "link",
    tarfile.GNUTYPE_SPARSE: "sparse",
}
_EMPTY = {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE}
_LONG = {tarfile.GNUTYPE_LONGNAME: "name", tarfile.GNUTYPE_LONGLINK: "target"}
_EXTRA = {*_LONG, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}
# Where an old GNU sparse header, and each block that goes on with its map, says that another such block follows.
_MORE_IN_HEADER, _MORE_IN_BLOCK = 482, 504


def _header(stream: Stream) -> tuple[tarfile.TarInfo, bytes] | None:
    """The next header, and its bytes; None at the end. Zeros mark the end of an archive; another one may follow."""
    ended = False
    while True:
        at, block = stream.position, stream.read(HEADER)
        if not at:
            for magic, program in _PACKED.items():
                if block.startswith(magic):
                    raise PackedTar(program)
        if ended and not any(block) and len(block) < HEADER:
            return None
        if len(block) < HEADER:
            if not block and not at:
                raise DamagedTar("is empty")
            what = "in the midst of a header" if ended else "without the mark of an archive's end"
            raise DamagedTar(f"is cut short: it ends at byte {at + len(block):,} {what}")
        if any(block):
            break
        ended = True
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape"), block
    except (tarfile.HeaderError, ValueError):
        where = f"at byte {at:,}" + (", behind the mark of an archive's end" if ended else "")
        raise DamagedTar(f"is damaged: found no header {where}" if at else "is not a tar archive") from None


def _pass_sparse_map(stream: Stream, block: bytes) -> int:
    """Where the data of an old GNU sparse file begins: behind the blocks that its map goes on in."""
    more = block[_MORE_IN_HEADER]
    while more:
        block = stream.read(HEADER)
        if len(block) < HEADER:
            raise DamagedTar(f"is cut short: it ends at byte {stream.position:,} in the midst of a header")
        more = block[_MORE_IN_BLOCK]
    return stream.position


def _extra(stream: Stream, info: tarfile.TarInfo) -> bytes:
    """What an extra header says of the member behind it, in bytes."""
    if not 0 <= info.size <= MOST_EXTRA:
        raise DamagedTar(
            f"is damaged: the header at byte {stream.position - HEADER:,} announces {info.size:,} bytes of names"
        )
    data = stream.read(info.size)
    if len(data) < info.size:
        raise DamagedTar(f"is cut short: it ends at byte {stream.position:,} in the midst of a header")
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
        raise DamagedTar(f"is damaged: the pax header before byte {at:,} gives a size that is not a number")
    return int(digits)


def _padded(position: int) -> int:
    return -(-position // HEADER) * HEADER


def _text(name: bytes) -> str:
    """A name as text that can be written down anywhere, whatever bytes it has in the archive."""
    return name.decode("utf-8", "backslashreplace")
