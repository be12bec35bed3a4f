"""Shards where bb takes collections: extract, data, report and store verify."""

import json
import os
import re

import numpy as np
import pytest

import bb.thumbnails
from bb.extract.data import byte_range as blob
from bb.extract.data import image_parquet
from bb.extract.data.prefetch_cache import PrefetchCache
from bb.store import Store
from tests.helpers.command_line import VIT, call, own_place
from tests.helpers.servers import Fault, proxy_to, serving, static
from tests.helpers.shards import picture, pictures, write_table, write_tar

__all__ = ["call", "own_place"]  # fixtures

IMAGES = pictures(50)


@pytest.fixture
def tars(tmp_path):
    """Two shards beside a folder that holds the same; the shards' name."""
    for path, data in IMAGES.items():
        (tmp_path / "folder" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / path).write_bytes(data)
    names = list(IMAGES)
    for i in range(2):
        write_tar(tmp_path / f"s-000{i}.tar", {name: IMAGES[name] for name in names[25 * i : 25 * i + 25]})
    return f"{tmp_path}/s-{{0000..0001}}.tar"


def forget_what_was_read(monkeypatch):
    """As in a new process."""
    for module, name in ((image_parquet, "_TABLES"), (image_parquet, "_GROUPS"), (blob, "_BLOCKS")):
        shelf = getattr(module, name)
        monkeypatch.setattr(module, name, PrefetchCache(shelf.most, shelf.weigh, shelf.ahead))


def test_a_folder_and_its_shards_are_one_collection(call, tars, tmp_path):
    status, out, _ = call("extract", "--ckpt", VIT, "--data", f"pics={tars}")
    assert status == 0 and "0 were there, 50 computed" in out
    (first,) = Store.open("features.bb").collections("pics")
    status, out, _ = call("extract", "--ckpt", VIT, "--data", f"pics={tmp_path / 'folder'}")
    assert status == 0 and "50 were there, 0 computed" in out
    assert [version.digest for version in Store.open("features.bb").collections("pics")] == [first.digest]
    assert call("extract", "--ckpt", VIT, "--data", f"pics={tmp_path / 'folder'}", "--store", "other.bb")[0] == 0
    one, other = Store.open("features.bb"), Store.open("other.bb")
    (space,) = one.spaces()
    assert np.array_equal(one.read(space, first, sorted(IMAGES)), other.read(space, first, sorted(IMAGES)))


