"""Shards as collections: which images they hold, under which IDs, read once, and every fault in words."""

import hashlib
import io
import random
import re
import shutil
import tarfile
import tracemalloc
import unicodedata
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bb.extract.data import image_parquet, source_spec
from bb.extract.data.byte_range import Local, local
from bb.extract.data.file_kind import PassedOver
from bb.extract.data.image_parquet import ParquetShard
from bb.extract.data.image_source import MOST_BYTES
from bb.extract.data.prefetch_cache import PrefetchCache
from bb.extract.data.scan import HashMemory, find_images, scan
from bb.extract.data.shards import find_shards, scan_shards
from bb.extract.data.source_spec import Shards, parse_root
from bb.extract.data.webdataset import TarShard
from bb.store.errors import BBError, UsageError
from tests.contracts.shard import check_shard
from tests.helpers.examples import examples
from tests.helpers.hub import hub
from tests.helpers.remote_files import forget
from tests.helpers.servers import Fault, proxy_to, serving, static
from tests.helpers.shards import picture, pictures, write_table, write_tar

__all__ = ["forget", "hub"]  # fixtures


@pytest.fixture(autouse=True)
def forget_tables(monkeypatch):
    monkeypatch.setattr(image_parquet, "_TABLES", PrefetchCache(10**6, lambda table: table.metadata.serialized_size))
    monkeypatch.setattr(image_parquet, "_GROUPS", PrefetchCache(10**6, lambda column: int(column.nbytes), 2))


def look(*texts, memory=None, **options):
    return scan_shards(find_shards(Shards("::".join(map(str, texts)))), memory or HashMemory.open(None), **options)


def read(found):
    return {image_id: source.read() for image_id, source in found.sources.items()}


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


# What a person writes


@pytest.mark.parametrize(
    "text",
    [
        "a.tar", "s-{0..9}.tar", "*.parquet", "a.tar::b.parquet", "s3://b/x-{0..1}.tar", "https://h/x.tar", "x.tar.gz",
        "X.TAR", "pipe:cat x", "hf://datasets/o/n/*.parquet",
    ],
)  # fmt: skip
def test_shards_are_told_from_folders(text, tmp_path):
    assert parse_root(text, tmp_path) == Shards(text, tmp_path)


def test_a_folder_is_one_whatever_its_name(tmp_path):
    (tmp_path / "x.tar").mkdir()
    assert parse_root("x.tar", tmp_path) == tmp_path / "x.tar"
    assert parse_root("{a,b}", tmp_path) == tmp_path / "{a,b}"


def test_files_are_found_by_range_wildcard_list_and_url(tmp_path):
    for name in ("s-0.tar", "s-1.tar", "s-2.tar", "sub/t.tar"):
        write_tar(tmp_path / name, {})
    names = lambda text: [blob.url for blob in Shards(text, tmp_path).blobs()]  # noqa: E731
    assert names("s-{2..1}.tar") == [str(tmp_path / "s-2.tar"), str(tmp_path / "s-1.tar")]
    assert names("s-?.tar") == [str(tmp_path / f"s-{i}.tar") for i in range(3)]
    assert names("s-[12].tar::sub/t.tar") == [str(tmp_path / name) for name in ("s-1.tar", "s-2.tar", "sub/t.tar")]
    assert names("**/*.tar") == sorted(str(path) for path in tmp_path.rglob("*.tar"))
    assert names(f"file://{tmp_path}/s-0.tar") == [str(tmp_path / "s-0.tar")]


def test_shards_are_the_same_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shards = Shards("a-{0..1}.tar::s3://b/c.tar::/d/*.tar", tmp_path / "sub" / ".." / "x")
    assert shards.resolve() == Shards(f"{tmp_path}/x/a-{{0..1}}.tar::s3://b/c.tar::/d/*.tar")
    assert Shards("a.tar").resolve() == Shards(f"{tmp_path}/a.tar")


