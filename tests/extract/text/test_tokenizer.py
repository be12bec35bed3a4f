"""A tokenizer.json, as networks such as SigLIP have one: its tokens, its place in the key, and what is refused."""

import json

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from bb.extract.embed_texts import TextEncoder
from bb.extract.text.tokenizer import FileTokenizer
from bb.store import BBError, UsageError
from tests.helpers.texts import TINY

WORDS = ["<pad>", "</s>", "<unk>", "a", "photo", "of", "heron", "owl"]
LAB = {
    **TINY,
    "custom_text": True,
    "text_cfg": {
        **TINY["text_cfg"],
        "vocab_size": 10,
        "no_causal_mask": True,
        "pool_type": "last",
        "hf_tokenizer_name": "lab/tiny",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    },
}


def write(folder, words=WORDS, **config):
    """tokenizer.json and tokenizer_config.json: words, with an end after them."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.enable_padding(length=99, pad_id=7)  # as files may say it: a network's length is its own
    tokenizer.enable_truncation(2)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "<pad>"}, **config}))
    return folder


@pytest.fixture
def lab(monkeypatch, tmp_path):
    """A network of open_clip with such a tokenizer, and a cache of the hub that has it."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Lab", LAB)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    commit, repository = "1" * 40, tmp_path / "hub" / "models--lab--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    return write(repository / "snapshots" / commit)


def test_tokens_have_an_end_and_are_filled_up(tmp_path):
    tokenizer = FileTokenizer(write(tmp_path), 5, "canonicalize")
    ids, cut = tokenizer.tokens(["A photo, of a Heron!", "owl", "a zebra of a photo"])
    assert ids.tolist() == [[3, 4, 5, 3, 1], [7, 1, 0, 0, 0], [3, 2, 5, 3, 1]]
    assert cut == [True, False, True] and ids.dtype == torch.long
    assert tokenizer.vocabulary == 8 and tokenizer.is_empty(" ?! ") and not tokenizer.is_empty("zebra")
    ids, _ = FileTokenizer(write(tmp_path, sep_token="</s>"), 4, strip_sep=True).tokens(["an owl"])
    assert ids.tolist() == [[2, 7, 0, 0]]


def test_vectors_are_the_networks_and_the_files_are_part_of_the_key(lab, tmp_path):
    torch.manual_seed(0)
    network = open_clip.create_model("Lab").eval()
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "w.safetensors")
    encoder = TextEncoder.load(f"Lab@{tmp_path}/w.safetensors", "plain")
    tokens = torch.tensor([[3, 4, 5, 6, 1, *[0] * 7], [7, 1, *[0] * 10]])
    with torch.no_grad():
        expected = network.encode_text(tokens, normalize=True).numpy()
    assert np.abs(encoder.encode(["a photo of heron", "Owl."]).x - expected).max() < 1e-6
    record = encoder.space.view["tokenizer"]
    assert record["name"] == "tokenizer.json" and record["pad"] == 0 and len(record["vocabulary"]) == 64
    write(tmp_path, [*WORDS[:6], "owl", "heron"])  # beside the weights, which goes before the hub's
    other = TextEncoder.load(f"Lab@{tmp_path}/w.safetensors", "plain")
    assert other.space.key != encoder.space.key
    assert np.abs(other.encode(["heron"]).x - expected[1]).max() < 1e-6


def test_a_tokenizer_that_is_not_there(lab, monkeypatch):
    (lab / "tokenizer_config.json").unlink()
    with pytest.raises(BBError, match=r"the tokenizer lab/tiny of open_clip:Lab/untrained could not be downloaded"):
        TextEncoder.load("Lab/untrained", "plain")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = r"lab/tiny, which needs the library tokenizers: pip install 'backbone-bench\[text\]'"
    with pytest.raises(UsageError, match=message):
        TextEncoder.load("Lab/untrained", "plain")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"tokenizer.json": "{}"},
            "the tokenizer in .* can't be read .*: it needs tokenizer.json and",
        ),
        ({"tokenizer_config.json": "["}, "the tokenizer in .* can't be read"),
        ({"tokenizer_config.json": "{}"}, "tokenizer_config.json names no pad_token of tokenizer.json on the right"),
        ({"tokenizer_config.json": '{"pad_token": "<pad>", "padding_side": "left"}'}, "names no pad_token of"),
    ],
)
def test_files_that_are_refused(tmp_path, files, message):
    write(tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(BBError, match=message):
        FileTokenizer(tmp_path, 5)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ({"vocab_size": 7}, BBError, "the network knows 7 tokens, fewer than its tokenizer makes"),
        ({"tokenizer_kwargs": {"language": "de"}}, UsageError, r"in a way that bb does not know \(language\)"),
        ({"tokenizer_mode": "clips"}, UsageError, r"in a way that bb does not know \(clips\)"),
    ],
)
def test_networks_that_are_refused(lab, monkeypatch, text, error, message):
    changed = {**LAB, "text_cfg": {**LAB["text_cfg"], **text}}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Lab", changed)
    with pytest.raises(error, match=message):
        TextEncoder.load("Lab/untrained", "plain")
