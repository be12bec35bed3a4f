"""The verbs on a store that lies in a bucket: the same results as at home, and refusals where it would be written."""

import json
import shutil

import pytest

from bb.store import Store
from bb.store.storage.url import open_place
from tests.helpers.command_line import RESNET, VIT, call, make_newt, own_place
from tests.helpers.places import copy

__all__ = ["call", "own_place"]  # fixtures


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A store of two backbones' features of a small NeWT, and its labels file."""
    import bb.extract

    folder = tmp_path_factory.mktemp("in-place")
    newt = make_newt(folder / "newt")
    bb.extract.run(folder / "a.bb", [VIT, RESNET], {"newt": newt})
    return folder


@pytest.fixture
def home(template, own_place, call):
    """The store at home with a run in it, as `home.bb` in the working directory; labels.csv beside it."""
    shutil.copytree(template / "a.bb", own_place / "home.bb")
    shutil.copy(template / "newt" / "newt2021_labels.csv", own_place / "labels.csv")
    assert probe(call, "home.bb", "4", "--ckpt", VIT)[0] == 0
    return Store.open("home.bb")


@pytest.fixture
def url(home, s3, faults):
    copy(home.root, open_place(f"{s3.url}/a.bb"))
    faults.asked.clear()
    return f"{s3.url}/a.bb"


def probe(call, store, n_train, *more):
    return call("probe", "newt", "--labels", "labels.csv", "--n-train", n_train, "--store", store, *more)


def test_the_probe_gives_the_same_scores_to_the_last_bit_and_reads_no_other_arrays(home, url, faults, call):
    probe(call, "home.bb", "2", "--ckpt", VIT)
    status, out, err = probe(call, url, "2", "--ckpt", VIT)
    assert status == 0
    assert "made a new store at features.bb" in err and f"{url} is only read: runs go to features.bb" in err
    assert out.endswith("  bb report newt --store features.bb\n")
    (run,) = Store.open("features.bb").runs()
    (same,) = (r for r in home.runs(run.run_id))
    assert run.record["scores"] == same.record["scores"] and run.predictions().equals(same.predictions())
    mine = next(space for space in home.spaces() if VIT in home.backbones(space))
    arrays = [path for path in faults.paths() if "/c/" in path]
    assert len(arrays) > 1
    assert [path for path in arrays if "features" in path and mine.key not in path] == []
    assert [path for path in arrays if "image_id/" in path] == []
    faults.asked.clear()
    assert (
        probe(call, url, "2", "--ckpt", VIT)[1].startswith("backbone")
        and [p for p in faults.paths() if "/c/" in p] == []
    )


def test_runs_that_are_there_or_here_are_not_computed_again(url, call):
    assert "0 runs computed, 1 were there" in probe(call, url, "4", "--ckpt", VIT)[1]
    status, out, _ = probe(call, url, "2", "--ckpt", VIT, "--runs-to", "mine.bb")
    assert status == 0 and "1 run computed" in out and "--store mine.bb" in out
    assert "0 runs computed, 1 were there" in probe(call, url, "2", "--ckpt", VIT, "--runs-to", "mine.bb")[1]
    assert call("report", "--store", "mine.bb")[0] == 0


def undated(shown):
    """Without the times at which collections were recorded, which only the files of a local store have."""
    for each in shown if isinstance(shown, list) else []:
        for version in each.get("versions", []):
            version.pop("recorded")
    return shown


def test_looking_gives_what_it_gives_at_home(home, url, call):
    for verb in (["store", "ls"], ["report"], ["data", "list"], ["store", "verify"]):
        at_home, away = (call(*verb, "--store", where, "--json") for where in ("home.bb", url))
        assert at_home[0] == away[0] == 0
        assert undated(json.loads(at_home[1])) == undated(json.loads(away[1]))
    key = home.spaces()[0].key
    at_home, away = (json.loads(call("store", "info", key, "--store", w, "--json")[1]) for w in ("home.bb", url))
    for record in (at_home, away):
        for part in record["parts"]:
            part.pop("local")  # which never leaves the machine
    assert at_home == away
    keys = [space.key for space in home.spaces()]
    assert call("store", "why", *keys, "--store", url)[1] == call("store", "why", *keys, "--store", "home.bb")[1]
    at_home, away = (json.loads(call("store", "du", "--store", w, "--json")[1]) for w in ("home.bb", url))
    assert at_home["features"] == away["features"]
    assert away["others"]["runs"] == at_home["others"]["runs"] > 0


@pytest.mark.parametrize(
    "words",
    [
        ["extract", "--ckpt", VIT, "--data", "newt=."], ["store", "compact"], ["store", "gc"], ["store", "sign"],
        ["store", "verify", "--repair"], ["store", "revoke", "0" * 64], ["store", "push", "x"], ["store", "pull", "x"],
    ],
)  # fmt: skip
def test_what_would_write_is_refused(call, words, own_place):
    from PIL import Image

    Image.new("RGB", (8, 8)).save("a.jpg")
    status, _, err = call(*words, "--store", "s3://lab/a.bb")
    assert status == 2
    assert (
        "s3://lab/a.bb is read only in place: work on a local store (`bb store pull s3://lab/a.bb`), and push." in err
    )


