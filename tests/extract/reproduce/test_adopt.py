"""Older rows serve after a change of the code that a sample shows to be none; and what is told before the work."""

import dataclasses
import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import warnings

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from bb.extract import load_backbone
from bb.extract.backbones.feature_spaces import Spaces
from bb.extract.embedding.backbone import EncodedImgBatch
from bb.extract.embedding.pillow_decoder import Pillow
from bb.extract.embedding.simplejpeg_decoder import SimpleJpeg
from bb.extract.pipeline.embed import BackboneWork, EmbedPlan, embed
from bb.extract.reproduce.adopt import adopt, candidates, sample_order
from bb.extract.reproduce.sample import Images
from bb.probe.report.build import boards
from bb.store import BBError, Store, UsageError
from bb.store.files.canonical_json import canonical_json, sha256_hex
from bb.store.format.adopted import Adopted
from bb.store.format.tolerance import tolerance_of
from bb.store.maintenance.compact import compact
from bb.store.maintenance.diff import nearest
from bb.store.maintenance.gc import find_garbage
from bb.store.maintenance.verify import repair, verify
from tests.helpers.command_line import call, newt, own_place
from tests.helpers.photographs import ROOT
from tests.helpers.stores import features, fill, images, run_record, space
from tests.helpers.toys import Toy, extractor, look, make_images

__all__ = ["call", "newt", "own_place"]  # fixtures

VIT = "timm:test_vit/untrained"
BEFORE = ROOT / "tests" / "data" / "before"  # a store made when the hash was that of all of extract/, and its images
OLD, MID, NEW = "1" * 40, "2" * 40, "3" * 40


class Other(Toy):
    """The same weights, run by code that gives other features: all of them, or those of the patches alone."""

    def __init__(self, img=0.0, patch=0.0):
        super().__init__()
        self.img, self.patch = img, patch

    def img_encode(self, batch):
        quarters = nn.functional.avg_pool2d(batch, 4).flatten(2).transpose(1, 2)
        return EncodedImgBatch(quarters.flatten(1) + self.img, quarters + self.patch)

    forward = img_encode


def job(code, backbone=None, **options):
    """An extractor as it would be if extract/ had this tree hash."""
    made = extractor(backbone or Toy(), **options)
    patch = made.spaces.patch and dataclasses.replace(made.spaces.patch, code=code)
    return dataclasses.replace(made, spaces=Spaces(dataclasses.replace(made.spaces.img, code=code), patch))


def run(store, extracting, folder):
    found = look(folder)
    wanted = EmbedPlan.make(store, extracting.spaces, found.entries).wanted
    (outcome,), _ = embed(store, [BackboneWork(extracting, wanted)], "pics", found)
    return outcome


def at_hand(folder):
    return Images.of({"pics": look(folder)})


def trials(store, extracting, folder):
    return list(adopt(store, extracting, at_hand(folder)))


def rows(store, where, folder):
    found = at_hand(folder)
    index = store.rows(where)
    return np.array(index.gather(index.find(found.digests()), where.array))


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "s.bb")


@pytest.fixture
def pics(tmp_path):
    return make_images(tmp_path / "pics", 80)


def record(older, newer, **changes):
    """A record that two spaces are equal, in which things can be wrong."""
    made = Adopted(older.key, newer.key, (older.code, newer.code), ("a" * 64,), 0.0, 1e-3, {"device": "cpu"})
    return dataclasses.replace(made, **changes)


def lay(store, adopted, newer=None):
    """Puts a record in place unasked."""
    folder = store.root / "spaces" / (newer.key if newer else adopted.newer) / "adopted"
    folder.mkdir(exist_ok=True)
    (folder / f"{adopted.digest}.json").write_bytes(adopted.raw)
    return folder / f"{adopted.digest}.json"


# What is adopted


