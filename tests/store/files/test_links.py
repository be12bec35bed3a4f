"""Stores that came by rsync, tar or cp, with links, fifos and devices in them: nothing outside is read or changed."""

import os
import shutil
import stat
import sys
import time

import pytest

import bb
from bb.probe.heads.checkpoint import can_resume
from bb.store import BBError, Store
from bb.store.files.canonical_json import sha256_hex
from bb.store.files.directory import Linked, Refused
from bb.store.local.segment import encode_segment
from bb.store.maintenance.compact import compact
from bb.store.maintenance.gc import find_garbage, remove_garbage
from bb.store.maintenance.verify import repair, verify
from bb.store.storage.local import Folder
from bb.store.sync.plan import plan_pull
from bb.store.sync.selection import Selection
from bb.store.sync.staging import landing
from bb.store.sync.transfer import pull
from tests.helpers.full_store import A, B, call, everything, here, labels_table, segments, store, template, tree
from tests.helpers.stores import features, images, run_record

__all__ = ["call", "here", "store", "template"]

OLD = time.time() - 3 * 86400

# One of each kind of file and folder that a store has. `*` stands for the first name there is.
PLACES = (
    "zarr.json", "index.json", "spaces", "collections", "labels", "runs", "heads", "signatures", "local", "tmp",
    "aside", "index", "index/rows", "index/rows/*", "index/rows/*/*", "tmp/pull", "tmp/pull/*", "tmp/heads", "tmp/old",
    "aside/spaces", "aside/spaces/*", "aside/spaces/*/segments", "aside/spaces/*/segments/*", "aside/heads",
    "spaces/zarr.json", "spaces/*", "spaces/*/zarr.json", "spaces/*/segments", "spaces/*/adopted",
    "spaces/*/adopted/*", "spaces/*/segments/zarr.json", "spaces/*/segments/*", "spaces/*/segments/*/zarr.json",
    "spaces/*/segments/*/image_sha256", "spaces/*/segments/*/img_features/c",
    "spaces/*/segments/*/img_features/c/0/0", "spaces/*/segments/*/image_id/zarr.json", "collections/*",
    "collections/*/*", "labels/*", "labels/*/*", "runs/*", "runs/*/*", "runs/*/*/run.json",
    "runs/*/*/predictions.parquet", "heads/*", "signatures/*", "local/*",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(template, tmp_path_factory):
    """The template with an index, leftovers, and something set aside."""
    root = tmp_path_factory.mktemp("whole") / "s.bb"
    shutil.copytree(template, root)
    leftovers = (
        f"aside/heads/{'1' * 64}.safetensors", f"aside/spaces/{A.key}/segments/{'2' * 64}/zarr.json", "tmp/old/part",
        f"tmp/heads/{'3' * 64}.safetensors", f"tmp/pull/{'4' * 64}/{'4' * 64}/zarr.json", "index.json",
        f"index/rows/{A.key}/{'6' * 64}.rows",
    )  # fmt: skip
    for path in leftovers:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


@pytest.fixture
def indexed(tmp_path):
    """A store with so many segments that their rows are remembered in a file."""
    made = Store.create(tmp_path / "many.bb")
    made.put_space(A)
    for i, key in enumerate(images(70).all_digests()):
        digest, objects = encode_segment(A, key[None], [f"pics/{i}"], features(A, 1, seed=i), {})
        for path, data in objects.items():
            file = made.root / "spaces" / A.key / "segments" / digest / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    assert len(made.rows(A)) == 70 and len(list((made.root / "index" / "rows" / A.key).glob("*.rows"))) == 1
    return made.root


def located(root, pattern):
    """The path of a pattern in a store; of spaces that of `A`, which has all kinds of parts."""
    path = root
    for step in pattern.split("/"):
        names = sorted(os.listdir(path)) if step == "*" else [step]
        names = [name for name in names if name != "zarr.json"] or names
        path = path / (A.key if step == "*" and A.key in names else names[0])
    return path


def replace_by_link(path, victim):
    """Moves what is there out of the store, and leaves a link to it; all of it is older than three days."""
    shutil.move(path, victim)
    for part in (*victim.rglob("*"), victim):
        os.utime(part, (OLD, OLD))
    path.symlink_to(victim)


def snapshot(victim):
    """Name, bytes, time and mode of all that is below a file or folder."""
    found = {}
    for part in (victim, *victim.rglob("*")):
        status = part.lstat()
        data = part.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(part)] = (data, status.st_mtime_ns, status.st_mode, status.st_nlink)
    return found


