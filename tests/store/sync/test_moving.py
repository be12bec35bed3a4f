"""Push and pull between stores: what is copied, what is not, and what becomes of it when something goes wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import bb.console
from bb.store import BBError, Collection, Entry, Store, UsageError
from bb.store.files.canonical_json import canonical_json, sha256_hex
from bb.store.files.limits import MAX_HEAD_BYTES, MAX_JSON_BYTES
from bb.store.maintenance.compact import compact
from bb.store.maintenance.gc import find_garbage
from bb.store.maintenance.verify import verify
from bb.store.signing.statement import SignedItem, sign_items, sign_revocation
from bb.store.storage.local import Folder
from bb.store.storage.url import open_place
from bb.store.sync.plan import plan_pull, plan_push
from bb.store.sync.selection import Selection
from bb.store.sync.staging import landing
from bb.store.sync.transfer import pull, push
from tests.helpers.full_store import (
    KEY,
    NEWT,
    OLD,
    A,
    B,
    call,
    everything,
    here,
    labels_table,
    lay_named,
    segments,
    spread,
    store,
    template,
    tree,
)
from tests.helpers.hostile import OBJECTS, lay
from tests.helpers.servers import Fault, serving, static
from tests.helpers.stores import features, fill, images, put, run_record, space

__all__ = ["call", "here", "store", "template"]  # fixtures

EVERYTHING = Selection()


def parquet(table, path):
    table.write_parquet(path)
    return path.read_bytes()


@dataclass
class Wrapped:
    """A place with something wrong: `streams(path, pieces)` and `reads(path, data)` change what it says."""

    place: Folder
    streams: object = lambda path, pieces: pieces
    reads: object = lambda path, data: data
    streamed: list = field(default_factory=list)
    url: str = "test://place"
    writable: bool = True
    at_once: int = 1

    def list(self, prefix=""):
        return self.place.list(prefix)

    def read(self, path, most):
        return self.reads(path, self.place.read(path, most))

    def stream(self, path, start=0):
        self.streamed.append((path, start))
        return self.streams(path, self.place.stream(path, start))

    def publish(self, parcels):
        self.place.publish(parcels)

    def replace(self, path, data):
        self.place.replace(path, data)


def kinds(items):
    found = {}
    for item in items:
        found[item.part.kind] = found.get(item.part.kind, 0) + 1
    return found


def pulled(source, root, selection=EVERYTHING, **options):
    source = Folder(source) if isinstance(source, Path) else source
    return pull(plan_pull(source, root, selection, **options))


def clean(root):
    """Verified, and nothing under tmp/ but empty folders."""
    assert verify(Store.open(root)).faults == []
    assert [path for path in (root / "tmp").rglob("*") if path.is_file()] == []
    return True


def of_five_rows(store):
    """A segment with 60 bytes of features."""
    return next(s for s in segments(store.root) if (s / "img_features/c/0/0").stat().st_size == 60)


# The whole of a store


def test_there_and_back_is_the_same_to_the_last_bit(store, tmp_path, here):
    there = tmp_path / "there"
    plan = plan_push(store.root, Folder(there), EVERYTHING)
    heard = []
    outcome = push(plan, tick=heard.append)
    assert heard == sorted(heard) and heard[-1] == plan.n_bytes
    whole = {"root": 1, "space": 3, "segment": 9, "adopted": 1, "collection": 2, "labels": 1, "run": 2, "head": 1}
    assert kinds(outcome.copied) == {**whole, "signature": 1}
    assert outcome.faults == [] and outcome.n_bytes == plan.n_bytes == sum(map(len, tree(there).values()))
    back = pulled(there, here)
    assert back.faults == [] and back.n_bytes == plan.n_bytes
    assert tree(store.root) == tree(there) == tree(here)
    assert clean(here) and clean(there)


def test_a_second_time_there_is_nothing_to_do(store, here):
    pulled(store.root, here)
    before = everything(here)
    again = plan_pull(Folder(store.root), here, EVERYTHING)
    assert (again.items, again.there) == ([], 20)
    pull(again)
    push(plan_push(store.root, Folder(here), EVERYTHING))
    assert everything(here) == before


def test_what_came_since_is_copied_alone(store, here):
    pulled(store.root, here)
    fill(store, A, images(5, "more", "more"), features(A, 5))
    assert kinds(pulled(store.root, here).copied) == {"segment": 1}
    assert tree(store.root) == tree(here)


def test_what_is_of_this_machine_stays_on_it(store, tmp_path, monkeypatch):
    monkeypatch.setattr("bb.store.store.platform.node", lambda: "our-machine")
    monkeypatch.setattr("bb.store.store.getpass.getuser", lambda: "jane-doe")
    monkeypatch.setattr(sys, "argv", ["bb", f"{Path.home()}/photographs"])
    fill(store, A, images(5, "more", "more"), features(A, 5))
    table = pl.DataFrame({"task": ["t"], "image_id": ["a"], "y": [1]})
    store.put_run(run_record(run_id="c" * 64, space=A.key), table, table)
    (store.root / "tmp").mkdir(exist_ok=True)
    (store.root / "tmp" / "half").write_text("secret")
    (store.root / "aside").mkdir()
    (store.root / "aside" / "bad").write_text("secret")
    (store.root / "notes.txt").write_text("secret")
    private = [word.encode() for word in ("our-machine", "jane-doe", f"{Path.home()}/", str(tmp_path), "secret")]
    kept = b"".join(path.read_bytes() for path in (store.root / "local").iterdir())
    assert all(word in kept for word in private[:3])
    there = tmp_path / "there"
    push(plan_push(store.root, Folder(there), EVERYTHING))
    assert {path.name for path in there.iterdir()} >= {"spaces", "runs", "zarr.json"}
    assert not {path.name for path in there.iterdir()} & {"local", "aside", "notes.txt"}
    pushed = b"".join(path.read_bytes() for path in there.rglob("*") if path.is_file())
    assert [word for word in private if word in pushed] == []


# Filters


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(ckpts=("open_clip:*",)), {"space": 1, "segment": 2, "collection": 1, "run": 1}),
        (Selection(ckpts=("timm:tiny*",)),
         {"space": 2, "segment": 7, "adopted": 1, "collection": 2, "labels": 1, "run": 1}),
        (Selection(ckpts=("timm:old",)),
         {"space": 2, "segment": 7, "adopted": 1, "collection": 2, "labels": 1}),
        (Selection(spaces=(B.key[:6],)), {"space": 1, "segment": 2, "collection": 1, "run": 1}),
        (Selection(data=("newt",)),
         {"space": 2, "segment": 3, "adopted": 1, "collection": 1, "labels": 1, "run": 1}),
        (Selection(data=(f"newt@{NEWT.digest[:8]}",), ckpts=("timm:tiny/*",)),
         {"space": 2, "segment": 3, "adopted": 1, "collection": 1, "labels": 1, "run": 1}),
        (Selection(data=("newt", "pics")),
         {"space": 3, "segment": 9, "adopted": 1, "collection": 2, "labels": 1, "run": 2}),
        (Selection(runs=True), {"run": 2}),
        (Selection(runs=True, ckpts=("open_clip:*",)), {"run": 1}),
        (Selection(runs=True, data=("newt",)), {"run": 1}),
        (Selection(runs=True, spaces=(A.key,)), {"run": 1}),
        (Selection(task="newt", ckpts=("timm:tiny/untrained",)),
         {"space": 1, "segment": 2, "collection": 1, "labels": 1}),
        (Selection(task="newt", data=("pics",), image_ids=("000.png", "001.png"), spaces=(A.key,)),
         {"space": 1, "segment": 1, "collection": 1}),
    ],
)  # fmt: skip
def test_filters(store, here, tmp_path, selection, expected):
    outcome = pulled(store.root, here, selection)
    assert kinds(outcome.copied) == {"root": 1, "signature": 1, **expected}
    assert outcome.faults == [] and clean(here)
    pushed = push(plan_push(store.root, Folder(tmp_path / "there"), selection))
    assert kinds(pushed.copied) == kinds(outcome.copied)
    assert tree(here) == tree(tmp_path / "there")
    assert all(tree(store.root)[path] == data for path, data in tree(here).items())


def test_a_probe_reads_the_same_rows_as_at_home(store, here):
    """Rows in several segments: the one that readers take there is the one that comes."""
    spread(store, A, NEWT, features(A, 12, seed=7), 3, "timm:tiny/untrained")
    ids = NEWT.table["image_id"].to_list()
    pulled(store.root, here, Selection(task="newt", ckpts=("timm:tiny*",)))
    assert len(segments(here)) < 5
    at_home, away = (Store.open(root).read(A, NEWT, ids) for root in (store.root, here))
    assert np.array_equal(at_home, away)


def test_of_a_probe_come_older_rows_where_the_space_lacks_them(store, here):
    for segment in segments(store.root):
        shutil.rmtree(segment)
    outcome = pulled(store.root, here, Selection(task="newt", spaces=(A.key,)))
    assert [item.part.owner for item in outcome.copied if item.part.kind == "segment"] == [OLD.key]
    assert {item.part.digest for item in outcome.copied if item.part.kind == "space"} == {A.key, OLD.key}


def test_a_probe_of_rows_that_are_not_all_there_is_told(store, here):
    shutil.rmtree(segments(store.root, OLD)[0])
    held = [s for s in Store.open(store.root).segments(A) if "newt/" in str(s.array("image_id")[0])]
    shutil.rmtree(held[0].folder)
    plan = plan_pull(Folder(store.root), here, Selection(task="newt", spaces=(A.key,)))
    assert plan.notes == [f"space {A.key[:12]} is missing 6 of 12 images"]


@pytest.mark.parametrize(
    ("selection", "says"),
    [
        (Selection(ckpts=("timm:nothing",)), "no backbone in .* is what was asked for: --ckpt timm:nothing; there:"),
        (Selection(spaces=("ffff",)), "no feature space .* asked for: --space ffff; there: space \\w{12}, space"),
        (Selection(data=("cats",)), r"has no collection cats \(there: newt, pics\)"),
        (Selection(data=("newt@ffff",)), r"has no collection newt@ffff \(there: newt@\w{12}\)"),
        (Selection(data=("../x",)), "can't name a collection"),
        (Selection(task="newt", data=("newt", "pics")), "--for newt is of one collection, --data gives 2"),
        (Selection(task="newt", ckpts=("open_clip:*",)), "no feature space in .* has rows of newt for what was asked"),
        (Selection(runs=True, ckpts=("timm:old",)), "no run in .* is of what was asked for: --ckpt timm:old"),
    ],
)  # fmt: skip
def test_a_filter_that_finds_nothing_says_what_there_is(store, here, selection, says):
    with pytest.raises(UsageError, match=says):
        plan_pull(Folder(store.root), here, selection)
    assert not here.exists()


def test_labels_of_images_that_the_collection_lacks(store, here):
    with pytest.raises(BBError, match="is missing 1 of 2 images: cat.png"):
        plan_pull(Folder(store.root), here, Selection(task="newt", image_ids=("newt-0", "cat.png")))


def test_labels_of_several_versions_of_the_collection_come_all(store, here):
    """No version has the images of all tables, so each table counts by itself."""
    ids = NEWT.table["image_id"].to_list()
    part = [Entry(i, d.tobytes(), 1, 8, 8) for i, d in zip(ids, NEWT.all_digests(), strict=True)][4:]
    store.put_collection(Collection.from_entries("newt", [*part, Entry("cat", b"c" * 32, 1, 8, 8)]))
    store.put_labels("newt", labels_table([*ids[4:], "cat"]), collection="newt", licence="MIT")
    outcome = pulled(store.root, here, Selection(task="newt"))
    assert kinds(outcome.copied)["labels"] == kinds(outcome.copied)["collection"] == 2
    local = Store.open(here)
    np.testing.assert_array_equal(local.read(A, NEWT, ids), store.read(A, NEWT, ids))


def test_labels_that_no_probe_could_read_do_not_come(store, here):
    """One of them would be in the way of all others of the family."""
    table = labels_table(NEWT.table["image_id"].to_list())
    lay_named(store.root, "labels/newt", parquet(table, here.parent / "x.parquet"), ".parquet")
    outcome = pulled(store.root, here)
    assert [left.part.kind for left in outcome.faults] == ["labels"] and "it has the columns" in outcome.faults[0].why
    assert len(Store.open(here).labels("newt")) == 1


# What need not be copied


def test_a_segment_whose_rows_are_all_here_is_passed_over(store, here):
    pulled(store.root, here)
    compact(Store.open(store.root), A)
    ((merged,),) = [segments(store.root)]
    plan = plan_pull(Folder(store.root), here, EVERYTHING)
    assert [(left.part.digest, left.why) for left in plan.passed_over] == [(merged.name, "all its rows are here")]
    assert plan.items == []
    assert kinds(pulled(store.root, here, replicates=True).copied) == {"segment": 1}
    assert len(segments(here)) == 7 and clean(here)


def test_a_damaged_segment_here_counts_for_no_rows(store, here):
    pulled(store.root, here)
    compact(Store.open(store.root), A)
    for segment in segments(here):
        (segment / "image_sha256/c/0/0").write_bytes(b"")
    assert kinds(pulled(store.root, here).copied) == {"segment": 1}


def test_what_is_revoked_is_passed_over_and_a_replicate_takes_its_place(store, here):
    (again,) = spread(store, A, NEWT, features(A, 12, seed=7), 1, "timm:tiny/untrained")
    probe = Selection(task="newt", spaces=(A.key,))
    first = {i.part for i in plan_pull(Folder(store.root), here, probe).items if i.part.kind == "segment"}
    if again.name in {part.digest for part in first}:
        first = {part for part in first if part.digest == again.name}
    lay_named(store.root, "signatures", sign_revocation(KEY, [part.digest for part in first], "wrong"), ".json")
    plan = plan_pull(Folder(store.root), here, probe, trusted={KEY.public})
    assert {left.part for left in plan.passed_over} == first and "wrong" in plan.passed_over[0].why
    assert not first & {item.part for item in pull(plan).copied}
    Store.open(here).read(A, NEWT, NEWT.table["image_id"].to_list())
    pushed = plan_push(store.root, Folder(here.parent / "x"), EVERYTHING, trusted={KEY.public})
    assert {left.part for left in pushed.passed_over} == first


def test_rows_that_are_revoked_here_are_not_counted_as_here(store, here):
    pulled(store.root, here)
    old = segments(here, OLD)[0]
    (again,) = spread(store, OLD, NEWT, features(OLD, 12, seed=8), 1, "timm:old")
    assert [left.part.digest for left in plan_pull(Folder(store.root), here, EVERYTHING).passed_over] == [again.name]
    lay_named(store.root, "signatures", sign_revocation(KEY, [old.name], "wrong"), ".json")
    plan = plan_pull(Folder(store.root), here, EVERYTHING, trusted={KEY.public})
    assert {item.part.digest for item in plan.items if item.part.kind == "segment"} == {again.name}


def test_only_what_is_signed_where_that_is_asked_for(store, here, call):
    signed = [
        SignedItem("segment", A.key, segments(store.root)[0].name),
        SignedItem("segment", A.key, segments(store.root)[1].name),
    ]
    lay_named(store.root, "signatures", sign_items(KEY, signed), ".json")
    plan = plan_pull(Folder(store.root), here, EVERYTHING, trusted={KEY.public}, require_signed=True)
    assert {item.part.digest for item in plan.items if item.part.kind == "segment"} == {item.digest for item in signed}
    assert kinds(plan.items) == {"root": 1, "space": 1, "segment": 2, "head": 1, "signature": 2}
    assert "not signed by a key that you trust" in plan.passed_over[0].why
    assert pull(plan).faults == [] and clean(here)
    with pytest.raises(UsageError, match=r"no backbone in .*; 2 segments are refused: not signed by a key"):
        plan_pull(Folder(store.root), here, Selection(ckpts=("open_clip:*",), spaces=(B.key,)),
                  trusted={KEY.public}, require_signed=True)  # fmt: skip
    status, _, err = call("pull", store.root, "--store", here, "--require-signed")
    assert status == 2 and "keys have signed that you trust, and you trust none: `bb store trust KEY` with a" in err


def test_the_verb_takes_what_a_trusted_key_has_signed(store, here, call):
    assert call("trust", KEY.public, "--name", "Lab A")[0] == 0
    status, out, _ = call("pull", store.root, "--store", here, "--require-signed")
    assert (
        status == 0 and "passed over, not signed by a key that you trust" in out and out.count("\n3 parts copied") == 1
    )
    lay_named(store.root, "signatures", b"{}", ".json")
    status, out, _ = call("pull", store.root, "--store", here)
    assert status == 1 and f"left out: signatures/{sha256_hex(b'{}')}.json: damaged or forged" in out


# Sources that lie


def forged(store, change, path="zarr.json"):
    """A segment of four rows whose objects a forger changed, digests mended; its folder."""

    objects = dict(OBJECTS[False])
    objects[path] = change(objects[path])
    return lay(store.root, objects, sealed=True)


def hostile_cases():
    def manifest(change):
        def changed(raw):
            value = json.loads(raw)
            change(value["attributes"]["bb"])
            return canonical_json(value)

        return changed

    yield "rows", manifest(lambda bb: bb.update(rows=10**9)), "it claims 1000000000 rows"
    yield "space", manifest(lambda bb: bb.update(space="0" * 64)), "it belongs to feature space 000000000000"
    yield "format", manifest(lambda bb: bb.update(format=2)), "it has format 2"
    yield "more", manifest(lambda bb: bb["objects"].update({"../../x": [1, "0" * 64]})), "lists"
    yield "absolute", manifest(lambda bb: bb["objects"].update({"/etc/passwd": [1, "0" * 64]})), "lists"
    yield "nested", lambda raw: b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "its zarr.json"
    yield "no json", lambda raw: b"\x00" * 50, "its zarr.json is not a JSON object"


@pytest.mark.parametrize(
    ("change", "says"), [case[1:] for case in hostile_cases()], ids=[c[0] for c in hostile_cases()]
)
def test_a_forged_manifest_is_left_out_and_the_rest_comes(store, here, change, says):
    folder = forged(store, change)
    plan = plan_pull(Folder(store.root), here, EVERYTHING)
    ((bad, why),) = [(left.part.digest, left.why) for left in plan.faults]
    assert bad == folder.name and says in why
    outcome = pull(plan)
    assert kinds(outcome.copied)["segment"] == 9 and outcome.faults == [] and clean(here)


def test_a_manifest_of_other_sizes_than_the_files(store, here):
    folder = of_five_rows(store)
    with open(folder / "img_features/c/0/0", "ab") as file:
        file.write(b"x" * 100)
    plan = plan_pull(Folder(store.root), here, EVERYTHING)
    assert [left.why for left in plan.faults] == ["its img_features/c/0/0 has 160 bytes, its manifest says 60"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "does not have the digest by which it is named"),
        (lambda data: data + b"x", "holds more than the 60 bytes that it should"),
        (lambda data: data * 1000, "holds more than the 60 bytes that it should"),
        (lambda data: data[:-1], "holds 59 of the 60 bytes that it should"),
        (lambda data: b"", "holds 0 of the 60 bytes that it should"),
    ],
)
def test_bytes_that_are_not_the_object(store, here, change, says):
    bad = of_five_rows(store).name

    def streams(path, pieces):
        data = b"".join(pieces)
        yield change(data) if bad in path and path.endswith("img_features/c/0/0") else data

    outcome = pulled(Wrapped(Folder(store.root), streams), here)
    assert [left.part.digest for left in outcome.faults] == [bad] and says in outcome.faults[0].why
    assert len(outcome.copied) == 20 and verify(Store.open(here)).faults == []
    again = pulled(Folder(store.root), here)
    assert kinds(again.copied) == {"segment": 1} and tree(here) == tree(store.root) and clean(here)


def test_an_array_that_no_reader_could_read_does_not_come(store, here):
    forged(store, lambda raw: raw.replace(b'"uint8"', b'"int64"'), "image_sha256/zarr.json")
    outcome = pulled(store.root, here)
    (left,) = outcome.faults
    assert "its image_sha256 has data_type 'int64'" in left.why and clean(here)


def test_names_that_no_store_has_are_passed_over(store, here):
    plain = tree(store.root)
    names = ["spaces/x/zarr.json", "collections/.hid/" + "0" * 64 + ".parquet", "runs/a/b/run.json", "heads/x.py", "x"]
    for name in names:
        file = store.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"{}")

    listed = Wrapped(Folder(store.root))
    nasty = ["../evil", "/etc/passwd", "spaces/../../evil", "collections/../" + "0" * 64 + ".parquet", "a" * 10_000]
    listed.list = lambda prefix="": [*Folder(store.root).list(prefix), *((name, 1) for name in nasty)]
    outcome = pulled(listed, here)
    assert outcome.faults == [] and tree(here) == plain
    assert not (here.parent / "evil").exists() and not (here / "heads/x.py").exists()


def test_links_in_a_source_are_not_followed(store, here, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"private")
    (store.root / "heads" / f"{sha256_hex(b'private')}.safetensors").symlink_to(secret)
    folder = segments(store.root)[0]
    (folder / "img_features/c/0/0").rename(tmp_path / "chunk")
    (folder / "img_features/c/0/0").symlink_to(tmp_path / "chunk")
    shutil.move(store.root / "collections", tmp_path / "elsewhere")
    (store.root / "collections").symlink_to(tmp_path / "elsewhere")
    plan = plan_pull(Folder(store.root), here, EVERYTHING)
    outcome = pull(plan)
    assert [left.part.digest for left in outcome.faults] == [folder.name]
    assert "collection" not in kinds(outcome.copied) and kinds(outcome.copied)["head"] == 1
    with pytest.raises(FileNotFoundError):
        Folder(store.root).read("heads/" + sha256_hex(b"private") + ".safetensors", 100)
    assert list(Folder(store.root).list("collections")) == []


def test_small_files_are_held_against_their_names(store, here):
    for pattern in ("collections/pics/*", "labels/newt/*", "heads/*", "signatures/*", "spaces/*/adopted/*"):
        (file,) = store.root.glob(pattern)
        file.write_bytes(file.read_bytes() + b"x")
    (run,) = store.root.glob(f"runs/{'a' * 64}/*/run.json")
    run.write_bytes(run.read_bytes() + b" ")
    (train,) = store.root.glob(f"runs/{'b' * 64}/*/train.parquet")
    train.write_bytes(b"")
    outcome = pulled(store.root, here)
    assert sorted(left.part.kind for left in outcome.faults) == [
        "adopted", "collection", "head", "labels", "run", "run", "signature",
    ]  # fmt: skip
    assert all("digest" in left.why for left in outcome.faults), outcome.faults
    assert clean(here)


def test_a_space_whose_fields_are_of_another_key(store, here):
    file = store.root / "spaces" / B.key / "zarr.json"
    file.write_bytes((store.root / "spaces" / A.key / "zarr.json").read_bytes())
    plan = plan_pull(Folder(store.root), here, EVERYTHING)
    assert [(left.part.digest, left.why) for left in plan.faults] == [(B.key, f"its fields have the key {A.key}")]
    outcome = pull(plan)
    assert kinds(outcome.copied)["segment"] == 7 and not (here / "spaces" / B.key).exists()


def test_a_table_of_the_right_digest_that_is_none(store, here):
    lay_named(store.root, "collections/pics", b"PAR1 and no more", ".parquet")
    lay_named(store.root, "labels/newt", b"PAR1 and no more", ".parquet")
    outcome = pulled(store.root, here)
    assert sorted(left.part.kind for left in outcome.faults) == ["collection", "labels"]
    assert Store.open(here).collections("pics") and clean(here)


def test_huge_metadata_is_not_read(store, here):
    digest = "1" * 64
    for path in (f"spaces/{A.key}/segments/{digest}/zarr.json", f"spaces/{digest}/zarr.json"):
        (store.root / path).parent.mkdir(parents=True)
        with open(store.root / path, "wb") as file:
            file.truncate(MAX_JSON_BYTES + 1)
    with open(store.root / "heads" / f"{digest}.safetensors", "wb") as file:
        file.truncate(MAX_HEAD_BYTES + 1)
    source = Wrapped(Folder(store.root))
    source.reads = lambda path, data: data if digest not in path else pytest.fail(f"{path} was read")
    plan = plan_pull(source, here, EVERYTHING)
    assert sorted(left.why for left in plan.faults) == [
        f"its {digest}.safetensors has {MAX_HEAD_BYTES + 1} bytes, {MAX_HEAD_BYTES} can be",
        *[f"its zarr.json has {MAX_JSON_BYTES + 1} bytes, {MAX_JSON_BYTES} can be"] * 2,
    ]


# Places


def test_what_is_no_store_is_neither_pulled_nor_pushed_into(store, here, tmp_path):
    with pytest.raises(BBError, match=f"found no store at {here}: name the folder or prefix"):
        plan_pull(Folder(here), tmp_path / "x", EVERYTHING)
    (here / "holiday").mkdir(parents=True)
    (here / "holiday" / "1.jpg").write_bytes(b"")
    with pytest.raises(BBError, match="holds 'holiday/1.jpg' and is not a bb store: name a new or empty place"):
        plan_push(store.root, Folder(here), EVERYTHING)
    with pytest.raises(BBError, match="holds 'holiday/1.jpg' and is not a bb store"):
        plan_pull(Folder(store.root), here, EVERYTHING)
    (here / "zarr.json").write_text("{}")
    with pytest.raises(BBError, match="is not a bb store"):
        plan_push(store.root, Folder(here), EVERYTHING)
    (here / "zarr.json").write_text('{"attributes": {"bb": {"format": 2}}}')
    with pytest.raises(BBError, match="has store format 2, this bb reads 1: install a bb that knows it"):
        plan_pull(Folder(here), tmp_path / "x", EVERYTHING)
    with pytest.raises(BBError, match="is not a folder: name one"):
        plan_push(store.root, Folder(here / "zarr.json"), EVERYTHING)
    assert not (tmp_path / "x").exists()


def test_what_can_only_be_read_is_not_pushed_to(store, here):
    with pytest.raises(UsageError, match="can only be read: push to a folder"):
        plan_push(store.root, Wrapped(Folder(here), writable=False), EVERYTHING)


def test_a_damaged_segment_is_named_and_not_pushed(store, here):
    bad, cut = segments(store.root)[:2]
    chunk = bad / "img_features/c/0/0"
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
    (cut / "image_id/c/0").unlink()
    outcome = push(plan_push(store.root, Folder(here), EVERYTHING))
    says = {left.part.digest: left.why for left in outcome.faults}
    assert says[bad.name] == "its img_features/c/0/0 does not have the digest by which it is named"
    assert says[cut.name] == "its image_id/c/0 is missing"
    assert len(says) == 2 and len(segments(here)) == 4 and clean(here)


def test_of_a_half_pushed_segment_only_what_lacks_is_sent(store, here):
    folder = segments(store.root)[0]
    half = here / folder.relative_to(store.root)
    shutil.copytree(folder, half)
    (half / "zarr.json").unlink()
    (half / "img_features/c/0/0").write_bytes(b"wrong size")
    sent = []

    class Keeping(Wrapped):
        def publish(self, parcels):
            sent.extend(sorted(parcel.files) for parcel in parcels if parcel.part.digest == folder.name)

    push(plan_push(store.root, Keeping(Folder(here)), EVERYTHING))
    assert sent == [["img_features/c/0/0", "zarr.json"]]
    push(plan_push(store.root, Folder(here), EVERYTHING))
    assert tree(store.root) == tree(here)


def test_several_parcels_go_at_once_where_a_place_likes_it(store, here):
    batches = []

    class Batching(Wrapped):
        def publish(self, parcels):
            batches.append(len(parcels))
            super().publish(parcels)

    outcome = push(plan_push(store.root, Batching(Folder(here), at_once=5), EVERYTHING))
    assert len(outcome.copied) == 21 and sorted(batches) == [1, 2, 3, 5, 5, 5]
    assert tree(store.root) == tree(here)


def test_a_place_that_can_not_be_reached_ends_it(store, here):
    def down(path, pieces):
        raise BBError("test://place can't be reached: try later.")
        yield

    with pytest.raises(BBError, match="can't be reached: try later"):
        pulled(Wrapped(Folder(store.root), down), here)


# Cut off


def test_half_an_object_is_continued_where_it_broke(store, here):
    big = put(store, A, np.ones((3000, 6), np.float16), images(3000, salt="big").all_digests())

    def cut(path, pieces):
        if "segments" not in path or not path.endswith("c/0/0") or "features" not in path or big.name not in path:
            yield from pieces
            return
        yield next(pieces)[:10_000]
        raise BBError("cut")

    outcome = pulled(Wrapped(Folder(store.root), cut), here)
    assert [(left.part.digest, left.why) for left in outcome.faults] == [(big.name, "cut")]
    source = Wrapped(Folder(store.root))
    plan = plan_pull(source, here, EVERYTHING)
    assert [item.part.digest for item in plan.items] == [big.name]
    ticks = []
    pull(plan, tick=ticks.append)
    name = big.relative_to(store.root).as_posix()
    assert (f"{name}/img_features/c/0/0", 10_000) in source.streamed
    assert f"{name}/image_sha256/c/0/0" not in [path for path, _ in source.streamed]
    assert ticks[-1] == plan.n_bytes and tree(here) == tree(store.root) and clean(here)


def test_a_half_object_that_is_wrong_is_fetched_anew(store, here):
    folder = segments(store.root)[0]
    plan = plan_pull(Folder(store.root), here, EVERYTHING)
    pull(plan_pull(Folder(store.root), here, Selection(runs=True)))
    half = here / "tmp" / "pull" / folder.name / folder.name / "img_features/c/0/0"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"\0" * 30)
    outcome = pull(plan)
    assert outcome.faults == [] and tree(here) == tree(store.root) and clean(here)


def test_two_pulls_at_once_do_not_meet(store, here):
    digest = segments(store.root)[0].name
    with landing(here, digest) as first, landing(here, digest) as second:
        assert first != second and first.name == second.name == digest
        (first / "x").write_bytes(b"")
        assert list(second.iterdir()) == []
    assert list((here / "tmp" / "pull").iterdir()) == []


def test_gc_looks_at_each_remain_of_a_pull_by_itself(store):
    old, new = ((store.root / "tmp" / "pull" / name / name / "x") for name in ("a" * 64, "b" * 64))
    for file in (old, new):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"123")
    for path in (old, old.parent, old.parent.parent):
        os.utime(path, (0, 0))
    assert [garbage.path for garbage in find_garbage(store)] == [store.root / "tmp" / "pull" / ("a" * 64)]


def test_stopping_keeps_what_came(store, here):
    stop = threading.Event()

    def streams(path, pieces):
        for piece in pieces:
            if "runs/" in path:
                stop.set()
            yield piece

    outcome = pull(plan_pull(Wrapped(Folder(store.root), streams), here, EVERYTHING), stop=stop, jobs=1)
    assert outcome.stopped and 4 <= len(outcome.copied) < 20 and outcome.faults == []
    assert verify(Store.open(here)).faults == []
    stop.clear()
    pushed = push(plan_push(store.root, Folder(here.parent / "c.bb"), EVERYTHING), stop=stop)
    assert not pushed.stopped
    pulled(store.root, here)
    assert tree(here) == tree(store.root)


def test_what_vanishes_meanwhile_is_left_to_the_next_time(store, here):
    plan = plan_pull(Folder(store.root), here, EVERYTHING)
    compact(Store.open(store.root), A)
    outcome = pull(plan)
    assert len(outcome.faults) == 6
    assert {left.why for left in outcome.faults} == {
        "it is no longer there; what took its place comes with the next time"
    }
    assert kinds(pulled(store.root, here).copied) == {"segment": 1} and clean(here)


def test_a_run_that_the_listing_saw_half(store, here):
    """A listing page by page may have the marker of what was just published, and not its other files."""
    source = Wrapped(Folder(store.root))
    source.list = lambda prefix="": (
        found for found in Folder(store.root).list(prefix) if prefix or not found.path.endswith("train.parquet")
    )
    assert pulled(source, here).faults == [] and tree(here) == tree(store.root)
    for table in store.root.glob("runs/*/*/train.parquet"):
        table.unlink()
    plan = plan_pull(Folder(store.root), here.parent / "c.bb", EVERYTHING)
    assert [left.why for left in plan.faults] == ["its train.parquet is missing"] * 2


# In processes of their own


def size_now(root):
    """Bytes in a folder that another process changes."""
    return int(subprocess.run(["du", "-sb", root], capture_output=True, text=True).stdout.split("\t")[0] or 0)


def command(*arguments):
    return [sys.executable, "-c", "import bb; bb.main()", "store", *map(str, arguments)]


@pytest.fixture
def large(tmp_path):
    """A store of 40 MB."""
    made = Store.create(tmp_path / "large.bb")
    where = space(output={"kind": "img", "pooling": "cls", "dim": 1024})
    for i in range(10):
        put(made, where, features(where, 2000, seed=i), images(2000, salt=str(i)).all_digests())
    return made


@pytest.mark.e2e
def test_a_pull_that_is_killed_goes_on(large, here):
    for after in (1, 8_000_000, 20_000_000):
        process = subprocess.Popen(command("pull", large.root, "--store", here, "--jobs", 2), stderr=subprocess.PIPE)
        while process.poll() is None:
            if size_now(here) > after:
                process.send_signal(signal.SIGKILL)
                break
        process.communicate()
        assert not here.exists() or not (here / "zarr.json").exists() or verify(Store.open(here)).faults == []
    done = subprocess.run(command("pull", large.root, "--store", here), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert tree(here) == tree(large.root)
    # Killed after the rename, a pull leaves its folder, without content: nobody comes back to it but gc.
    assert [path for path in here.glob("tmp/pull/**/*") if path.is_file() and path.name != "lock"] == []


@pytest.mark.e2e
def test_two_pushes_to_one_place_at_once(large, here):
    both = [subprocess.Popen(command("push", here, "--store", large.root), stderr=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate()[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert tree(here) == tree(large.root) and clean(here)


@pytest.mark.e2e
def test_ctrl_c_ends_it_and_the_same_command_goes_on(large, here):
    process = subprocess.Popen(command("pull", large.root, "--store", here, "--jobs", 1), stderr=subprocess.PIPE)
    while process.poll() is None and not list(here.rglob("0")):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1].decode()
    assert "Traceback" not in said
    if process.returncode:
        assert "stopped: the same command goes on from there" in said
    assert subprocess.run(command("pull", large.root, "--store", here)).returncode == 0
    assert tree(here) == tree(large.root) and clean(here)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", disk], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)  # a caught error's frames may still hold a map of a file


def test_a_disk_too_small_is_said_before_anything_comes(large, small_disk):
    with pytest.raises(BBError, match=r"41,[\d,]+ bytes are to be pulled, the disk of .* has 25,[\d,]+ free: free"):
        plan_pull(Folder(large.root), small_disk / "b.bb", EVERYTHING)
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_leaves_what_is_whole(store, large, small_disk):
    put(store, A, np.ones((50_000, 6), np.float16), images(50_000, salt="big").all_digests())
    here = small_disk / "b.bb"
    plan = plan_pull(Folder(store.root), here, EVERYTHING)
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (24 * 2**20 - 2**20))
    with pytest.raises(BBError, match="the disk of .* is full: free some; the same command goes on from there"):
        pull(plan)
    filler.unlink()
    assert pulled(store.root, here).faults == [] and tree(here) == tree(store.root) and clean(here)
    filler.write_bytes(b"x" * (24 * 2**20 - 2**22 - sum(map(len, tree(here).values()))))
    with pytest.raises(BBError, match="is full"):
        push(plan_push(large.root, Folder(small_disk / "c.bb"), EVERYTHING))


# Words


def test_the_verbs_say_what_they_did(store, here, call):
    status, out, _ = call("push", here, "--store", store.root)
    total = plan_pull(Folder(store.root), here.parent / "x", EVERYTHING).n_bytes
    assert status == 0
    assert out == f"21 parts copied, {bb.console.size_text(total)}; 0 were there, 0 left out: {store.root} to {here}\n"
    status, out, _ = call("pull", here, "--store", here.parent / "c.bb", "--ckpt", "ViT-*")
    assert status == 0 and out.startswith("7 parts copied") and len(segments(here.parent / "c.bb", B)) == 2
    assert call("pull", here, "--store", here.parent / "c.bb")[1].startswith("14 parts copied, ")


def test_a_dry_run_copies_nothing_and_says_how_much_it_would(store, here, call):
    for verb, source, target in (("push", store.root, here), ("pull", store.root, here.parent / "c.bb")):
        words = (verb, target, "--store", source) if verb == "push" else (verb, source, "--store", target)
        before = everything(here.parent)
        status, out, _ = call(*words, "--dry-run")
        assert status == 0 and everything(here.parent) == before
        assert f"segment     {B.key[:12]}  open_clip:ViT-S/x" in out and "21 parts to copy" in out
        planned = json.loads(call(*words, "--dry-run", "--json")[1])
        assert everything(here.parent) == before
        done = json.loads(call(*words, "--json")[1])
        assert planned["dry_run"] and not done["dry_run"]
        assert planned["bytes"] == done["bytes"] == sum(map(len, tree(target).values()))
        assert planned["parts"] == done["parts"] and done["faults"] == []
        assert {entry["kind"]: entry["rows"] for entry in done["parts"] if entry["space"] == A.key}["segment"] == 32


def test_what_fails_is_named_and_the_status_is_1(store, here, call):
    bad = segments(store.root)[0]
    (bad / "image_id/c/0").write_bytes(b"")
    status, out, _ = call("push", here, "--store", store.root)
    assert status == 1
    assert f"left out: {bad.relative_to(store.root)}/zarr.json: its image_id/c/0 has 0 bytes, its manifest says" in out
    status, out, _ = call("pull", store.root, "--store", here.parent / "c.bb", "--json")
    assert status == 1 and json.loads(out)["faults"][0]["path"] == f"{bad.relative_to(store.root)}/zarr.json"


def test_replicates_are_told_of(store, here, call):
    assert call("pull", store.root, "--store", here)[0] == 0
    compact(Store.open(store.root), A)
    status, out, _ = call("pull", store.root, "--store", here)
    assert status == 0 and out.startswith("passed over, all its rows are here: 1 parts (spaces/")
    assert call("pull", store.root, "--store", here, "--replicates")[1].startswith("1 parts copied")


def test_a_pull_for_a_probe_warns_of_labels_that_are_not_shared(store, here, call, tmp_path):
    status, _, err = call("pull", store.root, "--store", here, "--for", "newt", "--ckpt", "timm:tiny*")
    assert status == 0 and err.count("note") == 0
    shutil.rmtree(store.root / "labels")
    status, _, err = call("pull", store.root, "--store", tmp_path / "c.bb", "--for", "newt", "--ckpt", "timm:tiny*")
    assert status == 0
    assert f"note: {store.root} has no labels table for collection newt: its licence does not allow it, or none" in err
    assert "give them with --labels FILE" in err
    labels_table(NEWT.table["image_id"].to_list()[:4]).write_csv(tmp_path / "labels.csv")
    words = ("--for", "newt", "--labels", tmp_path / "labels.csv", "--ckpt", "timm-vit:tiny*")
    status, _, err = call("pull", store.root, "--store", tmp_path / "d.bb", *words)
    assert status == 0 and "note" not in err and len(segments(tmp_path / "d.bb")) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--for", "cub"), "--for cub: unknown task family, choose newt"),
        (("--for", "newt", "--runs"), "--for newt brings rows, --runs brings runs: give one of them"),
        (("--labels", "x.csv"), "--labels says which images a probe needs: give --for newt with it"),
        (("--ckpt", "nothing*"), "no backbone in"),
    ],
)
def test_words_that_make_no_sense(store, here, call, words, says):
    status, _, err = call("pull", store.root, "--store", here, *words)
    assert status == 2 and says in err and not here.exists()


def test_bytes_in_progress_are_sizes(capsys, monkeypatch):
    clock = iter([0.0, 0.0, 20.0])
    monkeypatch.setattr(bb.console.time, "monotonic", lambda: next(clock))
    with bb.console.Progress("copying", 50_000_000, "B") as meter:
        meter(0)
        meter(20_000_000)
    assert capsys.readouterr().err == "copying: 20.0 MB of 50.0 MB, 1.0 MB/s, 30 s left\n"


# Buckets


def test_there_and_back_through_a_bucket(store, here, s3, faults):
    url = f"{s3.url}/some/folder"
    outcome = push(plan_push(store.root, open_place(url), EVERYTHING))
    assert outcome.faults == [] and len(outcome.copied) == 21
    assert open_place(url).read("zarr.json", 1000) == (store.root / "zarr.json").read_bytes()
    asked = len(faults.asked)
    plan = plan_pull(open_place(url), here, EVERYTHING)
    assert all(request.method in ("GET", "HEAD") for request in faults.asked[asked:])
    assert pull(plan).faults == [] and plan.n_bytes == outcome.n_bytes
    assert tree(here) == tree(store.root) and clean(here)
    sent = len(faults.paths("PUT"))
    push(plan_push(store.root, open_place(url), EVERYTHING))
    assert len(faults.paths("PUT")) == sent


def test_of_a_segment_half_in_a_bucket_only_what_lacks_is_sent(store, here, s3, faults):
    folder = segments(store.root)[0].relative_to(store.root).as_posix()
    place = open_place(s3.url)
    push(plan_push(store.root, place, Selection(runs=True)))
    for path in ("image_id/c/0", "image_id/zarr.json", "img_features/zarr.json"):
        place.replace(f"{folder}/{path}", (store.root / folder / path).read_bytes())
    before = len(faults.paths("PUT"))
    assert push(plan_push(store.root, place, EVERYTHING)).faults == []
    sent = [path for path in faults.paths("PUT")[before:] if folder in path]
    assert len(sent) == 4 and sent[-1].endswith(f"{folder}/zarr.json")
    assert pulled(place, here).faults == [] and tree(here) == tree(store.root)


def test_a_server_that_fails_now_and_then(store, here, s3, faults):
    faults.now_and_then(Fault(status=503), Fault(status=500), Fault(refuse=True), Fault(cut=10), every=5)
    assert push(plan_push(store.root, open_place(s3.url), EVERYTHING, jobs=2), jobs=2).faults == []
    assert pulled(open_place(s3.url), here, jobs=2).faults == []
    assert tree(here) == tree(store.root) and clean(here)


def test_a_byte_flipped_on_the_way_is_caught_by_name(store, here, s3, faults):
    push(plan_push(store.root, open_place(s3.url), EVERYTHING))
    bad = segments(store.root)[0].name
    faults.rule = lambda request, number: (
        Fault(flip=3) if request.method == "GET" and f"{bad}/img_features/c/0/0" in request.path else None
    )
    outcome = pulled(open_place(s3.url), here)
    assert [left.part.digest for left in outcome.faults] == [bad]
    assert "img_features/c/0/0 does not have the digest" in outcome.faults[0].why
    faults.rule = lambda request, number: None
    assert pulled(open_place(s3.url), here).faults == []
    assert tree(here) == tree(store.root) and clean(here)


def test_the_verbs_through_a_bucket_and_a_web_server(store, here, s3, call, tmp_path):
    assert call("push", s3.url, "--store", store.root)[0] == 0
    assert json.loads(open_place(s3.url).read("index.json", 10**6))["objects"].keys() == tree(store.root).keys()
    words = ("--for", "newt", "--ckpt", "timm:tiny*", "--store", here)
    status, out, _ = call("pull", s3.url, *words)
    assert status == 0 and out.startswith("7 parts copied")
    call("push", tmp_path / "web", "--store", store.root)
    with serving(static(tmp_path / "web")) as url:
        status, _, err = call("push", url, "--store", store.root)
        assert status == 2 and f"{url} can only be read: push to a folder, s3:// or hf://, and serve that" in err
        assert call("pull", url, "--store", tmp_path / "c.bb")[0] == 0
    assert tree(tmp_path / "c.bb") == tree(store.root)
    status, _, err = call("pull", f"{s3.url}/nothing", "--store", here)
    assert status == 1 and f"found no store at {s3.url}/nothing: name the folder or prefix that holds" in err


def test_two_processes_push_to_one_bucket(store, here, s3):
    both = [subprocess.Popen(command("push", s3.url, "--store", store.root), stderr=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate()[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert pulled(open_place(s3.url), here).faults == []
    assert tree(here) == tree(store.root)


def test_a_push_that_is_killed_goes_on(large, here, s3):
    process = subprocess.Popen(command("push", s3.url, "--store", large.root, "--jobs", 2), stderr=subprocess.PIPE)
    place = open_place(s3.url)
    while process.poll() is None and sum(o.size for o in place.list()) < 8_000_000:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert pulled(place, here.parent / "half.bb").faults == [] and clean(here.parent / "half.bb")
    assert push(plan_push(large.root, place, EVERYTHING)).faults == []
    assert pulled(place, here).faults == [] and tree(here) == tree(large.root)
