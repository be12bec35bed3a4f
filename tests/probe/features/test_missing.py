"""Images without features: named with the reason in every verb, and left out of a run where that is asked for."""

import json
import shutil

import polars as pl
import pytest

from bb.probe.features.missing import MissingPolicy, missing_from, same_images_of, settle_missing
from bb.probe.report.provenance import origin
from bb.store import BBError, Store, UsageError
from bb.store.local.failures import Failures, read_failures
from tests.helpers.command_line import RESNET, VIT, call, make_newt, own_place
from tests.helpers.shards import picture
from tests.helpers.stores import features, fill, images, space

__all__ = ["call", "own_place"]  # fixtures

CUT = "0-train-1-3"  # which is cut short


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder in NeWT's layout of which one file is cut short, and a store with all that could be embedded."""
    import bb.extract

    folder = tmp_path_factory.mktemp("missing")
    make_newt(folder / "newt")
    path = folder / "newt" / "newt2021_images" / f"{CUT}.jpg"
    path.write_bytes(path.read_bytes()[:300])
    store = Store.create(folder / "s.bb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BB_CACHE", str(folder / "cache"))
        bb.extract.run(store, [VIT, RESNET], {"newt": folder / "newt"})
    rows = [
        (f"{i}-{split}-{y}-{n}", f"{i}{y}") for i in "01" for split in ("train", "test") for y in "01" for n in range(8)
    ]
    pl.DataFrame(rows, schema=["image_id", "label"], orient="row").write_csv(folder / "labels.csv")
    return folder


@pytest.fixture
def place(made, own_place):
    for name in ("newt", "s.bb"):
        shutil.copytree(made / name, own_place / name)
    shutil.copy(made / "labels.csv", own_place)
    return own_place


def newt_probe(*options):
    return ("probe", "newt", "--data", "newt=newt", "--store", "s.bb", "--n-train", "4", *options)


def retrieval(*options):
    return ("probe", "retrieval", "--labels", "labels.csv", "--store", "s.bb", "--no-pairs", *options)


@pytest.mark.parametrize("probe", [newt_probe, retrieval])
def test_every_probe_names_the_image_and_the_way_on(place, call, probe):
    status, out, err = call(*probe())
    assert status in (1, 2) and not out
    assert "no feature space of s.bb has all 64 images of newt:" in err
    assert err.count(f"is missing 1: '{CUT}' (") == 2, "each space, with the decoder's reason"
    assert "Extracting the same files again fails again: replace them, then bb extract --ckpt timm:test_" in err
    assert "To go on without them: --missing skip --max-missing 0.016" in err
    status, _, err = call(*probe("--ckpt", VIT))
    assert status == 1 and f"{VIT} (space " in err and f"is missing 1: '{CUT}' (" in err and "--missing skip" in err


def test_newt_goes_on_without_them_says_and_records_it(place, call):
    status, _, err = call(*newt_probe("--missing", "skip"))
    assert status == 2 and "At most 0 may be left out, a share of 0.01; --max-missing 0.016 would do" in err
    status, out, err = call(*newt_probe("--missing", "skip", "--max-missing", "0.016"))
    assert status == 0 and f"note: 1 image left out, since it has no features: '{CUT}' (" in err
    assert out.count("timm:test_") == 2
    for run in Store.open("s.bb").runs():
        assert list(run.record["missing"]) == [CUT] and run.record["max_missing"] == 0.016
        (other,) = {space.key for space in Store.open("s.bb").spaces()} - {run.record["space"]}
        assert f"--missing skip --max-missing 0.016 --same-images-as {other}" in origin([run]).command
        assert run.record["notes"]["all tasks"][0].startswith("1 image left out")
        assert CUT not in run.train()["image_id"]
        assert run.predictions().height == 32
    status, out, err = call("report", "newt", "--store", "s.bb")
    assert status == 0 and "1 image left out" in err and "in a table of their own" in err


def test_retrieval_and_its_report_go_on_without_them(place, call):
    status, out, err = call(*retrieval("--missing", "skip", "--max-missing", "0.02"))
    assert status == 0 and "63 queries, 63 in the gallery" in out and "1 image left out" in err
    for run in Store.open("s.bb").runs():
        assert list(run.record["missing"]) == [CUT] and run.record["max_missing"] == 0.02
        assert run.record["same_images_as"] == others(run)
        assert CUT not in run.train()["image_id"]
    status, out, _ = call("report", "retrieval", "--labels", "labels.csv", "--store", "s.bb")
    assert status == 0 and "timm:test_" in out


def others(run):
    """The keys of the other feature spaces."""
    return sorted({each.key for each in Store.open("s.bb").spaces()} - {run.record["space"]})


def test_one_backbone_alone_is_scored_on_the_images_of_both_and_the_record_says_so(place, call):
    (other,) = {each.key for each in Store.open("s.bb").spaces() if VIT not in Store.open("s.bb").backbones(each)}
    same = ("--ckpt", VIT, "--missing", "skip", "--max-missing", "0.02", "--same-images-as", other[:12])
    assert call(*retrieval(*same))[0] == 0
    status, _, err = call(
        "probe", "classify", "--labels", "labels.csv", "--classifier", "ridge", "--store", "s.bb", *same
    )
    assert status == 0, err
    for run in (found := list(Store.open("s.bb").runs())):
        assert run.record["same_images_as"] == [other] and run.record["max_missing"] == 0.02
    assert len(found) == 2


