"""Where files lie in a tar archive: as the standard library finds them, and any bytes are refused with a fact."""

import bz2
import gzip
import io
import lzma
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bb.store.storage.tar_reader import HEADER, DamagedTar, PackedTar, Stream, tar_members
from tests.helpers.examples import examples


def archive(*members, format=tarfile.PAX_FORMAT):
    """Of (name, bytes) or TarInfo."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def stream(data, piece=100):
    return Stream(data[i : i + piece] for i in range(0, len(data), piece))


def members(data):
    return list(tar_members(stream(data), len(data)))


LONG = "folder/" * 40 + "ä" * 60 + ".jpg"
MIXED = [
    ("a.jpg", b"a" * 513),
    ("empty.png", b""),
    ("folder/b.jpg", b"b" * 512),
    (LONG, b"long"),
    special("folder/", tarfile.DIRTYPE),
    special("link.jpg", tarfile.SYMTYPE, "/etc/passwd" + "x" * 200),
    special("hard.jpg", tarfile.LNKTYPE, "a.jpg"),
    special("fifo.jpg", tarfile.FIFOTYPE),
    ("z.jpg", b"end"),
]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_the_library_finds(format):
    short = [("deep/" * 20 + "a.jpg", b"prefix"), *MIXED[:3], MIXED[4], *MIXED[6:]]
    data = archive(*(short if format == tarfile.USTAR_FORMAT else MIXED), format=format)
    found = members(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        listed = tar.getmembers()
    assert [member.name for member in found] == [info.name for info in listed]
    for member, info in zip(found, listed, strict=True):
        kinds = {"file": info.isreg(), "folder": info.isdir(), "link": info.issym(), "hard link": info.islnk()}
        kind = next((kind for kind, is_kind in kinds.items() if is_kind), "other")
        assert (member.kind, member.target) == (kind, info.linkname)
        if info.isreg():
            assert (member.offset, member.size) == (info.offset_data, info.size)


def test_bytes_may_be_read_on_the_way_or_left():
    data = archive(*MIXED)
    source, seen = stream(data, 77), {}
    for member in tar_members(source, len(data)):
        assert source.position == member.offset
        seen[member.name] = source.read(member.size // 2 if member.name == "a.jpg" else member.size)
    assert seen["a.jpg"] == b"a" * 256 and seen["folder/b.jpg"] == b"b" * 512 and seen["z.jpg"] == b"end"


def test_pax_sizes_and_names_count_before_the_header_s():
    info = tarfile.TarInfo("short.jpg")
    info.size, info.pax_headers = 5, {"path": "naïve/ü.jpg", "size": "5"}
    data = info.tobuf(tarfile.PAX_FORMAT) + b"12345".ljust(512, b"\0") + bytes(1024)
    (member,) = members(data)
    assert member.name == "naïve/ü.jpg" and member.size == 5 and data[member.offset :][:5] == b"12345"


def test_a_name_that_is_no_utf_8_is_escaped():
    data = bytearray(archive(("abcd.jpg", b"x"), format=tarfile.GNU_FORMAT))
    data[:4] = b"\xff\xfecd"
    assert members(resigned(data))[0].name == "\\xff\\xfecd.jpg"


def test_an_archive_without_members_is_one():
    assert members(archive()) == []


def resigned(data, at=0):
    """With the checksum of the header at a byte mended."""
    data = bytearray(data)
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 155] = b"%06o\0" % sum(data[at : at + HEADER])
    return bytes(data)


def with_size(field):
    data = bytearray(archive(("a.jpg", b"x" * 600), ("b.jpg", b"y"), format=tarfile.GNU_FORMAT))
    data[124:136] = field
    return resigned(data)


def pax(records):
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    return info.tobuf() + records.ljust(-(-len(records) // 512) * 512, b"\0") + archive(("a.jpg", b"x"))


WHOLE = archive(("a.jpg", b"a" * 700), ("b.jpg", b"b" * 700), format=tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "data, said",
    [
        (b"", "is empty"),
        (b"<html>", "is cut short: it ends at byte 6 without the mark"),
        (b"<html>" * 1000, "is not a tar archive"),
        (WHOLE[:1000], r"is cut short, or damaged: of 'a.jpg' it has to hold 700 bytes, and there are 488 behind"),
        (WHOLE[:1536], "is cut short: it ends at byte 1,536 without the mark of an archive's end"),
        (WHOLE[:1600], "is cut short: it ends at byte 1,600 without"),
        (WHOLE[:2048], r"of 'b.jpg' it has to hold 700 bytes, and there are 0 behind"),
        (WHOLE[:1536] + b"x" * 512 + WHOLE[2048:], "is damaged: found no header at byte 1,536"),
        (with_size(b"77777777777\0"), r"of 'a.jpg' it has to hold 8,589,934,591 bytes"),
        (with_size(b"\x80" + b"\x7f" * 11), r"of 'a.jpg' it has to hold \d{2,3}(,\d{3})+ bytes"),
        (with_size(b"\xff" * 12), r"of 'a.jpg' it has to hold -1 bytes"),
        (pax(b"12 size=abc\n"), "gives a size that is not a number"),
        (pax(b"50 size=" + b"9" * 41 + b"\n"), "gives a size that is not a number"),
        (pax(b"9999 path=x\n"), "the pax header at byte 0 makes no sense"),
        (pax(b"path"), "the pax header at byte 0 makes no sense"),
        (pax(b"8 path \n"), "the pax header at byte 0 makes no sense"),
        (pax(b"0 path=x\n"), "the pax header at byte 0 makes no sense"),
    ],
)
def test_what_is_no_whole_archive_is_said(data, said):
    with pytest.raises(DamagedTar, match=said):
        members(data)


def test_headers_of_absurd_length_are_refused():
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        info = tarfile.TarInfo("x")
        info.type, info.size = kind, 2**33 - 1
        with pytest.raises(DamagedTar, match=r"the header at byte 0 announces 8,589,934,591 bytes of names"):
            members(info.tobuf() + WHOLE)
        info.size = 2**19
        with pytest.raises(DamagedTar, match="is cut short: it ends at byte 5,120 in the midst of a header"):
            members((info.tobuf() + WHOLE)[:5120])


def sparse(name, stored, blocks):
    """An old GNU sparse file whose map goes on in some blocks behind its header."""
    info = tarfile.TarInfo(name)
    info.type, info.size = tarfile.GNUTYPE_SPARSE, len(stored)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[482] = blocks > 0
    more = b"".join(b"\0" * 504 + bytes([i + 1 < blocks]) + b"\0" * 7 for i in range(blocks))
    return resigned(header) + more + stored.ljust(-(-len(stored) // 512) * 512, b"\0")


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_sparse_files_are_passed_and_what_follows_is_found(blocks):
    data = sparse("hole.bin", b"s" * 700, blocks) + WHOLE
    hole, *others = members(data)
    assert (hole.name, hole.kind, data[hole.offset :][: hole.size]) == ("hole.bin", "sparse", b"s" * 700)
    assert [member.name for member in others] == ["a.jpg", "b.jpg"]
    with pytest.raises(DamagedTar, match="is cut short: it ends at byte"):
        members(data[: 512 * (1 + blocks) - 100])


def test_sparse_files_of_pax_are_known_by_their_real_name():
    (member,) = members(pax(b"22 GNU.sparse.major=1\n28 GNU.sparse.name=real.jpg\n"))
    assert (member.kind, member.name) == ("sparse", "real.jpg")


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("padding", [0, 512, 10240])
def test_joined_archives_are_read_to_the_last_ones_end(format, padding):
    one, other = archive(*MIXED, format=format), archive((LONG + "2", b"2"), ("y.jpg", b"y" * 513), format=format)
    data = one + bytes(padding) + other + WHOLE + bytes(100)
    found = members(data)
    alone = [member.name for part in (one, other, WHOLE) for member in members(part)]
    assert [member.name for member in found] == alone
    assert {data[m.offset :][: m.size] for m in found if m.name == "y.jpg"} == {b"y" * 513}


def test_a_long_name_before_an_end_is_not_the_next_archive_s():
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 5
    data = info.tobuf() + b"wrong".ljust(512, b"\0") + bytes(1024) + WHOLE
    assert [member.name for member in members(data)] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "behind, said",
    [
        (b"x" * 512, r"is damaged: found no header at byte 10,240, behind the mark of an archive's end"),
        (b"x", "is cut short: it ends at byte 10,241 in the midst of a header"),
        (WHOLE[:1000], r"of 'a.jpg' it has to hold 700 bytes"),
        (WHOLE[:1536], "is cut short: it ends at byte 11,776 without the mark"),
    ],
)
def test_what_follows_an_archive_and_is_none_is_said(behind, said):
    with pytest.raises(DamagedTar, match=said):
        members(WHOLE + behind)


def test_long_targets_of_links():
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        data = archive(("f" * 150 + ".jpg", b"x"), special("l.jpg", tarfile.LNKTYPE, "f" * 150 + ".jpg"), format=format)
        assert members(data)[1].target == "f" * 150 + ".jpg"


@pytest.mark.parametrize(
    "pack, program",
    [
        (gzip.compress, "gzip"),
        (bz2.compress, "bzip2"),
        (lzma.compress, "xz"),
        (lambda d: b"\x28\xb5\x2f\xfd" + d, "zstd"),
    ],
)
def test_a_compressed_archive_is_told_from_a_damaged_one(pack, program):
    noise = archive(("a.jpg", bytes(i * i % 251 for i in range(5000))))
    with pytest.raises(PackedTar, match=f"is compressed with {program}"):
        members(pack(noise))


@settings(max_examples=examples(300))
@given(st.data())
def test_any_change_of_an_archive_gives_members_in_it_or_a_fact(draw):
    format = draw.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    data = bytearray(archive(*MIXED, format=format))
    headers = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.sampled_from(headers))
        place = at + draw.draw(st.integers(0, 511))
        new = draw.draw(st.binary(min_size=1, max_size=12))
        data[place : place + len(new)] = new
        if draw.draw(st.booleans()):
            data[:] = resigned(data, at)
    whole = bytes(data[: draw.draw(st.integers(0, len(data)))] if draw.draw(st.booleans()) else data)
    try:
        for member in tar_members(stream(whole), len(whole)):
            assert 0 <= member.offset <= member.offset + member.size <= len(whole)
            member.name.encode()
    except DamagedTar as fact:
        assert str(fact).startswith(("is ", "holds "))