VERBS = (
    ("ls",), ("info", A.key[:12]), ("du",), ("why", A.key[:12], B.key[:12]), ("verify",), ("gc", "--yes"),
    ("compact",), ("index",), ("sign",), ("push", "DEST"), ("pull", "SOURCE"), ("verify", "--repair"),
    ("gc", "--unreferenced", "--yes"),
)  # fmt: skip


# Thirteen verbs for each place: every fourth place without --all.
@pytest.mark.parametrize(
    "pattern", [pytest.param(place, marks=[pytest.mark.e2e] if i % 4 else []) for i, place in enumerate(PLACES)]
)
def test_no_verb_follows_a_link_out_of_the_store(whole, template, call, tmp_path, pattern):
    root, victim = tmp_path / "s.bb", tmp_path / "victim"
    shutil.copytree(whole, root)
    replace_by_link(located(root, pattern), victim)
    before = snapshot(victim)
    outside = everything(tmp_path)
    bb_key = tmp_path / "config" / "key"
    call("keygen", "--to", bb_key)
    report(root)  # before others repair the store, and labels are added among which a probe would have to choose
    assert snapshot(victim) == before
    for verb in VERBS:
        words = [{"DEST": tmp_path / "dest.bb", "SOURCE": template}.get(word, word) for word in verb]
        words += ["--key", bb_key] if verb == ("sign",) else []
        status, _, err = call(*words, "--store", root)
        assert status in (0, 1), (verb, err)
        assert snapshot(victim) == before, verb
    in_python(root)
    assert snapshot(victim) == before
    new = {name for name in everything(tmp_path) if name.partition("/")[0] not in ("s.bb", "config", "dest.bb")}
    assert new <= {*outside, "features.bb"}


def in_python(root):
    """What extraction and probing do with a store."""
    steps = (
        lambda s: s.rows(A, afresh=True),
        lambda s: s.read(A, images(20), images(20).table["image_id"].to_list()),
        lambda s: s.put_segment(A, images(3, salt="z").all_digests(), ["x/a"] * 3, features(A, 3, seed=9), {}),
        lambda s: s.put_collection(images(5)),
        lambda s: s.put_labels("newt", labels_table(["a", "b"]), collection="newt", licence="MIT"),
        lambda s: s.put_head(b"another head"),
        lambda s: s.put_run(run_record(space=A.key), images(3).table, images(3).table),
        lambda s: [compact(s, where) for where in s.spaces()],
        lambda s: repair(s, verify(s)),
    )
    for step in steps:
        try:
            step(Store.open(root))
        except BBError:
            continue
        except OSError as error:
            assert error.filename is None or str(error.filename).startswith(str(root)), error


def report(root):
    for words in (("report",), ("probe", "newt", "--n-train", "2")):
        sys.argv = ["bb", *words, "--store", str(root)]
        with pytest.raises(SystemExit) as caught:
            bb.main()
            sys.exit(0)
        assert caught.value.code in (0, 1), words


@pytest.mark.parametrize("name", ["spaces", "collections", "tmp", "index", "aside", "local", "zarr.json", "runs"])
def test_a_store_whose_own_folder_is_a_link_is_refused(store, template, call, tmp_path, name):
    (store.root / name).exists() or (store.root / name).mkdir()
    replace_by_link(store.root / name, tmp_path / "victim")
    status, out, err = call("ls", "--store", store.root)
    assert (status, out) == (1, "")
    assert f"{store.root / name} is a link, which bb does not follow inside a store" in err
    assert "remove it, or replace it by what it points to" in err
    with pytest.raises(Linked):
        plan_pull(Folder(template), store.root, Selection())


