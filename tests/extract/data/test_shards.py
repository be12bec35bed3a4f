"""Shards as collections: which images they hold, under which IDs, read once, and every fault in words."""

import hashlib
import random
import re
import shutil
import tarfile
import tracemalloc
import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tests.test_blob
from extract import image_parquet
from extract.collection import HashMemory, find_images, scan
from extract.image_parquet import ParquetShard
from extract.root import Shards, parse_root
from extract.shard import MOST_BYTES, Shard
from extract.shards import find_shards, scan_shards
from extract.webdataset import TarShard
from store.blob import Local, local
from store.errors import BBError, UsageError
from store.shelf import Shelf
from tests.servers import Fault, proxy_to, serving, static
from tests.shards import picture, pictures, write_table, write_tar

forget, hub = tests.test_blob.forget, tests.test_blob.hub  # fixtures


@pytest.fixture(autouse=True)
def forget_tables(monkeypatch):
    monkeypatch.setattr(image_parquet, "_TABLES", Shelf(10**6, lambda table: len(table.footer)))
    monkeypatch.setattr(image_parquet, "_GROUPS", Shelf(10**6, lambda column: int(column.estimated_size()), 2))


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


@pytest.mark.parametrize(
    "text, said",
    [
        ("pipe:curl x.tar", "runs a command, which bb does not: give the shard's path or URL itself"),
        ("ftp://host/x.tar", "no shards can be read at ftp://: give paths, or URLs with s3, gs, az, http"),
        ("https://host/x.tar?sig=secret", "https://host/x.tar: a shard's URL has neither . nor #"),
        ("https://host/*.tar", "a web server can't be asked which files it has. Name them"),
        ("https://me:pass@host/x.tar", "a user or password in it is not taken"),
        ("none-*.tar", "no file is called none-.*: mend the name"),
        ("x-{0..3}.tar", r"4 of 4 shards are not there: .*x-0.tar, .*x-1.tar, .*x-2.tar, … \(1 more\)"),
        ("a.tar::{a,a}.tar", "names .*a.tar more than once: name each shard once"),
        ("a.tar::b.zip", "b.zip is no shard: its name ends with neither .tar nor .parquet"),
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


# Tar archives


def test_every_shard_fulfils_the_contract(tmp_path):
    a, b = write_tar(tmp_path / "a.tar", pictures(2)), write_table(tmp_path / "b.parquet", [(picture(0), "0.jpg")])
    assert all(isinstance(shard, Shard) for shard in find_shards(Shards(f"{a}::{b}")))


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


def test_two_images_of_one_id_are_an_error_with_both_places(tmp_path):
    path = tmp_path / "s.tar"
    write_tar(path, {"ä.jpg": picture(0), unicodedata.normalize("NFD", "ä.jpg"): picture(1)}, beside=False)
    with pytest.raises(BBError, match=r"s.tar at byte 1,536 and .*s.tar at byte [\d,]+ are both image 'ä.jpg'. Rename"):
        look(path)


@pytest.mark.parametrize(
    "info, said",
    [
        (member("l.jpg", tarfile.SYMTYPE, "/etc/passwd"), "is a link, which holds no image: .*--dereference"),
        (member("l.jpg", tarfile.LNKTYPE, "00000.jpg"), "is a link"),
        (member("f.jpg", tarfile.FIFOTYPE), "is no plain file: write the shard anew"),
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


def test_a_damaged_shard_stops_the_scan_and_the_others_are_remembered(tmp_path):
    paths = [write_tar(tmp_path / f"{i}.tar", pictures(5, first=5 * i)) for i in range(3)]
    paths[1].write_bytes(paths[1].read_bytes()[:5000])
    memory = HashMemory.open(tmp_path / "hashes.sqlite")
    with pytest.raises(BBError, match=r"1.tar is cut short.*\. Download it or write it anew, or leave it out\."):
        look(*paths, memory=memory)
    assert len(look(paths[0], paths[2], memory=memory, known_only=True).entries) == 10
    with pytest.raises(BBError, match="1 of 3 shards were not read on this machine: `bb data check` reads them"):
        look(*paths, memory=memory, known_only=True)


def test_several_damaged_shards_are_said_at_once(tmp_path):
    for i in range(7):
        (tmp_path / f"{i}.tar").write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(BBError, match=r"(?s)0.tar is no tar archive.*4.tar is no tar archive.*\n… and 2 more"):
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
    with pytest.raises(UsageError, match=r"there is no image in .*s.tar: are they the right files\?"):
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
    assert found.entries[0].width == 11 and found.sources["20.jpg"].words().endswith("b.parquet, row 7")


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
    pl.DataFrame({name: [cell if kind == "image" else kind] for name, kind in columns.items()}).write_parquet(path)
    return path


@pytest.mark.parametrize(
    "columns, said",
    [
        ({"img": "image", "mask": "image", "n": 1}, r"several columns of images, img, mask, and none is called image"),
        ({"image": b"x", "n": 1}, r"has no column of structs \{bytes, path\}, .* Its columns are image \(Binary\), n"),
        ({"image": {"bytes": "x", "path": "y"}}, "has no column of structs"),
    ],
)
def test_tables_without_the_column_are_said_with_their_columns(tmp_path, columns, said):
    with pytest.raises(BBError, match=said):
        look(table_of(tmp_path / "a.parquet", columns))


def test_image_is_taken_where_there_are_several(tmp_path):
    assert len(look(table_of(tmp_path / "a.parquet", {"mask": "image", "image": "image"})).entries) == 1


def test_damaged_tables_are_said(tmp_path):
    path = write_table(tmp_path / "a.parquet", [(picture(i), f"{i}.jpg") for i in range(25)])
    whole = path.read_bytes()
    for data, said in (
        (whole[:1000], r"a.parquet is no Parquet file, or is cut short: .*\. Download it or write it anew"),
        (b"PAR1", "is no Parquet file, or is cut short"),
        (b"", "is no Parquet file, or is cut short"),
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
    monkeypatch.setattr("store.patience.Patience.pause", lambda self, failures: None)
    with serving(static(tmp_path)) as url, proxy_to(url) as proxy:
        found = look(f"{proxy.url}/s-0.tar")
        proxy.rule = lambda request, number: Fault(refuse=True)
        with pytest.raises(BBError, match=r"s-0.tar: the connection broke, \d times in a row"):
            found.sources["00000.jpg"].read()


def test_shards_in_a_bucket(s3, tmp_path, faults):
    import obstore

    from store.blob import place_at

    images = fill(tmp_path)
    for path in tmp_path.glob("*.*"):
        obstore.put(place_at(s3.url).writes, f"deep/{path.name}", path)
    with HashMemory.open(None) as memory:
        found = look(f"{s3.url}/**/s-?.tar", f"{s3.url}/deep/*.parquet", memory=memory)
        assert read(found) == images
        assert look(f"{s3.url}/deep/s-{{0..1}}.tar", memory=memory, known_only=True).entries == found.entries[:80]
    for wrong in ("x*.tar", "[!a-z]-0.tar", "s-[z-a].tar", "**/x/s-*.tar"):
        with pytest.raises(UsageError, match=r"no file is called s3://.*/deep/.*\.tar: mend the name"):
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
    monkeypatch.setattr("store.patience.Patience.pause", lambda self, failures: None)
    with serving(static(tmp_path)) as url, proxy_to(url) as proxy:
        proxy.now_and_then(Fault(cut=3000), Fault(status=503), every=3)
        found = look(f"{proxy.url}/s-{{0..1}}.tar", f"{proxy.url}/t.parquet")
        assert read(found) == images


# Bytes that anybody may have made


@settings(max_examples=150, deadline=None)
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
            assert found.fault or len(found.digest) == 32
    except (ValueError, OSError) as fact:
        assert str(fact)
    shutil.rmtree(folder)
