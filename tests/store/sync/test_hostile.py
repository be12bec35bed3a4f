"""Stores made to do harm, or damaged by chance: what is read is as declared, or refused with a message."""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bb.store import BBError, Store
from bb.store.errors import Malformed
from bb.store.files.canonical_json import canonical_json, sha256_hex
from bb.store.format.layout import decode_strings
from bb.store.local.segment import Segment
from bb.store.maintenance.verify import verify
from tests.helpers.examples import examples
from tests.helpers.hostile import IDS, NASTY, OBJECTS, X, lay, paths_in, replaced
from tests.helpers.stores import space


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile") / "s.bb"
    store = Store.create(root)
    store.put_space(space())
    return root


@st.composite
def mutations(draw):
    objects = dict(OBJECTS[draw(st.booleans())])
    path = draw(st.sampled_from(sorted(objects)))
    data = objects[path]
    kind = draw(
        st.sampled_from(["flip", "cut", "grow", "json", "gone"] if path.endswith("json") else ["flip", "cut", "grow"])
    )
    if kind == "flip":
        changed = bytearray(data)
        for _ in range(draw(st.integers(1, 3))):
            changed[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        objects[path] = bytes(changed)
    elif kind == "cut":
        objects[path] = data[: draw(st.integers(0, len(data) - 1))]
    elif kind == "grow":
        objects[path] = data + draw(st.binary(min_size=1, max_size=20))
    else:
        value = json.loads(data)
        where = draw(st.sampled_from(sorted(paths_in(value), key=repr)))
        if kind == "gone" and where:
            parent = value
            for key in where[:-1]:
                parent = parent[key]
            del parent[where[-1]]
        else:
            value = replaced(value, where, draw(st.sampled_from(NASTY)))
        objects[path] = json.dumps(value).encode()
    return objects, draw(st.booleans())


def everything_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.e2e
@settings(max_examples=examples(2000), suppress_health_check=list(HealthCheck), database=None)
@given(mutations())
def test_a_mutated_segment_is_refused_or_read_as_declared(place, mutation):
    """Without mended digests: read equal, or found by check_digests. With them: refused, or of the space's shape."""
    objects, sealed = mutation
    before = everything_below(place.parent)
    folder = lay(place, objects, sealed=sealed)
    laid = everything_below(place.parent)
    try:
        segment = Segment.open(folder, space())
        arrays = {name: segment.array(name) for name in ("image_sha256", "image_id", "img_features")}
        assert {name: array.shape for name, array in arrays.items()} == {
            "image_sha256": (segment.rows, 32),
            "image_id": (segment.rows,),
            "img_features": (segment.rows, 6),
        }
        assert arrays["img_features"].dtype == np.float16
        segment.check_digests()
        if not sealed:
            assert arrays["img_features"].tobytes() == X.tobytes()
            assert arrays["image_id"].tolist() == IDS
    except BBError as error:
        assert str(error)
    finally:
        assert everything_below(place.parent) == laid
        shutil.rmtree(folder)
    assert everything_below(place.parent) == before


@settings(max_examples=examples(150), suppress_health_check=list(HealthCheck), database=None)
@given(mutations())
def test_verify_never_crashes(place, mutation):
    objects, sealed = mutation
    folder = lay(place, objects, sealed=sealed)
    try:
        found = verify(Store.open(place))
        assert found.segments == 1
        assert all(fault.what and fault.bad in (folder, None) for fault in found.faults)
    finally:
        shutil.rmtree(folder)


def damaged(root, change, *, zstd=False, sealed=True):
    """The message with which a changed segment is refused."""
    objects = dict(OBJECTS[zstd])
    change(objects)
    folder = lay(root, objects, sealed=sealed)
    try:
        with pytest.raises(BBError) as caught:
            segment = Segment.open(folder, space())
            for name in segment.arrays:
                segment.array(name)
        return str(caught.value)
    finally:
        shutil.rmtree(folder)


def json_at(path, *where):
    """A change that sets a value in one of the JSON files."""
    *keys, last, value = where

    def change(objects):
        whole = json.loads(objects[path])
        inner = whole
        for key in keys:
            inner = inner[key]
        inner[last] = value
        objects[path] = json.dumps(whole).encode()

    return change


BB = ("attributes", "bb")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (json_at("zarr.json", *BB, "rows", 10**9), "it claims 1000000000 rows, between 1 and 65536 can be"),
        (json_at("zarr.json", *BB, "rows", True), "it claims True rows"),
        (json_at("zarr.json", *BB, "format", 2), "it has format 2, this bb reads 1"),
        (json_at("zarr.json", *BB, "space", "../x"), "its manifest has space '../x'"),
        (json_at("zarr.json", *BB, "objects", []), "its manifest has objects []"),
        (json_at("zarr.json", *BB, "provenance", {"merged": 3}), "its provenance has merged 3"),
        (json_at("zarr.json", *BB, "objects", "../../x", [1, "0" * 64]), "its manifest lists"),
        (json_at("zarr.json", *BB, "objects", "/etc/passwd", [1, "0" * 64]), "its manifest lists"),
        (json_at("zarr.json", "attributes", []), "its zarr.json says nothing of bb"),
        (json_at("img_features/zarr.json", "shape", [4, 7]), "its img_features has shape [4, 7], format 1 has [4, 6]"),
        (json_at("img_features/zarr.json", "data_type", "float64"), "its img_features has data_type 'float64'"),
        (json_at("img_features/zarr.json", "chunk_grid", "configuration", "chunk_shape", [1, 6]), "has chunk_grid"),
        (json_at("img_features/zarr.json", "storage_transformers", [{}]), "has storage_transformers [{}]"),
        (json_at("img_features/zarr.json", "codecs", [{"name": "pickle"}]), "has codecs [{'name': 'pickle'}]"),
        (json_at("img_features/zarr.json", "codecs", 0, "configuration", "endian", "big"), "has codecs"),
        (json_at("img_features/zarr.json", "codecs", []), "has codecs []"),
        (lambda o: o.update({"zarr.json": b"["}), "its zarr.json is not a JSON object"),
        (lambda o: o.update({"zarr.json": b'{"a":' * 50_000}), "its zarr.json is not a JSON object"),
        (lambda o: o.update({"zarr.json": b'{"a":' * 40 + b"1" + b"}" * 40}), "JSON object: it nests deeper than 32"),
        (lambda o: o.update({"zarr.json": b" " * 2**21}), "its zarr.json has 2097152 bytes"),
        (lambda o: o.pop("img_features/c/0/0"), "its img_features/c/0/0 is missing"),
        (lambda o: o.update({"img_features/c/0/0": bytes(5)}), "does not hold (4, 6) values of float16"),
        (lambda o: o.update({"image_id/c/0": b"\0\x84\xd7\x17" + bytes(50)}), "claims 400000000 strings"),
        (lambda o: o.update({"image_id/c/0": b"\4\0\0\0\xff\xff\xff\xff"}), "a string that is cut off or too long"),
        (lambda o: o.update({"image_id/c/0": b"\4\0\0\0" + b"\1\0\0\0\xff" * 4}), "a string that is not UTF-8"),
        (lambda o: o.update({"image_id/c/0": b"\4\0\0\0" + b"\1\0\0\0a" * 4 + b"x"}), "bytes after its last string"),
    ],
)  # fmt: skip
def test_what_is_refused_is_said(place, change, said):
    message = damaged(place, change)
    assert said in message
    assert message.startswith("segment ") and "Move the folder out of the store and extract again." in message


