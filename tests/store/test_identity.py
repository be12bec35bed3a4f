"""Golden keys: should one of these change, every store in the world loses its features."""

import json
import warnings

import numpy as np
import pytest
import zarr

from bb.store import BBError, FeatureSpace
from bb.store.files.canonical_json import canonical_json
from bb.store.format.encode import encode_numbers, encode_strings
from bb.store.format.layout import ArrayLayout
from bb.store.local.segment import encode_segment
from tests.helpers.stores import images, space

SPACE = {
    "org": "open_clip",
    "architecture": {"embed_dim": 512, "quick_gelu": True, "vision_cfg": {"layers": 12, "mlp_ratio": 4.0}},
    "weights": "ab" * 32,
    "view": {"mean": [0.48145466, 0.4578275, 0.40821073], "resize": {"mode": "shortest", "size": [224, 224]}},
    "output": {"kind": "img", "pooling": "cls", "dim": 512},
    "numerics": {"compute": "bf16", "stored": "float16"},
    "code": "c" * 40,
}


def test_canonical_json():
    assert canonical_json({"b": [1, 0.1, 2.0, None, True], "a": "ü"}) == (
        '{"a":"ü","b":[1,"0.1","2.0",null,true]}'.encode()
    )
    with pytest.raises(ValueError, match="nan has no canonical form"):
        canonical_json(float("nan"))
    with pytest.raises(TypeError, match="set has no canonical form"):
        canonical_json({"a": {1}})
    with pytest.raises(TypeError, match="keys must be strings"):
        canonical_json({1: 2})


def test_the_field_list():
    assert list(FeatureSpace(**SPACE).record()) == [
        "org", "architecture", "weights", "view", "output", "numerics", "code",
    ]  # fmt: skip


def test_golden_key():
    assert FeatureSpace(**SPACE).key == "e0452022754227c8d28a062cdf1f91f6759d1be95cc345b4cfc9e4e7ee19620a"


@pytest.mark.parametrize("field", list(SPACE))
def test_every_field_decides_the_key(field):
    changed = {**SPACE, field: "other" if isinstance(SPACE[field], str) else {**SPACE[field], "x": 1}}
    assert FeatureSpace(**changed).key != FeatureSpace(**SPACE).key


def test_a_space_read_back_has_its_key():
    record = json.loads(canonical_json(FeatureSpace(**SPACE).record()))
    assert FeatureSpace.from_record(record).key == FeatureSpace(**SPACE).key
    with pytest.raises(BBError, match="not a feature space of format 1: .*'surprise'"):
        FeatureSpace.from_record({**SPACE, "surprise": 1})
    with pytest.raises(BBError, match="not a feature space of format 1: output"):
        FeatureSpace.from_record({**SPACE, "output": {"kind": "audio"}})


@pytest.mark.parametrize(
    ("kind", "stored", "zstd", "digest"),
    [
        ("img", "float16", False, "587c34628042b136289672b9dce21fd50ccd51ab034641896dbd7557ba359adf"),
        ("img", "float32", True, "c3c713b66bc346ad4306e7b8cef200280faddb43a5f15948704124e58602a3bf"),
        ("patch", "float16", False, "150b9418c0858374e247ab501f4783e6090e439247b8020da0af92decae9d67b"),
    ],
)
def test_golden_segments(kind, stored, zstd, digest):
    """As zarr 3.1.6 laid out their arrays."""
    where = space(kind, stored)
    x = np.arange(4 * int(np.prod(where.row_shape))).reshape(4, *where.row_shape).astype(where.dtype)
    ids = ["pics/ä", "b", "", "ccc"]
    provenance = {"backbone": "timm:tiny/untrained"}
    assert encode_segment(where, images(4).all_digests(), ids, x, provenance, zstd=zstd)[0] == digest


@pytest.mark.parametrize("zstd", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "string"])
@pytest.mark.parametrize("shape", [(3,), (3, 2), (1, 2, 2)])
def test_arrays_are_laid_out_as_zarr_does(dtype, shape, zstd):
    if dtype == "string" and (len(shape) > 1 or zstd):
        pytest.skip("strings are one raw axis")
    layout = ArrayLayout("a", shape, dtype)
    if dtype == "string":
        array = np.array(["pics/ä", "", "x" * 300], dtype=np.dtypes.StringDType())
        ours = encode_strings(layout, array.tolist())
    else:
        array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        ours = encode_numbers(layout, array, zstd=zstd)
    objects = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = zarr.create_array(
            zarr.storage.MemoryStore(objects),
            name="a",
            shape=shape,
            chunks=shape,
            dtype=dtype,
            compressors=[zarr.codecs.ZstdCodec(level=3)] if zstd else None,
            config={"write_empty_chunks": True},
        )
        target[...] = array
    theirs = {path: buffer.to_bytes() for path, buffer in objects.items() if path.startswith("a/")}
    assert {path: bytes(data) for path, data in ours.items()} == theirs


def test_features_are_handed_on_without_a_copy():
    x = np.ones((3, 6), np.float16)
    chunk = encode_numbers(ArrayLayout("a", (3, 6), "float16"), x)["a/c/0/0"]
    assert np.shares_memory(np.frombuffer(chunk, np.uint8), x)
