"""Labels in the store: shared where their licence allows it, so that a machine without images and torch can probe."""

import json
import os
import shutil
import subprocess
import sys

import polars as pl
import pytest

from bb.probe.tasks.newt import parse_labels, read_labels
from bb.probe.tasks.stored_labels import find_labels, labels_of
from bb.store import BBError, Store
from bb.store.files.canonical_json import sha256_hex
from bb.store.format.labels import SHAREABLE, LabelTable, shareable
from bb.store.maintenance.verify import repair, verify
from bb.store.sync.unshared_labels import unshared
from tests.helpers.command_line import call, newt, own_place

__all__ = ["call", "newt", "own_place"]  # fixtures

VIT = "timm:test_vit/untrained"


WITHOUT_TORCH = """
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "open_clip", "PIL", "safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "s.bb")


@pytest.fixture
def table(newt):
    return read_labels(newt / "newt2021_labels.csv").table


def settings(folder, newt=None, licence="CC-BY-4.0"):
    lines = [f'root = "{newt}"' if newt else "", f'licence = "{licence}"' if licence else ""]
    (folder / "bb.toml").write_text("[data.newt]\n" + "\n".join(lines) + "\n")


# In the store


def test_what_goes_in_comes_out(store, table):
    made = store.put_labels("newt", table, collection="newt", licence="cc-by-4.0")
    path = store.root / "labels" / "newt" / f"{made.digest}.parquet"
    assert sha256_hex(path.read_bytes()) == made.digest
    (found,) = store.labels("newt")
    assert (found.tasks, found.collection, found.licence, found.digest) == ("newt", "newt", "CC-BY-4.0", made.digest)
    assert labels_of(found).table.equals(table) and store.label_families() == ["newt"]
    plain = pl.read_parquet(path)
    columns = ["id", "task_cluster", "task_subcluster", "task", "label", "split"]
    assert plain.columns == ["collection", "licence", *columns]
    assert set(plain["licence"]) == {"CC-BY-4.0"} and parse_labels(plain).table.equals(table)
    assert verify(store).labels == 1 and verify(store).faults == []


def test_the_same_labels_are_published_once(store, table):
    first = store.put_labels("newt", table, collection="newt", licence="CC0-1.0")
    again = store.put_labels(
        "newt", table.sample(fraction=1, shuffle=True, seed=1), collection="newt", licence="CC0-1.0"
    )
    assert again.digest == first.digest and len(store.labels("newt")) == 1
    store.put_labels("newt", table, collection="newt", licence="CC-BY-4.0")
    assert len(store.labels("newt")) == 2
    assert find_labels(store, "newt", "newt").same_labels(first), "which say the same, so either serves"
    assert find_labels(store, "newt", "other") is None


def test_only_licences_that_allow_sharing(store, table):
    for licence in SHAREABLE:
        assert shareable(licence.lower()) == licence
    assert shareable("CC-BY-ND-4.0") is None and shareable("proprietary") is None
    with pytest.raises(BBError, match="labels of newt can't be put into a store: the licence secret is not on"):
        store.put_labels("newt", table, collection="newt", licence="secret")
    with pytest.raises(BBError, match="can't name a collection"):
        store.put_labels("../newt", table, collection="newt", licence="MIT")
    assert not (store.root / "labels").exists()


def forged(change):
    def make(path, table):
        plain = change(pl.read_parquet(path))
        path.unlink()
        plain.write_parquet(path)
        return path.rename(path.with_name(f"{sha256_hex(path.read_bytes())}.parquet"))

    return make


def cut(path, table):
    path.write_bytes(path.read_bytes()[:-9])
    return path


def linked(path, table):
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")
    return path


DAMAGES = {
    "cut": (cut, "its file does not have the digest in its name"),
    "a link": (linked, "is a link, which bb does not follow"),
    "a column": (forged(lambda t: t.drop("split")), "it has the columns collection String"),
    "two collections": (
        forged(lambda t: t.with_columns(collection=pl.Series(["a", "b"] * (t.height // 2)))),
        "it names 2 collections, one is needed",
    ),
    "no rows": (forged(lambda t: t.head(0)), "it names 0 collections, one is needed"),
    "a name": (forged(lambda t: t.with_columns(collection=pl.lit("../x"))), "'../x' can't name a collection"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_tables_are_refused_and_set_aside(store, table, case):
    damage, said = DAMAGES[case]
    made = store.put_labels("newt", table, collection="newt", licence="MIT")
    path = damage(store.root / "labels" / "newt" / f"{made.digest}.parquet", table)
    with pytest.raises(BBError, match=f"labels newt@{path.stem[:12]} are damaged: .*{said}"):
        store.labels("newt")
    found = verify(store)
    assert [fault.bad for fault in found.faults] == [path]
    repair(store, found)
    assert store.labels("newt") == [] and verify(store).faults == []


def test_rows_that_make_no_tasks_are_refused_by_the_probe(store, table):
    made = LabelTable.from_table("newt", table.head(3), collection="newt", licence="MIT")
    with pytest.raises(BBError, match=f"the store's labels {made.digest[:12]}, task 'task0': no train image"):
        labels_of(made)


def test_what_is_not_shared_is_said_with_the_reason(store, table):
    store.put_labels("newt", table, collection="newt", licence="CC-BY-4.0")
    said = unshared(store, ["newt", "mine", "yours", "theirs"], {"mine": "CC-BY-ND-4.0", "yours": "CC0-1.0"})
    mine, theirs, yours = said
    assert mine.startswith(f"labels of mine are not in {store.root}, so others need a file of their own to probe: ")
    assert mine.endswith("the licence CC-BY-ND-4.0 is not on bb's list of those that allow it (docs/store.md)")
    assert "no licence is known; if theirs allows sharing, write it below [data.theirs] in bb.toml" in theirs
    assert "`bb extract --data yours=DIR` puts them there" in yours
    assert unshared(store, ["newt"]) == []


# In the verbs


def test_extract_and_probe_share_what_the_licence_allows(call, newt, own_place):
    settings(own_place, newt, None)
    call("extract", "--ckpt", VIT)
    call("probe", "newt", "--n-train", "2")
    assert Store.open("features.bb").labels("newt") == []
    settings(own_place, newt, "CC-BY-ND-4.0")
    call("extract", "--ckpt", VIT)
    assert Store.open("features.bb").labels("newt") == []
    settings(own_place, newt)
    call("extract", "--ckpt", VIT, "--dry-run")
    call("extract", "--ckpt", VIT, "--limit", 2)
    assert Store.open("features.bb").labels("newt") == []
    call("probe", "newt", "--n-train", "2")
    (made,) = Store.open("features.bb").labels("newt")
    assert f"labels newt@{made.digest[:12]}: newt on newt, 2 tasks, 64 rows, CC-BY-4.0" in call("store", "ls")[1]
    assert "1 label tables, 1 runs: 0 faults" in call("store", "verify")[1]
    shutil.rmtree("features.bb/labels")
    call("extract", "--ckpt", VIT)
    assert [table.digest for table in Store.open("features.bb").labels("newt")] == [made.digest]


def test_labels_that_are_bad_do_not_stop_the_embedding(call, newt, own_place):
    settings(own_place, newt)
    (newt / "newt2021_labels.csv").write_text("id,label\n")
    status, out, err = call("extract", "--ckpt", VIT)
    assert status == 0 and "64 computed" in out
    assert "the labels of newt are not put into the store: " in err and "does not have the columns" in err


def test_a_damaged_table_is_no_bar_where_there_is_a_file(call, newt, own_place):
    settings(own_place, newt)
    call("extract", "--ckpt", VIT)
    (path,) = Store.open("features.bb").root.glob("labels/newt/*")
    path.write_bytes(b"")
    status, _, err = call("probe", "newt", "--n-train", "2")
    assert status == 0 and "the labels of newt are not put into the store: labels newt@" in err
    (newt / "newt2021_labels.csv").unlink()
    status, _, err = call("probe", "newt", "--n-train", "2")
    assert status == 1 and "are damaged: its file does not have the digest in its name. Move" in err


@pytest.mark.e2e
def test_a_machine_without_images_torch_or_labels_gets_the_same_scores(call, newt, own_place, tmp_path):
    settings(own_place, newt)
    call("extract", "--ckpt", VIT)
    ours = json.loads(call("probe", "newt", "--n-train", "4,10", "--json")[1])
    there = tmp_path / "laptop"
    shutil.copytree("features.bb", there / "features.bb", ignore=shutil.ignore_patterns("runs", "local", "tmp"))
    newt.rename(tmp_path / "gone")
    script = f"import sys\n{WITHOUT_TORCH}\nimport bb\nsys.argv[0] = 'bb'\nbb.main()"
    command = [sys.executable, "-c", script, "probe", "newt", "--n-train", "4,10", "--json"]
    done = subprocess.run(command, cwd=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "labels from the store: newt on newt, 2 tasks, 64 rows, CC-BY-4.0" in done.stderr
    theirs = json.loads(done.stdout)
    assert all(run["fresh"] for run in theirs)
    assert [run["run_id"] for run in theirs] == [run["run_id"] for run in ours]
    assert [run["scores"] for run in theirs] == [run["scores"] for run in ours]
    stores = [Store.open("features.bb"), Store.open(there / "features.bb")]
    for here, elsewhere in zip(*(store.runs() for store in stores), strict=True):
        assert here.predictions().equals(elsewhere.predictions())


def test_several_labels_of_a_collection_are_listed_and_chosen(call, newt, own_place):
    settings(own_place, newt)
    call("extract", "--ckpt", VIT)
    file = newt / "newt2021_labels.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], *(line for line in lines[1:] if ",task1," in line)]))
    call("extract", "--ckpt", VIT)
    os.remove(file)
    versions = Store.open("features.bb").labels("newt")
    status, _, err = call("probe", "newt", "--n-train", "2")
    assert status == 2 and "features.bb has several labels of newt; choose one:\n" in err
    for version in versions:
        assert f"  --labels @{version.digest[:12]}  newt on newt, " in err
        status, out, _ = call("probe", "newt", "--n-train", "2", "--labels", f"@{version.digest[:12]}", "--json")
        assert status == 0 and set(json.loads(out)[0]["scores"]["tasks"]) == set(version.table["task"])
    status, _, err = call("probe", "newt", "--labels", "@nothing")
    assert status == 2 and "--labels @nothing names no label table of features.bb; choose one:" in err
    status, _, err = call("probe", "newt", "--labels", "@")
    assert status == 2 and "--labels @ begins 2 label tables of features.bb; choose one:" in err
    shutil.rmtree("features.bb/labels")
    status, _, err = call("probe", "newt", "--labels", "@abc")
    assert status == 2 and "--labels @abc names no label table of features.bb; there are none." in err


@pytest.mark.parametrize(
    "content, message",
    [
        ("[data.newt]\nlicence = 4\n", "[data.newt] sets licence = 4, which is not an SPDX identifier"),
        ('[data.newt]\nlicence = "all rights"\n', 'not an SPDX identifier: write for example licence = "CC-BY-4.0"'),
        ("[data.newt]\n", '[data.newt] needs a line root = "/folder/of/images".'),
        ('[data.newt]\nroot = 3\nlicence = "MIT"\n', '[data.newt] needs a line root = "/folder/of/images".'),
    ],
)
def test_bad_licences_are_named(call, own_place, content, message):
    (own_place / "bb.toml").write_text(content)
    status, _, err = call("store", "ls")
    assert status == 2 and message in err


def test_a_licence_needs_no_folder(call, own_place):
    settings(own_place)
    Store.create("features.bb")
    status, _, err = call("probe", "newt")
    assert status == 2 and "where are the labels of newt? Give --data newt=DIR" in err
    status, _, err = call("extract", "--ckpt", VIT)
    assert status == 2 and "which images? No collection is given." in err


def test_pushing_says_which_labels_stay_and_pulling_for_a_probe_brings_the_others(call, newt, own_place):
    call("extract", "--ckpt", VIT, "--data", f"newt={newt}")
    status, _, err = call("store", "push", "there.bb")
    assert status == 0 and "note: labels of newt are not in features.bb, so others need a file of their own" in err
    settings(own_place, newt)
    ours = json.loads(call("probe", "newt", "--n-train", "2", "--json")[1])
    status, _, err = call("store", "push", "there.bb")
    assert status == 0 and "labels of newt are not" not in err
    os.remove("bb.toml")
    assert call("store", "pull", "there.bb", "--for", "newt", "--ckpt", VIT, "--store", "mine.bb")[0] == 0
    theirs = json.loads(call("probe", "newt", "--n-train", "2", "--store", "mine.bb", "--json")[1])
    assert [run["fresh"] for run in theirs] == [True]
    assert [(run["run_id"], run["scores"]) for run in theirs] == [(run["run_id"], run["scores"]) for run in ours]
