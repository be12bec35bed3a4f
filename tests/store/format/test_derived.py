"""Derived feature spaces: from a head to rows in the store; found, verified, exchanged and signed like any other."""

import shutil
import threading
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from bb.probe.features.select_spaces import choose_spaces
from bb.probe.heads.derive import execute, existing, extend, load, prepare
from bb.probe.heads.model import Head, linear_layers
from bb.probe.heads.recipe import HeadRecipe
from bb.probe.heads.training_record import Training, training_of
from bb.probe.heads.validation import parts
from bb.probe.retrieval.labels import parse_items
from bb.store import BBError, Collection, Entry, MissingRows, Store, UsageError
from bb.store.files.paths import locate
from bb.store.format.derived import derive, head_part, parent_key
from bb.store.maintenance.compact import compact
from bb.store.maintenance.disk_usage import other_bytes
from bb.store.maintenance.gc import find_garbage, remove_garbage
from bb.store.maintenance.sign import revoke, sign
from bb.store.maintenance.verify import repair, verify
from bb.store.signing.key import make_key, read_key
from bb.store.storage.local import Folder
from bb.store.storage.url import open_place
from bb.store.sync.plan import plan_pull, plan_push
from bb.store.sync.selection import Selection
from bb.store.sync.transfer import pull, push
from bb.store.trained_heads import has_seen
from tests.helpers.heads import clusters
from tests.helpers.stores import fill, images, run_record, space

N = 60
PARENT = space(stored="float32", output={"kind": "img", "pooling": "cls", "projected": False, "dim": 12})
QUICK = HeadRecipe(start="plain", epochs=3, dim=5)


def labelled(n=N, labels=10, **columns):
    ids = [f"{i:03d}.png" for i in range(n)]
    return parse_items(pl.DataFrame({"image_id": ids, "label": np.arange(n) % labels, **columns}))


@pytest.fixture
def store(tmp_path):
    made = Store.create(tmp_path / "s.bb")
    fill(made, PARENT, images(N), clusters(np.arange(N) % 10, 12))
    made.put_collection(images(N))
    return made


@pytest.fixture
def items():
    return labelled(split=["train" if i % 10 < 7 else "test" for i in range(N)])


def training(store, items, recipe=QUICK, parent=PARENT):
    return prepare(store, parent, images(N), items, tasks="whales", recipe=recipe, accept="any")


@pytest.fixture
def made(store, items):
    return execute(training(store, items))


def test_a_derived_space_is_what_a_head_makes_of_its_parent(store, made):
    head = load(store, f"head:{made.space.weights}")
    assert made.space == derive(PARENT, head.layers, 5, head.digest) and made.rows == N
    assert made.space.org == "head" and made.space.architecture == {"parent": PARENT.key, "layers": head.layers}
    assert (made.space.view, made.space.code) == (PARENT.view, PARENT.code)
    assert made.space.output == {"kind": "img", "pooling": "cls", "projected": False, "dim": 5}
    assert made.space.numerics == {"compute": "fp32", "stored": "float32"}
    again = Store.open(store.root)
    assert again.space(made.space.key[:8]).key == made.space.key
    assert again.backbones(made.space) == [head.name]
    ids = [f"{i:03d}.png" for i in (7, 3, 59, 3)]
    rows = again.read(made.space, again.collection("pics", ids), ids)
    np.testing.assert_allclose(rows, head.project(again.read(PARENT, images(N), ids)), atol=1e-6)
    (found,) = choose_spaces(again, images(N), ids, backbones=[head.name], keys=[])
    assert found.key == made.space.key
    assert verify(again).faults == []


def test_the_key_covers_the_parent_and_the_weights(store, items, made):
    other = execute(training(store, items, HeadRecipe(start="plain", epochs=3, dim=5, seed=1)))
    assert other.space.key != made.space.key
    elsewhere = space(stored="float32", output=PARENT.output, weights="2" * 64)
    fill(store, elsewhere, images(N), clusters(np.arange(N) % 10, 12))
    twin = execute(training(store, items, parent=elsewhere))
    assert twin.space.key != made.space.key and parent_key(twin.space) == elsewhere.key


def test_its_rows_say_how_it_was_trained_and_what_it_has_seen(store, items, made):
    said = training_of(store, made.space)
    assert said == Training.from_record(said.record()) and said.id == training(store, items).training_id
    train, held, _ = parts(items, 0)
    assert (said.labels, said.images, said.classes) == ("whales", len(train), len(train.labels))
    assert said.held_out == f"{len(held)} images of 3 labels, 3 labels held out of training"
    assert said.parent == pytest.approx(made.training.parent) and said.epochs == 3
    for segment in store.segments(made.space):
        (origin,) = segment.origins
        assert origin["backbone"] == f"head:{made.space.weights[:12]}"
        assert origin["parent"] == {"space": PARENT.key, "backbones": ["timm:tiny/untrained"]}
    train_ids, held_ids = train.image_ids.tolist(), held.image_ids.tolist()
    test_ids = items.split("test").image_ids.tolist()
    keys = images(N).digests
    assert has_seen(store, made.space, keys(train_ids[:1])) and has_seen(store, made.space, keys(held_ids[:1]))
    assert not has_seen(store, made.space, keys(test_ids)) and not has_seen(store, PARENT, keys(train_ids))
    compact(store, made.space)
    assert has_seen(store, made.space, keys(test_ids)), "merged, nobody can tell any more"