def test_a_folder_that_is_there_as_written_is_no_pattern(tmp_path, monkeypatch):
    for name in ("a[1]/s.tar", "a1/decoy.tar", "x{b,c}/s-0.tar", "xb/s-0.tar", "q?/r*/s.tar", "qx/ry/s.tar"):
        write_tar(tmp_path / name, {})
    for text, right in (
        ("a[1]/*.tar", "a[1]/s.tar"), ("x{b,c}/s-{0..0}.tar", "x{b,c}/s-0.tar"), ("q?/r*/[s].tar", "q?/r*/s.tar"),
        ("q*/ry/s.tar", "qx/ry/s.tar"), ("a[12]/*.tar", "a1/decoy.tar"),
    ):  # fmt: skip
        assert [blob.url for blob in Shards(text, tmp_path).blobs()] == [str(tmp_path / right)]
        monkeypatch.chdir(tmp_path)
        resolved = Shards(text).resolve()
        monkeypatch.chdir("/")
        assert [blob.url for blob in resolved.blobs()] == [str(tmp_path / right)]
        assert [blob.url for blob in Shards(f"{tmp_path}/{text}").blobs()] == [str(tmp_path / right)]


def test_an_object_that_is_there_as_written_is_no_pattern(monkeypatch):
    listed = [SimpleNamespace(path=path) for path in ("a[1].tar", "a1.tar", "x[1]/s.tar", "x1/s.tar", "y1/s.tar")]
    monkeypatch.setattr(source_spec, "place_at", lambda folder: SimpleNamespace(list=lambda: listed))
    for text, right in (
        ("a[1]", "a[1]"),
        ("a[12]", "a1"),
        ("x[1]/*", "x[1]/s"),
        ("y[1]/*", "y1/s"),
        ("[y]1/s", "y1/s"),
    ):
        assert Shards(f"s3://b/{text}.tar")._names() == [f"s3://b/{right}.tar"]


def test_a_wildcard_is_one_in_the_text_alone_and_not_in_the_folder_that_it_starts_from(tmp_path, monkeypatch):
    for name in ("a[1]/s.tar", "a1/decoy.tar", "x{b,c}/s-0.tar", "xb/s-0.tar", "p?/../p?/s.tar", "pq/s.tar"):
        write_tar(tmp_path / name, {})
    monkeypatch.setenv("HOME", str(tmp_path / "a[1]"))
    for folder, text in (("a[1]", "*.tar"), ("x{b,c}", "s-{0..0}.tar"), ("p?", "[s].tar"), ("a1", "~/*.tar")):
        where = tmp_path / ("a[1]" if text.startswith("~") else folder)
        right = [str(path) for path in where.iterdir()]
        assert [blob.url for blob in Shards(text, tmp_path / folder).blobs()] == right
        monkeypatch.chdir(tmp_path / folder)
        resolved = Shards(text).resolve()
        monkeypatch.chdir("/")
        assert [blob.url for blob in resolved.blobs()] == right


@pytest.mark.parametrize(
    "text, said",
    [
        ("pipe:curl x.tar", "runs a command, which bb does not: give the shard's path or URL itself"),
        ("ftp://host/x.tar", "no shards can be read at ftp://: give paths, or URLs with s3, gs, az, http"),
        ("https://host/x.tar?sig=secret", "https://host/x.tar: a shard's URL has neither . nor #"),
        ("https://host/*.tar", "a web server can't be asked which files it has. Name them"),
        ("https://me:pass@host/x.tar", "a user or password in it is not taken"),
        ("none-*.tar", "no file is called none-.*: fix the name"),
        ("x-{0..3}.tar", r"4 of 4 shards are not there: .*x-0.tar, .*x-1.tar, .*x-2.tar, … \(1 more\)"),
        ("a.tar::{a,a}.tar", "names .*a.tar more than once: name each shard once"),
        ("a.tar::b.zip", "b.zip is not a shard: its name ends with neither .tar nor .parquet"),
        ("x.tar.gz", "compressed as a whole, so that no image .* Unpack it with gunzip"),
        ("x.tzst", "Unpack it with unzstd"),
        ("x-{0..9.tar", "opens a brace that nothing closes"),
    ],
)
def test_what_names_no_shards_is_said(text, said, tmp_path):
    write_tar(tmp_path / "a.tar", {})
    with pytest.raises(UsageError, match=said) as error:
        Shards(text, tmp_path).blobs()
    assert "secret" not in str(error.value) and "pass@" not in str(error.value)


def test_a_folder_of_shards_is_told_from_one_of_images(tmp_path):
    write_tar(tmp_path / "a.tar", pictures(1))
    with pytest.raises(UsageError, match=r"holds no image but shards: name them, --data NAME='.*/\*\.tar'"):
        find_images(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "a.tar").rename(tmp_path / "data" / "a.tar")
    with pytest.raises(UsageError, match=r"name them, --data NAME='.*/data/\*\.tar'"):
        find_images(tmp_path)


