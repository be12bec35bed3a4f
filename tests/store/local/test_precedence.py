"""Which of several rows of one image is read, whatever digests others choose, and that disagreement is said."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from bb.probe.classifiers.protocol import BioBench
from bb.probe.report import build as report
from bb.probe.report.options import ReportOptions
from bb.probe.report.run_diff import find_run
from bb.probe.retrieval.report.build import newest
from bb.probe.retrieval.statistics.paired_tests import of_runs
from bb.probe.run import FamilyInputs, FamilySpec, execute, prepare
from bb.probe.run_records import retrieval_problem
from bb.store import BBError, Store
from bb.store.files.canonical_json import sha256_hex
from bb.store.files.machine_key import is_mark, mark, user_folder
from bb.store.format.adopted import Adopted
from bb.store.local.runs import disagreement
from bb.store.local.segment import encode_rows, seal_segment
from bb.store.local.tier import Tier
from bb.store.maintenance.compact import compact
from bb.store.maintenance.verify import repair, verify
from bb.store.signing.statement import SignedItem, sign_items
from bb.store.storage.local import Folder
from bb.store.storage.read_cache import ReadCache
from bb.store.sync.incoming import BAD_ASIDE
from bb.store.sync.plan import plan_pull
from bb.store.sync.selection import Selection
from bb.store.sync.transfer import pull
from tests.helpers import boards
from tests.helpers.newt_runs import inputs
from tests.helpers.signers import NOON, STRANGER, A, lay
from tests.helpers.stores import features, images, run_record, space

__all__ = ["inputs"]  # a fixture

N = 20
PICS = images(N)
IDS = PICS.table["image_id"].to_list()
X = features(space(), N)
DOCTORED = (X + np.float16(1)).astype(X.dtype)


@pytest.fixture(autouse=True)
def own_key(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def mine(tmp_path):
    store = Store.create(tmp_path / "mine.bb")
    store.put_collection(PICS)
    put(store, X, {"lab": "mine"})
    return store


def put(store, x, provenance, where=None, keys=None):
    keys = PICS.all_digests() if keys is None else keys
    return store.put_segment(where or space(), keys, ids_of(x), x, provenance)


def ids_of(x):
    return [f"pics/{i}.png" for i in range(len(x))]


def others(tmp_path, monkeypatch, x=DOCTORED, lower_than="g", **options):
    """A store made on another machine, with its `local/`; its segment's digest is below `lower_than`."""
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config of another machine"))
        store = Store.create(tmp_path / f"theirs{len(os.listdir(tmp_path))}.bb")
        store.put_collection(PICS)
        keys = options.get("keys", PICS.all_digests())
        objects = encode_rows(where := options.get("where", space()), keys, ids_of(x), x)
        hashed = {path: sha256_hex(data) for path, data in objects.items()}
        for nonce in range(1_000_000):
            made = {"lab": "theirs", "nonce": nonce}
            if seal_segment(where, len(x), objects, hashed, made)[0] < lower_than:
                return store, put(store, x, made, **options)
    raise AssertionError


def merge(theirs, mine):
    """As rsync does, whatever there is."""
    shutil.copytree(theirs.root, mine.root, dirs_exist_ok=True)


def read(store, where=None, trusted=()):
    """Features, and what is said of them."""
    said = []
    opened = replace(Store.open(store.root), trusted=dict.fromkeys(trusted, ""), say=said.append)
    return np.array(opened.read(where or space(), PICS, IDS)), said


# The mark


def test_the_machines_key_is_made_once_and_only_its_owner_reads_it():
    made = mark("x")
    path = user_folder() / "machine.key"
    assert path.stat().st_mode & 0o777 == 0o600 and path.stat().st_size == 32
    assert mark("x") == made != mark("y")
    assert is_mark("x", made) and not any(is_mark("x", other) for other in (None, 7, "", "é", made[:-1], mark("y")))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o602, 0o620])
def test_a_machines_key_that_others_can_read_or_change_is_refused(mode, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / oct(mode)))
    user_folder().mkdir(parents=True)
    (user_folder() / "machine.key").write_bytes(bytes(32))
    (user_folder() / "machine.key").chmod(mode)
    with pytest.raises(BBError, match=f"others can read or change {user_folder()}/machine.key.*: chmod 600"):
        mark("x")