def test_a_zstd_chunk_is_bounded_by_its_header(place):
    frame = OBJECTS[True]["img_features/c/0/0"]
    assert frame[4] & 0x20, "one-byte size in a single segment frame"
    for chunk, said in [
        (
            frame[:4] + b"\xe0" + (2**40).to_bytes(8, "little") + frame[6:],
            "says it holds 1099511627776 bytes",
        ),
        (frame[:5] + b"\x2f" + frame[6:], "a zstd chunk"),
        (b"not zstd at all", "says it holds None bytes"),
    ]:
        assert said in damaged(place, lambda o, chunk=chunk: o.update({"img_features/c/0/0": chunk}), zstd=True)


def test_a_count_is_checked_before_anything_is_made():
    with pytest.raises(Malformed, match="claims None strings"):
        decode_strings(b"\1", 1)


@pytest.mark.parametrize("path", ["zarr.json", "img_features", "img_features/c", "img_features/c/0/0", "image_id/c/0"])
def test_links_are_refused(place, tmp_path, path):
    """Also one that leads to the very bytes."""
    folder = lay(place, OBJECTS[False], sealed=False)
    try:
        shutil.move(folder / path, tmp_path / "elsewhere")
        (folder / path).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(BBError, match="is a link, which bb does not follow"):
            segment = Segment.open(folder, space())
            for name in segment.arrays:
                segment.array(name)
    finally:
        shutil.rmtree(folder)


def test_a_pipe_is_not_waited_for(place):
    folder = lay(place, OBJECTS[False], sealed=False)
    try:
        (folder / "zarr.json").unlink()
        os.mkfifo(folder / "zarr.json")
        with pytest.raises(BBError, match="its zarr.json is not a file"):
            Segment.open(folder, space())
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("value", NASTY, ids=lambda v: repr(v)[:20])
def test_a_forged_space_is_refused(tmp_path, value):
    """Under the key that its fields would have, where they have one."""
    good = {"attributes": {"bb": {"space": space().record()}}}
    for i, where in enumerate(paths_in(good)):
        meta = replaced(good, where, value)
        try:
            key = sha256_hex(canonical_json(meta["attributes"]["bb"]["space"]))
        except (KeyError, TypeError, ValueError):
            key = "0" * 64
        store = Store.create(tmp_path / f"{i}.bb")
        path = store.root / "spaces" / key / "zarr.json"
        path.parent.mkdir()
        path.write_text(json.dumps(meta))
        try:
            (found,) = store.spaces()
        except BBError as error:
            assert "is damaged" in str(error)
        else:
            assert found.key == key and all(isinstance(n, int) and n > 0 for n in found.row_shape)