# Tar archives


def test_every_shard_fulfils_the_contract(tmp_path):
    table = {f"{i}.jpg": picture(i) for i in range(3)}
    a = write_tar(tmp_path / "a.tar", pictures(2), beside=False)
    b = write_table(tmp_path / "b.parquet", [(data, name) for name, data in table.items()])
    for shard, images in zip(find_shards(Shards(f"{a}::{b}")), (pictures(2), table), strict=True):
        check_shard(shard, images)


def test_a_tar_holds_the_images_that_its_unpacked_folder_does(tmp_path):
    files = pictures(15) | {"x.seg.png": picture(99, "PNG"), "UPPER.JPG": picture(98), ".hidden.jpg": picture(97)}
    path = write_tar(tmp_path / "s.tar", files | {"deep/.cache/x.jpg": b"", "notes.txt": b"no image"})
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "folder", filter="data")
    folder, found = scan(find_images(tmp_path / "folder"), HashMemory.open(None)), look(path)
    assert sorted(found.entries) == sorted(folder.entries) and len(found.entries) == 17
    assert read(found) == {entry.image_id: files[entry.image_id] for entry in folder.entries}
    assert list(found.sources) == [name for name in files if name != ".hidden.jpg"]  # in the order they lie


def test_a_leading_dot_is_no_part_of_the_id_and_names_are_nfc(tmp_path):
    path = write_tar(tmp_path / "s.tar", {"./a.jpg": picture(0), unicodedata.normalize("NFD", "ä.jpg"): picture(1)})
    assert list(look(path).sources) == ["a.jpg", "ä.jpg"]


def test_shards_that_share_paths_give_them_their_names(tmp_path):
    a, b = write_tar(tmp_path / "a.tar", pictures(3)), write_tar(tmp_path / "b.tar", pictures(3, first=2))
    assert list(look(a, b).sources) == [
        *("a/00000.jpg", "a/deep/00001.jpg", "a/00002.jpg"), *("b/00002.jpg", "b/deep/00003.jpg", "b/00004.jpg")
    ]  # fmt: skip
    c = write_tar(tmp_path / "other" / "a.tar", {"00000.jpg": picture(9)})
    assert [image_id.rpartition("/")[0] for image_id in look(a, c).sources][-1] == "other/a"


def test_shards_that_share_no_path_are_one_folder(tmp_path):
    paths = [write_tar(tmp_path / f"{i}.tar", pictures(5, first=5 * i)) for i in range(3)]
    assert list(look(*paths).sources) == list(pictures(15))


def append(path, name, data):
    """Puts a member at an archive's end, as `tar -r` does, whether or not there is one of that name."""
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("name", ["ä.jpg", unicodedata.normalize("NFD", "ä.jpg")])
def test_two_images_of_one_id_are_a_failure_with_both_places(tmp_path, name):
    path = append(write_tar(tmp_path / "s.tar", {"ä.jpg": picture(0), "b.jpg": picture(1)}), name, picture(2))
    found = look(path)
    assert [entry.image_id for entry in found.entries] == ["b.jpg"]
    assert re.search(
        r"is the ID of two images, .*s.tar at byte 1,536 and .*s.tar at byte [\d,]+:", found.failed["ä.jpg"]
    )
    assert len(look(append(path, name, picture(0))).failed) == 1  # a third time changes nothing


def test_an_image_that_is_there_twice_with_equal_bytes_is_taken_once_and_said(tmp_path):
    path = append(write_tar(tmp_path / "s.tar", pictures(2)), "00000.jpg", picture(0))
    found = look(path)
    assert list(found.sources) == [entry.image_id for entry in found.entries] == list(pictures(2)) and not found.failed
    assert "1 image repeated in a shard with the same bytes, taken once: 00000.jpg" in found.notes


def test_joined_archives_are_one_shard(tmp_path):
    one, other = write_tar(tmp_path / "a.tar", pictures(3)), write_tar(tmp_path / "b.tar", pictures(4, first=2))
    both = tmp_path / "both.tar"
    both.write_bytes(one.read_bytes() + other.read_bytes())
    found = look(both)
    assert read(found) == pictures(6) and not found.failed and len(found.notes) == 2