def test_without_a_place_for_the_key_nothing_counts_as_made_here(mine, monkeypatch, tmp_path):
    (tmp_path / "no folder").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no folder"))
    assert mark("x") is None and not is_mark("x", "0" * 64)
    digest = put(mine, X, {"lab": "again"})
    assert Store.open(mine.root).tier("segment", space().key, digest) == Tier.OTHER


# Precedence


def test_rows_made_here_are_read_before_a_lower_digest_and_it_is_said(mine, tmp_path, monkeypatch):
    (digest,) = mine.segment_digests(space())
    theirs, low = others(tmp_path, monkeypatch, lower_than=digest)
    merge(theirs, mine)
    found, said = read(mine)
    assert found.tobytes() == X.tobytes()
    assert len(said) == 1 and f"segments {digest[:12]} and {low[:12]} disagree on {N} images by up to" in said[0]
    assert f"The rows of {digest[:12]} (made here) are read, not those of {low[:12]} (not signed by a key" in said[0]
    (fault,) = verify(Store.open(mine.root)).faults
    assert (
        f"segments {digest[:12]} and {low[:12]} disagree" in fault.what and f"rows of {digest[:12]} are" in fault.what
    )


def test_a_local_folder_that_came_with_a_store_claims_nothing(mine, tmp_path, monkeypatch):
    theirs, low = others(tmp_path, monkeypatch)
    assert json.loads((theirs.root / "local" / f"{low}.json").read_bytes())["mark"]
    merge(theirs, mine)
    (digest,) = (d for d in mine.segment_digests(space()) if d != low)
    stolen = json.loads((mine.root / "local" / f"{digest}.json").read_bytes())
    (mine.root / "local" / f"{low}.json").write_text(json.dumps(stolen))  # the mark of another segment
    assert read(mine)[0].tobytes() == X.tobytes()
    (mine.root / "local" / f"{digest}.json").unlink()
    lowest = X if digest < low else DOCTORED
    assert read(mine)[0].tobytes() == lowest.tobytes(), "without a mark, the lowest digest"


def test_what_a_trusted_key_has_signed_comes_before_the_rest(tmp_path, monkeypatch):
    signed, high = others(tmp_path, monkeypatch, X)
    lay(signed, sign_items(A, [SignedItem("segment", space().key, high)], NOON))
    strange, low = others(tmp_path, monkeypatch, lower_than=high)
    lay(strange, sign_items(STRANGER, [SignedItem("segment", space().key, low)], NOON))
    merge(strange, signed)
    assert read(signed)[0].tobytes() == DOCTORED.tobytes()
    found, said = read(signed, trusted=[A.public])
    assert found.tobytes() == X.tobytes() and f"of {high[:12]} (signed by a key that you trust) are read" in said[0]
    mirror = ReadCache.open(Folder(signed.root), folder=tmp_path / "cache")
    in_place = replace(Store.open(mirror.root), source=mirror, trusted={A.public: ""}, say=said.append)
    assert np.array(in_place.read(space(), PICS, IDS)).tobytes() == X.tobytes() and len(said) == 2


def test_replicates_that_agree_are_read_without_a_word(mine, tmp_path, monkeypatch):
    theirs, _ = others(tmp_path, monkeypatch, (X * np.float16(1.001)).astype(X.dtype))
    merge(theirs, mine)
    found, said = read(mine)
    assert found.tobytes() == X.tobytes() and said == []


@pytest.mark.parametrize("remembered", [False, True])
def test_the_remembered_index_follows_the_same_rule(mine, tmp_path, monkeypatch, remembered):
    """70 segments of one row each, of which an index is kept; then a stranger's rows with a low digest."""
    for i in range(N, N + 70):
        put(mine, X[:1], {"i": i}, keys=images(N + 70).all_digests()[i : i + 1])
    if remembered:
        assert read(mine)[1] == [] and list((mine.root / "index" / "rows" / space().key).iterdir())
    theirs, _ = others(tmp_path, monkeypatch, lower_than=min(mine.segment_digests(space())))
    merge(theirs, mine)
    for _ in range(2):
        found, said = read(mine)
        assert found.tobytes() == X.tobytes() and len(said) == 1
    for i in range(70):
        put(mine, X[:1], {"more": i}, keys=images(N + 140).all_digests()[N + 70 + i : N + 71 + i])
    for _ in range(2):
        assert read(mine)[0].tobytes() == X.tobytes()


