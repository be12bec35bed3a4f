"""What JPEG and PNG files say of their damage, the same whichever decoder makes the pixels.

libjpeg fills up what it can't decode and warns; Pillow and nvJPEG throw the warnings away. At a marker that it can't
go on after, libjpeg gives up: the picture then is what came before. Damage is what libjpeg calls corrupt or missing,
wherever in the file: what stood there before, nobody knows. Bytes behind the end of the picture are none.

Pillow refuses a PNG for a long text or profile beside it, skips the checksums of the pixels, and takes a file without
an end or without its last rows for a whole one. So the chunks are walked once before Pillow sees them, and the pixels
counted where the last row is empty. https://www.w3.org/TR/png-3/#5DataRep
"""

import re
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

# The warnings of libjpeg's jerror.h that are about pixels; the others are about the numbers of versions.
_DAMAGE = re.compile("Corrupt JPEG data|Premature end of JPEG file|Inconsistent progression sequence|Invalid SOS")
_HARMLESS = re.compile("Warning: unknown JFIF|Unknown Adobe color transform")
# Of its errors, those about a marker, a segment or a table: what came before it has been decoded.
_END = re.compile(
    r"Bogus (D[AHQ]|Huff|marker|sampl)|Invalid (JPEG|comp|prog)|Unsupported marker|\w+ table 0x\w+ was not"
)
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
MOST_MARKERS = 2**16
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ROWS_MISSING = "its last rows are missing"
LONGEST_TEXT = 2**20  # bytes, unpacked: Pillow's own limit
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_SAMPLES = {2: 3, 4: 2, 6: 4}  # of a pixel, by colour type; others have one
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECE = 2**22
_TURNING = (b"XML:com.adobe.xmp", b"Raw profile type exif")  # texts that can hold the orientation


class Inspected(NamedTuple):
    """A PNG as Pillow is to see it.

    damage       why the pixels may not be those that were written; empty where nothing says so
    significant  bits of a sample that the writer says it used (chunk sBIT); 0 where it does not say
    """

    data: bytes
    damage: str
    significant: int


class _Chunk(NamedTuple):
    """From its length to its checksum; `sound` where that is right."""

    kind: bytes
    whole: memoryview
    sound: bool

    @property
    def content(self) -> bytes:
        return bytes(self.whole[8:-4])


def inspect_png(data: bytes) -> Inspected:
    """Of a file that begins with PNG_SIGNATURE, however it goes on."""
    kept: list[bytes | memoryview] = [PNG_SIGNATURE]
    ended, sound, significant = False, True, 0
    for chunk in _chunks(memoryview(data)):
        ended = chunk.kind == b"IEND" and chunk.sound
        sound &= chunk.sound or chunk.kind != b"IDAT"
        if chunk.kind == b"sBIT" and chunk.sound:
            significant = max(chunk.content, default=0)
        if _needed(chunk):
            kept.append(chunk.whole)
    damage = "" if ended and sound else "its pixels don't have their checksum" if ended else "its end is missing"
    return Inspected(b"".join(kept), damage, significant)


def has_too_few_rows(data: bytes) -> bool:
    """Whether a PNG's pixels unpack to fewer bytes than its header asks for; Pillow leaves the rest at zero."""
    unpacked, wanted, done = zlib.decompressobj(), 0, 0
    for chunk in _chunks(memoryview(data)):
        if chunk.kind == b"IHDR":
            wanted = _n_bytes(chunk.content)
        packed = chunk.content if chunk.kind == b"IDAT" else b""
        try:
            while packed and done < wanted and not unpacked.eof:
                done += len(unpacked.decompress(packed, _PIECE))
                packed = unpacked.unconsumed_tail
        except zlib.error:
            break
    return done < wanted


def _n_bytes(header: bytes) -> int:
    """Of all rows, unpacked, each with the byte that names its filter."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13].ljust(13, b"\0"))
    total, bits = 0, depth * _SAMPLES.get(colour, 1)
    for left, top, right, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // right), -((top - height) // down)
        total += max(0, rows) * (1 + -(-columns * bits // 8)) if columns > 0 else 0
    return total


def _chunks(data: memoryview) -> Iterator[_Chunk]:
    """Up to IEND, or to where the file ends; the checksum of a chunk that is cut short is wrong."""
    at, kind = len(PNG_SIGNATURE), b""
    while at + 8 <= len(data) and kind != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4])
        kind = bytes(data[at + 4 : at + 8])
        sound = end <= len(data) and zlib.crc32(data[at + 4 : end - 4]) == int.from_bytes(data[end - 4 : end])
        yield _Chunk(kind, data[at:end], sound)
        at = end


def _needed(chunk: _Chunk) -> bool:
    """Whether Pillow is to see it: no texts, no profiles, and nothing damaged that a picture can do without."""
    if chunk.kind in _TEXTS:
        return chunk.sound and _turns(chunk)
    dispensable = chunk.kind[:1].islower() and chunk.kind != b"tRNS"
    return chunk.kind != b"iCCP" and (chunk.sound or not dispensable)


def _turns(chunk: _Chunk) -> bool:
    """Whether a text can hold the orientation, and is short enough for Pillow."""
    keyword, _, text = chunk.content.partition(b"\0")
    packed = text[1:] if chunk.kind == b"zTXt" else b""
    if chunk.kind == b"iTXt" and text[:1] == b"\1":
        packed = text[2:].split(b"\0", 2)[-1]
    unpacked = zlib.decompressobj()
    try:
        length = len(unpacked.decompress(packed, LONGEST_TEXT) if packed else text)
    except zlib.error:
        return False
    return keyword in _TURNING and length <= LONGEST_TEXT and not unpacked.unconsumed_tail


def jpeg_damage(data: bytes, *, cmyk: bool = False) -> str:
    """The last warning that libjpeg gives of a file, or the error that ends it; empty where it has none, and for what
    it does not support.

    cmyk  whether the picture has four inks, of which libjpeg makes no grey
    """
    import simplejpeg

    try:
        # An eighth of the size: all of the data is read, but only a 64th of the pixels made.
        simplejpeg.decode_jpeg(data, "CMYK" if cmyk else "GRAY", min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        return jpeg_warning(error)
    return ""


def jpeg_warning(error: ValueError) -> str:
    """The damage that simplejpeg's error is about; empty where it is about what libjpeg does not support."""
    words = " ".join(str(error).split())
    return words if _DAMAGE.match(words) or _END.match(words) else ""


def jpeg_ends(data: bytes) -> list[int]:
    """Where a JPEG may end, in order: at each marker in and after its first scan, and where the file does."""
    at = 2
    while at < len(data) and data[at : at + 2] != b"\xff\xda":
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return [*(found.start() for found in islice(_MARKER.finditer(data, at + 2), MOST_MARKERS)), len(data)]


def is_recoverable(error: ValueError) -> bool:
    """Whether simplejpeg makes a picture all the same: after an error it may leave pixels that it never wrote."""
    return bool(_DAMAGE.match(str(error)) or _HARMLESS.match(str(error)))
