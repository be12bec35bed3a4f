"""Bounds on what is read of a store that anybody may have made: sizes, JSON, types; the same for every reader."""

import io
import json
import shutil
import sys

import polars as pl
import pytest

import bb
from bb.store import BBError, Store
from bb.store.errors import Malformed
from bb.store.files.canonical_json import sha256_hex
from bb.store.files.limits import (
    MAX_HEAD_BYTES,
    MAX_JSON_BYTES,
    MAX_MODEL_BYTES,
    MAX_RUN_BYTES,
    MAX_SIGNATURE_BYTES,
    MAX_TABLE_BYTES,
    max_bytes,
    parse_json,
    parse_toml,
)
from bb.store.files.paths import locate
from bb.store.format.layout import check_provenance
from bb.store.format.parquet import FEW_ROWS, read_table
from bb.store.local.runs import read_run
from bb.store.local.segment import group_json
from bb.store.signing.statement import SignedItem, sign_items
from bb.store.storage.local import Folder
from bb.store.storage.read_cache import ReadCache
from tests.helpers.signers import A
from tests.helpers.stores import features, images, run_record, segments, space, spread

DIGEST = "1" * 64


@pytest.mark.parametrize(
    "raw, fact",
    [
        (b"[NaN]", "the number NaN"),
        (b"[-Infinity]", "the number -Infinity"),
        (b"[1e999]", "the number 1e999"),
        (b"1" + b"0" * 4000, "an integer of 4001 digits"),
        (b"[9223372036854775808]", "an integer of 19 digits"),
        (rb'["\ud800"]', "not UTF-8"),
        (rb'{"\uDFFF": 1}', "not UTF-8"),
        (b'["\xff"]', "not UTF-8"),
        ("[1]".encode("utf-16"), "not UTF-8"),
        (b"[" * 40 + b"]" * 40, "nests deeper than 32"),
        (b"[" * 100_000, "nests deeper than 32"),
        (b" " * 2**20 + b"1", "1048577 bytes, at most 1048576"),
        (b"{", "line 1"),
    ],
)
def test_json_that_canonical_json_lacks_is_refused(raw, fact):
    with pytest.raises(ValueError, match=fact):
        parse_json(raw)


def test_json_that_bb_writes_is_read():
    value = {"a": [1, -(2**63), 0.5, None, True, "\N{GRINNING FACE}é\\ud800"], "b": {}}
    assert parse_json(json.dumps(value).encode()) == parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    "path, most",
    [
        ("zarr.json", MAX_JSON_BYTES),
        (f"spaces/{DIGEST}/zarr.json", MAX_JSON_BYTES),
        (f"spaces/{DIGEST}/segments/{DIGEST}/zarr.json", MAX_JSON_BYTES),
        (f"spaces/{DIGEST}/adopted/{DIGEST}.json", MAX_JSON_BYTES),
        (f"collections/pics/{DIGEST}.parquet", MAX_TABLE_BYTES),
        (f"labels/newt/{DIGEST}.parquet", MAX_TABLE_BYTES),
        (f"runs/{DIGEST}/{DIGEST}/run.json", MAX_RUN_BYTES),
        (f"runs/{DIGEST}/{DIGEST}/train.parquet", MAX_TABLE_BYTES),
        (f"heads/{DIGEST}.safetensors", MAX_HEAD_BYTES),
        (f"models/{DIGEST}/{DIGEST}.safetensors", MAX_MODEL_BYTES),
        (f"signatures/{DIGEST}.json", MAX_SIGNATURE_BYTES),
    ],
)
def test_each_file_has_one_bound(path, most):
    assert max_bytes(*locate(path)) == most


@pytest.fixture
def store(tmp_path):
    made = Store.create(tmp_path / "s.bb")
    spread(made, space(), made.put_collection(images(20)), features(space(), 20), 2)
    return made


@pytest.mark.e2e
def test_a_large_signature_stops_no_reader(store, tmp_path):
    raw = sign_items(A, [SignedItem("run", f"{i:064x}", f"{i:064x}") for i in range(32_768)])
    assert len(raw) > 4 * 2**20
    (store.root / "signatures").mkdir()
    (store.root / "signatures" / f"{sha256_hex(raw)}.json").write_bytes(raw)
    too_large = b"x" * (MAX_SIGNATURE_BYTES + 1)
    (store.root / "signatures" / f"{sha256_hex(too_large)}.json").write_bytes(too_large)
    mirror = ReadCache.open(Folder(store.root), folder=tmp_path / "cache")
    for reader in (store, Store.open(mirror.root)):
        assert [len(signature.items) for signature in reader.statements().signatures] == [32_768]
        assert len(reader.segments(space())) == (2 if reader is store else 0)


@pytest.mark.parametrize(
    "content",
    [b"[]", b"7", b"{", b"", b'{"host": NaN}', b'{"host": "h", "user": "u", "argv": 7}', b"\xff", b"[" * 10**5,
     b'{"host": "h", "user": "u", "argv": ["a", 1]}', b'{"host": "h", "argv": []}', b" " * 2**21,
     rb'{"host": "\ud800", "user": "u", "argv": []}'],
)  # fmt: skip
def test_a_local_record_that_bb_did_not_write_counts_for_nothing(store, content):
    (digest, _) = store.segment_digests(space())
    assert store.local(digest)["argv"]
    (store.root / "local" / f"{digest}.json").write_bytes(content)
    assert store.local(digest) == {}