def test_rows_made_here_of_an_older_space_come_before_strangers_of_the_newer(mine, tmp_path, monkeypatch):
    newer = space(code="2" * 40)
    mine.put_space(newer)
    mine.put_adopted(Adopted(space().key, newer.key, (space().code, newer.code), ("a" * 64,), 0.0, 1e-3, {}), newer)
    theirs, _ = others(tmp_path, monkeypatch, where=newer)
    outcome = pull(plan_pull(Folder(theirs.root), mine.root, Selection()))
    assert [left.part.owner for left in outcome.faults] == [newer.key], "a pull holds them against adopted rows, too"
    merge(theirs, mine)
    assert read(mine, newer)[0].tobytes() == X.tobytes()


def test_an_adopted_record_from_elsewhere_lends_its_rows_no_precedence(mine, tmp_path, monkeypatch):
    """A stranger's record says that rows of mine serve in another space of mine, which has rows of its own."""
    newer = space(code="2" * 40)
    put(mine, DOCTORED, {"lab": "mine"}, where=newer)
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another"))
        record = Adopted(space().key, newer.key, (space().code, newer.code), ("a" * 64,), 0.0, 1e-3, {})
        Store.open(mine.root).put_adopted(record, newer)
    found, said = read(mine, newer)
    assert found.tobytes() == DOCTORED.tobytes() and len(said) == 1


@pytest.mark.parametrize("tier", [Tier.MADE_HERE, Tier.OTHER])
def test_compact_merges_within_a_tier_and_raises_nothing_to_another(mine, tmp_path, monkeypatch, tier):
    theirs, _ = others(tmp_path, monkeypatch)
    for i in range(3):  # rows of more images, in segments of both tiers
        keys = images(N + 6).all_digests()[N + i : N + i + 1]
        with monkeypatch.context() as patch:
            patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config of another machine"))
            put(theirs, X[:1], {"i": i}, keys=keys)
        put(mine, X[:1], {"i": i}, keys=images(N + 6).all_digests()[N + 3 + i : N + 4 + i])
    merge(theirs, mine)
    before = read(mine)[0]
    done = compact(Store.open(mine.root), space())
    assert len(done.made) == 2 and len(done.merged) == 8
    opened = Store.open(mine.root)
    assert sorted(opened.tier("segment", space().key, d) for d in opened.segment_digests(space())) == [0, 2]
    assert read(mine)[0].tobytes() == before.tobytes() == X.tobytes()
    assert opened.has(space(), images(N + 6).all_digests()).all()


def test_compact_leaves_what_a_trusted_key_has_signed(mine):
    for i in range(3):
        put(mine, X[:1], {"i": i}, keys=images(N + 3).all_digests()[N + i : N + i + 1])
    shutil.rmtree(mine.root / "local")
    every = mine.segment_digests(space())
    lay(mine, sign_items(A, [SignedItem("segment", space().key, digest) for digest in every], NOON))
    assert compact(replace(Store.open(mine.root), trusted={A.public: ""}), space()).made == ()
    assert len(compact(Store.open(mine.root), space()).made) == 1


# What a pull brings


def plan(theirs, mine, **options):
    return plan_pull(Folder(theirs.root), mine.root, Selection(), **options)


def one_more(tmp_path, monkeypatch, x=DOCTORED):
    """Rows of all images and of one that is not here, so that they are not passed over."""
    keys = np.concatenate([PICS.all_digests(), images(N + 1).all_digests()[-1:]])
    return others(tmp_path, monkeypatch, np.concatenate([x, x[:1]]), keys=keys)