def test_a_sparse_file_that_is_no_image_is_passed_over(tmp_path):
    path = write_tar(tmp_path / "s.tar", {"hole.bin": member("hole.bin", tarfile.GNUTYPE_SPARSE)} | pictures(2))
    found = look(path)
    assert read(found) == pictures(2) and not found.failed


def test_a_hard_link_is_the_image_that_it_leads_to(tmp_path):
    link = member("again.jpg", tarfile.LNKTYPE, "00000.jpg")
    found = look(write_tar(tmp_path / "s.tar", pictures(1) | {"again.jpg": link}))
    assert read(found) == {"00000.jpg": picture(0), "again.jpg": picture(0)} and not found.failed
    assert {entry.image_sha256 for entry in found.entries} == {hashlib.sha256(picture(0)).digest()}


@pytest.mark.parametrize(
    "info, said",
    [
        (member("l.jpg", tarfile.SYMTYPE, "/etc/passwd"), "is a link, which holds no image: .*--dereference"),
        (
            member("l.jpg", tarfile.LNKTYPE, "z.jpg"),
            "is a hard link to 'z.jpg', and no image of that name is before it",
        ),
        (member("../l.jpg", tarfile.LNKTYPE, "00000.jpg"), "is a hard link to"),
        (member("f.jpg", tarfile.FIFOTYPE), "is not a regular file"),
        (member("d.jpg", tarfile.CHRTYPE), "is not a regular file"),
        (member("s.jpg", tarfile.GNUTYPE_SPARSE), "is stored as a sparse file, .* without tar --sparse"),
        (member("../up.jpg"), "has a path that leads out of the shard: .* without .."),
        (member("a/../../up.jpg"), "leads out of the shard"),
        (member("/root.jpg"), "leads out of the shard"),
    ],
)
def test_members_that_can_t_be_images_are_failures_by_name(tmp_path, info, said):
    found = look(write_tar(tmp_path / "s.tar", {"00000.jpg": picture(0), info.name: info, "z.jpg": picture(1)}))
    assert [entry.image_id for entry in found.entries] == ["00000.jpg", "z.jpg"]
    ((image_id, reason),) = found.failed.items()
    assert image_id == info.name
    assert re.search(said, reason)