@pytest.mark.parametrize(
    "change", [{"best": "nan"}, {"best": None}, {"images": "7"}, {"recipe": []}, {"more": 1}, {"id": 3}]
)
def test_what_others_say_of_a_training_is_not_believed_unless_it_is_such(made, change):
    record = made.training.record()
    assert Training.from_record(record) == made.training
    assert Training.from_record({**record, **change}) is None
    assert Training.from_record("a head") is None


def test_the_same_training_is_done_once(store, items, made):
    before = sorted(store.segment_digests(made.space))
    found = existing(training(store, items))
    assert (found.space.key, found.rows, found.training.id) == (made.space.key, 0, made.training.id)
    assert existing(training(store, items, HeadRecipe(start="plain", epochs=4, dim=5))) is None
    fewer = labelled(split=["train" if i % 10 < 6 else "test" for i in range(N)])
    assert existing(training(store, fewer)) is None
    again = execute(training(store, items))
    assert again.space.key == made.space.key and again.rows == 0 and sorted(store.segment_digests(made.space)) == before


def test_rows_that_came_since_are_made_too(store, items, made):
    more = images(N + 20)
    fresh = images(N + 20, "more")
    fill(store, PARENT, more, clusters(np.arange(N + 20) % 10, 12))
    store.put_collection(fresh)
    ids = [f"{i:03d}.png" for i in range(N + 20)]
    with pytest.raises(MissingRows) as caught:
        store.read(made.space, fresh, ids)
    name = f"head:{made.space.weights[:12]}"
    assert f"extract them into space {PARENT.key[:12]}, of which it was made, then" in str(caught.value)
    assert f"bb probe head --load {name} --data more --store {store.root}" in str(caught.value)
    done = extend(store, load(store, name), fresh)
    assert (done.space.key, done.rows, done.training.id) == (made.space.key, 20, made.training.id)
    assert store.read(made.space, fresh, ids).shape == (N + 20, 5)
    assert not has_seen(store, made.space, fresh.digests(ids[N:]))


def test_a_killed_writing_is_finished(store, items, made):
    first, *_ = store.segments(made.space)
    shutil.rmtree(first.folder)
    found = existing(training(store, items))
    assert found.rows == first.rows and len(store.rows(made.space)) == N


def test_stopped_nothing_is_written_and_the_state_is_kept(store, items):
    asked = training(store, items)
    stop = threading.Event()
    found = execute(asked, stop=stop, progress=lambda epoch, values: stop.set())
    assert found.space is None and asked.checkpoint.exists() and not store.heads()
    assert len(store.spaces()) == 1 and verify(store).faults == []
    whole = execute(asked)
    assert whole.space is not None and not asked.checkpoint.exists()


def test_one_image_under_two_ids_is_one_row(store):
    rows = images(N).table.rows()
    both = Collection.from_entries("twice", [Entry(*row) for row in (*rows, ("again.png", *rows[0][1:]))])
    assert extend(store, Head(linear_layers(12, 5), PARENT.key), both).rows == N


# Errors


def test_what_can_not_be_derived_is_said(store, items, made, tmp_path):
    with pytest.raises(UsageError, match=r"'head:0' is not a head of .*s.bb \(there: head:[0-9a-f]{12}\)"):
        load(store, "head:0" if not made.space.weights.startswith("0") else "head:1")
    with pytest.raises(
        BBError, match=r"head:[0-9a-f]{12} is for features of space bbbbbbbbbbbb, which .* does not have"
    ):
        extend(store, Head(linear_layers(12, 5), "b" * 64), images(N))
    with pytest.raises(BBError, match=r"takes 9 numbers, but space [0-9a-f]{12} has \(12,\)"):
        extend(store, Head(linear_layers(9, 5), PARENT.key), images(N))
    with pytest.raises(BBError, match="has no row of collection other: extract or pull it first"):
        extend(store, Head(linear_layers(12, 5), PARENT.key), images(3, "other", salt="x"))
    with pytest.raises(UsageError, match="holds patch features; a head takes image features"):
        training(store, items, parent=space("patch"))
    with pytest.raises(UsageError, match="has no features of head:000000000000. To make them: bb probe head;"):
        choose_spaces(store, images(N), ["000.png"], backbones=["head:000000000000"], keys=[])
    with pytest.raises(MissingRows, match="1 of 31 images of pics have no features"):
        prepare(store, PARENT, images(N + 1), labelled(N + 1), tasks="t", recipe=QUICK)


# Keeping