def test_runs_to_is_for_urls(home, call):
    status, _, err = probe(call, "home.bb", "2", "--runs-to", "x.bb")
    assert status == 2 and "--runs-to is for a --store that is a URL; the runs of home.bb go into it." in err


def test_runs_to_is_no_url(url, call, own_place):
    status, _, err = probe(call, url, "2", "--runs-to", "s3://lab/runs")
    assert (
        status == 2 and "--runs-to takes a local folder, not s3://lab/runs: from there, `bb store push` copies" in err
    )
    assert not (own_place / "s3:").exists()


def test_where_the_runs_are_is_said(url, call):
    out = probe(call, url, "4", "--ckpt", VIT)[1]
    assert out.endswith(f"1 were there. Next:\n  bb report newt --store {url}\n")
    out = probe(call, url, "2,4", "--ckpt", VIT)[1]
    assert out.endswith(f"  bb report newt --store features.bb\n  bb report newt --store {url}\n")


def test_a_folder_may_be_given_as_a_file_url(home, call, own_place):
    file = (own_place / "home.bb").as_uri()
    assert VIT in call("store", "ls", "--store", file)[1]
    assert probe(call, file, "2", "--ckpt", VIT)[0] == 0 and not (own_place / "file:").exists()
    status, _, err = call("store", "ls", "--store", "file://host/a.bb")
    assert status == 2 and "file://host/a.bb names a host: write file:///FOLDER, or a plain path." in err


def test_what_is_revoked_and_a_space_without_segments_are_shown_in_place(home, url, call):
    spaces = {home.backbones(space)[0]: space for space in home.spaces()}
    digest = home.segment_digests(spaces[VIT])[0]
    empty = next(space for name, space in spaces.items() if name == RESNET)
    shutil.rmtree(home.root / "spaces" / empty.key / "segments" / home.segment_digests(empty)[0])
    assert call("store", "keygen", "--name", "Lab A")[0] == 0
    assert call("store", "revoke", digest, "--reason", "wrong crop", "--store", "home.bb")[0] == 0
    note = f"note: rows of space {spaces[VIT].key[:12]} were revoked (`bb store info "
    assert note in call("report", "--store", "home.bb")[2]

    copy(home.root, open_place(f"{url}-later"))
    status, out, _ = call("store", "ls", "--store", f"{url}-later")
    assert status == 0 and f"segment {digest}: revoked by " in out and empty.key[:12] in out
    assert note in call("report", "--store", f"{url}-later")[2]
    status, out, _ = call("store", "push", "elsewhere.bb", "--store", "home.bb")
    assert status == 0 and "revoked by" in out and "claims to be" not in out


def test_a_collection_that_can_have_no_such_name_is_said_before_all_else(home, call):
    status, _, err = call("store", "push", "x.bb", "--store", "home.bb", "--data", "newt=/x")
    assert status == 2 and err.startswith("bb: 'newt=/x' can't name a collection")


def test_a_url_may_stand_in_bb_toml_and_in_the_environment(url, call, own_place, monkeypatch):
    (own_place / "bb.toml").write_text(f'store = "{url}"\ncache_size = "1GB"\n')
    assert VIT in call("store", "ls")[1]
    (own_place / "bb.toml").unlink()
    monkeypatch.setenv("BB_STORE", url)
    assert VIT in call("store", "ls")[1]
    monkeypatch.setenv("BB_CACHE_SIZE", "much")
    status, _, err = call("store", "ls")
    assert status == 2 and "a cache size of 'much' is none: write 500MB, 20GB or a number of bytes." in err
    monkeypatch.delenv("BB_CACHE_SIZE")
    assert f"{url}, read in place through" in call("doctor")[1]


def test_the_index_is_written_by_a_verb(home, url, call):
    status, out, _ = call("store", "index", url)
    assert status == 0 and out.startswith(f"{url}/index.json: ") and out.endswith(" files\n")
    assert call("store", "index", "--store", "home.bb")[1].startswith("home.bb/index.json: ")
    assert (home.root / "index.json").read_bytes() == open_place(url).read("index.json", 10**6)
    status, _, err = call("store", "index", "https://host.example/a.bb")
    assert status == 2 and "https://host.example/a.bb can only be read: run `bb store index` where the store's" in err
    status, _, err = call("store", "index", "nowhere")
    assert status == 1 and "found no store at nowhere: give its URL or folder." in err


def test_a_flipped_byte_is_named_and_ends_in_status_1(home, url, call):
    import obstore

    place = open_place(url)
    segment = home.segments(home.spaces()[0])[0]
    path = f"spaces/{home.spaces()[0].key}/segments/{segment.digest}/img_features/c/0/0"
    data = bytearray(place.read(path, 10**6))
    data[7] ^= 1
    obstore.put(place.writes, path, bytes(data))
    status, out, _ = call("store", "verify", "--store", url)
    assert status == 1 and f"{url}/{path} does not have the digest in its segment's manifest" in out
    status, _, err = probe(call, url, "2", "--space", home.spaces()[0].key)
    assert status == 1 and f"{path} does not have the digest in its segment's manifest" in err