def test_equal_rows_serve_and_the_record_says_why(store, pics):
    run(store, job(OLD), pics)
    new = job(NEW)
    (trial,) = trials(store, new, pics)
    assert trial.adopted and (trial.compared, trial.differ, trial.fills) == (64, 0, 80)
    assert re.fullmatch(
        r"adopted: space \w{12} differs from \w{12} in the code alone; 64 images embedded again differ by 0 at most, "
        r"0.001 is allowed, so its rows serve for 80 images",
        trial.describe(),
    )
    older, newer = job(OLD).spaces.img, new.spaces.img
    assert EmbedPlan.make(store, new.spaces, look(pics).entries).wanted == []
    assert (rows(store, newer, pics) == rows(store, older, pics)).all()
    assert store.backbones(newer) == ["timm:toy/untrained"]
    assert store.segments(newer) == [] and len(store.rows(newer)) == 80

    (path,) = (store.root / "spaces" / newer.key / "adopted").iterdir()
    raw = path.read_bytes()
    content = json.loads(raw)
    assert path.name == f"{sha256_hex(raw)}.json" and raw == canonical_json(content)
    by_hash = sorted(at_hand(pics).entries, key=lambda digest: hashlib.sha256(digest).digest())
    assert content.pop("provenance").keys() == {"versions", "device", "made"}
    assert content == {
        "format": 1,
        "space": older.key,
        "for": newer.key,
        "codes": {"older": OLD, "newer": NEW},
        "sample": [digest.hex() for digest in by_hash[:64]],
        "greatest_difference": "0.0",
        "tolerance": "0.001",
    }
    assert verify(store).faults == [] and len(verify(store).adopted) == 1


def test_the_sample_hangs_on_no_order():
    digests = [bytes([i]) * 32 for i in range(9)]
    assert sample_order(digests) == sample_order(digests[::-1]) != digests


def test_other_features_are_not_adopted_but_computed(store, pics):
    run(store, job(OLD), pics)
    new = job(NEW, Other(img=0.1))
    (trial,) = trials(store, new, pics)
    assert not trial.adopted and trial.differ == 64
    assert re.search(
        r"not adopted: .* in the code alone; 64 of 64 images embedded again come out otherwise, by 0\.\d+ at most, "
        r"0.001 is allowed, so what is missing is computed",
        trial.describe(),
    )
    assert not (store.root / "spaces" / new.spaces.img.key).exists()
    assert run(store, new, pics).computed == 80


def test_a_difference_of_one_image_is_enough(store, tmp_path):
    folder = make_images(tmp_path / "few", 5)
    old, found = job(OLD), at_hand(folder)
    run(store, old, folder)
    x = rows(store, old.spaces.img, folder)
    x[3] += 0.1
    other = Store.create(tmp_path / "other.bb")
    other.put_segment(old.spaces.img, found.digests(), ["p/x"] * 5, x, {})
    (trial,) = trials(other, job(NEW), folder)
    assert (trial.compared, trial.differ, trial.adopted) == (5, 1, False)


def test_features_that_are_not_finite_are_not_equal(store, pics):
    run(store, job(OLD), pics)
    (trial,) = trials(store, job(NEW, Other(img=np.nan)), pics)
    assert trial.differ == 64 and trial.greatest == np.inf


def test_image_and_patch_features_are_adopted_each_for_itself(store, pics):
    run(store, job(OLD, patch=True), pics)
    new = job(NEW, Other(patch=0.1), patch=True)
    img, patch = trials(store, new, pics)
    assert img.adopted and not patch.adopted
    outcome = run(store, new, pics)
    assert outcome.computed == 80
    assert store.segments(new.spaces.img) == [] and len(store.segments(new.spaces.patch)) == 1


def test_a_space_that_differs_in_more_is_no_candidate(store, pics):
    run(store, job(OLD, store_dtype="float16"), pics)
    run(store, job(OLD, Toy(scale=2.0)), pics)
    assert candidates(store, job(NEW).spaces.img, at_hand(pics)) == []


def test_nothing_is_adopted_across_decoders(store, pics):
    """Their pixels differ by a grey level here and there, which the tolerance would let through."""
    run(store, job(OLD, decoder=Pillow()), pics)
    new = job(NEW, decoder=SimpleJpeg())
    assert candidates(store, new.spaces.img, at_hand(pics)) == []
    assert trials(store, new, pics) == []
    assert EmbedPlan.make(store, new.spaces, look(pics).entries).present == 0
    assert len(trials(store, job(NEW, decoder=Pillow()), pics)) == 1


def test_the_one_that_fills_most_comes_first_and_then_what_still_fills(store, tmp_path, pics):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(pics.iterdir())[:10]:
        shutil.copy(path, few)
    run(store, job(OLD), few)
    more = tmp_path / "more"
    more.mkdir()
    for path in sorted(pics.iterdir())[5:70]:
        shutil.copy(path, more)
    run(store, job(MID), more)
    done = trials(store, job(NEW), pics)
    assert [(trial.older.code, trial.fills, trial.compared) for trial in done] == [(MID, 65, 64), (OLD, 5, 10)]
    assert len(EmbedPlan.make(store, job(NEW).spaces, look(pics).entries).wanted) == 10
    run(store, job(NEW), pics)
    assert trials(store, job(NEW), pics) == [], "nothing is missing, so nothing is tried"