def test_a_pull_sets_rows_that_disagree_aside_and_names_them(mine, tmp_path, monkeypatch):
    (digest,) = mine.segment_digests(space())
    theirs, low = one_more(tmp_path, monkeypatch)
    outcome = pull(plan(theirs, mine))
    (left,) = outcome.faults
    assert left.part.digest == low and f"its rows of {N} images differ from those here by up to" in left.why
    assert f"Those of segment {digest[:12]} (made here) are read on" in left.why and "pics/" in left.why
    aside = mine.root / "aside" / "spaces" / space().key / "segments" / low
    assert sha256_hex((aside / "zarr.json").read_bytes()) == low and (aside / "img_features/c/0/0").is_file()
    assert mine.segment_digests(space()) == [digest] and read(mine)[1] == []
    again = plan(theirs, mine)
    assert [left.why.split(",")[0] for left in again.passed_over] == [
        "set aside by an earlier pull"
    ] and not again.items


def test_a_damaged_copy_in_aside_does_not_count_and_a_sound_one_beside_it_does(mine, tmp_path, monkeypatch):
    theirs, low = one_more(tmp_path, monkeypatch)
    pull(plan(theirs, mine))
    folder = mine.root / "aside" / "spaces" / space().key / "segments"
    (folder / low / "img_features/c/0/0").write_bytes(b"")
    (left,) = pull(plan(theirs, mine)).faults
    assert left.part.digest == low and len(list(folder.iterdir())) == 2
    assert not plan(theirs, mine).items and low not in mine.segment_digests(space())


def test_a_segment_whose_rows_are_bad_wherever_it_is_stays_aside(mine, tmp_path, monkeypatch):
    bad = X.copy()
    bad[0, 0] = np.nan
    theirs, low = others(tmp_path, monkeypatch, bad, keys=images(2 * N).all_digests()[N:])
    assert pull(plan(theirs, mine)).faults == []
    repair(mine, found := verify(mine))
    assert low in str(found.faults[0].bad)
    (left,) = plan(theirs, mine).passed_over
    assert left.why == BAD_ASIDE


def test_a_pull_brings_rows_that_agree(mine, tmp_path, monkeypatch):
    theirs, low = one_more(tmp_path, monkeypatch, (X * np.float16(1.001)).astype(X.dtype))
    assert pull(plan(theirs, mine)).faults == [] and low in mine.segment_digests(space())


def test_rows_that_a_trusted_key_has_signed_take_the_place_of_strangers(tmp_path, monkeypatch):
    strange, _ = others(tmp_path, monkeypatch)
    signed, high = others(tmp_path, monkeypatch, X)
    lay(signed, sign_items(A, [SignedItem("segment", space().key, high)], NOON))
    assert [left.why for left in plan(signed, strange).passed_over if left.part.kind == "segment"] == [
        "all its rows are here"
    ]
    assert pull(plan(signed, strange, trusted={A.public: ""})).faults == []
    assert read(strange, trusted=[A.public])[0].tobytes() == X.tobytes()
    back, _ = others(tmp_path, monkeypatch)
    assert [left.why for left in plan(back, strange, trusted={A.public: ""}, replicates=True).passed_over] == []
    (left,) = pull(plan(back, strange, trusted={A.public: ""}, replicates=True)).faults or [None]
    assert left is None or f"{high[:12]} (signed by a key that you trust)" in left.why


def both_in_one(tmp_path, monkeypatch, sign=None):
    """A store of two segments that disagree: digests of the doctored one and of the right one, the lower first."""
    theirs, low = others(tmp_path, monkeypatch, lower_than="4")
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config of another machine"))
        right, n = "", 0
        while (right := put(theirs, X, {"n": n})) < low:
            shutil.rmtree(theirs.root / "spaces" / space().key / "segments" / right)
            n += 1
    if sign:
        lay(theirs, sign_items(sign, [SignedItem("segment", space().key, right)], NOON))
    return theirs, low, right