def test_joined_archives_are_checked_to_their_end(call, tars, tmp_path):
    both = b"".join((tmp_path / f"s-000{i}.tar").read_bytes() for i in range(2))
    (tmp_path / "both.tar").write_bytes(both)
    status, out, err = call("data", "check", f"pics={tmp_path}/both.tar")
    assert status == 0 and "50 images" in out and "0 problems" in out, err
    (tmp_path / "both.tar").write_bytes(both[: len(both) // 2 + 20_000])
    status, out, err = call("data", "check", f"pics={tmp_path}/both.tar")
    assert status == 1 and "both.tar" in out + err and "cut" in out + err


def test_shards_on_a_server_are_extracted_and_not_read_again(call, tars, tmp_path):
    write_table(tmp_path / "t.parquet", [(picture(i), f"{i}.jpg") for i in range(100, 125)])
    with serving(static(tmp_path)) as url, proxy_to(url) as proxy:
        data = f"--data=pics={proxy.url}/s-{{0000..0001}}.tar::{proxy.url}/t.parquet"
        status, out, _ = call("extract", "--ckpt", VIT, data)
        assert status == 0 and "75 computed" in out
        reads = len(proxy.paths())
        status, out, _ = call("extract", "--ckpt", VIT, data)
        assert status == 0 and "75 were there, 0 computed" in out
        assert len(proxy.paths()) == reads


def test_a_dry_run_says_and_writes_nothing(call, tars, tmp_path):
    status, out, _ = call("extract", "--ckpt", VIT, "--data", f"pics={tars}", "--dry-run")
    assert status == 0 and "0 of 50 images are there, 50 to compute" in out
    assert not (tmp_path / "work" / "features.bb").exists() and not (tmp_path / "cache").exists()


def test_a_try_takes_the_first_images(call, tars):
    status, out, err = call("extract", "--ckpt", VIT, "--data", f"pics={tars}", "--limit", 7)
    assert status == 0 and "7 computed" in out and "the first 7 images only" in err
    assert Store.open("features.bb").collections("pics") == []


def test_what_can_t_be_embedded_is_named_and_the_rest_is_kept(call, tmp_path):
    write_tar(tmp_path / "s.tar", {"a.jpg": picture(0), "b.jpg": picture(1)[:200], "../c.jpg": picture(2)})
    status, out, err = call("extract", "--ckpt", VIT, "--data", f"pics={tmp_path / 's.tar'}")
    assert status == 1 and "1 computed" in out and "2 failed" in out
    assert "b.jpg: truncated" in err and "../c.jpg: has a path that leads out of the shard" in err


def test_a_shard_that_changes_while_bb_runs_is_reported(call, tars, tmp_path, monkeypatch):
    from bb.extract.pipeline.extractor import Extractor

    load = Extractor.load

    def change(*arguments, **options):
        path = tmp_path / "s-0001.tar"
        path.write_bytes(path.read_bytes().replace(b"\xff\xd9", b"\xff\xd8"))
        return load(*arguments, **options)

    monkeypatch.setattr(Extractor, "load", change)
    status, out, err = call("extract", "--ckpt", VIT, "--data", f"pics={tars}")
    assert status == 1 and "25 computed" in out and "25 failed" in out
    assert "00026.jpg: changed while bb ran; run again" in err


def test_data_check(call, tars, tmp_path):
    status, out, _ = call("data", "check", f"pics={tars}")
    assert status == 0 and f"pics: 50 images in {tars}, 0 of them copies of others, 0 problems" in out
    write_tar(tmp_path / "x.tar", {"a.jpg": picture(0), "b.jpg": picture(0), "c.jpg": b"none", "/d.jpg": picture(1)})
    status, out, _ = call("data", "check", f"x={tmp_path / 'x.tar'}")
    assert status == 1 and "1 of them copies of others, 2 problems" in out
    assert "c.jpg: no JPEG, PNG" in out and "/d.jpg: has a path that leads out" in out
    (tmp_path / "x.tar").write_bytes(b"none")
    status, _, err = call("data", "check", f"x={tmp_path / 'x.tar'}")
    assert status == 1 and "x.tar is cut short" in err


def test_settings_name_shards_relative_to_themselves(call, tars, tmp_path, own_place, monkeypatch):
    (own_place / "bb.toml").write_text('[data.pics]\nroot = "../s-{0000..0001}.tar"\n')
    status, out, _ = call("data", "list", "--json")
    assert status == 0 and json.loads(out)[0]["root"] == "../s-{0000..0001}.tar"
    status, out, _ = call("extract", "--ckpt", VIT, "--dry-run")
    assert status == 0 and "0 of 50 images are there" in out
    with serving(static(tmp_path)) as url:
        both = os.pathsep.join([f"a={url}/s-0000.tar::{url}/s-0001.tar", f"b={tmp_path / 'folder'}"])
        monkeypatch.setenv("BB_DATA", both)
        status, out, _ = call("data", "check")
    assert status == 0 and out.count("50 images in") == 3


def test_verify_recomputes_from_shards(call, tars):
    assert call("extract", "--ckpt", VIT, "--data", f"pics={tars}")[0] == 0
    status, out, _ = call("store", "verify", "--recompute", 10, "--data", f"pics={tars}", "--seed", 1)
    assert status == 0 and "10 of 50 images embedded anew; cosine distance at most 0, mean 0" in out


def test_thumbnails_come_from_shards_that_are_known(call, tars, tmp_path, capsys):
    from bb.extract.data.source_spec import parse_root

    assert call("extract", "--ckpt", VIT, "--data", f"pics={tars}")[0] == 0
    opened, root = Store.open("features.bb"), parse_root(tars)
    made = bb.thumbnails.thumbnails_of(opened, "pics", root, {"00000.jpg", "deep/00049.jpg"})
    assert sorted(made) == ["00000.jpg", "deep/00049.jpg"] and made["00000.jpg"].jpeg.startswith(b"\xff\xd8")
    (tmp_path / "cache" / "hashes.sqlite").unlink()
    capsys.readouterr()
    assert bb.thumbnails.thumbnails_of(opened, "pics", root, {"00000.jpg"}) == {}
    assert (
        "no thumbnails of pics: 2 of 2 shards were not read on this machine: `bb data check`" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "root, said",
    [
        ("x-{0..1}.tar", "2 of 2 shards are not there"),
        ("https://h/*.tar", "a web server can't be asked"),
        ("x.tgz", "gunzip"),
    ],
)
def test_bad_names_are_bad_usage(call, root, said):
    status, _, err = call("extract", "--ckpt", VIT, "--data", f"pics={root}")
    assert status == 2 and said in err
    assert call("data", "check", f"pics={root}")[0] == 2


def test_labels_are_said_to_be_missing(call, tars):
    assert call("extract", "--ckpt", VIT, "--data", f"pics={tars}")[0] == 0
    status, _, err = call("probe", "newt", "--data", f"pics={tars}", "--n-train", 4, "--ckpt", VIT)
    assert status == 2 and "where are the labels of pics?" in err


def test_a_server_that_goes_away_stops_bb_and_nothing_is_lost(call, tmp_path, monkeypatch):
    write_table(tmp_path / "t.parquet", [(picture(i), f"{i}.jpg") for i in range(60)])
    monkeypatch.setattr("bb.store.storage.retry.RetryPolicy.pause", lambda self, failures: None)
    monkeypatch.setattr("bb.extract.data.byte_range.BLOCK", 4096)
    monkeypatch.setattr("bb.extract.data.image_parquet.GUESS", 2000)
    with serving(static(tmp_path)) as url, proxy_to(url) as proxy:
        data = f"--data=pics={proxy.url}/t.parquet"
        assert call("data", "check", data.removeprefix("--data="))[0] == 0
        forget_what_was_read(monkeypatch)
        reads = len(proxy.asked)
        proxy.rule = lambda request, number: Fault(refuse=True) if number > reads + 5 else None
        status, _, err = call("extract", "--ckpt", VIT, data)
        assert status == 1 and "t.parquet: the connection broke" in err
        proxy.rule = lambda request, number: None
        status, out, _ = call("extract", "--ckpt", VIT, data)
        assert status == 0
        were_there, computed = (int(word) for word in re.findall(r"(\d+) (?:were there|computed)", out))
        assert were_there + computed == 60 and were_there % 16 == 0