def test_an_image_of_absurd_size_is_a_failure_and_never_read(tmp_path):
    path = tmp_path / "s.tar"
    info = member("huge.jpg")
    info.size = MOST_BYTES + 1
    with open(path, "wb") as file:
        file.write(info.tobuf())
        file.seek(-(-info.size // 512) * 512, 1)  # a hole
        file.write(bytes(1024))
    assert look(path).failed == {"huge.jpg": "has 1,073,741,825 bytes, over the limit of 1,073,741,824"}


def test_of_a_damaged_shard_what_is_whole_is_taken_and_the_damage_is_a_failure(tmp_path):
    paths = [write_tar(tmp_path / f"{i}.tar", pictures(5, first=5 * i)) for i in range(3)]
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[:5000])
    memory = HashMemory.open(tmp_path / "hashes.sqlite")
    for _ in range(2):  # it is not remembered as if it were whole
        found = look(*paths, memory=memory)
        assert [entry.image_id for entry in found.entries] == [*pictures(7), *pictures(5, first=10)]
        ((name, reason),) = found.failed.items()
        assert name == str(paths[1])
        assert re.search(r"^is cut short.*\. Download it or write it anew, or leave it out\.$", reason)
    assert len(look(paths[0], paths[2], memory=memory, known_only=True).entries) == 10
    with pytest.raises(BBError, match="1 of 3 shards were not read on this machine: `bb data check` reads them"):
        look(*paths, memory=memory, known_only=True)
    paths[1].write_bytes(whole)
    assert len(look(*paths, memory=memory).entries) == 15


def test_a_shard_of_which_nothing_is_whole_stops_the_scan(tmp_path):
    paths = [write_tar(tmp_path / f"{i}.tar", pictures(5, first=5 * i)) for i in range(2)]
    paths[1].write_bytes(paths[1].read_bytes()[:700])
    with pytest.raises(BBError, match=r"1.tar is cut short"):
        look(*paths)


def test_several_damaged_shards_are_said_at_once(tmp_path):
    for i in range(7):
        (tmp_path / f"{i}.tar").write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(BBError, match=r"(?s)0.tar is not a tar archive.*4.tar is not a tar archive.*\n… and 2 more"):
        look(tmp_path / "*.tar")


def test_a_compressed_archive_under_a_plain_name_is_said(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w:gz") as tar:
        tar.addfile(member("a.jpg"))
    with pytest.raises(
        BBError, match=r"s.tar is compressed as a whole, .* Unpack it with `gzip -d`; images hardly take"
    ):
        look(tmp_path / "s.tar")


def test_a_shard_that_may_not_be_read_is_said(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "s.tar", pictures(1))
    monkeypatch.setattr(Local, "stream", lambda self: iter(open(tmp_path / "none", "rb")))  # noqa: SIM115
    with pytest.raises(BBError, match=r"s.tar can't be read: No such file or directory\."):
        look(path)


def test_shards_without_an_image_are_said(tmp_path):
    path = write_tar(tmp_path / "s.tar", {"a.txt": b"x"}, beside=False)
    with pytest.raises(UsageError, match=r"found no image in .*s.tar: are they the right files\?"):
        look(path)


def test_limit_reads_no_more_than_it_must(tmp_path):
    a = write_tar(tmp_path / "a.tar", pictures(5))
    (tmp_path / "b.tar").write_bytes(b"never read")
    found = look(a, tmp_path / "b.tar", limit=3)
    assert list(found.sources) == list(pictures(3)) == [entry.image_id for entry in found.entries]
    with pytest.raises(BBError, match="b.tar is cut short"):
        look(a, tmp_path / "b.tar", limit=6)


def test_an_archive_is_never_in_memory_as_a_whole(tmp_path):
    noise = random.Random(0).randbytes(2**20)
    path = write_tar(tmp_path / "s.tar", {f"{i}.jpg": noise for i in range(48)}, beside=False)
    memory = HashMemory.open(None)
    look(write_tar(tmp_path / "small.tar", pictures(1)), memory=memory)  # what is loaded once
    tracemalloc.start()
    found = look(path, memory=memory)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.entries) == 48 and peak < 16 * 2**20


def test_a_shard_that_is_known_is_not_read(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "s.tar", pictures(5) | {"l.jpg": member("l.jpg", tarfile.SYMTYPE, "x")})
    table = write_table(tmp_path / "t.parquet", [(picture(50), "50.jpg"), (None, "51.jpg")])
    with HashMemory.open(tmp_path / "hashes.sqlite") as memory:
        done = []
        first = look(path, table, memory=memory, progress=done.append)
        assert done == sorted(done) and done[-1] == path.stat().st_size + table.stat().st_size
    for kind in (TarShard, ParquetShard):
        monkeypatch.setattr(kind, "find", lambda self: pytest.fail(f"{self} is read"))
    with HashMemory.open(tmp_path / "hashes.sqlite", read_only=True) as memory:
        assert look(path, table, memory=memory) == first
        assert look(path, table, memory=memory, limit=3).entries == first.entries[:3]
    monkeypatch.undo()
    write_tar(path, pictures(6))
    with HashMemory.open(tmp_path / "hashes.sqlite") as memory:
        assert len(look(path, memory=memory).entries) == 6


def test_a_memory_older_than_shards_serves_files_and_learns_shards(tmp_path):
    with HashMemory.open(tmp_path / "hashes.sqlite") as memory:
        memory.keep([("/a", "1:2:3", "[]")])
        memory.database.execute("DROP TABLE shard")
    path = write_tar(tmp_path / "s.tar", pictures(2))
    with HashMemory.open(tmp_path / "hashes.sqlite", read_only=True) as memory:
        assert memory.recall() == {"/a": ("1:2:3", "[]")}
        assert len(look(path, memory=memory).entries) == 2
    with HashMemory.open(tmp_path / "hashes.sqlite") as memory:
        look(path, memory=memory)
        assert len(look(path, memory=memory, known_only=True).entries) == 2


# Image tables


def test_a_table_s_images_are_known_by_their_paths(tmp_path):
    images = {f"{i}.jpg": picture(i) for i in range(25)}
    rows = [(data, name) for name, data in images.items()]
    a, b = write_table(tmp_path / "a.parquet", rows[:13]), write_table(tmp_path / "b.parquet", rows[13:])
    found = look(a, b)
    assert read(found) == images and list(found.sources) == list(images)
    assert [entry.image_sha256 for entry in found.entries] == [hashlib.sha256(d).digest() for d in images.values()]
    assert found.entries[0].width == 11 and found.sources["20.jpg"].describe().endswith("b.parquet, row 7")


@pytest.mark.parametrize("path", [None, "image.jpg", "/home/me/a.jpg", "../a.jpg"])
def test_paths_that_can_t_be_ids_give_way_to_rows(tmp_path, path):
    path = write_table(tmp_path / "train-0.parquet", [(picture(i), path) for i in range(12)])
    found = look(path)
    assert list(found.sources) == [f"train-0/{row}" for row in range(12)]
    assert read(found) == {f"train-0/{row}": picture(row) for row in range(12)}


def test_rows_without_an_image_are_failures(tmp_path):
    rows = [(picture(0), "0.jpg"), None, (None, "far/1.jpg"), (b"", "2.jpg")]
    a, b = write_table(tmp_path / "a.parquet", rows), write_table(tmp_path / "b.parquet", [None])
    found = look(a, b)
    assert found.failed == {
        "a/1": "is missing: the row holds no image",
        "b/0": "is missing: the row holds no image",
        "far/1.jpg": "is not in the table, which holds its path alone (far/1.jpg): write it with the images embedded",
    }
    assert [entry.image_id for entry in found.entries] == ["0.jpg", "2.jpg"]


def test_the_only_column_of_images_is_taken_whatever_its_name(tmp_path):
    path = write_table(tmp_path / "a.parquet", [(picture(0), "0.jpg")], column="photo")
    assert list(look(path).sources) == ["0.jpg"]


def table_of(path, columns):
    cell = {"bytes": picture(0), "path": "0.jpg"}
    values = {"image": cell, ("image",): [cell]}
    key = lambda kind: tuple(kind) if isinstance(kind, list) else kind if isinstance(kind, str) else None  # noqa: E731
    pl.DataFrame({name: [values.get(key(kind), kind)] for name, kind in columns.items()}).write_parquet(path)
    return path


@pytest.mark.parametrize(
    "columns, said",
    [
        ({"img": "image", "mask": "image", "n": 1}, r"several columns of images, img, mask, and none is called image"),
        ({"jpg": b"x", "png": b"y", "n": 1}, "several columns of images, jpg, png, and none is called image"),
        ({"one": b"x", "two": b"y"}, "several columns of images, one, two"),
        (
            {"image": "x.jpg", "n": 1},
            r"no column of images, .* structs \{bytes, path\}. Its columns are image \(large_string\), n",
        ),
        ({"image": {"bytes": "x", "path": "y"}}, "has no column of images"),
        ({"image": {"path": "y"}}, "has no column of images"),
        ({"images": ["image"]}, "has lists of images in the column images: write a table with one image in a row"),
        ({"images": [b"x"]}, "has lists of images in the column images"),
    ],
)
def test_tables_without_the_column_are_said_with_their_columns(tmp_path, columns, said):
    with pytest.raises(BBError, match=said):
        look(table_of(tmp_path / "a.parquet", columns))


def test_image_is_taken_where_there_are_several(tmp_path):
    assert len(look(table_of(tmp_path / "a.parquet", {"mask": "image", "image": "image"})).entries) == 1


@pytest.mark.parametrize(
    "kind, pathless",
    [
        (pl.Binary(), True),
        (pl.List(pl.UInt8()), True),
        (pl.Struct({"bytes": pl.Binary()}), True),
        (pl.Struct({"bytes": pl.Binary(), "path": pl.Null()}), True),
        (pl.Struct({"path": pl.String(), "bytes": pl.Binary(), "width": pl.Int32()}), False),
        (pl.Struct({"bytes": pl.List(pl.UInt8()), "path": pl.String()}), False),
        (pl.Struct({"bytes": pl.Binary(), "path": pl.Categorical()}), False),
        (pl.Struct({"bytes": pl.Binary(), "path": pl.Enum([f"{i}.jpg" for i in range(25)])}), False),
    ],
)
@pytest.mark.parametrize("name", ["image", "jpg", "anything"])
def test_images_are_taken_in_whatever_type_they_are(tmp_path, kind, pathless, name):
    images = [picture(i) for i in range(25)]
    missing = 12  # a row without an image
    cells = [None if i == missing else data for i, data in enumerate(images)]
    if isinstance(kind, pl.Struct):
        fields = {field.name: field.dtype for field in kind.fields}
        rows = [
            {"bytes": as_kind(data, fields["bytes"]), "path": None if pathless else f"{i}.jpg", "width": 11}
            for i, data in enumerate(cells)
        ]
        cells = [{field: row[field] for field in fields} for row in rows]
    else:
        cells = [as_kind(data, kind) for data in cells]
    frame = pl.DataFrame({"label": range(25), name: pl.Series(cells, dtype=kind), "text": ["x"] * 25})
    frame.write_parquet(tmp_path / "t.parquet", row_group_size=10)
    found = look(tmp_path / "t.parquet")
    ids = [f"t/{i}" if pathless else f"{i}.jpg" for i in range(25)]
    assert list(found.sources) == ids and list(found.failed) == [ids[missing]]
    del ids[missing], images[missing]
    assert [entry.image_id for entry in found.entries] == ids
    assert [found.sources[image_id].read() for image_id in ids] == images


def as_kind(data, kind):
    return list(data) if data is not None and isinstance(kind, pl.List) else data


def test_damaged_tables_are_said(tmp_path):
    path = write_table(tmp_path / "a.parquet", [(picture(i), f"{i}.jpg") for i in range(25)])
    whole = path.read_bytes()
    for data, said in (
        (whole[:1000], r"a.parquet is not a Parquet file, or is cut short: .*\. Download it or write it anew"),
        (b"PAR1", "is not a Parquet file, or is cut short"),
        (b"", "is not a Parquet file, or is cut short"),
        (b"xx" + whole[-8:], "is cut short: its footer is longer than all of it"),
        (whole[:-1500] + bytes(1492) + whole[-8:], "is damaged: its footer"),
        (whole[:100] + bytes(4000) + whole[4100:], "is damaged in row group 0"),
    ):
        path.write_bytes(data)
        with pytest.raises(BBError, match=said):
            look(path)


def test_row_groups_of_absurd_size_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(image_parquet, "MOST_GROUP", 1000)
    path = write_table(tmp_path / "a.parquet", [(picture(i), f"{i}.jpg") for i in range(25)])
    with pytest.raises(BBError, match=r"bytes of images in row group 0, over the limit of 1,000: .*row_group_size=100"):
        look(path)


def test_a_table_that_changed_is_an_error_of_its_images(tmp_path):
    path = write_table(tmp_path / "a.parquet", [(picture(i), f"{i}.jpg") for i in range(25)])
    found = look(path)
    image_parquet._TABLES._made.clear()
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(OSError, match="a.parquet"):
        found.sources["3.jpg"].read()


# Elsewhere


def fill(folder):
    """Two archives and a table, and all of their images."""
    tars = [pictures(40, first=40 * i) for i in range(2)]
    for i, files in enumerate(tars):
        write_tar(folder / f"s-{i}.tar", files)
    rows = {f"{i}.jpg": picture(i) for i in range(200, 235)}
    write_table(folder / "t.parquet", [(data, name) for name, data in rows.items()])
    return tars[0] | tars[1] | rows


def test_shards_on_a_web_server(tmp_path):
    images = fill(tmp_path)
    with serving(static(tmp_path)) as url, proxy_to(url) as proxy, HashMemory.open(None) as memory:
        names = (f"{proxy.url}/s-{{0..1}}.tar", f"{proxy.url}/t.parquet")
        found = look(*names, memory=memory)
        assert [asked.range for asked in proxy.asked if asked.path == "/s-1.tar" and asked.method == "GET"] == [None]
        assert read(found) == images
        reads = len(proxy.paths())
        assert look(*names, memory=memory) == found and len(proxy.paths()) == reads  # looked at, and not read
        (tmp_path / "s-1.tar").unlink()
        with pytest.raises(UsageError, match=r"1 of 3 shards are not there: http://.*/s-1.tar\."):
            look(*names, memory=memory)


def test_neighbours_on_a_web_server_come_together(tmp_path):
    fill(tmp_path)
    with serving(static(tmp_path)) as url, proxy_to(url) as proxy:
        found = look(f"{proxy.url}/s-{{0..1}}.tar")
        before = len(proxy.paths())
        read(found)
        assert len(proxy.paths()) - before == 4  # the first image of each shard alone, and all the others


def test_a_server_without_ranges_is_refused_before_anything_is_hashed(tmp_path):
    fill(tmp_path)
    with serving(static(tmp_path, ranges=False)) as url, proxy_to(url) as proxy:
        for limit in (None, 3):
            with pytest.raises(BBError, match="the server knows no ranges"):
                look(f"{proxy.url}/s-0.tar", limit=limit)
        assert all(asked.range for asked in proxy.asked if asked.method == "GET")


def test_what_a_server_gives_no_date_of_is_read_again(tmp_path):
    fill(tmp_path)
    with serving(static(tmp_path, dated=False)) as url, HashMemory.open(None) as memory:
        first = look(f"{url}/s-0.tar", memory=memory)
        with pytest.raises(BBError, match="1 of 1 shards were not read"):
            look(f"{url}/s-0.tar", memory=memory, known_only=True)
        assert look(f"{url}/s-0.tar", memory=memory) == first


def test_a_server_that_is_gone_is_said_at_once(tmp_path, monkeypatch):
    fill(tmp_path)
    monkeypatch.setattr("bb.store.storage.retry.RetryPolicy.pause", lambda self, failures: None)
    with serving(static(tmp_path)) as url, proxy_to(url) as proxy:
        found = look(f"{proxy.url}/s-0.tar")
        proxy.rule = lambda request, number: Fault(refuse=True)
        with pytest.raises(BBError, match=r"s-0.tar: the connection broke, \d times in a row"):
            found.sources["00000.jpg"].read()


def test_shards_in_a_bucket(s3, tmp_path, faults):
    import obstore

    from bb.extract.data.byte_range import place_at

    images = fill(tmp_path)
    for path in tmp_path.glob("*.*"):
        obstore.put(place_at(s3.url).writes, f"deep/{path.name}", path)
    with HashMemory.open(None) as memory:
        found = look(f"{s3.url}/**/s-?.tar", f"{s3.url}/deep/*.parquet", memory=memory)
        assert read(found) == images
        assert look(f"{s3.url}/deep/s-{{0..1}}.tar", memory=memory, known_only=True).entries == found.entries[:80]
    for wrong in ("x*.tar", "[!a-z]-0.tar", "s-[z-a].tar", "**/x/s-*.tar"):
        with pytest.raises(UsageError, match=r"no file is called s3://.*/deep/.*\.tar: fix the name"):
            look(f"{s3.url}/deep/{wrong}")


def test_shards_on_the_hub(hub, tmp_path):
    images = fill(tmp_path)
    for path in tmp_path.glob("*.*"):
        hub.files[f"data/{path.name}"] = path.read_bytes()
    place = f"hf://datasets/{hub.repo}"
    found = look(f"{place}/data/s-*.tar", f"{place}/data/t.parquet")
    assert read(found) == images


def test_connections_that_break_are_taken_up(tmp_path, monkeypatch):
    images = fill(tmp_path)
    monkeypatch.setattr("bb.store.storage.retry.RetryPolicy.pause", lambda self, failures: None)
    with serving(static(tmp_path)) as url, proxy_to(url) as proxy:
        proxy.now_and_then(Fault(cut=3000), Fault(status=503), every=3)
        found = look(f"{proxy.url}/s-{{0..1}}.tar", f"{proxy.url}/t.parquet")
        assert read(found) == images


# Bytes that anybody may have made


@settings(max_examples=examples(150))
@given(st.integers(0, 2**32))
def test_any_change_of_a_shard_is_found_images_or_a_fact(tmp_path_factory, seed):
    folder, rng = tmp_path_factory.mktemp("hostile"), random.Random(seed)
    if rng.random() < 0.5:
        path = write_tar(folder / "s.tar", pictures(4))
    else:
        path = write_table(folder / "s.parquet", [(picture(i), f"{i}.jpg") for i in range(25)])
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(len(data)) if rng.random() < 0.3 else -rng.randrange(1, 1500)
        new = rng.randbytes(rng.randint(1, 8))
        data[at : at + len(new) if at + len(new) else None] = new
    path.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data)
    kind = TarShard if path.suffix == ".tar" else ParquetShard
    image_parquet._TABLES._made.clear()
    try:
        for found in kind(local(path)).find():
            assert found.fault or len(found.digest) == 32 or found.count_into(PassedOver())
    except (ValueError, OSError) as fact:
        assert str(fact)
    shutil.rmtree(folder)