def test_the_root_may_be_a_link(store, tmp_path, call):
    """As users put a large store on another disk."""
    link = tmp_path / "features.bb"
    link.symlink_to(store.root)
    before = tree(store.root)
    assert call("verify", "--store", link)[0] == 0
    Store.open(link).put_head(b"new")
    assert tree(store.root).keys() - before.keys() == {f"heads/{sha256_hex(b'new')}.safetensors"}
    assert call("gc", "--yes", "--store", link)[0] == 0


def test_gc_removes_links_and_not_what_they_lead_to(store, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"a")
    for name in ("tmp/x", "tmp/pull/y", "aside/heads/z", "index/rows/w"):
        (store.root / name).parent.mkdir(parents=True, exist_ok=True)
        (store.root / name).symlink_to(photos)
        os.utime(store.root / name, (OLD, OLD), follow_symlinks=False)
    os.utime(photos, (OLD, OLD))
    found = find_garbage(store)
    assert sorted(g.path.name for g in found) == ["w", "x", "y", "z"] and {g.n_bytes for g in found} == {0}
    for garbage in found:
        remove_garbage(store, garbage)
    assert os.listdir(photos) == ["a.jpg"] and not os.path.lexists(store.root / "tmp" / "x")
    with pytest.raises(BBError, match="is not in"):
        remove_garbage(store, type(found[0])(photos, 0, ""))


def test_an_index_folder_that_is_a_link_loses_nothing(indexed, tmp_path):
    """A probe over many segments removes outdated indexes."""
    replace_by_link(indexed / "index" / "rows" / A.key, tmp_path / "victim")
    (tmp_path / "victim" / "thesis.tex").write_text("x")
    before = snapshot(tmp_path / "victim")
    for afresh in (False, True):
        with pytest.raises(Linked, match="is a link"):
            Store.open(indexed).rows(A, afresh=afresh)
    assert snapshot(tmp_path / "victim") == before


def test_a_link_among_indexes_is_removed_alone(indexed, tmp_path):
    (tmp_path / "victim").write_text("x")
    link = indexed / "index" / "rows" / A.key / "other.rows"
    link.symlink_to(tmp_path / "victim")
    assert len(Store.open(indexed).rows(A, afresh=True)) == 70
    assert (tmp_path / "victim").read_text() == "x" and not os.path.lexists(link)


# Pull goes on with what it began itself


@pytest.mark.parametrize("kind", ["link", "hard link", "file"])
def test_a_pull_goes_on_with_nothing_that_came_with_the_store(store, here, tmp_path, kind):
    folder = segments(store.root)[0]
    pull(plan_pull(Folder(store.root), here, Selection(runs=True)))
    victims = {}
    for path in ("image_id/c/0", "zarr.json", "img_features/c/0/0", "../lock"):
        victim = tmp_path / f"victim-{len(victims)}"
        victim.write_text("alias ll=ls\n")
        os.utime(victim, (OLD, OLD))
        file = here / "tmp" / "pull" / folder.name / folder.name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            file.symlink_to(victim)
        elif kind == "hard link":
            os.link(victim, file)
        else:
            file.write_text("half of something")
        victims[victim] = victim.stat().st_mtime_ns
    outcome = pull(plan_pull(Folder(store.root), here, Selection()))
    assert outcome.faults == [] and tree(here) == tree(store.root)
    for victim, moment in victims.items():
        assert victim.read_text() == "alias ll=ls\n" and victim.stat().st_mtime_ns == moment
    assert verify(Store.open(here)).faults == [] and list((here / "tmp" / "pull").iterdir()) == []


def test_a_staging_folder_that_is_a_link_is_replaced(store, here, tmp_path):
    folder, victim = segments(store.root)[0], tmp_path / "victim"
    (here / "tmp" / "pull").mkdir(parents=True)
    victim.mkdir()
    (here / "tmp" / "pull" / folder.name).symlink_to(victim)
    assert pull(plan_pull(Folder(store.root), here, Selection())).faults == []
    assert list(victim.iterdir()) == [] and tree(here) == tree(store.root)


