"""Golden keys: should one of these change, every store in the world loses its features."""

import json

import pytest

from store import BBError, FeatureSpace
from store.canonical import canonical_json

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
