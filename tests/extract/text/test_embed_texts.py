"""Vectors of texts are those of open_clip's own zero-shot classifier, whatever file the tower came from."""

import importlib
import os

import numpy as np
import open_clip
import pytest
import torch
from open_clip.zero_shot_classifier import build_zero_shot_classifier
from safetensors.torch import save_file

import bb.extract
from bb.extract.backbones.code_hash import EXTRACT, TEXT_AT_START, tree_hash
from bb.extract.backbones.load_open_clip import _text_activation
from bb.extract.backbones.name import BackboneName
from bb.extract.embed_texts import TextEncoder, embed_texts, parse_templates
from bb.store import BBError, Store, UsageError
from bb.store.format.text import is_for, text_keys
from tests.helpers.texts import TINY

MODULE = importlib.import_module("bb.extract.embed_texts")
NAMES = ["grey heron", "Bär", "a kite, flying; over the sea and the hills beyond"]
TEMPLATES = ["a photo of a {}.", "{}", "art of the {}"]


@pytest.fixture
def tiny(monkeypatch):
    """A network of open_clip that is built in no time, in both of its forms."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Tiny", TINY)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "TinyCustom", {**TINY, "custom_text": True})
    return "Tiny"


def model(architecture, seed=0, **options):
    torch.manual_seed(seed)
    return open_clip.create_model(architecture, **options).eval()


def oracle(network, names, templates):
    tokenizer = open_clip.get_tokenizer("Tiny")
    forms = [lambda name, t=t: t.replace("{}", name) for t in templates]
    with torch.no_grad():
        return build_zero_shot_classifier(network, tokenizer, names, forms, num_classes_per_batch=None).numpy().T


@pytest.mark.parametrize("architecture", ["Tiny", "TinyCustom"])
def test_vectors_are_open_clips(tiny, tmp_path, architecture):
    network = model(architecture)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "w.safetensors")
    encoder = TextEncoder.load(f"{architecture}@{tmp_path}/w.safetensors", TEMPLATES)
    made = encoder.encode(NAMES)
    assert np.abs(made.x - oracle(network, NAMES, TEMPLATES)).max() < 1e-6
    assert np.linalg.norm(made.x, axis=1) == pytest.approx(1, abs=1e-6)
    assert made.cut.tolist() == [0, 0, 3]
    text = TEMPLATES[0].replace("{}", NAMES[2])
    assert torch.equal(encoder.tower.tokenizer.tokens([text])[0], open_clip.get_tokenizer("Tiny")([text]))


def test_a_small_network_that_open_clip_has(tmp_path):
    encoder = TextEncoder.load("ViT-S-32-alt/untrained", "plain")
    network = model("ViT-S-32-alt")
    network.load_state_dict(encoder.tower.module.state_dict(), strict=False)
    with torch.no_grad():
        expected = network.encode_text(open_clip.get_tokenizer("ViT-S-32-alt")(NAMES[:2]), normalize=True).numpy()
    assert np.abs(encoder.encode(NAMES[:2]).x - expected).max() < 1e-6


def test_the_space_says_which_images_it_goes_with(tiny, tmp_path):
    space = TextEncoder.load("Tiny/untrained", "plain").space
    assert (
        space.code == TEXT_AT_START == tree_hash(EXTRACT / "text") and len(space.view["tokenizer"]["vocabulary"]) == 64
    )
    for options in ({}, {"precision": "bf16"}, {"decode": "pillow"}):
        assert is_for(space, bb.extract.load_backbone("Tiny/untrained", device="cpu", **options).spaces.img)
    network = model("Tiny", seed=1)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "w.safetensors")
    trained = TextEncoder.load(f"Tiny@{tmp_path}/w.safetensors", "plain").space
    assert not is_for(trained, bb.extract.load_backbone("Tiny/untrained", device="cpu").spaces.img)
    assert is_for(trained, bb.extract.load_backbone(f"Tiny@{tmp_path}/w.safetensors", device="cpu").spaces.img)
    assert trained.key != space.key != TextEncoder.load("Tiny/untrained", TEMPLATES).space.key


def test_only_texts_that_the_store_lacks_are_encoded(tiny, tmp_path):
    said = []
    reporter = type("R", (), {"info": lambda self, text: said.append(text), "progress": lambda self, *a, **k: None})()
    (first,) = embed_texts(tmp_path / "s.bb", "Tiny/untrained", NAMES, "birds", templates=TEMPLATES, reporter=reporter)
    assert (first.texts, first.present, first.computed, first.cut) == (3, 0, 3, (NAMES[2],))
    assert any("1 text is longer than the 12 tokens that the network takes" in text for text in said)
    texts = {"a": "grey heron", "b": " grey heron ", "c": "Ba\N{COMBINING DIAERESIS}r", "d": "owl"}
    (second,) = embed_texts(tmp_path / "s.bb", "Tiny/untrained", texts, "birds", templates=TEMPLATES, reporter=reporter)
    assert (second.texts, second.present, second.computed, second.space) == (4, 2, 1, first.space)
    assert any("1 names have the text of another name" in text for text in said)
    store = Store.open(tmp_path / "s.bb")
    assert store.collection_names() == ["texts.birds"] and len(store.collections("texts.birds")) == 2
    space = store.space(first.space)
    assert store.backbones(space) == ["text:open_clip:Tiny/untrained"]
    assert store.has(space, text_keys(["owl", "grey heron", "elk"])).tolist() == [True, True, False]
    digest = next(v.digest for v in store.collections("texts.birds") if len(v) == 4)
    found = store.features("text:open_clip:Tiny/untrained", f"texts.birds@{digest}")
    assert found.array[0].tolist() == found.array[1].tolist()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "no names: give"),
        (["a", " "], "name 2 is empty: every class needs a name in words"),
        (["a", "b", "a "], "the name 'a' stands twice"),
        (["a", "&nbsp;"], "the text has no letter, digit or mark that the tokenizer keeps"),
        ({"a": "x", "b": ""}, "name 2 is empty"),
    ],
)
def test_names_that_are_refused_leave_nothing_behind(tiny, tmp_path, texts, message):
    store = Store.create(tmp_path / "s.bb")
    with pytest.raises(BBError, match=message):
        embed_texts(store, "Tiny/untrained", texts, "birds", templates="plain")
    assert store.spaces() == [] and store.collection_names() == []


def test_a_query_without_a_token_is_refused(tiny):
    with pytest.raises(BBError, match="has no letter, digit or mark that the tokenizer keeps"):
        TextEncoder.load("Tiny/untrained", "plain").encode(["\a"])


@pytest.mark.parametrize(
    ("ckpt", "message"),
    [
        ("timm:resnet18/untrained", "has no text tower: --text takes networks of open_clip"),
        ("roberta-ViT-B-32/untrained", "reads text with the Hugging Face network roberta-base"),
        ("ViT-B-99/untrained", "open_clip has no architecture 'ViT-B-99'"),
        ("RN50@w.pt", r"tags of RN50 differ in the activation of the text tower; name the tag .* RN50/openai@w.pt"),
    ],
)
def test_networks_that_are_refused(tiny, ckpt, message, monkeypatch):
    monkeypatch.setattr(MODULE, "load", lambda name: _Backbone())
    with pytest.raises(UsageError, match=message):
        TextEncoder.load(ckpt, "plain")


class _Backbone:
    """A vision tower that need not be built to refuse the text tower."""

    img_output = {"projected": True}
    visual = None


def test_the_activation_is_the_tags():
    for architecture, tag in open_clip.list_pretrained():
        name = BackboneName("open_clip", architecture, tag)
        expected = open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", False)
        assert _text_activation(name, open_clip.get_model_config(architecture)) == bool(expected), name
    config = open_clip.get_model_config("ViT-B-16-quickgelu")
    assert _text_activation(BackboneName("open_clip", "ViT-B-16-quickgelu", untrained=True), config)


def test_templates(tmp_path):
    assert len(parse_templates("openai")) == 80 and parse_templates("openai")[0] == "a bad photo of a {}."
    assert parse_templates("plain") == ("{}",)
    (tmp_path / "t.txt").write_text("\N{ZERO WIDTH NO-BREAK SPACE}a {}\n\nthe {}\na {}\n", encoding="utf-8")
    assert parse_templates(str(tmp_path / "t.txt")) == ("a {}", "the {}")
    (tmp_path / "latin.txt").write_bytes("ein B\xe4r {}".encode("latin-1"))
    for given, error, message in (
        ("other", UsageError, "--templates 'other' is none of openai, plain and not a file"),
        (["a"], UsageError, "the template 'a' must have {} once"),
        (["{} {}"], UsageError, "must have {} once"),
        ([], UsageError, "there are 0 templates: give 1 to 1000"),
        (str(tmp_path / "latin.txt"), BBError, "can't be read: .* Save it as UTF-8"),
    ):
        with pytest.raises(error, match=message):
            parse_templates(given)


def test_an_edit_of_the_text_code_is_noticed(tiny, monkeypatch):
    monkeypatch.setattr(MODULE, "TEXT_AT_START", "0" * 40)
    with pytest.raises(BBError, match="changed while bb ran"):
        TextEncoder.load("Tiny/untrained", "plain")


def test_images_and_texts_of_one_checkpoint_are_compared(tiny, tmp_path):
    """From files to a zero-shot run and a search, all in Python."""
    from PIL import Image

    from bb.probe import search, zeroshot

    os.makedirs(tmp_path / "pics")
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "pics" / f"{i}.png")
    bb.extract.run(tmp_path / "s.bb", "Tiny/untrained", {"pics": tmp_path / "pics"}, device="cpu")
    embed_texts(tmp_path / "s.bb", "Tiny/untrained", ["owl", "elk"], "names", templates=TEMPLATES)
    import polars as pl

    labels = pl.DataFrame({"image_id": [f"{i}.png" for i in range(6)], "label": ["owl", "elk"] * 3})
    (run,) = zeroshot(tmp_path / "s.bb", labels, folds=3)
    store = Store.open(tmp_path / "s.bb")
    x = store.features("Tiny/untrained", "pics").array.astype(np.float64)
    w = TextEncoder.load("Tiny/untrained", TEMPLATES).encode(["elk", "owl"]).x
    assert run.predictions().sort("image_id")["y_pred"].to_list() == (x @ w.T).argmax(axis=1).tolist()
    found = search(store, "owl at night", n=2, encode=lambda name: TextEncoder.load(name, "plain"))
    q = TextEncoder.load("Tiny/untrained", "plain").encode(["owl at night"]).x[0]
    best = np.argsort(-(x @ q) / np.linalg.norm(x, axis=1))[:2]
    assert found.frame["image_id"].to_list() == [f"{i}.png" for i in best]