def test_a_command_line_that_is_not_utf8_is_recorded(store, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bb", "extract", "--data", "x=/data/\udce9t\udce9"])
    run = store.put_run(run_record(space=space().key), pl.DataFrame({"y": [1]}), pl.DataFrame({"y": [1]}))
    assert store.local(run.digest)["argv"][-1] == "x=/data/?t?"


# Provenance: JSON of an unexpected kind in segments that have the digest in their name

HOSTILE = {
    "half a surrogate pair": {"backbone": "timm:\ud800 x"},
    "NaN": {"speed": float("nan")},
    "infinity": {"speed": float("inf")},
    "a huge number": {"n": 10**4000},
    "a number for versions": {"versions": 7},
    "a number for a version": {"versions": {"torch": 2.1}},
    "a list for a date": {"made": [1]},
    "a mapping for a device": {"device": {"a": "b"}},
    "a list for a backbone": {"backbone": ["a", {"b": 1}]},
    "a deep nest": {"x": json.loads("[" * 50 + "]" * 50)},
    "merged within": {"merged": [{"versions": 7}]},
    "escapes": {"backbone": "timm:\u202egp\x1b[31mj.\u0007\r\u2066"},
}


def replace_provenance(store, changes):
    """Seals every segment anew, its provenance changed, under the digest that its manifest then has."""
    for folder in segments(store):
        manifest = json.loads((folder / "zarr.json").read_bytes())
        manifest["attributes"]["bb"]["provenance"] |= changes
        raw = json.dumps(manifest).encode()
        folder = folder.rename(folder.with_name(sha256_hex(raw)))
        (folder / "zarr.json").write_bytes(raw)


@pytest.fixture
def call(monkeypatch, capsys, store):
    def run(*arguments):
        monkeypatch.chdir(store.root.parent)
        monkeypatch.setattr(sys, "argv", ["bb", *map(str, arguments), "--store", str(store.root)])
        with pytest.raises(SystemExit) as caught:
            bb.main()
            sys.exit(0)
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return run


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_provenance_ends_in_a_message(store, call, what):
    replace_provenance(store, HOSTILE[what])
    key = space().key[:12]
    verbs = ["store ls", f"store info {key}", "store verify", f"store why {key} {key}", "store du",
             f"store compact {key}", "store push p.bb", "report newt"]  # fmt: skip
    for verb in verbs:
        status, out, err = call(*verb.split())
        assert "Traceback" not in err and all(c.isprintable() or c == "\n" for c in out + err), verb
        if what != "escapes" and verb != "report newt":
            assert status in (0, 1) and (status == 0 or "is damaged" in out + err or "left out" in out + err), verb
    if what != "escapes":
        assert "is damaged: its" in call("store", "verify")[1]


def test_provenance_that_bb_writes_is_taken():
    check_provenance({"backbone": "x", "device": "cpu", "made": "2026", "versions": {"a": None, "b": "1"}, "new": [1]})
    with pytest.raises(Malformed, match=r"its provenance has the versions 7, which are not text by name"):
        check_provenance({"versions": 7})


# Tables


def test_a_table_with_more_rows_than_its_bytes_can_tell_apart_is_refused():
    rows = pl.DataFrame({"image_id": pl.Series(["a"]).extend_constant("a", FEW_ROWS)})
    buffer = io.BytesIO()
    rows.write_parquet(buffer, compression="zstd")
    with pytest.raises(ValueError, match=f"claims {FEW_ROWS + 1} rows in {len(buffer.getvalue())} bytes, {FEW_ROWS}"):
        read_table(buffer.getvalue(), {"image_id": pl.String()})
    assert read_table(buffer.getvalue()).height == FEW_ROWS + 1, "a run may repeat a list in each of its tasks"


@pytest.mark.parametrize(
    "table, fact",
    [
        ({"score": ["x"]}, "column score is of type String"),
        ({"score": [[1.0]]}, "column score is of type List"),
        ({"task": [1]}, "column task is of type Int64"),
        ({"image_id": [b"x"]}, "column image_id is of type Binary"),
        ({"y_true": pl.Series([None], dtype=pl.UInt8)}, "column y_true is missing 1 values"),
    ],
)
def test_the_columns_of_a_run_have_their_types(store, table, fact):
    run = store.put_run(run_record(space=space().key), pl.DataFrame(table), pl.DataFrame({"y": [1]}))
    with pytest.raises(BBError, match=f"is damaged: .*predictions.parquet is not a table: its {fact}"):
        run.predictions()


@pytest.mark.parametrize("change", [b'"n_train": NaN', b'"n_train": 1e999', rb'"n_train": "\ud800"'])
def test_a_run_with_json_of_an_unexpected_kind_is_damaged(store, change):
    run = store.put_run(run_record(space=space().key), pl.DataFrame({"y": [1]}), pl.DataFrame({"y": [1]}))
    raw = (run.folder / "run.json").read_bytes().replace(b'"n_train": null', change)
    folder = shutil.copytree(run.folder, run.folder.with_name(sha256_hex(raw)))
    (folder / "run.json").write_bytes(raw)
    with pytest.raises(BBError, match="is damaged: its run.json can't be read: it holds"):
        read_run(folder)


@pytest.mark.parametrize("raw", [b"[]", b"NaN", b"{", group_json({}), b'{"attributes": {"bb": 1}}', b" " * 2**21])
def test_what_is_not_a_store_is_said(tmp_path, raw):
    (tmp_path / "zarr.json").write_bytes(raw)
    with pytest.raises(BBError, match="is not a bb store"):
        Store.open(tmp_path)


def test_a_byte_order_mark_before_toml_is_passed_over():
    assert parse_toml('\ufeffstore = "a.bb"'.encode()) == {"store": "a.bb"}