def test_images_that_cannot_be_embedded_are_left_out_of_the_sample(store, pics):
    run(store, job(OLD), pics)
    found = at_hand(pics)
    gone = [found.entries[key].image_id for key in sample_order(list(found.entries))[:20]]
    for image_id in gone:
        found.sources[image_id].path.write_bytes(b"changed")
    (trial,) = adopt(store, job(NEW), found)
    assert trial.adopted and trial.compared == 60
    for path in pics.iterdir():
        path.write_bytes(b"changed")
    trial = next(adopt(store, job(MID), found))
    assert not trial.adopted and "no image could be embedded again to compare them" in trial.describe()


def test_a_store_made_before_the_hash_was_that_of_embedding_serves_on(call, tmp_path):
    shutil.copytree(BEFORE / "store", tmp_path / "old.bb")
    old = {space.key: space for space in Store.open(tmp_path / "old.bb").spaces()}
    # A processor with other kernels draws other random weights: then that network's old rows are of another backbone.
    weights = {space.weights for space in old.values()}
    networks = [VIT, "timm:test_resnet/untrained", "open_clip:ViT-S-32-alt/untrained"]
    networks = [name for name in networks if load_backbone(name).spaces.img.weights in weights]
    if not networks:
        pytest.skip("this processor draws other random weights than the one that made the old store")
    words = [word for network in networks for word in ("--ckpt", network)]
    where = ["--data", f"awkward={BEFORE / 'images'}", "--store", tmp_path / "old.bb", "--json"]
    status, out, err = call("extract", *words, *where)
    assert status == 0 and err.count("12 images embedded again differ by") == len(networks)
    store = Store.open(tmp_path / "old.bb")
    (collection,) = store.collections("awkward")
    ids = collection.table["image_id"].to_list()
    for summary in json.loads(out):
        assert (summary["present"], summary["computed"], summary["failed"]) == (12, 0, {})
        ((older,), (newer,)) = summary["adopted"], summary["spaces"]
        assert older in old and newer not in old and store.segments(store.space(newer)) == []
        assert (store.read(store.space(newer), collection, ids) == store.read(old[older], collection, ids)).all()


# Which rows are read


def test_chains_serve_and_circles_end(store):
    a, b, c = (space(code=code) for code in (OLD, MID, NEW))
    x = features(a, 20)
    fill(store, a, images(20), x)
    for each in (b, c):
        store.put_space(each)
    store.put_adopted(record(a, b), b)
    store.put_adopted(record(b, c), c)
    store.put_adopted(record(c, a), a)
    assert [each.key for each in store.predecessors(c)] == sorted([a.key, b.key])
    ids = [f"{i:03d}.png" for i in range(20)]
    for each in (a, b, c):
        assert (np.array(store.read(each, images(20), ids)) == x).all()
        assert store.has(each, images(20).all_digests()).all()
    assert store.adopted_from(c, images(20).all_digests()) == [a.key]
    assert store.adopted_from(a, images(20).all_digests()) == []


def test_own_rows_win_then_the_lowest_key(store):
    spaces = [space(code=code) for code in (OLD, MID, NEW)]
    low, high = sorted(spaces[:2], key=lambda each: each.key)
    new, x = spaces[2], {}
    for which, (each, n) in enumerate(((high, 30), (low, 20), (new, 10))):
        x[each.key] = features(each, n, seed=which)
        fill(store, each, images(n), x[each.key])
    for each in (low, high):
        store.put_adopted(record(each, new), new)
    read = store.read(new, images(30), [f"{i:03d}.png" for i in range(30)])
    expected = np.concatenate([x[new.key], x[low.key][10:], x[high.key][20:]])
    assert (np.array(read) == expected).all()
    assert len(store.readable(new)) == 3 and len(store.segments(new)) == 1
    assert compact(store, new).merged == (), "rows are not merged over spaces"


