"""A store with one of everything, and what is compared of it."""

import hashlib
import os
import shutil

import numpy as np
import polars as pl
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bb.store import Collection, Entry, Store
from bb.store.files.atomic_write import publish_file
from bb.store.files.canonical_json import sha256_hex
from bb.store.files.paths import locate
from bb.store.format.adopted import Adopted
from bb.store.signing.key import Key
from bb.store.signing.statement import SignedItem, sign_items
from tests.helpers.command_line import caller
from tests.helpers.stores import features, images, put, run_record, space

A, B, OLD = space(), space("patch", weights="2" * 64), space(code="9" * 40)


NEWT = Collection.from_entries(
    "newt", [Entry(f"newt-{i}", hashlib.sha256(b"newt%d" % i).digest(), 1, 8, 8) for i in range(12)]
)


_PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(32))


KEY = Key(_PRIVATE, _PRIVATE.public_key().public_bytes_raw().hex(), "Lab A")


def labels_table(ids):
    n = len(ids)
    columns = {"id": ids, "task_cluster": ["c"] * n, "task_subcluster": ["s"] * n, "task": ["t"] * n}
    halves = {"label": [i % 2 for i in range(n)], "split": ["train" if i < n // 2 else "test" for i in range(n)]}
    return pl.DataFrame({**columns, **halves})


def spread(store, where, collection, x, parts, backbone):
    """The rows of a collection in several segments, whose digests are the same each time; their folders."""
    ids = [f"{collection.name}/{i}" for i in collection.table["image_id"]]
    return [
        put(store, where, x[rows], collection.all_digests()[rows], [ids[i] for i in rows], {"backbone": backbone})
        for rows in np.array_split(np.arange(len(ids)), parts)
    ]


def lay_named(root, folder, data, suffix):
    """One file named by its digest."""
    publish_file(root, data, root / folder / f"{sha256_hex(data)}{suffix}")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Two backbones on two collections, an older space adopted, labels, runs, a head, a signature, a local record."""
    folder = tmp_path_factory.mktemp("moving")
    made = Store.create(folder / "template.bb")
    pics, newt = made.put_collection(images(20)), made.put_collection(NEWT)
    spread(made, A, pics, features(A, 20), 4, "timm:tiny/untrained")
    spread(made, A, newt, features(A, 12, seed=1), 2, "timm:tiny/untrained")
    spread(made, B, pics, features(B, 20, seed=2), 2, "open_clip:ViT-S/x")
    spread(made, OLD, newt, features(OLD, 12, seed=3), 1, "timm:old")
    made.put_adopted(Adopted(OLD.key, A.key, (OLD.code, A.code), ("a" * 64,), 0.0, 1e-3, {}), A)
    made.put_labels("newt", labels_table(NEWT.table["image_id"].to_list()), collection="newt", licence="MIT")
    lay_named(made.root, "heads", b"a head", ".safetensors")
    lay_named(made.root, "signatures", sign_items(KEY, [SignedItem("head", "", sha256_hex(b"a head"))]), ".json")
    table = pl.DataFrame({"task": ["t"], "image_id": ["a"], "y": [1]})
    for run_id, where, name, backbone in (
        ("a" * 64, A, "newt", "timm:tiny/untrained"), ("b" * 64, B, "pics", "open_clip:ViT-S/x"),
    ):  # fmt: skip
        facts = {"run_id": run_id, "space": where.key, "collection_name": name, "backbones": [backbone]}
        facts["collection"] = made.collections(name)[0].digest
        made.put_run(run_record(**facts), table, table)
    return made.root


@pytest.fixture
def store(template, tmp_path):
    shutil.copytree(template, tmp_path / "a.bb")
    return Store.open(tmp_path / "a.bb")


@pytest.fixture
def here(tmp_path):
    return tmp_path / "b.bb"


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Runs `bb store …`; (exit status, standard output, standard error)."""
    for name in [name for name in os.environ if name.startswith("BB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys, "store")


def tree(root):
    """What of a folder is a store's: path → bytes."""
    files = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    return {path: data for path, data in files.items() if locate(path)}


def everything(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob("*"))


def segments(root, where=A):
    return sorted((root / "spaces" / where.key / "segments").glob("*/"))