def test_a_head_that_is_not_there_or_is_damaged_is_a_fault(store, made):
    file = store.root / head_part(made.space).path
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"x")
    (fault,) = verify(store).faults
    assert "does not have the digest in its name" in fault.what and fault.bad == file
    with pytest.raises(BBError, match=rf"head {made.space.weights[:12]} in .* is damaged: it does not have the digest"):
        load(store, f"head:{made.space.weights}")
    repair(store, verify(store))
    (fault,) = verify(store).faults
    assert fault.what == (
        f"space {made.space.key[:12]} can't be filled further: its head {made.space.weights[:12]} is not in the store: "
        f"copy heads/{made.space.weights}.safetensors from another store."
    )
    assert fault.bad is None
    file.write_bytes(whole)
    assert verify(store).faults == []


def test_a_space_whose_weights_are_no_digest_names_no_file(store):
    evil = derive(PARENT, [], 5, "../../etc/passwd")
    store.put_space(evil)
    assert head_part(evil) is None
    (fault,) = verify(store).faults
    assert "its weights '../../etc/passwd' are not the digest of a head" in fault.what


def test_the_remedy_for_a_bad_segment_is_the_head(store, made):
    segment = store.segments(made.space)[0]
    (segment.folder / "img_features/c/0/0").write_bytes(b"")
    (fault,) = verify(store).faults
    assert fault.remedy == f"bb probe head --load head:{made.space.weights[:12]}"


def test_gc_keeps_heads_while_a_run_names_their_space(store, made):
    assert find_garbage(store) == []
    table = pl.DataFrame({"task": ["t"], "image_id": ["x"], "y": [1]})
    store.put_run(run_record(space=made.space.key), table, table)
    orphan = Head(linear_layers(12, 5), "b" * 64).encode()
    lost = store.put_head(orphan)
    found = {garbage.why for garbage in find_garbage(store, unreferenced=True)}
    assert found == {
        f"space {PARENT.key[:12]} (timm:tiny/untrained) is named by no run",
        f"head {lost[:12]} is of no space that a run names",
    }
    for garbage in find_garbage(store, unreferenced=True):
        remove_garbage(store, garbage)
    assert store.heads() == [made.space.weights] and other_bytes(store)["heads"] > 0
    assert verify(store).faults == []


# Exchanging


@pytest.mark.parametrize(
    "selection",
    [Selection(), Selection(ckpts=("head:*",)), Selection(data=("pics",))],
    ids=["everything", "a backbone", "a collection"],
)
def test_push_and_pull_bring_the_head(store, made, tmp_path, selection):
    there = Folder(tmp_path / "there")
    assert not push(plan_push(store.root, there, selection)).faults
    pushed = Store.open(there.root)
    assert pushed.heads() == [made.space.weights]
    assert verify(pushed).faults == []
    assert not pull(plan_pull(there, tmp_path / "here", Selection(spaces=(made.space.key[:8],)))).faults
    here = Store.open(tmp_path / "here")
    assert [s.key for s in here.spaces()] == [made.space.key] and here.heads() == [made.space.weights]
    ids = ["003.png", "050.png"]
    np.testing.assert_array_equal(
        here.read(made.space, here.collection("pics", ids), ids), store.read(made.space, images(N), ids)
    )
    assert verify(here).faults == []


def test_other_spaces_leave_heads_where_they_are(store, made, tmp_path):
    there = Folder(tmp_path / "there")
    push(plan_push(store.root, there, Selection(ckpts=("timm:*",))))
    assert Store.open(there.root).heads() == []


def test_a_head_whose_bytes_are_others_is_not_taken(store, made, tmp_path):
    file = store.root / head_part(made.space).path
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    outcome = pull(plan_pull(open_place(str(store.root)), tmp_path / "here", Selection()))
    assert [fault.part.kind for fault in outcome.faults] == ["head"]
    assert Store.open(tmp_path / "here").heads() == []


def test_signing_a_derived_space_signs_its_head_and_a_revoked_head_is_gone(store, made, tmp_path):
    key_file = tmp_path / "key.pem"
    make_key(key_file, None)
    key = read_key(key_file)
    _, signed = sign(store, key, [made.space])
    assert head_part(made.space) in signed
    _, others = sign(store, key, [PARENT])
    assert not any(part.kind == "head" for part in others)
    revoke(store, key, [made.space.weights])
    trusting = Store(store.root, {key.public: "me"})
    assert trusting.heads() == []
    with pytest.raises(BBError, match=f"head {made.space.weights[:12]} is revoked and would not be read"):
        trusting.put_head(store.head(made.space.weights))


def test_paths_of_heads_are_known():
    part, file = locate("heads/" + "a" * 64 + ".safetensors")
    assert part.kind == "head" and part == head_part(derive(PARENT, [], 5, "a" * 64)) and file == part.marker


def test_a_store_that_is_only_read_takes_no_head(store, items, tmp_path):
    class Source:
        url = "https://example.org/s"

    reading = replace(store, source=Source())
    with pytest.raises(UsageError, match="https://example.org/s is read only in place: pull it first"):
        training(reading, items)
    with pytest.raises(UsageError, match="is read only in place"):
        extend(reading, Head(linear_layers(12, 5), PARENT.key), images(N))