@pytest.mark.parametrize("jobs", [1, 8])
@pytest.mark.parametrize("signed", [False, True])
def test_segments_of_one_pull_that_disagree_are_settled_by_precedence(tmp_path, monkeypatch, signed, jobs):
    theirs, low, right = both_in_one(tmp_path, monkeypatch, A if signed else None)
    mine = Store.create(tmp_path / "new.bb")
    trusted = {A.public: ""}
    outcome = pull(plan(theirs, mine, trusted=trusted), jobs=jobs)
    (left,) = outcome.faults
    kept, gone = (right, low) if signed else (low, right)
    assert left.part.digest == gone and f"its rows of {N} images differ from those here" in left.why
    assert f"Those of segment {kept[:12]} (" in left.why and f"set aside in aside/{left.part.folder}" in left.why
    assert gone not in {item.part.digest for item in outcome.copied}
    assert mine.segment_digests(space()) == [kept]
    aside = mine.root / "aside" / "spaces" / space().key / "segments" / gone
    assert sha256_hex((aside / "zarr.json").read_bytes()) == gone
    found, said = read(mine, trusted=[A.public])
    assert said == [] and found.tobytes() == (X if signed else DOCTORED).tobytes()
    again = plan(theirs, mine, trusted=trusted)
    assert [left.why.split(",")[0] for left in again.passed_over] == ["set aside by an earlier pull"]


def test_segments_of_one_pull_that_agree_all_stay(tmp_path, monkeypatch):
    theirs, first = others(tmp_path, monkeypatch, X)
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config of another machine"))
        second = put(theirs, (X * np.float16(1.001)).astype(X.dtype), {})
    mine = Store.create(tmp_path / "new.bb")
    assert pull(plan(theirs, mine)).faults == [] and mine.segment_digests(space()) == sorted([first, second])


def test_a_probe_of_rows_that_disagree_says_so_and_records_it(inputs):
    store, pics = inputs.store, inputs.collection
    ids = pics.table["image_id"].to_list()
    doctored = np.ascontiguousarray(store.read(inputs.space, pics, ids)) + np.float32(1)
    store.put_segment(inputs.space, pics.all_digests(), [f"pics/{i}" for i in ids], doctored, {"lab": "b"})
    said = []
    opened = replace(Store.open(store.root), say=said.append)
    again = FamilyInputs.read(opened, inputs.space, pics, inputs.labels, "newt")
    assert again.notes == tuple(said) and f"disagree on {len(ids)} images" in said[0]
    run = execute(prepare(again, FamilySpec(BioBench(), 4, 0, "linear", "exact")), jobs=1)
    assert run.record["notes"]["features"] == said
    assert inputs.notes == ()


# Runs


@pytest.fixture
def board_stores(tmp_path, monkeypatch):
    """A store with a run made here, and one of another machine."""
    mine = Store.create(tmp_path / "mine.bb")
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config of another machine"))
        theirs = Store.create(tmp_path / "theirs.bb")
    return mine, theirs


def elsewhere(tmp_path, monkeypatch, store, backbone, accuracy, **changes):
    """A run made on another machine."""
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config of another machine"))
        return boards.put(store, backbone, accuracy, **changes)


LATER = {"made": "2999-01-01T00:00:00+00:00"}


@pytest.mark.parametrize("same_id", [True, False])
def test_a_report_shows_the_run_made_here_whatever_date_another_has(board_stores, tmp_path, monkeypatch, same_id):
    mine, theirs = board_stores
    ours = boards.put(mine, "timm:a", 0.6, seed=0)
    changes = {"run_id": ours.run_id if same_id else "f" * 64, "provenance": LATER}
    rows = boards.predictions(np.random.default_rng(0), 1.0, tasks=4, images=40)
    other = elsewhere(tmp_path, monkeypatch, theirs, "timm:a", 1.0, rows=rows, seed=0, **changes)
    merge(theirs, mine)
    (board,) = reported(Store.open(mine.root))
    (cell,) = board.rows[0].cells.values()
    assert cell.mean == pytest.approx(ours.record["scores"]["mean"]) and cell.mean < 0.8
    (note,) = [note for note in board.notes if "disagree" in note]
    assert "2 runs of timm:a at n_train 10, seed 0 disagree: " in note
    assert f"{ours.run_id[:12]}/{ours.digest[:12]} (made here) is used, not " in note
    assert f"{other.run_id[:12]}/{other.digest[:12]} (not signed by a key that you trust)" in note


def reported(store):
    return report.boards(store.runs(), "newt", ReportOptions(resamples=100))