def test_a_stored_key_that_is_none_does_not_reach_a_command():
    assert same_images_of({"same_images_as": ["a" * 64, "--force", 3, "b" * 63]}) == ["a" * 64]
    assert same_images_of({"same_images_as": "a" * 64}) == same_images_of({}) == []


def test_all_spaces_are_scored_on_the_same_images(tmp_path):
    store, everything = Store.create(tmp_path / "s.bb"), images(200)
    store.put_collection(everything)
    lacks = {"a": [3], "b": [5, 7], "c": []}
    spaces = []
    for name, absent in lacks.items():
        where = space(weights=name * 64)
        kept = [i for i in range(200) if i not in absent]
        fill(store, where, everything.__class__.from_entries("pics", [_entry(everything, i) for i in kept]),
             features(where, len(kept)), {"backbone": f"timm:{name}/untrained"})  # fmt: skip
        spaces.append(where)
    ids = everything.table["image_id"].to_list()
    skip = MissingPolicy(skip=True, at_most=0.015)
    assert list(settle_missing(store, spaces, everything, ids, skip)) == ["003.png", "005.png", "007.png"]
    assert settle_missing(store, spaces[2:], everything, ids, skip) == {}
    other = MissingPolicy(skip=True, at_most=0.015, same_as=(spaces[0].key[:12],))
    assert list(settle_missing(store, spaces[2:], everything, ids, other)) == ["003.png"]
    with pytest.raises(
        BBError,
        match="3 of 200 images of pics have no features.*(?s:.*)At most 2 may be left out, a share of 0.01; --ma",
    ):
        settle_missing(store, spaces, everything, ids, MissingPolicy(skip=True))
    with pytest.raises(BBError, match="At most 0 may be left out, a share of 0.004; --max-missing 0.005 would do"):
        settle_missing(store, spaces[:1], everything, ids, MissingPolicy(skip=True, at_most=0.004))
    with pytest.raises(
        BBError, match=r"is missing 1: '003.png' \(not extracted\)(?s:.*)To fill them: bb extract --ckpt timm:a"
    ):
        settle_missing(store, spaces[:1], everything, ids, MissingPolicy())
    beyond = missing_from(store, spaces[2], everything, [*ids, "z.png"])
    assert beyond == {"z.png": "not in the collection"}


def _entry(collection, i):
    from bb.store import Entry

    return Entry(*collection.table.row(i))


@pytest.mark.parametrize("n, share, allowed", [(8, 0.125, 1), (100, 0.01, 1), (99, 0.01, 0), (100, 0.29, 29)])
def test_the_bound(n, share, allowed):
    assert MissingPolicy(skip=True, at_most=share).allowed(n) == allowed
    assert MissingPolicy(skip=False, at_most=share).allowed(n) == 0


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("drop",), "unknown --missing 'drop': choose error or skip"),
        (("error", 0.1), "--max-missing says which images --missing skip leaves out: give --missing skip, too"),
        (("error", None, ["abc"]), "--same-images-as says which images"),
        (("skip", 1.5), "--max-missing 1.5 is not a share of the images: give a number between 0 and 1"),
        (("skip", float("nan")), "--max-missing nan is not a share"),
    ],
)
def test_bad_usage(arguments, said):
    with pytest.raises(UsageError, match=said):
        MissingPolicy.parse(*arguments)


def test_check_and_verify_name_them(place, call):
    status, out, _ = call("data", "check", "newt=newt", "--store", "s.bb")
    assert status == 1 and out.count(f"  {CUT}: ") == 1 and out.count(f" is missing 1: '{CUT}' (") == 2
    status, out, _ = call("store", "verify", "--store", "s.bb")
    assert status == 0 and out.count("note: of the 64 images of newt, timm:test_") == 2
    assert f"is missing 1: '{CUT}' (" in out


def test_a_file_that_was_replaced_is_missing_no_more(place, call):
    path = place / "newt" / "newt2021_images" / f"{CUT}.jpg"
    path.write_bytes(picture(5))
    status, out, _ = call("extract", "--ckpt", VIT, "--data", "newt=newt", "--store", "s.bb")
    assert status == 0 and "63 were there, 1 computed" in out
    status, out, err = call(*newt_probe("--ckpt", VIT))
    assert status == 0 and "versions of collection newt disagree; newt holds newt@" in err
    assert "missing" not in json.dumps(next(Store.open("s.bb").runs()).record["notes"])


def test_reasons_are_remembered_by_space_and_bounded(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    where, other = space(), space(weights="1" * 64)
    failed = {f"{i:064x}": "truncated" * 100 for i in range(5000)}
    store.put_failures("p", [where], Failures(failed, {"a.jpg": "can't be read: Permission denied"}))
    found = store.failures("p", where)
    assert found.failed.keys() == failed.keys() and all(len(reason) == 200 for reason in found.failed.values())
    assert found.reason("x.jpg", f"{7:064x}") and found.reason("a.jpg", None) == "can't be read: Permission denied"
    assert found.reason("a.jpg", "f" * 64) is None, "a file that can be read by now"
    assert not store.failures("p", other).failed and store.failures("p", other).unread
    assert not store.failures("q", other).unread
    for path in (tmp_path / "s.bb" / "local" / "failures").glob("*.json"):
        assert path.stat().st_size < 2**20
        path.write_bytes(path.read_bytes()[:100])
    assert read_failures(tmp_path / "s.bb", "p", [where.key]) == Failures()
