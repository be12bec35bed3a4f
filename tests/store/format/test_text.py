"""Text spaces are kept like any other: verified, signed, pushed and pulled; what is no such space serves nothing."""

import dataclasses

import numpy as np
import pytest

from bb.store import FeatureSpace, Store, UsageError
from bb.store.format.collection import only_collection
from bb.store.format.text import is_for, is_projected, is_text, templates_of, text_keys
from bb.store.imported import check_import_name
from bb.store.maintenance.compact import compact
from bb.store.maintenance.sign import coverage
from bb.store.maintenance.verify import verify
from bb.store.storage.local import Folder
from bb.store.sync.plan import plan_push
from bb.store.sync.selection import Selection
from bb.store.sync.transfer import push
from tests.helpers.texts import image_space, put_texts, text_store, texts_for


def test_a_key_is_that_of_the_text_in_nfc_without_blanks_around():
    keys = text_keys(["B\N{LATIN SMALL LETTER A WITH DIAERESIS}r", " Ba\N{COMBINING DIAERESIS}r\n", "bear"])
    assert keys.shape == (3, 32) and (keys[0] == keys[1]).all() and (keys[0] != keys[2]).any()


def test_a_text_space_goes_with_the_images_of_its_checkpoint():
    images = image_space()
    text = texts_for(images)
    assert is_text(text) and not is_projected(text) and is_projected(images) and is_for(text, images)
    stored = FeatureSpace.from_record(text.record())
    assert stored.key == text.key and is_for(stored, image_space(code="9" * 40, view={}))
    for other in (
        image_space(weights="0" * 64),
        image_space(org="timm"),
        image_space(projected=False),
        image_space(architecture={"embed_dim": 8}),
        text,
    ):
        assert not is_for(text, other)


@pytest.mark.parametrize("view", [{}, {"templates": "x"}, {"templates": None}])
def test_records_of_strangers_serve_nothing(view):
    text = dataclasses.replace(texts_for(image_space()), view=view, architecture={"image": "x"})
    assert templates_of(text) == () and not is_for(text, image_space())


def test_a_collection_of_texts_is_never_the_only_collection():
    assert only_collection(["pics", "texts.birds"]) == "pics"
    with pytest.raises(UsageError, match="there are none"):
        only_collection(["texts.birds"])


def test_features_from_elsewhere_can_not_pass_for_texts():
    with pytest.raises(UsageError, match="would pass for features that bb made"):
        check_import_name("text:mine")


def test_it_is_verified_compacted_and_copied_like_any_other(tmp_path):
    store, *_ = text_store(tmp_path / "a.bb")
    text = texts_for(image_space())
    put_texts(store, text, {"Zaunkönig": "Zaunkönig"}, np.ones((1, 8)), "more")
    assert verify(store).faults == []
    before = store.features(data="texts.birds", space=text.key).array
    compact(store, text)
    after = Store.open(tmp_path / "a.bb")
    assert len(after.segments(text)) == 1 and (after.features(data="texts.birds", space=text.key).array == before).all()
    assert verify(after).faults == []
    for number, selection in enumerate(
        (Selection(ckpts=("text:*",)), Selection(data=("texts.birds",)), Selection(data=("pics",)), Selection())
    ):
        target = tmp_path / f"{number}.bb"
        push(plan_push(after.root, Folder(target), selection))
        found = Store.open(target)
        kinds = {is_text(space) for space in found.spaces() if len(found.rows(space))}
        assert kinds == [{True}, {True}, {False}, {True, False}][number], selection
        assert verify(found).faults == []
    assert (found.features(data="texts.birds", space=text.key).array == before).all()
    assert any(path.startswith(f"spaces/{text.key}/segments/") for path in coverage(found).unsigned)


def test_a_damaged_segment_names_the_command_that_makes_it_again(tmp_path):
    store, *_ = text_store(tmp_path / "a.bb")
    text = texts_for(image_space())
    put_texts(store, text, {"Zaunkönig": "Zaunkönig"}, np.ones((1, 8)), "more")
    segment = store.segments(text)[0]
    path = segment.folder / "img_features" / "c" / "0" / "0"
    path.write_bytes(path.read_bytes()[::-1])
    (fault,) = verify(Store.open(tmp_path / "a.bb")).faults
    assert fault.remedy == "bb extract --ckpt open_clip:Tiny/untrained --text NAME=FILE"
    assert store.to_fill(text, "texts.birds").startswith("bb extract --ckpt open_clip:Tiny/untrained --text birds=FILE")