def test_of_runs_from_elsewhere_that_of_a_trusted_key_is_shown(board_stores, tmp_path, monkeypatch):
    mine, theirs = board_stores
    signed = elsewhere(tmp_path, monkeypatch, theirs, "timm:a", 0.6, seed=0)
    lay(theirs, sign_items(A, [SignedItem("run", signed.run_id, signed.digest)], NOON))
    elsewhere(tmp_path, monkeypatch, theirs, "timm:a", 1.0, seed=0, run_id="f" * 64, provenance=LATER)
    merge(theirs, mine)
    for trusted, score in (({}, 1.0), ({A.public: ""}, signed.record["scores"]["mean"])):
        (board,) = reported(replace(Store.open(mine.root), trusted=trusted))
        (cell,) = board.rows[0].cells.values()
        assert cell.mean == pytest.approx(score)
    assert any("(signed by a key that you trust) is used, not ffffffffffff/" in note for note in board.notes)


def test_seeds_that_others_ran_are_named_beside_those_run_here(board_stores, tmp_path, monkeypatch):
    mine, theirs = board_stores
    boards.put(mine, "timm:a", 0.6, seed=0)
    elsewhere(tmp_path, monkeypatch, theirs, "timm:a", 1.0, seed=1)
    elsewhere(tmp_path, monkeypatch, theirs, "timm:b", 0.7, seed=0)
    merge(theirs, mine)
    (board,) = reported(Store.open(mine.root))
    said = [note for note in board.notes if "made here" in note]
    assert said == ["timm:a at n_train 10: the runs of seed 1 were not made here, the others were"]


def test_chance_and_tasks_are_those_of_a_run_made_here(board_stores, tmp_path, monkeypatch):
    mine, theirs = board_stores
    boards.put(mine, "timm:m", 0.6)
    strange = boards.predictions(np.random.default_rng(0), 0.9, tasks=4, images=40, clusters=("x", "y"))
    scores = {**boards.put(theirs, "timm:z", 0.9, rows=strange).record["scores"], "chance": 0.9}
    shutil.rmtree(theirs.root / "runs")
    elsewhere(tmp_path, monkeypatch, theirs, "timm:a", 0.9, rows=strange, scores=scores, n_train=4)
    merge(theirs, mine)
    (board,) = reported(Store.open(mine.root))
    assert board.chance == 0.5 and {task.cluster for task in board.task_list} == {"c", "d"}


def test_a_run_on_other_images_is_named_with_the_remedy(board_stores, tmp_path, monkeypatch):
    """It says that it was tested on the same."""
    mine, theirs = board_stores
    boards.put(mine, "timm:m", 0.6)
    other = boards.predictions(np.random.default_rng(0), 0.9, tasks=4, images=39)
    run = elsewhere(tmp_path, monkeypatch, theirs, "timm:a", 0.9, rows=other)
    merge(theirs, mine)
    folder = mine.root / "runs" / run.run_id / run.digest
    with pytest.raises(BBError, match=rf"\(made here\) and {run.run_id[:12]}/.* different images.*move {folder} out"):
        reported(Store.open(mine.root))


def test_a_probe_takes_the_run_made_here_of_several_of_its_id(inputs, tmp_path, monkeypatch):
    prepared = prepare(inputs, FamilySpec(BioBench(), 4, 0, "linear", "exact"))
    ours = execute(prepared, jobs=1)
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config of another machine"))
        for number in range(8):  # of any digest, lower ones too
            record = {
                **ours.record,
                "scores": {**ours.record["scores"], "mean": 1.0},
                "provenance": {**LATER, "n": number},
            }
            Store.open(inputs.store.root).put_run(record, ours.predictions(), ours.train())
    again = replace(prepared, inputs=replace(inputs, store=Store.open(inputs.store.root)))
    first, *others = again.existing()
    assert first.digest == ours.digest and len(others) == 8
    assert disagreement([first, *others]).count("(not signed by a key that you trust)") == 3


ROLES = {"split": None, "against": None, "folds": None, "seed": None}
SEARCHED = {
    "protocol": "retrieval", "tasks": "pics", "space": "5" * 64, "collection": "6" * 64, "collection_name": "pics",
    "backbones": ["timm:x"],
    "parameters": {"distance": "cosine", "convention": "oml", "rerankers": [], "roles": ROLES},
}  # fmt: skip