BAD = {
    "another field": (dict(), "the spaces differ in numerics, code"),
    "other codes": (dict(codes=("9" * 40, NEW)), "it names other code hashes than the spaces have"),
    "too far": (dict(greatest_difference=0.01), "it says a difference of 0.01, 0.002 is allowed"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_believed_is_not_read_and_named(store, case):
    changes, said = BAD[case]
    compute = "bf16" if case == "another field" else "fp32"
    old, new = space(code=OLD, numerics={"compute": compute, "stored": "float16"}), space(code=NEW)
    fill(store, old, images(5), features(old, 5))
    store.put_space(new)
    bad = record(old, new, **changes)
    with pytest.raises(BBError, match=f"is not believed: {re.escape(said)}"):
        store.put_adopted(bad, new)
    path = lay(store, bad)
    assert not store.has(new, images(5).all_digests()).any() and store.predecessors(new) == []
    found = verify(store)
    (fault,) = found.faults
    assert said in fault.what and fault.bad == path and found.adopted == []
    repair(store, found)
    assert verify(store).faults == [] and (store.root / "aside" / path.relative_to(store.root)).exists()


MALFORMED = {
    "its name": (lambda d: d | {"_name": "0" * 64}, "it does not have the digest in its name"),
    "no JSON": (b"[]", "not a JSON object"),
    "format": (lambda d: d | {"format": 2}, "it has format 2, this bb reads 1"),
    "spaces": (lambda d: d | {"space": "../../x"}, "it names no two feature spaces"),
    "codes": (lambda d: d | {"codes": [1]}, "it names no two code hashes"),
    "sample": (lambda d: d | {"sample": []}, "its sample is not a list of image digests"),
    "number": (lambda d: d | {"greatest_difference": "nan"}, "it has 'nan' where a number must be"),
    "provenance": (lambda d: d | {"provenance": 1}, "it has no provenance"),
    "another space": (lambda d: d | {"for": "b" * 64}, f"is for space {'b' * 12}"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_records_are_named_and_not_read(store, case):
    change, said = MALFORMED[case]
    old, new = space(code=OLD), space(code=NEW)
    fill(store, old, images(5), features(old, 5))
    store.put_space(new)
    content = change if isinstance(change, bytes) else change(json.loads(record(old, new).raw))
    name = content.pop("_name", None) if isinstance(content, dict) else None
    raw = content if isinstance(content, bytes) else canonical_json(content)
    folder = store.root / "spaces" / new.key / "adopted"
    folder.mkdir()
    (folder / f"{name or sha256_hex(raw)}.json").write_bytes(raw)
    assert store.adopted(new) == []
    (fault,) = verify(store).faults
    assert said in fault.what


def test_a_record_behind_a_link_is_not_followed(store, tmp_path):
    old, new = space(code=OLD), space(code=NEW)
    fill(store, old, images(5), features(old, 5))
    store.put_space(new)
    path = lay(store, record(old, new))
    os.rename(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert store.adopted(new) == [] and "is a link" in verify(store).faults[0].what


def test_a_record_of_a_space_that_is_not_here_serves_nothing_and_is_no_fault(store):
    old, new = space(code=OLD), space(code=NEW)
    store.put_space(new)
    lay(store, record(old, new))
    assert store.predecessors(new) == [] and verify(store).faults == []
    assert verify(store).adopted[0].endswith("; the older one is not here")
    with pytest.raises(UsageError, match="names no feature space"):
        store.put_adopted(record(old, new), new)


def test_gc_keeps_what_a_referenced_space_adopted(store):
    a, b, c = (space(code=code) for code in (OLD, MID, NEW))
    fill(store, a, images(5), features(a, 5))
    for each in (b, c):
        store.put_space(each)
    store.put_adopted(record(a, b), b)
    store.put_adopted(record(b, c), c)
    assert {each.path.name for each in find_garbage(store, unreferenced=True)} == {a.key, b.key, c.key}
    table = pl.DataFrame({"task": ["t"], "image_id": ["a"], "y": [1]})
    store.put_run(run_record(space=b.key), table, table)
    assert {each.path.name for each in find_garbage(store, unreferenced=True)} == {c.key}


# The verbs


@pytest.fixture
def code(monkeypatch):
    """Makes bb believe that extract/ has another tree hash."""

    def pretend(digest):
        monkeypatch.setattr("bb.extract.backbones.feature_spaces.AT_START", digest)
        monkeypatch.setattr("bb.extract.backbones.feature_spaces.tree_hash", lambda: digest)

    return pretend


def test_adopting_is_said_everywhere(call, newt, code):
    data = ["--data", f"newt={newt}"]
    code(OLD)
    (first,) = json.loads(call("extract", "--ckpt", VIT, *data, "--json")[1])
    call("probe", "newt", "--n-train", "4", *data)
    code(NEW)
    status, out, err = call("extract", "--ckpt", VIT, *data)
    older = first["spaces"][0]
    assert status == 0 and f"{VIT}: adopted: space {older[:12]} differs from" in err
    assert "64 were there, 0 computed, 0 failed; space " in out and f"; rows adopted from space {older[:12]}" in out
    listed = {row["key"]: row for row in json.loads(call("store", "ls", "--json")[1])}
    (newer,) = listed.keys() - {older}
    assert (listed[newer]["rows"], listed[newer]["adopted_rows"], listed[newer]["segments"]) == (64, 64, 0)
    words = (
        f"space {newer[:12]} adopted space {older[:12]}, of other code: 64 images embedded again differ by 0 at most"
    )
    assert f"{words}, 0.001 is allowed; 64 rows of 64 are adopted" in call("store", "ls")[1]
    assert words in call("store", "info", newer)[1]
    assert words in call("store", "verify")[1] and call("store", "verify")[0] == 0
    assert words in call("store", "why", VIT)[1]
    assert words in json.loads(call("store", "why", VIT, "--json")[1])[0]["adopted"][0]

    status, out, err = call("probe", "newt", "--n-train", "2", "--ckpt", VIT, *data)
    assert status == 0 and newer[:12] in out and older[:12] not in out, "the older one is not chosen beside the newer"
    store = Store.open("features.bb")
    adopted = {run.record["space"]: run.record["adopted"] for run in store.runs()}
    assert adopted == {older: [], newer: [older]}
    (board,) = boards(store.runs(), "newt")
    assert any(note.startswith(f"{VIT}: rows of space {older[:12]}, of other code, serve in") for note in board.notes)
    assert f"note: {VIT}: rows of space {older[:12]}" in call("report")[2]
    run_id = next(run.run_id for run in store.runs() if run.record["space"] == newer)
    with warnings.catch_warnings():  # the script filters them
        recompute = runpy.run_path(str(ROOT / "scripts" / "recompute.py"))
    assert recompute["differing"]("features.bb", run_id) == (0, 32)


def test_pulling_a_space_brings_what_it_adopted(call, newt, code):
    data = ["--data", f"newt={newt}"]
    for digest in (OLD, NEW):
        code(digest)
        call("extract", "--ckpt", VIT, *data)
    store = Store.open("features.bb")
    (newer,) = [each for each in store.spaces() if each.code == NEW]
    assert call("store", "push", "there.bb")[0] == 0
    assert call("store", "pull", "there.bb", "--space", newer.key, "--store", "mine.bb")[0] == 0
    assert len(Store.open("mine.bb").rows(newer)) == 64
    assert len(Store.open("mine.bb").predecessors(newer)) == 1


def test_adopting_can_be_turned_off_and_no_try_adopts(call, newt, code):
    data = ["--data", f"newt={newt}"]
    code(OLD)
    call("extract", "--ckpt", VIT, *data)
    code(NEW)
    assert "5 computed" in call("extract", "--ckpt", VIT, *data, "--limit", 5)[1]
    status, out, err = call("extract", "--ckpt", VIT, *data, "--adopt", "never")
    assert status == 0 and "5 were there, 59 computed" in out and "adopted" not in out + err
    status, _, err = call("extract", "--ckpt", VIT, *data, "--adopt", "always")
    assert status == 2 and "--adopt always is unknown: choose auto or never." in err


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the code, to change."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("extract", "store", "probe"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "scripts" / "bb", folder / "scripts" / "bb", symlinks=True)
    return folder


def extract_with(tree, newt):
    env = {**os.environ, "PYTHONPATH": str(tree / "scripts")}
    command = [sys.executable, "-m", "bb", "extract", "--ckpt", VIT, "--data", f"newt={newt}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)[0], done.stderr


@pytest.mark.e2e
def test_a_comment_costs_a_sample_and_a_change_all(call, newt, tree):
    (first,) = json.loads(call("extract", "--ckpt", VIT, "--data", f"newt={newt}", "--json")[1])
    assert first["computed"] == 64
    view = tree / "extract" / "embedding" / "view.py"
    view.write_text(view.read_text() + "# A remark.\n")
    second, err = extract_with(tree, newt)
    assert (second["present"], second["computed"], second["adopted"]) == (64, 0, first["spaces"])
    assert second["spaces"] != first["spaces"] and "adopted: space" in err
    timm = tree / "extract" / "embedding" / "timm.py"
    text = timm.read_text()
    made = "EncodedImgBatch(self.network.forward_head("
    assert text.count(made) == 1
    timm.write_text(text.replace(made, made.replace("(self", "(0.1 + self")))
    third, err = extract_with(tree, newt)
    assert (third["present"], third["computed"], third["adopted"]) == (0, 64, [])
    assert err.count("not adopted: space") == 2 and "64 of 64 images embedded again come out otherwise, by 0." in err


# Dry runs


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_dry_run_makes_no_store_and_writes_nothing(call, newt, tmp_path):
    before = everything(tmp_path)
    status, out, _ = call("extract", "--ckpt", VIT, "--data", f"newt={newt}", "--dry-run")
    assert status == 0 and everything(tmp_path) == before
    assert (
        f"{VIT} on newt: 0 of 64 images are there, 64 to compute, 16.4 kB to store, nothing to download; space" in out
    )
    assert "and has no space of img features\nthis was a dry run: nothing was written\n" in out


def test_a_dry_run_names_the_nearest_space_and_what_adopting_would_try(call, newt, code, tmp_path):
    data = ["--data", f"newt={newt}"]
    code(OLD)
    (first,) = json.loads(call("extract", "--ckpt", VIT, *data, "--json")[1])
    assert (
        "64 of 64 images are there, 0 to compute, 0 B to store" in call("extract", "--ckpt", VIT, *data, "--dry-run")[1]
    )
    code(NEW)
    before = everything(tmp_path)
    status, out, _ = call("extract", "--ckpt", VIT, *data, "--dry-run", "--patch")
    assert status == 0 and everything(tmp_path) == before
    older = first["spaces"][0][:12]
    assert (
        f"the nearest is {older} ({VIT}), which differs in\n    code: differs, {NEW[:12]} against {OLD[:12]}\n" in out
    )
    assert "and has no space of patch features" in out
    assert re.search(
        rf"  space {older} differs from \w+ in the code alone: 64 images would be embedded again, to see whether its "
        r"rows serve for 64",
        out,
    )
    assert "embedded again" not in call("extract", "--ckpt", VIT, *data, "--dry-run", "--adopt", "never")[1]
    code(OLD)
    (told,) = json.loads(call("extract", "--ckpt", VIT, *data, "--dry-run", "--precision", "bf16", "--json")[1])
    assert (told["present"], told["missing"], told["download"], told["store_bytes"]) == (0, 64, 0, 64 * 64 * 2)
    assert told["nearest"][0]["differs"] == {"numerics": "compute bf16 against fp32, stored float16 against float32"}
    assert told["nearest"][0]["nearest"] == first["spaces"][0] and told["adopting"] == []


def test_a_dry_run_downloads_nothing(call, newt, monkeypatch):
    data = ["--data", f"newt={newt}"]
    call("extract", "--ckpt", VIT, *data)
    monkeypatch.setattr("bb.extract.dry_run.download_bytes", lambda name: 12_345_678)
    monkeypatch.setattr("bb.extract.dry_run.shared_name", lambda name: VIT)
    status, out, _ = call("extract", "--ckpt", "timm:resnet18.a1_in1k", *data, "--dry-run")
    assert status == 0 and "on newt: 12.3 MB of weights to download; they decide the feature space" in out
    assert "of this name the store has space" in out and "(img, fp32 stored as float32) with 64 of 64 images" in out
    monkeypatch.setattr("bb.extract.dry_run.download_bytes", lambda name: None)
    assert "weights of unknown size to download" in call("extract", "--ckpt", VIT, *data, "--dry-run")[1]


def test_the_nearest_space_has_the_same_weights_and_then_the_fewest_differences():
    wanted = space()
    weights, both = space(weights="5" * 64), space(code=OLD[:-1] + "0", view={"size": [9, 9]})
    code_alone = space(code="7" * 40)
    assert nearest(wanted, [weights, both, code_alone, space("patch")]).b == code_alone
    assert nearest(wanted, [weights, both]).b == both
    assert nearest(wanted, [weights]).differing.keys() == {"weights"}
    assert nearest(wanted, [space("patch")]) is None


def test_unknown_numerics_have_the_strictest_tolerance():
    assert tolerance_of(space()) == 2e-3
    assert tolerance_of(space(numerics={"compute": "fp8", "stored": "float16"})) == 1e-3
    assert torch.finfo(torch.bfloat16).eps < tolerance_of(space(numerics={"compute": "bf16", "stored": "float16"}))