def test_a_half_pull_is_gone_on_with_by_this_user_alone(store, here, monkeypatch, tmp_path):
    """A copy of it, or another user's, begins anew."""
    here.mkdir()
    begin = "a" * 64

    def left(root):
        with pytest.raises(OSError, match="cut"), landing(root, begin) as content:
            there = sorted(path.name for path in content.iterdir())
            (content / "half").write_bytes(b"x")
            raise OSError(5, "cut")
        return there

    assert [left(here), left(here)] == [[], ["half"]]
    shutil.copytree(here, tmp_path / "copy.bb")
    assert left(tmp_path / "copy.bb") == []
    monkeypatch.setenv("BB_CACHE", str(tmp_path / "another cache"))
    assert left(here) == []
    assert stat.S_IMODE((tmp_path / "another cache" / "ownership.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("home", [True, False])
def test_a_cache_that_can_not_be_written_only_begins_anew(store, here, monkeypatch, tmp_path, home):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    if home:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("BB_CACHE", str(tmp_path / "file" / "cache"))
    else:
        for name in ("BB_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("pathlib.Path.home", homeless)
    assert pull(plan_pull(Folder(store.root), here, Selection())).faults == [] and tree(here) == tree(store.root)


def test_training_goes_on_with_no_state_that_came_with_the_store(tmp_path):
    import threading

    from tests.helpers.heads import RECIPES, trained

    stop = threading.Event()
    stop.set()
    mine = tmp_path / "a.bb" / "tmp" / "heads" / "x.safetensors"
    trained(RECIPES["hard"], checkpoint=mine, stop=stop)
    assert can_resume(mine)
    theirs = tmp_path / "b.bb" / "tmp" / "heads" / "x.safetensors"
    shutil.copytree(mine.parent, theirs.parent)
    assert not can_resume(theirs)
    victim = tmp_path / "victim"
    victim.mkdir()
    shutil.rmtree(theirs.parent)
    theirs.parent.symlink_to(victim)
    with pytest.raises(Linked):
        trained(RECIPES["hard"], checkpoint=theirs, stop=stop)
    assert list(victim.iterdir()) == []


# What is no regular file, and what is swapped in meanwhile


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "folder"])
def test_special_files_are_never_opened(store, tmp_path, kind):
    """A fifo would block for ever, and some devices act when they are opened."""
    path = store.root / "heads" / f"{'5' * 64}.safetensors"
    make_special(path, kind)
    for read in (
        lambda: store.directory.open("heads/" + path.name),
        lambda: store.directory.read("heads/" + path.name, 9),
    ):
        with pytest.raises(Refused, match=f"{path} is a .*, not a file. Move it out of the store."):
            read()
    with pytest.raises(BBError, match="is not a file"):
        store.head(path.stem)
    assert [fault.bad for fault in verify(store).faults] == [path]
    repair(store, verify(store))
    assert not os.path.lexists(path) and verify(store).faults == []


@pytest.mark.parametrize(
    "pattern",
    (
        *("zarr.json", "tmp", "spaces/*/zarr.json", "spaces/*/adopted/*", "spaces/*/segments/*/zarr.json"),
        *("spaces/*/segments/*/img_features/c/0/0", "collections/*/*", "labels/*/*", "runs/*/*/run.json", "local/*"),
        *("index/rows/*/*", "heads/*", "signatures/*"),
    ),
)
def test_a_fifo_anywhere_blocks_nothing(whole, call, tmp_path, pattern):
    root = tmp_path / "s.bb"
    shutil.copytree(whole, root)
    path = located(root, pattern)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    os.mkfifo(path)
    for verb in (("ls",), ("verify",), ("push", tmp_path / "dest.bb"), ("verify", "--repair"), ("gc", "--yes")):
        assert call(*verb, "--store", root)[0] in (0, 1)
    in_python(root)


def test_a_link_swapped_in_meanwhile_is_not_followed(store, tmp_path, monkeypatch):
    """Between the look at a file and its opening, and between one folder and the next."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "secret").write_text("secret")
    real = os.stat
    folder = store.root / "heads"
    (folder / "secret").write_text("mine")

    def swap_file(name, **options):
        found = real(name, **options)
        if name == "secret":
            (folder / "secret").unlink()
            (folder / "secret").symlink_to(victim / "secret")
        return found

    with monkeypatch.context() as patched:
        patched.setattr("bb.store.files.directory.os.stat", swap_file)
        with pytest.raises(Linked):
            store.directory.read("heads/secret", 100)
    opened = os.open

    def swap_folder(name, flags, *mode, **options):
        if name == "heads":
            shutil.rmtree(folder)
            folder.symlink_to(victim)
        return opened(name, flags, *mode, **options)

    with monkeypatch.context() as patched:
        patched.setattr("bb.store.files.directory.os.open", swap_folder)
        with pytest.raises(Linked):
            store.directory.read("heads/secret", 100)


@pytest.mark.parametrize("path", ["..", "../x", "heads/../../x", "/etc/passwd", "heads//x", "./heads"])
def test_paths_that_lead_out_are_refused(store, path):
    with pytest.raises(ValueError, match="is not a path below"):
        store.directory.read(f"{path}/x", 10)


def test_a_file_with_a_second_name_is_not_written_in_place(store, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    os.link(victim, store.root / "heads" / "half")
    with pytest.raises(Refused, match="has a second name"):
        store.directory.append("heads/half")
    with pytest.raises(FileExistsError):
        store.directory.create("heads/half")
    assert victim.read_text() == "mine"


def test_a_store_that_nests_too_deep_is_refused(store):
    path = store.root / "tmp"
    path.mkdir(exist_ok=True)
    for _ in range(60):
        path = path / "d"
        path.mkdir()
    with pytest.raises(BBError, match="is more than 40 folders deep, as no store is: remove it"):
        find_garbage(store)


def make_special(path, kind):
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    else:
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("only root makes devices")


# Repair


@pytest.mark.parametrize("inside", ["", "img_features/c/0/0", "zarr.json"])
def test_repair_removes_links_and_the_next_pull_goes_on(store, here, call, tmp_path, inside):
    """A link that was kept in `aside/` would be refused there by the next pull."""
    assert pull(plan_pull(Folder(store.root), here, Selection())).faults == []
    folder = here / segments(store.root)[0].relative_to(store.root)
    at = folder / inside if inside else folder
    victim = tmp_path / "victim"
    replace_by_link(at, victim)
    before = snapshot(victim)
    status, out, _ = call("verify", "--repair", "--store", here)
    assert status == 1 and f"removed the link {at}; what it points to is still there" in out
    assert not os.path.lexists(at) and not [path for path in (here / "aside").rglob("*") if path.is_symlink()]
    assert snapshot(victim) == before
    assert pull(plan_pull(Folder(store.root), here, Selection())).faults == []
    assert verify(Store.open(here)).faults == [] and folder.is_dir() and not folder.is_symlink()


@pytest.mark.parametrize("fault", ["a flipped byte", "a link beside the arrays", "half of it"])
def test_a_pull_brings_anew_what_repair_set_aside(store, here, call, tmp_path, fault):
    assert pull(plan_pull(Folder(store.root), here, Selection())).faults == []
    folder = here / segments(store.root)[0].relative_to(store.root)
    chunk = folder / "img_features" / "c" / "0" / "0"
    for _ in range(2):  # of the second time, the copy in aside/ has a longer name
        if fault == "a flipped byte":
            chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
        elif fault == "half of it":
            chunk.write_bytes(chunk.read_bytes()[:-1])
        else:
            (folder / "img_features" / "more").symlink_to(tmp_path)
        assert call("verify", "--repair", "--store", here)[0] == 1 and not folder.exists()
        plan = plan_pull(Folder(store.root), here, Selection())
        assert plan.passed_over == [] and pull(plan).faults == []
        assert verify(Store.open(here)).faults == [] and folder.is_dir()
    assert len(list((here / "aside").glob("spaces/*/segments/*"))) == 2, "nothing is deleted"