def scored(mean):
    return {"mean": mean, "main": "map@r", "tasks": {"map@r": {"mean": mean}}, "categories": {}}


@pytest.mark.parametrize("value", [None, 7, "x", [1], {"a": 1}])
@pytest.mark.parametrize("field", ["test_set", "collection_name", "backbones", "parameters", "scores"])
def test_a_retrieval_whose_record_is_of_other_types_is_left_out_by_name(tmp_path, field, value):
    if isinstance(value, str) and field in ("test_set", "collection_name"):
        value = None
    table = pl.DataFrame({"image_id": ["a"]})
    store = Store.create(tmp_path / "s.bb")
    whole = {**SEARCHED, "provenance": LATER, "scores": scored(0.5), "test_set": "t" * 64}
    good = store.put_run(run_record(**whole), table, table)
    bad = store.put_run(run_record(**{**whole, field: value}), table, table)
    (run,), notes = newest(list(Store.open(store.root).runs()), "pics")
    assert run.digest == good.digest
    assert notes[0].startswith(
        f"left out: run {bad.describe()} is damaged: its run.json has the {field} {str(value)!r}"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", [None]), ("units", 1e308), ("units", {"n": "x", "kind": "label", "shared": True}), ("notes", True),
     ("index_recall", 3), ("scores", {**scored(0.5), "overall": {"cmc@1": "x"}}),
     ("scores", {**scored(0.5), "categories": {"a": {"map@r": "x"}}})],
)  # fmt: skip
def test_a_retrieval_is_left_out_before_what_is_wrong_with_it_is_used(field, value):
    record = run_record(**{**SEARCHED, "scores": scored(0.5), "test_set": "t" * 64, "seed": None})
    assert retrieval_problem(record) is None
    assert f"has the {field}" in str(retrieval_problem({**record, field: value}))
    assert "has the parameters" in str(retrieval_problem(record, whole=True))  # without what the probe prints


def test_a_retrieval_without_the_predictions_that_it_scores_is_named(tmp_path):
    rows = boards.predictions(np.random.default_rng(0), 1.0, tasks=1, images=4)
    whole = {**SEARCHED, "provenance": LATER, "scores": scored(0.5), "test_set": "t" * 64, "units": None}
    run = Store.create(tmp_path / "s.bb").put_run(run_record(**whole), rows, rows)
    with pytest.raises(BBError, match=rf"its run.json scores map@r, and its predictions.*Move {run.folder} out"):
        of_runs([run], "map@r")


def test_retrieval_reports_what_was_searched_here(tmp_path, monkeypatch):
    mine, theirs = (Store.create(tmp_path / f"{name}.bb") for name in ("mine", "theirs"))
    table = pl.DataFrame({"image_id": ["a"]})
    early = {"provenance": {"made": "2026-01-01"}, "scores": scored(0.4), "test_set": "t" * 64}
    ours = mine.put_run(run_record(**SEARCHED, **early), table, table)
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config of another machine"))
        late = {"provenance": LATER, "scores": scored(1.0)}
        theirs.put_run(run_record(**SEARCHED, **late, test_set="t" * 64), table, table)
        theirs.put_run(run_record(**SEARCHED, **late, test_set="u" * 64), table, table)
    merge(theirs, mine)
    (run,), notes = newest(list(Store.open(mine.root).runs()), "pics")
    assert run.digest == ours.digest
    assert f"{ours.digest[:12]} (made here) is used, not aaaaaaaaaaaa/" in notes[0]
    assert notes[1] == "1 runs of other queries, labels or metrics are left out; the newest made here are shown"


def test_a_difference_is_of_the_run_made_here(tmp_path, monkeypatch):
    store, table = Store.create(tmp_path / "s.bb"), pl.DataFrame({"image_id": ["a"]})
    ours = store.put_run(run_record(provenance={"made": "2026-01-01"}), table, table)
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config of another machine"))
        theirs = Store.open(store.root).put_run(run_record(provenance=LATER), table, table)
    runs = list(Store.open(store.root).runs())
    assert find_run(runs, "aaaa").digest == ours.digest and find_run(runs, theirs.digest).digest == theirs.digest
