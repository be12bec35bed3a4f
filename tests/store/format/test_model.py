"""Fitted classifiers in a store: their file, what is refused, and that they are moved, signed, checked and kept."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load

from bb.store import Store
from bb.store.errors import BBError, Malformed, UsageError
from bb.store.files.canonical_json import sha256_hex
from bb.store.files.paths import locate
from bb.store.format.model import FIELDS, Model, collection_of_model, model_part, parse_model
from bb.store.format.safetensors import MAX_HEADER_BYTES, decode_arrays, encode_arrays
from bb.store.maintenance.disk_usage import other_bytes
from bb.store.maintenance.gc import find_garbage
from bb.store.maintenance.sign import revoke, sign
from bb.store.maintenance.verify import repair, verify
from bb.store.signing.key import make_key, read_key
from bb.store.storage.local import Folder
from bb.store.storage.read_cache import ReadCache
from bb.store.sync.plan import plan_pull, plan_push
from bb.store.sync.selection import Selection
from bb.store.sync.transfer import pull, push
from bb.store.trained_models import find_model, readable_models
from tests.helpers.command_line import call, own_place  # noqa: F401
from tests.helpers.stores import features, fill, images, space

SPACE = space()
OTHER = space(weights="2" * 64)


def model(**changes):
    fields = {
        "digest": "", "task": "classes", "spaces": (SPACE,), "backbones": ("timm:tiny/untrained",),
        "classes": ("Ara", "Bär"), "labels": "a" * 64, "collection": ("pics", images(20).digest), "images": 3,
        "protocol": {"classifier": "ridge", "parameters": {"l2": [0.1]}}, "calibration": {"temperatures": [1.5]},
        "stated": {"accuracy": 0.5}, "provenance": {"code": ""},
        "arrays": {"0.labelled": np.arange(18, dtype=np.float16).reshape(3, 6), "0.fitted.classes": np.arange(2)},
    }  # fmt: skip
    return Model(**{**fields, **changes})


@pytest.fixture
def store(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    pics = store.put_collection(images(20))
    for where in (SPACE, OTHER):
        fill(store, where, pics, features(where, 20))
    return store


@pytest.fixture
def kept(store):
    return store.put_model(model())


def file_of(store, digest, owner=SPACE.key):
    return store.root / model_part(owner, digest).path


def test_a_model_is_read_as_it_was_put(store, kept):
    found = store.model(kept)
    raw = file_of(store, kept).read_bytes()
    assert kept == sha256_hex(raw) == found.digest and store.models() == {kept: SPACE.key}
    for name in ("task", "spaces", "backbones", "classes", "labels", "collection", "images", "protocol", "stated"):
        assert getattr(found, name) == getattr(model(), name)
    np.testing.assert_array_equal(found.arrays["0.labelled"], model().arrays["0.labelled"])
    assert store.put_model(model()) == kept and found.encode() == raw
    assert collection_of_model(raw[:4096]) == model().collection
    assert store.local(kept)["argv"]


def test_other_readers_of_safetensors_read_it(store, kept):
    arrays = load(file_of(store, kept).read_bytes())
    assert arrays.keys() == model().arrays.keys()
    np.testing.assert_array_equal(arrays["0.labelled"], model().arrays["0.labelled"])


def test_the_key_is_of_spaces_labels_and_protocol_alone():
    assert model().key == model(provenance={"code": "x"}, stated={}).key
    others = [model(spaces=(OTHER,)), model(labels="b" * 64), model(protocol={"classifier": "knn"})]
    assert len({model().key, *(each.key for each in others)}) == 4


def test_paths_of_models_are_known():
    part, file = locate(f"models/{SPACE.key}/{'a' * 64}.safetensors")
    assert part == model_part(SPACE.key, "a" * 64) and part.owner == SPACE.key and file == part.marker
    for path in (
        f"models/{'a' * 64}.safetensors",
        f"models/x/{'a' * 64}.safetensors",
        f"models/{SPACE.key}/x.safetensors",
    ):
        assert locate(path) is None


# What is refused


def test_what_can_t_be_kept(store):
    for arrays, message in (
        ({"x": np.zeros(3, np.int8)}, "the model can't be kept in a store: its array 'x' is int8"),
        ({"x": np.zeros((1, 1, 1))}, "its array 'x' is float64 of shape (1, 1, 1)"),
        ({"X": np.zeros(3)}, "its array 'X'"),
    ):
        with pytest.raises(UsageError) as caught:
            store.put_model(model(arrays=arrays))
        assert message in str(caught.value)
    with pytest.raises(UsageError, match=r"its header has \d+ bytes, 4194304 can be"):
        store.put_model(model(classes=tuple(f"{i:04000}" for i in range(1200))))


def test_a_model_that_is_too_large_is_not_written(store, monkeypatch):
    monkeypatch.setattr("bb.store.format.model.MAX_MODEL_BYTES", 100)
    with pytest.raises(UsageError, match="bytes, 100 can be. Label fewer images of each class"):
        store.put_model(model())
    assert store.models() == {}


GOOD = encode_arrays({"a": np.arange(4.0), "b": np.arange(2)}, "text")


def header(change):
    """GOOD with another header."""
    size = int.from_bytes(GOOD[:8], "little")
    head = json.loads(GOOD[8 : 8 + size])
    change(head)
    raw = json.dumps(head, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw + GOOD[8 + size :]


def setting(name, **fields):
    return header(lambda head: head[name].update(fields))


HOSTILE = {
    "empty": (b"", "its header is cut off or too long"),
    "a huge header": ((2**40).to_bytes(8, "little") + GOOD[8:], "its header is cut off or too long"),
    "a header of nothing": (bytes(8), "its header is cut off or too long"),
    "no JSON": (b"\x08" + bytes(7) + b"{{{{{{{{", "its header can't be read"),
    "a list": (b"\x08" + bytes(7) + b"[]      ", "its header is not a JSON object"),
    "deep": ((4096).to_bytes(8, "little") + b"[" * 4096, "its header can't be read"),
    "no metadata": (header(lambda head: head.pop("__metadata__")), "does not have bb's metadata"),
    "other metadata": (setting("__metadata__", x="y"), "does not have bb's metadata"),
    "an array of text": (header(lambda head: head.update(a="x")), "its array 'a' is described by 'x'"),
    "a field too many": (setting("a", x=1), "its array 'a' is described by"),
    "a dtype": (setting("a", dtype="BF16"), "its array 'a' has the dtype 'BF16'; F64, I64, F32, F16 can be"),
    "three axes": (setting("a", shape=[1, 1, 4]), "its array 'a' has the shape [1, 1, 4]"),
    "a negative length": (setting("a", shape=[-4]), "its array 'a' has the shape [-4]"),
    "a length of text": (setting("a", shape=["4"]), "its array 'a' has the shape ['4']"),
    "a huge length": (setting("a", shape=[2**62]), "its array 'a' has 32 bytes, which are not those of"),
    "a length of nothing": (setting("a", shape=[0, 2**62], data_offsets=[0, 0]), "its array 'a' has the shape"),
    "offsets beyond the end": (setting("a", data_offsets=[0, 2**40]), "its array 'a' has the offsets"),
    "offsets backwards": (setting("a", data_offsets=[32, 0]), "its array 'a' has the offsets"),
    "arrays that overlap": (setting("b", data_offsets=[0, 16]), "its header is not in the form that bb writes"),
    "a gap at the end": (GOOD + bytes(8), "its header is not in the form that bb writes"),
    "spaces": (header(lambda head: head).replace(b'"text"', b' "text"', 1), "header"),
    "infinite": (GOOD[:-48] + np.array([np.inf]).tobytes() + GOOD[-40:], "its array a has NaN or infinite values"),
    "too many arrays": (
        encode_arrays({f"{i}": np.zeros(1) for i in range(1025)}, "text"), "it has 1025 arrays, 1024 can be",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_arrays_are_refused(what):
    raw, message = HOSTILE[what]
    with pytest.raises(Malformed) as caught:
        decode_arrays(raw)
    assert message in str(caught.value)


def test_a_field_twice_is_refused():
    raw = GOOD.replace(b'{"__metadata__"', b'{"a":{},"__metadata__"', 1)
    size = int.from_bytes(raw[:8], "little") + 8
    with pytest.raises(Malformed):
        decode_arrays(size.to_bytes(8, "little") + raw[8:])
    assert decode_arrays(GOOD)[0] == "text" and MAX_HEADER_BYTES == 4 * 2**20


def forged(**fields):
    """A file whose record has other fields."""
    text, arrays = decode_arrays(model().encode())
    record = {**json.loads(text), **fields}
    record = {name: value for name, value in record.items() if value != "absent"}
    return encode_arrays(arrays, json.dumps(record))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "model 2"}, "it has format 'model 2', this bb reads 'model 1'"),
        ({"labels": "absent"}, "it has the fields"),
        ({"more": 1}, "it has the fields"),
        ({"task": "x"}, "it has the task 'x'"),
        *(({name: []}, f"it has the {name} []") for name in ("protocol", "calibration", "stated", "provenance")),
        ({"collection": []}, "it has the collection []"),
        ({"collection": {"name": "pics", "digest": "x"}}, "it has the collection"),
        ({"collection": {"name": "../x", "digest": "a" * 64}}, "'../x' can't name a collection"),
        ({"collection": {"name": 3, "digest": "a" * 64}}, "it has the collection"),
        ({"images": 0}, "it has 0 images"),
        ({"images": True}, "it has True images"),
        ({"spaces": []}, "it has the spaces []"),
        ({"spaces": [SPACE.record()] * 2, "backbones": ["a", "b"]}, "its spaces repeat"),
        ({"spaces": [space("patch").record()]}, "are not of image features"),
        ({"spaces": [{}]}, "not a feature space of format 1"),
        ({"spaces": [3]}, "it has the spaces [3]"),
        ({"backbones": []}, "it has the backbones [] for 1 spaces"),
        ({"backbones": [3]}, "it has the backbones [3]"),
        ({"classes": ["a", "a"]}, "it has the classes"),
        ({"classes": []}, "it has the classes []"),
        ({"classes": ["x" * 5000]}, "it has the classes"),
        ({"classes": [1, 2]}, "it has the classes"),
        ({"labels": "x"}, "it has the labels 'x'"),
        ({"spaces": [OTHER.record()]}, f"it is for feature space {OTHER.key[:12]}"),
    ],
)
def test_forged_records_are_refused(fields, message):
    raw = forged(**fields)
    with pytest.raises(Malformed) as caught:
        parse_model(SPACE.key, sha256_hex(raw), raw)
    assert message in str(caught.value)


def test_a_record_that_is_no_object_or_no_json():
    for text in ("[]", "{", "NaN"):
        raw = encode_arrays({}, text)
        with pytest.raises(Malformed, match="it has format|its record can't be read"):
            parse_model(SPACE.key, sha256_hex(raw), raw)
    assert len(FIELDS) == 12


def test_damage_is_named_and_set_aside(store, kept, own_place, call):  # noqa: F811
    path = file_of(store, kept)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BBError, match=rf"^model {kept[:12]} in .* is damaged: it does not have the digest in its name"):
        store.model(kept)
    found = verify(store)
    assert found.models == 1 and [fault.bad for fault in found.faults] == [path]
    assert readable_models(store)[0] == [] and "is damaged" in str(readable_models(store)[1][0])
    status, _, err = call("store", "ls", "--store", store.root)
    assert status == 0 and "warning: model" in err
    with pytest.raises(BBError, match="is damaged"):
        find_garbage(store, unreferenced=True)
    repair(store, found)
    assert not path.exists() and store.models() == {} and verify(store).faults == []
    assert [each.why for each in find_garbage(store)] == ["set aside"]


def test_a_model_under_another_space_is_a_fault(store, kept):
    there = file_of(store, kept, OTHER.key)
    there.parent.mkdir()
    file_of(store, kept).rename(there)
    (fault,) = verify(store).faults
    assert f"it is for feature space {SPACE.key[:12]}" in fault.what


def test_what_is_no_model_is_not_listed(store, kept):
    file_of(store, kept).with_name("x.safetensors").write_bytes(b"x")
    assert list(store.models()) == [kept] and len(verify(store).faults) == 1


def test_names_of_models(store, kept):
    assert find_model(store, kept[:4]).digest == kept
    with pytest.raises(UsageError, match=f"--model 'ffffffff' names no model of .* \\(there: {kept[:12]}\\)"):
        find_model(store, "ffffffff")
    with pytest.raises(UsageError, match="has no model 000000000000: `bb store ls` lists them"):
        store.model("0" * 64)


# Keeping, listing, exchanging, signing


def test_gc_keeps_models_and_the_spaces_that_they_are_for(store, kept):
    both = store.put_model(model(spaces=(OTHER, SPACE), backbones=("a", "b")))
    assert find_garbage(store, unreferenced=True) == [] and other_bytes(store)["models"] > 0
    file_of(store, both, OTHER.key).unlink()
    (garbage,) = find_garbage(store, unreferenced=True)
    assert garbage.path == store.root / "spaces" / OTHER.key


def test_ls_and_verify_say_so(store, kept, own_place, call):  # noqa: F811
    _, out, _ = call("store", "ls", "--store", store.root)
    assert f"model {kept[:12]}: ridge for 2 classes from 3 images of pics, timm:tiny/untrained" in out
    assert "1 models, 0 runs: 0 faults" in call("store", "verify", "--store", store.root)[1]


def test_a_name_from_elsewhere_fills_no_screen_and_forges_no_line():
    strange = model(
        protocol={"classifier": "ridge\nmodel 0: trusted" + "x" * 10**6}, backbones=("\x1b[2J" + "y" * 4000,)
    )
    assert strange.described.isprintable() and len(strange.described) < 500


@pytest.mark.parametrize(
    "selection",
    [Selection(), Selection(ckpts=("timm:*",)), Selection(data=("pics",)), Selection(spaces=(SPACE.key[:8],))],
)
def test_push_and_pull_bring_models(store, kept, tmp_path, selection):
    there = Folder(tmp_path / "there")
    assert not push(plan_push(store.root, there, selection)).faults
    assert list(Store.open(there.root).models()) == [kept]
    assert not pull(plan_pull(there, tmp_path / "here", selection)).faults
    assert Store.open(tmp_path / "here").model(kept).classes == ("Ara", "Bär")
    assert verify(Store.open(tmp_path / "here")).faults == []


def test_models_of_other_spaces_and_collections_stay(store, tmp_path):
    here = store.put_model(model(spaces=(OTHER,)))
    private = store.put_model(model(collection=("private", "c" * 64)))
    push(plan_push(store.root, Folder(tmp_path / "a"), Selection(spaces=(OTHER.key,))))
    assert list(Store.open(tmp_path / "a").models()) == [here]
    push(plan_push(store.root, Folder(tmp_path / "b"), Selection(data=("pics",))))
    assert list(Store.open(tmp_path / "b").models()) == [here]
    assert private in store.models()


def test_one_model_alone_is_copied(store, kept, tmp_path, own_place, call):  # noqa: F811
    store.put_model(model(labels="b" * 64))
    status, _, err = call("store", "push", tmp_path / "there", "--store", store.root, "--model", kept[:9])
    assert status == 0, err
    there = Store.open(tmp_path / "there")
    assert list(there.models()) == [kept] and there.spaces() == [] and verify(there).faults == []
    status, _, err = call("store", "pull", tmp_path / "there", "--store", tmp_path / "here.bb", "--model", kept)
    assert status == 0 and list(Store.open(tmp_path / "here.bb").models()) == [kept], err
    for words, message in (
        (["--model", "ffff"], "--model 'ffff' names no model in"),
        (["--model", ""], "--model '' names no model in"),
        (
            ["--model", kept, "--data", "pics"],
            "--model names what is copied: leave out --ckpt, --space, --data, --runs",
        ),
    ):
        status, _, err = call("store", "push", tmp_path / "x", "--store", store.root, *words)
        assert status == 2 and message in err


def test_beginnings_of_several_models_are_refused(store, tmp_path):
    digests = [store.put_model(model(labels=f"{i:064x}")) for i in range(17)]
    beginning = next(d[0] for d in digests if sum(other[0] == d[0] for other in digests) > 1)
    with pytest.raises(UsageError, match=r"begins the digests of \d+ models in"):
        plan_push(store.root, Folder(tmp_path / "x"), Selection(models=(beginning,)))


def test_a_model_whose_bytes_are_others_is_not_taken(store, kept, tmp_path):
    path = file_of(store, kept)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    outcome = pull(plan_pull(Folder(store.root), tmp_path / "here", Selection()))
    assert [fault.part.kind for fault in outcome.faults] == ["model"]
    assert Store.open(tmp_path / "here").models() == {}


def test_a_damaged_header_is_named_where_a_collection_is_asked_for(store, kept, tmp_path):
    file_of(store, kept).write_bytes(b"x")
    plan = plan_push(store.root, Folder(tmp_path / "there"), Selection(data=("pics",)))
    assert [(left.part.kind, left.why) for left in plan.faults] == [("model", "its header is cut off or too long")]


@pytest.fixture
def key(tmp_path):
    make_key(tmp_path / "key.pem", None)
    return read_key(tmp_path / "key.pem")


def test_signed_models_alone_pass_where_signatures_are_required(store, kept, key, tmp_path):
    _, signed = sign(store, key, [SPACE])
    assert model_part(SPACE.key, kept) in signed
    unsigned = store.put_model(model(labels="b" * 64))
    plan = plan_pull(
        Folder(store.root), tmp_path / "here", Selection(), trusted={key.public: "me"}, require_signed=True
    )
    pull(plan)
    here = Store.open(tmp_path / "here")
    assert list(here.models()) == [kept]
    assert any(left.part.digest == unsigned and "not signed by a key" in left.why for left in plan.passed_over)


def test_a_revoked_model_is_gone(store, kept, key):
    revoke(store, key, [kept])
    trusting = Store(store.root, {key.public: "me"})
    assert trusting.models() == {}
    with pytest.raises(BBError, match=f"model {kept[:12]} is revoked and would not be read"):
        trusting.put_model(model())


def test_statements_without_models_are_those_of_earlier_versions(store, key):
    (path,), _ = sign(store, key)
    assert "models" not in json.loads(path.read_bytes())["statement"]
    kept = store.put_model(model())
    (path,), parts = sign(Store(store.root), key)
    assert json.loads(path.read_bytes())["statement"]["models"] == {SPACE.key: [kept]} and len(parts) == 1
    assert verify(Store(store.root)).faults == []


def test_a_store_that_is_only_read_takes_no_model(store):
    class Source:
        url = "https://example.org/s"

    with pytest.raises(UsageError, match="https://example.org/s is read only in place: pull it first"):
        replace(store, source=Source()).put_model(model())


def test_a_store_in_place_lists_models_and_fetches_the_one_that_is_used(store, kept, tmp_path):
    mirror = ReadCache.open(Folder(store.root), folder=tmp_path / "cache")
    opened = replace(Store.open(mirror.root), source=mirror)
    assert opened.models() == {kept: SPACE.key} and not (mirror.root / "models").exists()
    assert opened.model(kept).classes == ("Ara", "Bär") and verify(opened).models == 1
    assert other_bytes(opened)["models"] == file_of(store, kept).stat().st_size
    file_of(store, kept).write_bytes(b"x")
    mirror = ReadCache.open(Folder(store.root), folder=tmp_path / "other")
    with pytest.raises(BBError, match="does not have the digest in its name, so it is damaged or was tampered with"):
        replace(Store.open(mirror.root), source=mirror).model(kept)
