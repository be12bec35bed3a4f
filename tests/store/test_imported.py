"""Features that were made elsewhere: `bb store import`."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from bb.store import BBError, Store, UsageError
from bb.store.imported import check_import_name, is_imported, read_array
from tests.helpers.command_line import call, own_place  # noqa: F401

N = 6


@pytest.fixture
def place(own_place):  # noqa: F811
    (own_place / "pics").mkdir()
    for i in range(N):
        Image.new("RGB", (9, 8), (40 * i, 0, 0)).save(own_place / "pics" / f"{i}.png")
    x = np.random.default_rng(0).normal(size=(N, 5))
    np.save(own_place / "x.npy", x)
    pl.DataFrame({"image_id": [f"{i}.png" for i in reversed(range(N))]}).write_csv(own_place / "ids.csv")
    return x


IMPORT = ("store", "import", "x.npy", "--ids", "ids.csv", "--name", "ourlab:net")


def test_rows_are_those_of_the_array_and_ckpt_finds_them(place, call):  # noqa: F811
    status, out, err = call(*IMPORT, "--data", "pics=pics", "--json")
    assert status == 0, err
    store = Store.open("features.bb")
    ids, features = store.features("ourlab:net", "pics", image_ids=[f"{i}.png" for i in range(N)])
    np.testing.assert_array_equal(features, place[::-1].astype(np.float32))
    (space,) = store.spaces()
    assert is_imported(space) and json.loads(out) == {
        "space": space.key, "name": "ourlab:net", "rows": N, "collection": "pics",
    }  # fmt: skip
    pl.DataFrame({"image_id": ids, "label": list("aabbcc")}).write_csv("labels.csv")
    status, _, err = call("probe", "retrieval", "--labels", "labels.csv", "--ckpt", "ourlab:net")
    assert status == 0, err
    assert "ourlab:net" in call("store", "ls")[1] and call("store", "verify")[0] == 0


def test_importing_again_changes_nothing_and_other_rows_have_a_space_of_their_own(place, call):  # noqa: F811
    for _ in range(2):
        assert call(*IMPORT, "--data", "pics=pics")[0] == 0
    (space,) = Store.open("features.bb").spaces()
    assert len(Store.open("features.bb").segments(space)) == 1
    np.save("x.npy", place + 1e-3)
    assert call(*IMPORT)[0] == 0
    assert len(Store.open("features.bb").spaces()) == 2


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((N, 5), np.nan), "have NaN or infinite features as float32"),
        (np.full((N, 5), 1e300), "have NaN or infinite features as float32"),
        (np.zeros((N - 1, 5)), "the array has 5 rows and the table 6 images"),
        (np.zeros(N), "features are (images, numbers)"),
        (np.zeros((N, 5), np.int64), "x.npy holds int64"),
        (np.array([{}], dtype=object), "can't be read as a .npy file"),
    ],
)
def test_what_is_no_features_is_refused(place, call, array, message):  # noqa: F811
    np.save("x.npy", array, allow_pickle=True)
    status, _, err = call(*IMPORT, "--data", "pics=pics")
    assert (
        status == 1 and message in err and not Store.open("features.bb").spaces()
        if status == 1 and "NaN" in message
        else message in err
    )


def npy(header):
    """A .npy file of a header and 64 bytes."""
    raw = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw + bytes(64)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "it does not begin as one"),
        (b"PK\x03\x04 an archive", "it does not begin as one"),
        (b"\x80\x04N.", "it does not begin as one"),
        (b"\x93NUMPY\x03\x00" + bytes([0, 0, 0, 128]) + b"{}", "EOF"),
        (npy("{'descr': "), "EOF"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 2), }"), ""),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4), }"), ""),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }"), ""),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 3000 + ")" * 3000 + ", }"), ""),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_damaged_array_is_said_and_never_unpickled(tmp_path, raw, message):
    (tmp_path / "x.npy").write_bytes(raw)
    with pytest.raises(BBError, match=f"x.npy can't be read as a .npy file: .*{message}.*Write it with numpy.save"):
        read_array(tmp_path / "x.npy")


def test_bad_usage_of_import(place, call):  # noqa: F811
    for name in ("timm:resnet18", "head:0123", "plain"):
        with pytest.raises(UsageError, match="write LAB:NETWORK|begin it with your lab's name"):
            check_import_name(name)
    with pytest.raises(UsageError, match="the file nowhere.npy does not exist"):
        read_array(Path("nowhere.npy"))
    status, _, err = call("store", "import", "x.npy", "--ids", "gone.csv", "--name", "ourlab:net")
    assert status == 2 and "found no IDs at gone.csv" in err
    call(*IMPORT, "--data", "pics=pics")
    key = Store.open("features.bb").spaces()[0].key
    status, _, err = call("store", "verify", "--recompute", 2, "--data", "pics=pics", "--space", key)
    assert status == 2 and "was imported: bb does not have the network that made it" in err


def test_an_image_has_one_row(place, call):  # noqa: F811
    from bb.store import Collection, Entry
    from bb.store.imported import import_features

    store = Store.create("s.bb")
    store.put_collection(Collection.from_entries("p", [Entry(n, b"\1" * 32, 1, 1, 1) for n in "ab"]))
    with pytest.raises(BBError, match="are the same image, byte for byte: give one row for it"):
        import_features(store, np.zeros((2, 3)), np.ones((2, 32), np.uint8), ["a", "b"], name="l:n", collection="p")
